//! What OpenShift's controllers write into what people wrote.
//!
//! Invariant: a host name that somebody chose stays.

use serde_json::Value;

use super::remove;
use crate::kind::annotation;

/// Says that the router chose the route's host name.
const GENERATED: &str = "openshift.io/host.generated";

/// A host name that the router made belongs to the cluster that it was made in.
pub(super) fn route(object: &mut Value) {
    if annotation(object, GENERATED) == Some("true") {
        remove(object, "/spec", &["host"]);
        remove(object, "/metadata/annotations", &[GENERATED]);
    }
}

/// What was rolled out last is no wish.
pub(super) fn deployment_config(object: &mut Value) {
    for trigger in triggers(object) {
        remove(trigger, "/imageChangeParams", &["lastTriggeredImage"]);
    }
}

/// Neither is what was built last.
pub(super) fn build_config(object: &mut Value) {
    for trigger in triggers(object) {
        remove(trigger, "/imageChange", &["lastTriggeredImageID"]);
    }
}

fn triggers(object: &mut Value) -> impl Iterator<Item = &mut Value> {
    let triggers = object.pointer_mut("/spec/triggers");
    triggers.and_then(Value::as_array_mut).into_iter().flatten()
}
