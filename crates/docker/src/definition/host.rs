//! The engine itself: version, settings, plugins, swarm membership.
//!
//! Invariant: counters, times and load are not part of it; a quiet host gives the same bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Document, Object};

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
