//! Pods that a namespace's Pod Security level would refuse.
//!
//! A server tells that only of objects it is asked about in a namespace that is there already;
//! workloads it takes, and refuses their pods later. So the published rules of the two levels are
//! applied here. Not among them: what annotations say (AppArmor of old), Windows.
//!
//! Invariant: nothing here keeps an object out: the server has the last word.

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::finding::Finding;
use refloat_model::plan::Action;
use serde_json::Value;

use super::super::prepare::Prepared;
use super::super::privileged::SPACE_RIGHTS;
use super::super::situation::Situation;
use super::{is_new, writes};
use crate::kind::{elements, label, text};
use crate::pod_spec::{containers, pod_spec};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Level {
    Baseline,
    Restricted,
}

impl Level {
    fn of(namespace: &Value) -> Option<Self> {
        match label(namespace, SPACE_RIGHTS)? {
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// Warns of pods that would be refused.
pub(in crate::restore) fn pod_security(
    prepared: &[Prepared],
    situation: &Situation,
    actions: &[Action],
) -> Vec<Finding> {
    let mut levels: BTreeMap<&str, Level> = BTreeMap::new();
    for (space, object) in &situation.namespaces {
        levels.extend(Level::of(object).map(|level| (space.as_str(), level)));
    }
    // One that is kept as it is keeps its level.
    let spaces = prepared.iter().zip(actions);
    for (p, _) in spaces.filter(|(p, action)| p.id == "namespaces" && writes(action)) {
        // What is merged into a namespace takes no level away.
        levels.extend(Level::of(&p.object).map(|level| (p.name(), level)));
    }
    let both = prepared
        .iter()
        .zip(actions)
        .filter(|(_, action)| is_new(action));
    both.filter_map(|(p, _)| {
        let level = *levels.get(p.namespace()?)?;
        let faults = faults(level, pod_spec(&p.object)?);
        if faults.is_empty() {
            return None;
        }
        let faults: Vec<String> = faults.into_iter().collect();
        let message = format!(
            "its namespace enforces Pod Security level {}, which refuses its pods: {}",
            level.word(),
            faults.join(", ")
        );
        Some(Finding::warning(p.title(), message))
    })
    .collect()
}

/// What a level refuses in a pod.
fn faults(level: Level, spec: &Value) -> BTreeSet<String> {
    let mut faults = BTreeSet::new();
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if spec.get(field) == Some(&Value::Bool(true)) {
            faults.insert(field.to_owned());
        }
    }
    for volume in elements(spec, "/volumes").filter_map(Value::as_object) {
        for kind in volume.keys().filter(|key| *key != "name") {
            let is_allowed = match level {
                Level::Baseline => kind != "hostPath",
                Level::Restricted => VOLUMES.contains(&kind.as_str()),
            };
            if !is_allowed {
                faults.insert(format!("a volume of kind {kind}"));
            }
        }
    }
    for sysctl in elements(spec, "/securityContext/sysctls") {
        if !SYSCTLS.contains(&name_of(sysctl)) {
            faults.insert("an unsafe sysctl".to_owned());
        }
    }
    for container in containers(spec) {
        let mut fault = |what: &str| {
            faults.insert(format!("{what} (container {})", name_of(container)));
        };
        baseline(spec, container, &mut fault);
        if level == Level::Restricted {
            restricted(spec, container, &mut fault);
        }
    }
    faults
}

fn name_of(value: &Value) -> &str {
    text(value, "/name").unwrap_or_default()
}

/// Kinds of volumes that the restricted level lets through.
const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// Settings of the kernel that concern the pod alone.
const SYSCTLS: [&str; 10] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
];

/// Capabilities that the baseline level lets add: those that engines give anyway.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// A field of a container's security context, or else of its pod's.
fn context<'a>(spec: &'a Value, container: &'a Value, field: &str) -> Option<&'a Value> {
    let pointer = format!("/securityContext/{field}");
    let own = container.pointer(&pointer).filter(|value| !value.is_null());
    own.or_else(|| spec.pointer(&pointer))
}

fn added(container: &Value) -> impl Iterator<Item = &str> {
    elements(container, "/securityContext/capabilities/add").filter_map(Value::as_str)
}

fn baseline(spec: &Value, container: &Value, fault: &mut dyn FnMut(&str)) {
    if container.pointer("/securityContext/privileged") == Some(&Value::Bool(true)) {
        fault("privileged");
    }
    if added(container).any(|capability| !CAPABILITIES.contains(&capability)) {
        fault("an added capability");
    }
    let is_on_host = |port: &Value| port.get("hostPort").and_then(Value::as_u64).unwrap_or(0) > 0;
    if elements(container, "/ports").any(is_on_host) {
        fault("a host port");
    }
    let proc = text(container, "/securityContext/procMount");
    if proc.is_some_and(|mount| mount != "Default") {
        fault("an unmasked /proc");
    }
    let seccomp = context(spec, container, "seccompProfile/type").and_then(Value::as_str);
    if seccomp == Some("Unconfined") {
        fault("no seccomp");
    }
    for field in ["seLinuxOptions/user", "seLinuxOptions/role"] {
        let value = context(spec, container, field).and_then(Value::as_str);
        if value.is_some_and(|value| !value.is_empty()) {
            fault("an SELinux user or role");
        }
    }
}

fn restricted(spec: &Value, container: &Value, fault: &mut dyn FnMut(&str)) {
    let is = |value: bool| Some(Value::Bool(value));
    let own = |field: &str| container.pointer(&format!("/securityContext/{field}"));
    if own("allowPrivilegeEscalation").cloned() != is(false) {
        fault("allowPrivilegeEscalation is not false");
    }
    if context(spec, container, "runAsNonRoot").cloned() != is(true) {
        fault("runAsNonRoot is not true");
    }
    if context(spec, container, "runAsUser").and_then(Value::as_u64) == Some(0) {
        fault("runAsUser is 0");
    }
    let seccomp = context(spec, container, "seccompProfile/type").and_then(Value::as_str);
    if !matches!(seccomp, Some("RuntimeDefault" | "Localhost")) {
        fault("no seccomp profile");
    }
    let mut dropped = elements(container, "/securityContext/capabilities/drop");
    if !dropped.any(|capability| capability.as_str() == Some("ALL")) {
        fault("capabilities are not dropped");
    }
    if added(container).any(|capability| capability != "NET_BIND_SERVICE") {
        fault("an added capability");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(level: Level, spec: Value) -> Vec<String> {
        faults(level, &spec).into_iter().collect()
    }

    #[test]
    fn each_level_refuses_what_its_rules_say() {
        let plain = json!({"containers": [{"name": "a"}]});
        assert_eq!(check(Level::Baseline, plain.clone()), [""; 0]);
        assert_eq!(check(Level::Restricted, plain).len(), 4);
        let good = json!({
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "v", "secret": {}}, {"name": "c", "persistentVolumeClaim": {}}],
            "containers": [{"name": "a", "securityContext": {"allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}]});
        assert_eq!(check(Level::Restricted, good), [""; 0]);
        let bad = json!({"hostNetwork": true, "hostPID": false,
            "securityContext": {"sysctls": [{"name": "kernel.msgmax"}], "seLinuxOptions": {"user": "x"}},
            "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
            "initContainers": [{"name": "i", "securityContext": {"privileged": true}}],
            "containers": [{"name": "a", "ports": [{"hostPort": 80}],
                "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]},
                    "procMount": "Unmasked", "seccompProfile": {"type": "Unconfined"}}}]});
        assert_eq!(
            check(Level::Baseline, bad),
            [
                "a host port (container a)",
                "a volume of kind hostPath",
                "an SELinux user or role (container a)",
                "an SELinux user or role (container i)",
                "an added capability (container a)",
                "an unmasked /proc (container a)",
                "an unsafe sysctl",
                "hostNetwork",
                "no seccomp (container a)",
                "privileged (container i)",
            ]
        );
    }
}
