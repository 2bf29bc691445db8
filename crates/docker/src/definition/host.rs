//! The engine itself: version, settings, plugins, swarm membership.
//!
//! Invariant: counters, times and load are not part of it; a quiet host gives the same bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Document, Object, take_object, take_string, without};

/// `/docker/<source>/host.json`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct HostDefinition {
    /// Docker or Podman.
    pub engine: EngineKind,
    /// The engine's own identity; a restored host has another one.
    pub id: String,
    /// Host name.
    pub name: String,
    /// Versions of the engine and its parts: `engine`, `api`, `containerd`, `runc` …
    pub versions: BTreeMap<String, String>,
    /// `x86_64`, as the engine says it.
    pub architecture: String,
    /// The folder the engine keeps everything in.
    pub root_dir: String,
    /// What the engine says of its settings (`info` without counters): storage driver, cgroups,
    /// logging, runtimes, registries with mirrors, security options, labels, proxies.
    pub settings: Object,
    /// `daemon.json`, where it is readable on this host. May hold passwords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon_file: Option<DaemonFile>,
    /// Managed plugins, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginDefinition>,
    /// The swarm's own specification, if this engine manages one. Join tokens are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swarm: Option<Object>,
}

impl Document for HostDefinition {
    const VERSION: u32 = 1;
    const WORD: &'static str = "host";
}

/// Which engine answers at the address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// Docker (moby).
    Docker,
    /// Podman's Docker-compatible API.
    Podman,
}

/// The engine's configuration file as it was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DaemonFile {
    /// Where it was.
    pub path: String,
    /// Its text, byte for byte.
    pub text: String,
}

/// A managed plugin.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PluginDefinition {
    /// Its local name with tag.
    pub name: String,
    /// Where it was pulled from, with digest.
    pub reference: String,
    /// Whether it is on.
    pub enabled: bool,
    /// Its settings: environment, mounts, devices.
    pub settings: Object,
}

/// What the engine's `info` says that is no setting: counters, times, load, other documents.
const INFO_STATE_KEYS: &[&str] = &[
    "Containers",
    "ContainersPaused",
    "ContainersRunning",
    "ContainersStopped",
    "Containerd",
    "DriverStatus",
    "FirewallBackend",
    "Images",
    "MemFree",
    "NEventsListener",
    "NFd",
    "NGoroutines",
    "SwapFree",
    "Swarm",
    "SystemTime",
    "Uptime",
    "Warnings",
];

impl HostDefinition {
    /// Puts the engine's answers to `version`, `info` and `plugins` together.
    pub(crate) fn from_answers(version: &Value, mut info: Object, plugins: &Value) -> Self {
        let components = version.get("Components").and_then(Value::as_array);
        let text = |value: &Value, key: &str| {
            let text = value.get(key).and_then(Value::as_str);
            text.map(str::to_owned)
        };
        let mut versions = BTreeMap::new();
        for component in components.into_iter().flatten() {
            if let (Some(name), Some(version)) =
                (text(component, "Name"), text(component, "Version"))
            {
                versions.insert(component_key(&name), version);
            }
        }
        let mut add = |key: &str, value: Option<String>| {
            if let Some(value) = value.filter(|v| !v.is_empty()) {
                versions.insert(key.to_owned(), value);
            }
        };
        add("engine", text(version, "Version"));
        add("api", text(version, "ApiVersion"));
        add("kernel", text(version, "KernelVersion"));
        let podman = components.into_iter().flatten().any(|component| {
            text(component, "Name").is_some_and(|name| name.starts_with("Podman"))
        });
        let name = take_string(&mut info, "Name");
        let root_dir = take_string(&mut info, "DockerRootDir");
        let id = take_string(&mut info, "ID");
        // Podman makes a new id up for every answer.
        let (engine, id) = if podman {
            (EngineKind::Podman, format!("podman@{name}:{root_dir}"))
        } else {
            (EngineKind::Docker, id)
        };
        Self {
            engine,
            id,
            name,
            versions,
            architecture: take_string(&mut info, "Architecture"),
            root_dir,
            settings: without(info, INFO_STATE_KEYS),
            daemon_file: None,
            plugins: plugin_definitions(plugins),
            swarm: None,
        }
    }
}

/// `Podman Engine` and `Engine` are the engine; others by their own name in small letters.
fn component_key(name: &str) -> String {
    match name {
        "Engine" | "Podman Engine" => "engine".to_owned(),
        other => other.to_ascii_lowercase().replace(' ', "-"),
    }
}

fn plugin_definitions(plugins: &Value) -> Vec<PluginDefinition> {
    let mut definitions: Vec<_> = plugins
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .cloned()
        .map(|mut plugin| PluginDefinition {
            name: take_string(&mut plugin, "Name"),
            reference: take_string(&mut plugin, "PluginReference"),
            enabled: plugin.get("Enabled").and_then(Value::as_bool) == Some(true),
            settings: take_object(&mut plugin, "Settings"),
        })
        .collect();
    definitions.sort_by(|a, b| a.name.cmp(&b.name));
    definitions
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn podman_is_known_by_its_components_and_counters_are_left_out() {
        let version = json!({
            "Version": "4.3.1", "ApiVersion": "1.41", "KernelVersion": "6.1",
            "Components": [{"Name": "Podman Engine", "Version": "4.3.1"},
                           {"Name": "OCI Runtime (crun)", "Version": "crun version 1.8"}]
        });
        let Value::Object(info) = json!({
            "ID": "id", "Name": "h", "Containers": 3, "Driver": "overlay", "SystemTime": "now",
            "DockerRootDir": "/var/lib/containers/storage", "Architecture": "amd64"
        }) else {
            panic!("an object")
        };
        let host = HostDefinition::from_answers(&version, info, &Value::Null);
        assert_eq!(host.engine, EngineKind::Podman);
        assert_eq!(host.id, "podman@h:/var/lib/containers/storage");
        assert_eq!(host.versions["engine"], "4.3.1");
        assert_eq!(host.versions["api"], "1.41");
        assert_eq!(Value::Object(host.settings), json!({"Driver": "overlay"}));
    }
}
