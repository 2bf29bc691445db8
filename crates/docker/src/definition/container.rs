//! A container as it must be created again.
//!
//! Invariant: nothing in it depends on whether or how long the container runs, except `started`,
//! which says whether a restore has to start it.

use std::collections::BTreeMap;

use refloat_model::tree_path::TreePath;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Document, Membership, Object, PodmanOnly, take_object, take_string, without};

/// `/docker/<source>/containers/<name>.json`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ContainerDefinition {
    /// Its name, without the slash the engine puts before it.
    pub name: String,
    /// What it was made from.
    pub image: ImageReference,
    /// Whether it was up (running, paused, restarting), so that a restore starts it.
    pub started: bool,
    /// The compose project and service it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Membership>,
    /// The engine's `Config`: command, environment, labels, health check, user …
    ///
    /// A `Hostname` that the engine made from the container's id is left out, so that the new
    /// container gets its own.
    pub config: Object,
    /// The engine's `HostConfig`: limits, restart policy, ports, binds, capabilities, devices,
    /// logging … References to other containers by id (`container:<id>`) are by name.
    pub host_config: Object,
    /// The networks it is attached to, by name, each as the engine's `EndpointSettings` without
    /// what the engine handed out: aliases, links, fixed addresses, driver options.
    pub networks: BTreeMap<String, Object>,
    /// What is mounted where, sorted by destination; anonymous volumes by the name they had.
    pub mounts: Vec<MountDefinition>,
    /// `linux`; with the architecture where the engine says so.
    pub platform: String,
    /// What Docker's API does not tell of it.
    #[serde(default, skip_serializing_if = "PodmanOnly::is_empty")]
    pub podman: PodmanOnly,
    /// What the engine says besides and this program does not know; no running state.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub other: Object,
}

impl Document for ContainerDefinition {
    const VERSION: u32 = 1;
    const WORD: &'static str = "container";
}

impl ContainerDefinition {
    /// The environment, `NAME=value` each. Sensitive.
    #[must_use]
    pub fn environment(&self) -> Vec<&str> {
        strings(self.config.get("Env"))
    }

    /// One label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.config.get("Labels")?.get(name)?.as_str()
    }

    /// `bridge`, `host`, `none`, `container:<name>` or a network's name.
    #[must_use]
    pub fn network_mode(&self) -> &str {
        self.host_config
            .get("NetworkMode")
            .and_then(Value::as_str)
            .unwrap_or("default")
    }

    /// Whether only a folder of the volume mounted at `destination` is (`volume-subpath`).
    pub(crate) fn is_part(&self, destination: &str) -> bool {
        let mounts = self.host_config.get("Mounts").and_then(Value::as_array);
        mounts.into_iter().flatten().any(|mount| {
            let subpath = mount.pointer("/VolumeOptions/Subpath");
            let target = mount.get("Target").and_then(Value::as_str);
            target.is_some_and(|target| {
                target.trim_end_matches('/') == destination.trim_end_matches('/')
            }) && subpath
                .and_then(Value::as_str)
                .is_some_and(|path| !path.is_empty())
        })
    }
}

fn strings(value: Option<&Value>) -> Vec<&str> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// The image a container was made from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImageReference {
    /// As the user wrote it: `postgres:15`, `sha256:…`.
    pub name: String,
    /// The engine's image id, `sha256:…`.
    pub id: String,
    /// Registry digests the engine knows for it, `repository@sha256:…`, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub digests: Vec<String>,
}

/// What is mounted at one place of a container.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MountDefinition {
    /// What is mounted.
    pub kind: MountKind,
    /// Where, inside the container.
    pub destination: String,
    /// Whether the container may not write to it.
    pub read_only: bool,
    /// The volume's name, the host path of a bind, empty for tmpfs.
    pub source: String,
    /// Whether the engine made the volume's name up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
    /// Where its data lies in the recovery point, if a run selected it: a volume's or a bind's
    /// tree path. Containers that bind the same host path name the same place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<TreePath>,
}

/// The kind of a mount.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    /// A volume of the engine.
    Volume,
    /// A directory or file of the host.
    Bind,
    /// Memory; nothing to capture.
    Tmpfs,
    /// A named pipe, a cluster volume, an image: anything else.
    Other,
}

