//! What a pod needs to start.
//!
//! Invariant: optional sources of environment and files are no references.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Reference;
use crate::kind::{elements, text};
use crate::pod_spec::containers;
use crate::rules::{GENERATED_CONFIG, is_issued_name, is_issued_pull_secret};

pub(super) fn references(namespace: &str, spec: &Value, found: &mut BTreeSet<Reference>) {
    let account = text(spec, "/serviceAccountName").unwrap_or("default");
    let mut add = |kind, name: Option<&str>| {
        // What every cluster makes by itself is there without being captured.
        let is_made = |name: &&str| match kind {
            "secrets" => is_issued_name(name, account),
            "configmaps" => GENERATED_CONFIG.contains(name),
            _ => false,
        };
        if let Some(name) = name.filter(|name| !name.is_empty() && !is_made(name)) {
            found.insert(Reference::object(kind, Some(namespace), name));
        }
    };
    add("serviceaccounts", text(spec, "/serviceAccountName"));
    for secret in elements(spec, "/imagePullSecrets") {
        // Admission writes those of the account into each pod.
        let secret = text(secret, "/name");
        add(
            "secrets",
            secret.filter(|name| !is_issued_pull_secret(name, account)),
        );
    }
    for container in containers(spec) {
        for env in elements(container, "/env") {
            named(env.pointer("/valueFrom/secretKeyRef"), "secrets", &mut add);
            named(
                env.pointer("/valueFrom/configMapKeyRef"),
                "configmaps",
                &mut add,
            );
        }
        for env in elements(container, "/envFrom") {
            named(env.get("secretRef"), "secrets", &mut add);
            named(env.get("configMapRef"), "configmaps", &mut add);
        }
    }
    for volume in elements(spec, "/volumes") {
        source(volume, &mut add);
        for source in elements(volume, "/projected/sources") {
            named(source.get("secret"), "secrets", &mut add);
            named(source.get("configMap"), "configmaps", &mut add);
        }
        if let Some(claim) = text(volume, "/persistentVolumeClaim/claimName") {
            add("persistentvolumeclaims", Some(claim));
        }
    }
    for (pointer, kind) in [
        ("/priorityClassName", "priorityclasses.scheduling.k8s.io"),
        ("/runtimeClassName", "runtimeclasses.node.k8s.io"),
    ] {
        // The two that every cluster has.
        let name = text(spec, pointer).filter(|name| !name.starts_with("system-"));
        if let Some(name) = name {
            found.insert(Reference::object(kind, None, name));
        }
    }
    for container in containers(spec) {
        // OpenShift fills in a blank when it knows the image.
        if let Some(image) = text(container, "/image").filter(|image| !image.trim().is_empty()) {
            found.insert(Reference::Image(image.to_owned()));
        }
    }
}

fn source(volume: &Value, add: &mut impl FnMut(&'static str, Option<&str>)) {
    if let Some(secret) = volume.get("secret").filter(|s| !is_optional(s)) {
        add("secrets", text(secret, "/secretName"));
    }
    named(volume.get("configMap"), "configmaps", add);
    for driver in [
        "csi/nodePublishSecretRef",
        "cephfs/secretRef",
        "iscsi/secretRef",
        "rbd/secretRef",
    ] {
        let name = text(volume, &format!("/{driver}/name"));
        add("secrets", name);
    }
}

/// A reference of the form `{name: …, optional: …}`.
fn named(
    source: Option<&Value>,
    kind: &'static str,
    add: &mut impl FnMut(&'static str, Option<&str>),
) {
    if let Some(source) = source.filter(|source| !is_optional(source)) {
        add(kind, text(source, "/name"));
    }
}

fn is_optional(source: &Value) -> bool {
    source.get("optional").and_then(Value::as_bool) == Some(true)
}
