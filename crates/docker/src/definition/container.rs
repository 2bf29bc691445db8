//! A container as it must be created again.
//!
//! Invariant: nothing in it depends on whether or how long the container runs, except `started`,
//! which says whether a restore has to start it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Document, Membership, Object};

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
    pub data: Option<refloat_model::tree_path::TreePath>,
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
