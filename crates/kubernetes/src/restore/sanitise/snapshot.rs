//! Volume snapshots are bound to what the storage already has, never taken anew (P8).
//!
//! A snapshot that names its claim would be a snapshot of whatever the claim holds after the
//! restore. So it names its content, and the content names the handle of the storage.
//!
//! Invariant: deleting a restored object never deletes the storage's snapshot.

use serde_json::{Value, json};

use super::{map_at, remove};
use crate::hash::Fnv;
use crate::kind::text;

/// The content's name in the target: of its own, because one of the old name may still be there,
/// and the same at every attempt.
fn content_name(old: &str) -> String {
    let mut hash = Fnv::default();
    hash.write(old.as_bytes());
    format!("refloat-{:016x}", hash.finish())
}

/// Annotations of the snapshot controller about deletion, which is not ours.
const ANNOTATIONS: [&str; 4] = [
    "snapshot.storage.kubernetes.io/deletion-secret-name",
    "snapshot.storage.kubernetes.io/deletion-secret-namespace",
    "snapshot.storage.kubernetes.io/volumesnapshot-being-deleted",
    "snapshot.storage.kubernetes.io/volumesnapshot-being-created",
];

/// The snapshot of a claim becomes the snapshot of a content.
pub(super) fn snapshot(object: &mut Value, server: Option<&Value>) {
    let bound = server.and_then(|s| text(s, "/status/boundVolumeSnapshotContentName"));
    if let (Some(bound), Some(spec)) = (bound, map_at(object, "/spec")) {
        let source = json!({"volumeSnapshotContentName": content_name(bound)});
        spec.insert("source".into(), source);
    }
    // Classes are for snapshots that are taken; the target's are called otherwise.
    remove(object, "/spec", &["volumeSnapshotClassName"]);
    remove(object, "/metadata/annotations", &ANNOTATIONS);
}

/// The content of a volume becomes the content of a handle.
pub(super) fn content(object: &mut Value, server: Option<&Value>) {
    let handle = server.and_then(|s| text(s, "/status/snapshotHandle"));
    if let Some(handle) = handle {
        if let Some(spec) = map_at(object, "/spec") {
            spec.insert("source".into(), json!({"snapshotHandle": handle}));
        }
        if let Some(Value::String(name)) = object.pointer_mut("/metadata/name") {
            *name = content_name(name);
        }
    }
    if let Some(spec) = map_at(object, "/spec") {
        spec.insert("deletionPolicy".into(), "Retain".into());
    }
    remove(
        object,
        "/spec",
        &["volumeSnapshotClassName", "sourceVolumeMode"],
    );
    let reference = ["uid", "resourceVersion", "apiVersion", "kind"];
    remove(object, "/spec/volumeSnapshotRef", &reference);
    remove(object, "/metadata/annotations", &ANNOTATIONS);
}