/// Top-level keys of the engine's answer that are running state, or are kept elsewhere.
const STATE_KEYS: &[&str] = &[
    "AppArmorProfile",
    "Args",
    "Created",
    "Driver",
    "ExecIDs",
    "GraphDriver",
    "HostnamePath",
    "HostsPath",
    "Id",
    "ImageManifestDescriptor",
    "LogPath",
    "MountLabel",
    "Node",
    "Path",
    "ProcessLabel",
    "ResolvConfPath",
    "RestartCount",
    "SizeRootFs",
    "SizeRw",
    "State",
    "Storage",
];

/// Keys of an `EndpointSettings` that the engine handed out.
const ENDPOINT_STATE_KEYS: &[&str] = &[
    "DNSNames",
    "EndpointID",
    "Gateway",
    "GlobalIPv6Address",
    "GlobalIPv6PrefixLen",
    "IPAddress",
    "IPPrefixLen",
    "IPv6Gateway",
    "MacAddress",
    "NetworkID",
];

/// Namespaces that may be another container's: `container:<name>`.
pub(crate) const SHARED_MODES: [&str; 4] = ["NetworkMode", "IpcMode", "PidMode", "UTSMode"];

/// How many digits of its id an engine takes as a container's host name and alias.
const SHORT_ID_DIGITS: usize = 12;

/// What a definition needs from beyond its own container.
pub(crate) struct Surroundings<'a> {
    /// What the engine's machine is called.
    pub(crate) host_name: &'a str,
    /// Names of containers by id.
    pub(crate) names: &'a dyn Fn(&str) -> Option<String>,
    /// Registry digests of an image by id, sorted.
    pub(crate) digests: &'a dyn Fn(&str) -> Vec<String>,
    /// What Podman's own API tells of a container, by id.
    pub(crate) podman: &'a dyn Fn(&str) -> PodmanOnly,
    /// Where a mount's data lies in the recovery point.
    pub(crate) data: &'a dyn Fn(&MountDefinition) -> Option<TreePath>,
}

impl ContainerDefinition {
    /// Splits the engine's answer to "inspect" into definition and running state, and drops the
    /// latter.
    pub(crate) fn from_inspect(mut inspect: Object, around: &Surroundings<'_>) -> Self {
        let id = take_string(&mut inspect, "Id");
        let short_id = id.get(..SHORT_ID_DIGITS).unwrap_or(&id).to_owned();
        let name = take_string(&mut inspect, "Name");
        let image_id = take_string(&mut inspect, "Image");
        let platform = take_string(&mut inspect, "Platform");
        let started = inspect.get("State").is_some_and(is_up);
        let mut config = take_object(&mut inspect, "Config");
        let mut host_config = take_object(&mut inspect, "HostConfig");
        name_other_containers(&mut host_config, around.names);
        forget_made_up_hostname(&mut config, &host_config, [&short_id, around.host_name]);
        let mounts = mounts(inspect.remove("Mounts"), &host_config, around.data);
        let networks = take_object(&mut inspect, "NetworkSettings")
            .remove("Networks")
            .map(|networks| endpoints(networks, &short_id))
            .unwrap_or_default();
        let project = Membership::from_labels(|label| config.get("Labels")?.get(label)?.as_str());
        let image = ImageReference {
            name: config
                .get("Image")
                .and_then(Value::as_str)
                .filter(|name| !name.is_empty())
                .unwrap_or(&image_id)
                .to_owned(),
            digests: (around.digests)(&image_id),
            id: image_id,
        };
        Self {
            name: name.trim_start_matches('/').to_owned(),
            image,
            started,
            project,
            config,
            host_config,
            networks,
            mounts,
            platform,
            podman: (around.podman)(&id),
            other: without(inspect, STATE_KEYS),
        }
    }
}

fn is_up(state: &Value) -> bool {
    let flag = |key: &str| state.get(key).and_then(Value::as_bool) == Some(true);
    flag("Running") || flag("Paused") || flag("Restarting")
}

/// Replaces `container:<id>` by `container:<name>`: a restored container has another id.
fn name_other_containers(host_config: &mut Object, names: &dyn Fn(&str) -> Option<String>) {
    for key in SHARED_MODES {
        let Some(Value::String(mode)) = host_config.get_mut(key) else {
            continue;
        };
        if let Some(name) = mode.strip_prefix("container:").and_then(names) {
            *mode = format!("container:{name}");
        }
    }
}

