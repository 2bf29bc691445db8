//! What the engine is asked for when a thing is created again.
//!
//! Invariant: pure; whatever the definition holds goes back in the engine's own words, except for
//! what an engine would take differently from how it says it.

use serde_json::{Map, Value, json};

use crate::definition::{
    ContainerDefinition, EngineKind, MountKind, NetworkDefinition, Object, VolumeDefinition,
};

/// A container to be created, and the networks to attach it to before it starts.
pub(super) struct ContainerSpec {
    /// The body of the create request.
    pub(super) body: Value,
    /// Further networks with their endpoint settings: engines before API 1.44 take one at birth.
    pub(super) attach: Vec<(String, Value)>,
    /// The network it gets at birth and must leave: it had none of it when it was captured.
    pub(super) detach: Option<String>,
}

/// The request for a container. `image` is the name or id by which the target knows its image.
/// Volumes whose names an engine made up are attached where `is_restored` says they came back;
/// others are made anew.
pub(super) fn container(
    definition: &ContainerDefinition,
    image: &str,
    engine: EngineKind,
    is_restored: impl Fn(&str) -> bool,
) -> ContainerSpec {
    let mut body = definition.config.clone();
    body.insert("Image".to_owned(), image.into());
    if let Some(Value::Array(environment)) = body.get_mut("Env") {
        environment.retain(|variable| !variable.as_str().is_some_and(is_made_up_hostname));
    }
    // Engines say "entry point taken away" as null, and take null for "as the image has it".
    if body
        .get("Entrypoint")
        .is_none_or(|e| e.is_null() || e == &json!([]))
    {
        body.insert("Entrypoint".to_owned(), json!([""]));
    }
    let mut host = definition.host_config.clone();
    let known = host.remove("Binds");
    let mut binds: Vec<Value> = known
        .as_ref()
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if let Some(Value::Array(ulimits)) = host.get_mut("Ulimits") {
        ulimits.iter_mut().for_each(name_ulimit);
    }
    for mount in &definition.mounts {
        if mount.kind == MountKind::Volume && mount.anonymous && is_restored(&mount.source) {
            if let Some(asked) = asked_mount(&mut host, &mount.destination) {
                asked.insert("Source".to_owned(), mount.source.as_str().into());
                continue;
            }
            let mode = if mount.read_only { ":ro" } else { "" };
            let bind = format!("{}:{}{mode}", mount.source, mount.destination);
            let is_known = binds.iter().any(|known| {
                known
                    .as_str()
                    .is_some_and(|k| k.split(':').nth(1) == Some(&mount.destination))
            });
            if !is_known {
                binds.push(bind.into());
            }
        }
    }
    if !binds.is_empty() {
        host.insert("Binds".to_owned(), binds.into());
    }
    // A path on the machine of the client that once created it.
    host.remove("ContainerIDFile");
    let (first, attach, detach) = networks(definition, engine);
    if let (EngineKind::Podman, Some((name, _))) = (engine, &first) {
        // Podman says "bridge" for every network of that kind.
        host.insert("NetworkMode".to_owned(), name.as_str().into());
    }
    body.insert("HostConfig".to_owned(), Value::Object(host));
    if let Some((name, endpoint)) = first {
        let endpoints = Map::from_iter([(name, endpoint)]);
        body.insert(
            "NetworkingConfig".to_owned(),
            json!({"EndpointsConfig": endpoints}),
        );
    }
    ContainerSpec {
        body: Value::Object(body),
        attach,
        detach,
    }
}

/// What `HostConfig.Mounts` asks for at a place: an engine takes no second mount there.
fn asked_mount<'a>(host: &'a mut Object, destination: &str) -> Option<&'a mut Object> {
    let mounts = host.get_mut("Mounts").and_then(Value::as_array_mut);
    let mut mounts = mounts
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut);
    let slashless = destination.trim_end_matches('/');
    mounts.find(|mount| {
        let target = mount.get("Target").and_then(Value::as_str);
        target.is_some_and(|target| target.trim_end_matches('/') == slashless)
    })
}

/// Podman says `RLIMIT_NOFILE` for what every engine takes as `nofile`.
fn name_ulimit(ulimit: &mut Value) {
    if let Some(Value::String(name)) = ulimit.get_mut("Name")
        && let Some(plain) = name.strip_prefix("RLIMIT_")
    {
        *name = plain.to_ascii_lowercase();
    }
}

/// Whether a variable holds the host name that Podman made from the container's id.
pub(super) fn is_made_up_hostname(variable: &str) -> bool {
    let name = variable.strip_prefix("HOSTNAME=");
    name.is_some_and(|name| name.len() == 12 && name.bytes().all(|b| b.is_ascii_hexdigit()))
}

type Endpoint = (String, Value);

