//! What must not come back with an object, as pure functions (P1, P5-P7, P12, P15).
//!
//! The same functions are applied to live objects before they are compared, so that what the
//! cluster adds by itself is no difference.
//!
//! Invariant: sanitising twice is sanitising once.

mod cluster;
mod openshift;
mod service;
mod snapshot;
mod workload;

use serde_json::{Map, Value};

use super::volumes::PLACE;
use crate::kind::{annotation, name};
use crate::rules::{is_issued_name, is_issued_pull_secret};

pub(super) use service::forget_families;

/// Finalizers that something in every cluster takes away again. All others may be of a
/// controller that is not there, and an object that keeps one can never be deleted.
const FINALIZERS: [&str; 1] = ["foregroundDeletion"];

/// Annotations that controllers write about the cluster the object was in.
const ANNOTATIONS: [&str; 15] = [
    "autoscaling.alpha.kubernetes.io/conditions",
    "autoscaling.alpha.kubernetes.io/current-metrics",
    "control-plane.alpha.kubernetes.io/leader",
    "deployment.kubernetes.io/revision",
    "deprecated.daemonset.template.generation",
    "kubernetes.io/service-account.uid",
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "pv.kubernetes.io/provisioned-by",
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/selected-node",
    "volume.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/storage-resizer",
    "volume.kubernetes.io/provisioner-deletion-secret-name",
    HELD,
];

/// Marks what a restore holds back until its end (a suspended CronJob).
pub(super) const HELD: &str = "refloat.io/held";

/// Cleans an object of the kind `id`. `server` is what the server said of it, where it is known.
pub(super) fn sanitise(id: &str, object: &mut Value, server: Option<&Value>) {
    match id {
        "services" => service::service(object, server),
        "secrets" => secret(object),
        "serviceaccounts" => service_account(object),
        "pods" => workload::pod(object),
        "jobs.batch" => workload::job(object),
        "persistentvolumeclaims" => claim(object),
        "persistentvolumes" => volume(object),
        "namespaces" => cluster::namespace(object),
        "volumesnapshots.snapshot.storage.k8s.io" => snapshot::snapshot(object, server),
        "volumesnapshotcontents.snapshot.storage.k8s.io" => snapshot::content(object, server),
        "customresourcedefinitions.apiextensions.k8s.io" => cluster::definition(object),
        "routes.route.openshift.io" => openshift::route(object),
        "deploymentconfigs.apps.openshift.io" => openshift::deployment_config(object),
        "buildconfigs.build.openshift.io" => openshift::build_config(object),
        id if id.ends_with("webhookconfigurations.admissionregistration.k8s.io") => {
            cluster::webhooks(object);
        }
        _ => {}
    }
    templates(object);
    metadata(object);
    if object.get("status").is_some_and(Value::is_object) {
        remove(object, "", &["status"]);
    }
}

/// P1: of the metadata, only what somebody wrote stays.
fn metadata(object: &mut Value) {
    let Some(metadata) = map_at(object, "/metadata") else {
        return;
    };
    metadata.retain(|key, _| {
        matches!(
            key.as_str(),
            "name" | "namespace" | "labels" | "annotations" | "finalizers" | "ownerReferences"
        )
    });
    if let Some(Value::Array(finalizers)) = metadata.get_mut("finalizers") {
        finalizers.retain(|f| f.as_str().is_some_and(|f| FINALIZERS.contains(&f)));
    }
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
        annotations.retain(|key, _| !ANNOTATIONS.contains(&key.as_str()));
    }
    metadata.retain(|_, value| !is_empty(value));
}

/// Templates of pods and claims carry the remains of metadata that nobody wrote.
fn templates(object: &mut Value) {
    for place in [
        "/spec/template",
        "/spec/jobTemplate",
        "/spec/jobTemplate/spec/template",
    ] {
        if let Some(metadata) = map_at(object, &format!("{place}/metadata")) {
            metadata.retain(|key, value| key != "creationTimestamp" && !is_empty(value));
        }
    }
    let claims = object.pointer_mut("/spec/volumeClaimTemplates");
    for claim in claims.and_then(Value::as_array_mut).into_iter().flatten() {
        remove(claim, "", &["status"]);
        remove(claim, "/metadata", &["creationTimestamp"]);
    }
}

/// P5: a token this cluster did not issue is none; the controller fills it in again.
fn secret(object: &mut Value) {
    let kind = object.get("type").and_then(Value::as_str);
    if kind == Some("kubernetes.io/service-account-token") {
        remove(object, "/data", &["token", "ca.crt", "namespace"]);
        if map_at(object, "/data").is_some_and(|data| data.is_empty()) {
            remove(object, "", &["data"]);
        }
    }
}

/// P5: references to tokens that the cluster issues by itself.
fn service_account(object: &mut Value) {
    let issued = "openshift.io/internal-registry-pull-secret-ref";
    remove(object, "/metadata/annotations", &[issued]);
    let account = name(object).to_owned();
    let is_issued = |secret: &Value| {
        let name = secret.get("name").and_then(Value::as_str);
        name.is_some_and(|name| {
            is_issued_name(name, &account) || is_issued_pull_secret(name, &account)
        })
    };
    for field in ["secrets", "imagePullSecrets"] {
        if let Some(Value::Array(secrets)) = object.get_mut(field) {
            secrets.retain(|secret| !is_issued(secret));
            if secrets.is_empty() {
                remove(object, "", &[field]);
            }
        }
    }
}

/// P7: a claim without its volume is bound anew, and from nothing: what the old volume was made
/// from may be gone. (Whoever restores the volume too puts its place back.)
fn claim(object: &mut Value) {
    remove(object, "/spec", &PLACE);
}

/// P7: a volume is bound to the claim of that name, not to one that is gone.
fn volume(object: &mut Value) {
    remove(object, "/spec/claimRef", &["uid", "resourceVersion"]);
}

/// Whether an object was made by a cluster for itself and is in every cluster.
pub(super) fn is_bootstrap(id: &str, object: &Value) -> bool {
    let labels = object.pointer("/metadata/labels");
    let default_role = labels
        .and_then(|l| l.get("kubernetes.io/bootstrapping"))
        .is_some();
    let space = crate::kind::namespace(object);
    default_role
        || (id == "services" && space == Some("default") && name(object) == "kubernetes")
        || (id == "priorityclasses.scheduling.k8s.io" && name(object).starts_with("system-"))
        || (id.ends_with(".rbac.authorization.k8s.io") && name(object).starts_with("system:"))
        || annotation(object, "rbac.authorization.kubernetes.io/autoupdate") == Some("true")
}

/// The map at a JSON pointer.
pub(super) fn map_at<'a>(
    value: &'a mut Value,
    pointer: &str,
) -> Option<&'a mut Map<String, Value>> {
    value.pointer_mut(pointer)?.as_object_mut()
}

/// Removes fields of the map at a JSON pointer.
pub(super) fn remove(value: &mut Value, pointer: &str, keys: &[&str]) {
    if let Some(map) = map_at(value, pointer) {
        for key in keys {
            map.remove(*key);
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