/// Drops a host name that is not the user's: the engine's default, the machine's where its network
/// is shared, or the one of a namespace the container only shares.
fn forget_made_up_hostname(
    config: &mut Object,
    host_config: &Object,
    [short_id, host_name]: [&str; 2],
) {
    let mode = |key: &str| {
        let mode = host_config.get(key).and_then(Value::as_str);
        mode.unwrap_or_default()
    };
    let (network, uts) = (mode("NetworkMode"), mode("UTSMode"));
    let of_container = |mode: &str| mode.starts_with("container:");
    let given = config.get("Hostname").and_then(Value::as_str);
    let made_up = of_container(network)
        || of_container(uts)
        || uts == "host"
        || given == Some(short_id)
        || network == "host" && given == Some(host_name);
    if made_up {
        config.remove("Hostname");
    }
    // Podman also puts the name it made up into the environment.
    let made_up = format!("HOSTNAME={short_id}");
    if let Some(Value::Array(environment)) = config.get_mut("Env") {
        environment.retain(|variable| variable.as_str() != Some(&made_up));
    }
}

fn endpoints(networks: Value, short_id: &str) -> BTreeMap<String, Object> {
    let Value::Object(networks) = networks else {
        return BTreeMap::new();
    };
    networks
        .into_iter()
        .filter_map(|(name, endpoint)| match endpoint {
            Value::Object(endpoint) => Some((name, endpoint_definition(endpoint, short_id))),
            Value::Null => Some((name, Object::new())),
            _ => None,
        })
        .collect()
}

fn endpoint_definition(endpoint: Object, short_id: &str) -> Object {
    let mut endpoint = without(endpoint, ENDPOINT_STATE_KEYS);
    if let Some(Value::Array(aliases)) = endpoint.get_mut("Aliases") {
        aliases.retain(|alias| alias.as_str() != Some(short_id));
    }
    // "none given" is told as null, as empty, or not at all, depending on engine and state.
    endpoint.retain(|_, value| match value {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => map.values().any(|v| v.as_str() != Some("")),
        Value::Number(number) => number.as_i64() != Some(0),
        _ => true,
    });
    endpoint
}

fn mounts(
    listed: Option<Value>,
    host_config: &Object,
    data: &dyn Fn(&MountDefinition) -> Option<TreePath>,
) -> Vec<MountDefinition> {
    let Some(Value::Array(listed)) = listed else {
        return tmpfs(host_config).collect();
    };
    let mut by_destination: BTreeMap<String, MountDefinition> = tmpfs(host_config)
        .map(|mount| (mount.destination.clone(), mount))
        .collect();
    for mount in &listed {
        let mut mount = mount_definition(mount);
        mount.data = data(&mount);
        by_destination.insert(mount.destination.clone(), mount);
    }
    by_destination.into_values().collect()
}

fn mount_definition(mount: &Value) -> MountDefinition {
    let text = |key: &str| mount.get(key).and_then(Value::as_str).unwrap_or_default();
    let kind = match text("Type") {
        "volume" => MountKind::Volume,
        "bind" => MountKind::Bind,
        "tmpfs" => MountKind::Tmpfs,
        _ => MountKind::Other,
    };
    let source = match kind {
        MountKind::Volume => text("Name"),
        MountKind::Tmpfs => "",
        MountKind::Bind | MountKind::Other => text("Source"),
    };
    MountDefinition {
        kind,
        destination: text("Destination").to_owned(),
        read_only: mount.get("RW").and_then(Value::as_bool) == Some(false),
        source: source.to_owned(),
        anonymous: kind == MountKind::Volume && is_made_up(source),
        data: None,
    }
}

fn tmpfs(host_config: &Object) -> impl Iterator<Item = MountDefinition> {
    host_config
        .get("Tmpfs")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Object::keys)
        .map(|destination| MountDefinition {
            kind: MountKind::Tmpfs,
            destination: destination.clone(),
            read_only: false,
            source: String::new(),
            anonymous: false,
            data: None,
        })
}

/// Whether an engine made this volume name up: 64 hexadecimal digits.
pub(crate) fn is_made_up(volume: &str) -> bool {
    volume.len() == 64 && volume.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
