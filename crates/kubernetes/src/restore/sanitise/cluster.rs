//! Namespaces, definitions and webhooks (P4, P12).
//!
//! Invariant: nothing here widens what an object allows.

use serde_json::{Value, json};

use super::{map_at, remove};

pub(super) fn namespace(object: &mut Value) {
    remove(object, "", &["spec"]);
    remove(object, "/metadata/labels", &["kubernetes.io/metadata.name"]);
}

/// P12: a definition that preserves unknown fields in the old way says so in its schemas.
pub(super) fn definition(object: &mut Value) {
    let preserves = object.pointer("/spec/preserveUnknownFields") == Some(&Value::Bool(true));
    remove(object, "/spec", &["preserveUnknownFields"]);
    if !preserves {
        return;
    }
    let versions = object
        .pointer_mut("/spec/versions")
        .and_then(Value::as_array_mut);
    for version in versions.into_iter().flatten() {
        if let Some(schema) = map_at(version, "/schema/openAPIV3Schema") {
            schema.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
        }
    }
}

/// P4: `v1` refuses side effects that old configurations were allowed to have or not to name.
pub(super) fn webhooks(object: &mut Value) {
    let webhooks = object.get_mut("webhooks").and_then(Value::as_array_mut);
    for webhook in webhooks.into_iter().flatten() {
        let Some(fields) = webhook.as_object_mut() else {
            continue;
        };
        let effects = fields.get("sideEffects").and_then(Value::as_str);
        if !matches!(effects, Some("None" | "NoneOnDryRun")) {
            fields.insert("sideEffects".into(), json!("None"));
        }
        fields
            .entry("admissionReviewVersions")
            .or_insert_with(|| json!(["v1", "v1beta1"]));
    }
}
