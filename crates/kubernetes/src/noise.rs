//! What only the server has to say of an object, apart from what somebody wanted.
//!
//! Invariant: `split` loses nothing: both parts together are the object.

use serde_json::{Map, Value};

use crate::kind::name;

/// Metadata that the server makes and changes by itself.
const SERVER_METADATA: [&str; 8] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Takes the server's part out of `object` and returns it: name, metadata, status.
pub(crate) fn split(object: &mut Value) -> Value {
    let mut server = Map::new();
    server.insert("name".into(), name(object).into());
    let Some(fields) = object.as_object_mut() else {
        return Value::Object(server);
    };
    if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
        let taken: Map<String, Value> = SERVER_METADATA
            .iter()
            .filter_map(|key| metadata.remove_entry(*key))
            .collect();
        if !taken.is_empty() {
            server.insert("metadata".into(), Value::Object(taken));
        }
    }
    // A kind may use `status` for what users write; that is text, not an object.
    if fields.get("status").is_some_and(Value::is_object)
        && let Some(status) = fields.remove("status")
    {
        server.insert("status".into(), status);
    }
    Value::Object(server)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_server_says_is_set_apart_and_kept() {
        let mut object = json!({
            "kind": "Deployment",
            "metadata": {"name": "web", "uid": "1", "resourceVersion": "7", "managedFields": [],
                         "labels": {"uid": "mine"}, "creationTimestamp": "t", "generation": 2},
            "spec": {"replicas": 1},
            "status": {"readyReplicas": 1},
        });
        let server = split(&mut object);
        assert_eq!(
            object,
            json!({"kind": "Deployment", "metadata": {"name": "web", "labels": {"uid": "mine"}},
                   "spec": {"replicas": 1}})
        );
        assert_eq!(
            server,
            json!({"name": "web", "status": {"readyReplicas": 1},
                   "metadata": {"uid": "1", "resourceVersion": "7", "managedFields": [],
                                "creationTimestamp": "t", "generation": 2}})
        );
    }
}
