//! What the cluster added to pods and jobs (P15, and Velero's pod and job actions).
//!
//! Invariant: labels that a person chose stay, also in selectors.

use serde_json::Value;

use super::{map_at, remove};
use crate::kind::text;
use crate::pod_spec::containers_mut;
use crate::rules::is_issued_name;

/// Labels by which a job's controller finds its pods; they hold a UID that is gone.
const JOB_LABELS: [&str; 4] = [
    "controller-uid",
    "job-name",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
];

/// Velero's init container.
const RESTORE_WAIT: &str = "restore-wait";

pub(super) fn job(object: &mut Value) {
    let is_manual = object.pointer("/spec/manualSelector") == Some(&Value::Bool(true));
    if is_manual {
        return;
    }
    remove(object, "/metadata/labels", &JOB_LABELS);
    remove(object, "/spec/template/metadata/labels", &JOB_LABELS);
    remove(object, "/spec", &["selector"]);
}

pub(super) fn pod(object: &mut Value) {
    remove(
        object,
        "/spec",
        &["nodeName", "priority", "preemptionPolicy"],
    );
    let account = text(object, "/spec/serviceAccountName")
        .unwrap_or("default")
        .to_owned();
    let is_token =
        |name: &str| name.starts_with("kube-api-access-") || is_issued_name(name, &account);
    let Some(spec) = object.get_mut("spec") else {
        return;
    };
    if let Some(Value::Array(volumes)) = spec.get_mut("volumes") {
        volumes.retain(|volume| !text(volume, "/name").is_some_and(is_token));
    }
    // What another backup program put in to wait for its data, which will not come (P9).
    if let Some(Value::Array(first)) = spec.get_mut("initContainers") {
        first.retain(|container| text(container, "/name") != Some(RESTORE_WAIT));
    }
    for container in containers_mut(spec) {
        if let Some(Value::Array(mounts)) = container.get_mut("volumeMounts") {
            mounts.retain(|mount| !text(mount, "/name").is_some_and(is_token));
        }
    }
    // An empty list and none are the same to the server, which adds its own to either.
    for field in ["volumes", "tolerations", "initContainers"] {
        if let Some(spec) = map_at(object, "/spec")
            && spec
                .get(field)
                .and_then(Value::as_array)
                .is_some_and(Vec::is_empty)
        {
            spec.remove(field);
        }
    }
}