/// The network at birth, the further ones, and the one to leave.
fn networks(
    definition: &ContainerDefinition,
    engine: EngineKind,
) -> (Option<Endpoint>, Vec<Endpoint>, Option<String>) {
    let mode = definition.network_mode();
    let alone = ["host", "none"].contains(&mode)
        || ["container:", "ns:", "slirp4netns", "pasta", "private"]
            .iter()
            .any(|prefix| mode.starts_with(prefix));
    if alone {
        return (None, Vec::new(), None);
    }
    let first_name = definition.networks.keys().next().map(String::as_str);
    let birth = match (engine, mode) {
        (EngineKind::Podman, "default" | "bridge") => first_name.unwrap_or("podman"),
        (_, "default") => "bridge",
        _ => mode,
    };
    let endpoint = |endpoint: &Object| Value::Object(endpoint.clone());
    let first = definition
        .networks
        .get(birth)
        .map(|e| (birth.to_owned(), endpoint(e)));
    let others = definition
        .networks
        .iter()
        .filter(|(name, _)| *name != birth);
    let attach: Vec<Endpoint> = others
        .map(|(name, e)| (name.clone(), endpoint(e)))
        .collect();
    let detach = (first.is_none() && !definition.networks.is_empty()).then(|| birth.to_owned());
    (first, attach, detach)
}

/// The request for a network.
pub(super) fn network(definition: &NetworkDefinition) -> Value {
    let mut body = definition.other.clone();
    for (key, value) in [
        ("Name", json!(definition.name)),
        ("Driver", json!(definition.driver)),
        ("CheckDuplicate", json!(true)),
        ("Internal", json!(definition.internal)),
        ("Attachable", json!(definition.attachable)),
        ("EnableIPv6", json!(definition.ipv6)),
        ("Options", json!(definition.options)),
        ("Labels", json!(definition.labels)),
    ] {
        body.insert(key.to_owned(), value);
    }
    if definition.scope == "swarm" {
        body.insert("Scope".to_owned(), json!(definition.scope));
    }
    if !definition.ipam.is_empty() {
        body.insert("IPAM".to_owned(), Value::Object(definition.ipam.clone()));
    }
    Value::Object(body)
}

/// The request for a volume.
pub(super) fn volume(definition: &VolumeDefinition) -> Value {
    json!({
        "Name": definition.name,
        "Driver": definition.driver,
        "DriverOpts": definition.options,
        "Labels": definition.labels,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(networks: Value, host_config: Value) -> ContainerDefinition {
        serde_json::from_value(json!({
            "name": "web", "image": {"name": "web:1", "id": "sha256:aa"}, "started": true,
            "config": {"Cmd": ["a"], "Entrypoint": null, "Env": ["A=1"]},
            "host_config": host_config, "networks": networks, "platform": "linux",
            "mounts": [
                {"kind": "volume", "destination": "/a", "read_only": false, "source": "a".repeat(64), "anonymous": true},
                {"kind": "volume", "destination": "/b", "read_only": true, "source": "b".repeat(64), "anonymous": true},
            ],
        }))
        .unwrap()
    }

    #[test]
    fn the_first_network_comes_at_birth_and_the_others_before_the_start() {
        let host = json!({"NetworkMode": "front", "Binds": ["v:/d"], "ContainerIDFile": "/x"});
        let networks = json!({"front": {"Aliases": ["w"]}, "back": {"IPAMConfig": {"IPv4Address": "10.0.0.9"}}});
        let spec = container(
            &definition(networks, host),
            "web:1",
            EngineKind::Docker,
            |name| name.starts_with('b'),
        );
        let made_up = format!("{}:/b:ro", "b".repeat(64));
        assert_eq!(
            spec.body,
            json!({
                "Image": "web:1", "Cmd": ["a"], "Entrypoint": [""], "Env": ["A=1"],
                "HostConfig": {"NetworkMode": "front", "Binds": ["v:/d", made_up]},
                "NetworkingConfig": {"EndpointsConfig": {"front": {"Aliases": ["w"]}}},
            })
        );
        assert_eq!(
            spec.attach,
            [(
                "back".to_owned(),
                json!({"IPAMConfig": {"IPv4Address": "10.0.0.9"}})
            )]
        );
        assert_eq!(spec.detach, None);
    }

    #[test]
    fn a_volume_without_a_name_comes_back_where_it_was_asked_for() {
        let host = json!({
            "Mounts": [{"Type": "volume", "Target": "/a/"}, {"Type": "tmpfs", "Target": "/t"}],
            "Ulimits": [{"Name": "RLIMIT_NOFILE", "Soft": 5}, {"Name": "nproc", "Soft": 6}],
        });
        let definition = definition(json!({}), host);
        let spec = container(&definition, "web:1", EngineKind::Docker, |_| true);
        assert_eq!(
            spec.body["HostConfig"],
            json!({
                "Mounts": [{"Type": "volume", "Target": "/a/", "Source": "a".repeat(64)},
                           {"Type": "tmpfs", "Target": "/t"}],
                "Binds": [format!("{}:/b:ro", "b".repeat(64))],
                "Ulimits": [{"Name": "nofile", "Soft": 5}, {"Name": "nproc", "Soft": 6}],
            })
        );
    }

    #[test]
    fn a_container_that_left_its_network_leaves_it_again() {
        let host = json!({"NetworkMode": "default"});
        let spec = container(
            &definition(json!({"back": {}}), host),
            "web:1",
            EngineKind::Docker,
            |_| false,
        );
        assert_eq!(spec.detach.as_deref(), Some("bridge"));
        assert_eq!(spec.body.get("NetworkingConfig"), None);
        let host = json!({"NetworkMode": "container:db"});
        let spec = container(
            &definition(json!({}), host),
            "web:1",
            EngineKind::Docker,
            |_| false,
        );
        assert_eq!((spec.attach.len(), spec.detach), (0, None));
    }
}
