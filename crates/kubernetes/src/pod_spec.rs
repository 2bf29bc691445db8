//! Where workloads keep the specification of their pods.
//!
//! Invariant: one list of places, for references, image mapping and checks alike.

use serde_json::Value;

/// From most to least specific: CronJob; Deployment, StatefulSet, Job and custom resources made
/// after them; Pod.
const PLACES: [&str; 3] = [
    "/spec/jobTemplate/spec/template/spec",
    "/spec/template/spec",
    "/spec",
];

/// The pod specification in an object, if it has one.
pub(crate) fn pod_spec(object: &Value) -> Option<&Value> {
    let place = place(object)?;
    object.pointer(place)
}

/// The same, to change it.
pub(crate) fn pod_spec_mut(object: &mut Value) -> Option<&mut Value> {
    let place = place(object)?;
    object.pointer_mut(place)
}

fn place(object: &Value) -> Option<&'static str> {
    PLACES.into_iter().find(|place| {
        object
            .pointer(place)
            .and_then(|spec| spec.get("containers"))
            .and_then(Value::as_array)
            .is_some_and(|containers| containers.iter().all(Value::is_object))
    })
}

/// The containers of all sorts in a pod specification.
pub(crate) fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .filter_map(|field| spec.get(field)?.as_array())
        .flatten()
}

/// The same, to change them.
pub(crate) fn containers_mut(spec: &mut Value) -> Vec<&mut Value> {
    let Some(fields) = spec.as_object_mut() else {
        return Vec::new();
    };
    fields
        .iter_mut()
        .filter(|(key, _)| {
            matches!(
                key.as_str(),
                "initContainers" | "containers" | "ephemeralContainers"
            )
        })
        .filter_map(|(_, list)| list.as_array_mut())
        .flatten()
        .collect()
}
