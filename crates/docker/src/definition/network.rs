//! A network as it must be created again.
//!
//! Invariant: no container and no handed-out address is part of it; the subnets are, also those
//! the engine chose, because fixed addresses and firewalls rely on them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Document, Object};

/// `/docker/<source>/networks/<name>.json`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NetworkDefinition {
    /// Its name.
    pub name: String,
    /// `bridge`, `macvlan`, `overlay`, or a plugin's name.
    pub driver: String,
    /// `local` or `swarm`.
    pub scope: String,
    /// No way out.
    #[serde(default)]
    pub internal: bool,
    /// Containers outside a swarm service may join.
    #[serde(default)]
    pub attachable: bool,
    /// IPv6 is on.
    #[serde(default)]
    pub ipv6: bool,
    /// The engine's `IPAM`: driver, options, subnets with ranges and gateways.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub ipam: Object,
    /// The driver's options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What the engine says besides and this program does not know (`ConfigFrom`, `ConfigOnly` …),
    /// in the engine's words.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub other: Object,
}

impl Document for NetworkDefinition {
    const VERSION: u32 = 1;
    const WORD: &'static str = "network";
}

impl NetworkDefinition {
    /// The compose project it belongs to.
    #[must_use]
    pub fn project(&self) -> Option<&str> {
        self.labels
            .get(super::project::LABEL_PROJECT)
            .map(String::as_str)
    }
}
