//! Objects of a swarm: services, configs, and the names of secrets.
//!
//! Invariant: the value of a secret is never part of it: the engine does not give it out.

use serde::{Deserialize, Serialize};

use super::{Document, Object};

/// `/docker/<source>/swarm/<kind>s/<name>.json`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SwarmObject {
    /// What it is.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// The stack it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// The engine's `Spec`, which creates it again. References to networks, configs and secrets
    /// are by name.
    pub spec: Object,
}

impl Document for SwarmObject {
    const VERSION: u32 = 1;
    const WORD: &'static str = "swarm object";
}

/// The kind of a swarm object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    /// A service.
    Service,
    /// A configuration object with its content.
    Config,
    /// A secret without its content.
    Secret,
}

impl ObjectKind {
    /// The folder of its kind.
    #[must_use]
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Service => "services",
            Self::Config => "configs",
            Self::Secret => "secrets",
        }
    }

    /// The word for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Service => "swarm service",
            Self::Config => "swarm config",
            Self::Secret => "swarm secret",
        }
    }
}
