//! From one kind of engine to the other: what Docker and Podman mean by the same words.
//!
//! The definition of a container holds everything its engine says, also what only that engine
//! has or what it fills in by itself. Onto the other kind only the settings are carried that mean
//! the same there; the others are named.
//!
//! Invariant: between engines of the same kind nothing is changed here.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::compare::{self, mounts_view, without};
use super::holding::Holding;
use crate::definition::{ContainerDefinition, EngineKind};

/// Host settings that mean the same to both.
const SHARED: &[&str] = &[
    "AutoRemove",
    "Binds",
    "BlkioWeight",
    "CapAdd",
    "CapDrop",
    "CpuPeriod",
    "CpuQuota",
    "CpuShares",
    "CpusetCpus",
    "CpusetMems",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "ExtraHosts",
    "GroupAdd",
    "Init",
    "Links",
    "Memory",
    "MemoryReservation",
    "Mounts",
    "NanoCpus",
    "NetworkMode",
    "OomScoreAdj",
    "PortBindings",
    "Privileged",
    "PublishAllPorts",
    "ReadonlyRootfs",
    "RestartPolicy",
    "SecurityOpt",
    "ShmSize",
    "Sysctls",
    "Tmpfs",
    "Ulimits",
    "VolumesFrom",
];
/// Namespaces: only the host's and another container's are said in the same words.
const NAMESPACES: &[&str] = &["IpcMode", "PidMode", "UTSMode"];
/// What both fill in by themselves, each in its way: no loss.
const FILLED_IN: &[&str] = &[
    "Annotations",
    "CgroupMode",
    "Cgroup",
    "CgroupManager",
    "CgroupParent",
    "Cgroups",
    "CgroupnsMode",
    "ConsoleSize",
    "ContainerIDFile",
    "IpcMode",
    "Isolation",
    "LogConfig",
    "MaskedPaths",
    "MemorySwap",
    "MemorySwappiness",
    "PidMode",
    "PidsLimit",
    "ReadonlyPaths",
    "Runtime",
    "UTSMode",
    "UsernsMode",
];
/// The network of containers for which none was named.
const DEFAULT_NETWORKS: [(EngineKind, &str); 2] = [
    (EngineKind::Docker, "bridge"),
    (EngineKind::Podman, "podman"),
];

/// Rewrites the containers of a point for an engine of the other kind; gives the settings that
/// are not carried over.
pub(super) fn adapt(holding: &mut Holding, target: EngineKind) -> BTreeSet<String> {
    let mut lost = BTreeSet::new();
    if !is_foreign(holding, target) {
        return lost;
    }
    for held in holding.containers.values_mut() {
        adapt_container(&mut held.definition, target, &mut lost);
    }
    lost
}

/// Whether a point is of another kind of engine.
pub(super) fn is_foreign(holding: &Holding, target: EngineKind) -> bool {
    holding
        .host
        .as_ref()
        .is_some_and(|host| host.engine != target)
}

fn adapt_container(
    container: &mut ContainerDefinition,
    target: EngineKind,
    lost: &mut BTreeSet<String>,
) {
    let host = std::mem::take(&mut container.host_config);
    for (key, value) in host {
        let shared = SHARED.contains(&key.as_str())
            || NAMESPACES.contains(&key.as_str()) && is_shared_namespace(&value);
        if shared {
            container.host_config.insert(key, value);
        } else if !FILLED_IN.contains(&key.as_str()) && !compare::is_unset(&value) {
            lost.insert(key);
        }
    }
    if let Some(binds) = container
        .host_config
        .get_mut("Binds")
        .and_then(Value::as_array_mut)
    {
        for bind in binds {
            if let Some(plain) = bind.as_str().map(plain_bind) {
                *bind = plain.into();
            }
        }
    }
    if let Some(environment) = container
        .config
        .get_mut("Env")
        .and_then(Value::as_array_mut)
    {
        environment.retain(|variable| variable != "container=podman");
    }
    // Said as a number by the one and as a name by the other; what nobody set is filled in.
    if matches!(
        container.config.get("StopSignal").and_then(Value::as_str),
        Some("15" | "SIGTERM")
    ) {
        container.config.remove("StopSignal");
    }
    adapt_networks(container, target);
}

fn is_shared_namespace(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|mode| mode == "host" || mode.starts_with("container:"))
}

