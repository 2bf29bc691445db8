//! Services, configs and secrets, where the engine manages a swarm.
//!
//! Invariant: join tokens, unlock keys and the values of secrets are never read.

use std::collections::HashMap;

use serde_json::Value;

use super::estate::{Estate, list, object};
use crate::client::Client;
use crate::definition::{Object, ObjectKind, SwarmObject, take_object};
use crate::error::EngineError;

/// Whether the engine's `info` says that it manages a swarm.
pub(crate) fn is_manager(info: &Object) -> bool {
    info.get("Swarm")
        .and_then(|swarm| swarm.get("ControlAvailable"))
        .and_then(Value::as_bool)
        == Some(true)
}

/// Adds the swarm's own specification and its objects.
pub(super) fn read(client: &Client, estate: &mut Estate) -> Result<(), EngineError> {
    let mut swarm = object(client.get("/swarm")?);
    estate.host.swarm = Some(take_object(&mut swarm, "Spec"));
    estate.swarm = objects(client)?.into_iter().map(|o| o.object).collect();
    Ok(())
}

/// An object with what the engine knows it by.
#[derive(Clone, Debug)]
pub(crate) struct ListedObject {
    pub(crate) object: SwarmObject,
    pub(crate) id: String,
    /// Raised by every change; an update names the one it knows.
    pub(crate) version: u64,
}

/// All services, configs and secrets, sorted by kind and name.
pub(crate) fn objects(client: &Client) -> Result<Vec<ListedObject>, EngineError> {
    let networks = list(Some(&client.get("/networks")?));
    let networks: HashMap<String, String> = networks
        .iter()
        .filter_map(|network| Some((word(network, "Id")?, word(network, "Name")?)))
        .collect();
    let mut objects = Vec::new();
    for kind in [ObjectKind::Service, ObjectKind::Config, ObjectKind::Secret] {
        for listed in list(Some(&client.get(&format!("/{}", kind.folder()))?)) {
            let version = listed.get("Version").and_then(|v| v.get("Index"));
            objects.push(ListedObject {
                id: word(&listed, "ID").unwrap_or_default(),
                version: version.and_then(Value::as_u64).unwrap_or_default(),
                object: swarm_object(kind, listed, &networks),
            });
        }
    }
    objects.sort_by(|a, b| (a.object.kind, &a.object.name).cmp(&(b.object.kind, &b.object.name)));
    Ok(objects)
}

fn swarm_object(
    kind: ObjectKind,
    mut listed: Object,
    networks: &HashMap<String, String>,
) -> SwarmObject {
    let mut spec = take_object(&mut listed, "Spec");
    name_networks(&mut spec, networks);
    if let Some(Value::Object(task)) = spec.get_mut("TaskTemplate") {
        name_networks(task, networks);
    }
    let mut object = SwarmObject {
        kind,
        name: word(&spec, "Name").unwrap_or_default(),
        stack: spec
            .get("Labels")
            .and_then(|labels| labels.get("com.docker.stack.namespace"))
            .and_then(Value::as_str)
            .map(str::to_owned),
        spec,
    };
    object.normalise();
    object
}

/// Replaces ids in a list of attachments by names.
fn name_networks(holder: &mut Object, networks: &HashMap<String, String>) {
    let attachments = holder.get_mut("Networks").and_then(Value::as_array_mut);
    for attachment in attachments.into_iter().flatten() {
        let name = attachment
            .get("Target")
            .and_then(Value::as_str)
            .and_then(|id| networks.get(id));
        if let (Some(name), Some(target)) = (name, attachment.get_mut("Target")) {
            *target = name.clone().into();
        }
    }
}

fn word(object: &Object, key: &str) -> Option<String> {
    object.get(key).and_then(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_keeps_its_specification_with_networks_by_name() {
        let Value::Object(listed) = json!({
            "ID": "x", "Version": {"Index": 7}, "CreatedAt": "now",
            "Spec": {"Name": "shop_web", "Labels": {"com.docker.stack.namespace": "shop"},
                     "TaskTemplate": {"ContainerSpec": {"Image": "web:1"}, "ForceUpdate": 3,
                                      "Networks": [{"Target": "n1", "Aliases": ["web"]}]},
                     "Mode": {"Replicated": {"Replicas": 2}}},
            "Endpoint": {"Ports": []}
        }) else {
            panic!("an object")
        };
        let networks = HashMap::from([("n1".to_owned(), "shop_back".to_owned())]);
        let service = swarm_object(ObjectKind::Service, listed, &networks);
        assert_eq!(
            (service.name.as_str(), service.stack.as_deref()),
            ("shop_web", Some("shop"))
        );
        assert_eq!(
            Value::Object(service.spec),
            json!({"Name": "shop_web", "Labels": {"com.docker.stack.namespace": "shop"},
                   "TaskTemplate": {"ContainerSpec": {"Image": "web:1"},
                                    "Networks": [{"Target": "shop_back", "Aliases": ["web"]}]},
                   "Mode": {"Replicated": {"Replicas": 2}}})
        );
    }
}