/// `data:/data:rw,rprivate,nosuid` as every engine takes it.
fn plain_bind(bind: &str) -> String {
    let mut parts = bind.splitn(3, ':');
    let (source, place) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let modes = parts.next().unwrap_or_default().split(',');
    let kept: Vec<&str> = modes
        .filter(|mode| ["ro", "z", "Z"].contains(mode))
        .collect();
    match kept.is_empty() {
        true => format!("{source}:{place}"),
        false => format!("{source}:{place}:{}", kept.join(",")),
    }
}

fn adapt_networks(container: &mut ContainerDefinition, target: EngineKind) {
    let name_of = |kind: EngineKind| {
        let found = DEFAULT_NETWORKS.iter().find(|(of, _)| *of == kind);
        found.map_or("bridge", |(_, name)| name)
    };
    let other = DEFAULT_NETWORKS.iter().find(|(of, _)| *of != target);
    let (from, to) = (other.map_or("bridge", |(_, name)| name), name_of(target));
    let networks = std::mem::take(&mut container.networks);
    container.networks = networks
        .into_iter()
        .map(|(name, endpoint)| (if name == from { to.to_owned() } else { name }, endpoint))
        .collect();
    // Podman says "bridge" for every network of that kind: the first one is meant.
    let first = container.networks.keys().next().cloned();
    if target == EngineKind::Docker
        && container.network_mode() == "bridge"
        && let Some(first) = first
    {
        container
            .host_config
            .insert("NetworkMode".to_owned(), first.into());
    }
}

/// Where a container on an engine of another kind is not what was asked for. What its engine has
/// besides, it filled in.
pub(super) fn difference(wanted: &ContainerDefinition, found: &ContainerDefinition) -> Vec<String> {
    let mut found = found.clone();
    // As if it were to be carried back: in the words that both have.
    found
        .host_config
        .retain(|key, _| SHARED.contains(&key.as_str()));
    compare::differences_of_set(&view(wanted), &view(&found))
}

fn view(container: &ContainerDefinition) -> Value {
    let environment = container.environment().into_iter().map(|variable| {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        (name.to_owned(), Value::from(value))
    });
    let networks = container.networks.keys();
    let networks: Map<String, Value> = networks
        .map(|name| (name.clone(), Value::Bool(true)))
        .collect();
    json!({
        "image": container.image.id,
        "environment": environment.collect::<Map<_, _>>(),
        "config": without(
            &container.config,
            &["Env", "Hostname", "Domainname", "Image", "OnBuild", "AttachStderr", "AttachStdout",
              "Entrypoint", "WorkingDir", "StopSignal", "Volumes"],
        ),
        // Each says these in its own words; mounts and networks are compared as such.
        "host config": without(
            &container.host_config,
            &["Binds", "Mounts", "NetworkMode", "CapAdd", "CapDrop", "Tmpfs", "Links", "Ulimits",
              "SecurityOpt", "IpcMode", "PidMode", "UTSMode", "Devices"],
        ),
        "mounts": mounts_view(container),
        "networks": networks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_said_in_the_words_of_the_other_engine() {
        let mut container: ContainerDefinition = serde_json::from_value(json!({
            "name": "store", "image": {"name": "bb:1", "id": "sha256:aa"}, "started": true,
            "config": {"Env": ["A=1", "container=podman"], "StopSignal": "15"},
            "host_config": {
                "Binds": ["data:/data:rw,rprivate,nosuid", "/srv:/s:ro,rbind"],
                "IpcMode": "shareable", "PidMode": "host", "UTSMode": "private", "Memory": 5,
                "NetworkMode": "bridge", "Runtime": "oci", "LogConfig": {"Type": "k8s-file"},
                "CpuRealtimePeriod": 7,
            },
            "networks": {"podman": {}}, "platform": "linux", "mounts": [],
        }))
        .unwrap();
        let mut lost = BTreeSet::new();
        adapt_container(&mut container, EngineKind::Docker, &mut lost);
        assert_eq!(
            Value::Object(container.host_config.clone()),
            json!({"Binds": ["data:/data", "/srv:/s:ro"], "PidMode": "host", "Memory": 5,
                   "NetworkMode": "bridge"})
        );
        assert_eq!(container.environment(), ["A=1"]);
        assert!(container.networks.contains_key("bridge"));
        assert_eq!(lost.into_iter().collect::<Vec<_>>(), ["CpuRealtimePeriod"]);
    }
}
