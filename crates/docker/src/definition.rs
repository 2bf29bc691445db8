//! The documents a Docker host is brought back from.
//!
//! Each document says what is needed to *create* a thing again. Where the engine's own words are
//! the best ones (`Config`, `HostConfig`, IPAM), they are kept as the engine said them, unknown
//! keys included; running state (ids, addresses that were handed out, times, counters) is left out.
//!
//! Invariant: an unchanged thing gives the same bytes on every run: keys are sorted, lists whose
//! order means nothing are sorted, volatile fields are gone.

mod container;
mod host;
mod image;
mod network;
mod podman;
pub(crate) mod project;
mod swarm;
mod volume;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use container::{ContainerDefinition, ImageReference, MountDefinition, MountKind};
pub(crate) use container::{SHARED_MODES, Surroundings};
pub use host::{DaemonFile, EngineKind, HostDefinition, PluginDefinition};
pub use image::ImageDefinition;
pub use network::NetworkDefinition;
pub(crate) use network::is_built_in_name;
pub use podman::PodmanOnly;
pub use project::{
    Condition, Dependency, FileRole, Membership, ProjectDefinition, ProjectFile, ServiceDefinition,
};
pub use swarm::{ObjectKind, SwarmObject};
pub use volume::VolumeDefinition;

pub use crate::discover::{Change, ChangeKind, Changes};

/// A JSON object as the engine gave it; keys are sorted.
pub type Object = Map<String, Value>;

/// A versioned JSON document of the recovery point.
pub trait Document: Serialize + DeserializeOwned {
    /// The version this program writes. Versions below it stay readable.
    const VERSION: u32;

    /// What the document describes, for messages: `container`.
    const WORD: &'static str;
}

/// Why stored bytes are not the document they should be.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON, or not of this shape.
    #[error("cannot read the definition of a {word}")]
    Malformed {
        /// [`Document::WORD`].
        word: &'static str,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// Written by a newer program.
    #[error("the definition of a {word} has version {found}, this program reads up to {known}")]
    TooNew {
        /// [`Document::WORD`].
        word: &'static str,
        /// The version found.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
}

/// Writes a document: pretty JSON with sorted keys and a final line feed.
///
/// # Errors
/// Never for the documents of this module; the signature keeps serde's error in sight.
pub fn to_bytes<D: Document>(document: &D) -> Result<Vec<u8>, DocumentError> {
    let malformed = |source| DocumentError::Malformed {
        word: D::WORD,
        source,
    };
    let mut value = serde_json::to_value(document).map_err(malformed)?;
    if let Value::Object(object) = &mut value {
        object.insert("version".into(), D::VERSION.into());
    }
    let mut bytes = serde_json::to_vec_pretty(&value).map_err(malformed)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads a document written by this or an older program.
///
/// # Errors
/// The bytes are no such document, or a newer program wrote them.
pub fn from_bytes<D: Document>(bytes: &[u8]) -> Result<D, DocumentError> {
    #[derive(serde::Deserialize)]
    struct Head {
        version: u32,
    }
    let malformed = |source| DocumentError::Malformed {
        word: D::WORD,
        source,
    };
    let Head { version } = serde_json::from_slice(bytes).map_err(malformed)?;
    if version > D::VERSION {
        return Err(DocumentError::TooNew {
            word: D::WORD,
            found: version,
            known: D::VERSION,
        });
    }
    serde_json::from_slice(bytes).map_err(malformed)
}

/// Removes `keys` from an engine's object: its running state.
pub(crate) fn without(mut object: Object, keys: &[&str]) -> Object {
    for key in keys {
        object.remove(*key);
    }
    object
}

/// Takes the string at `key` out of an object; empty if there is none.
pub(crate) fn take_string(object: &mut Object, key: &str) -> String {
    match object.remove(key) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

/// Takes the object at `key` out of an object; empty if there is none.
pub(crate) fn take_object(object: &mut Object, key: &str) -> Object {
    match object.remove(key) {
        Some(Value::Object(inner)) => inner,
        _ => Object::new(),
    }
}

/// Takes a map of strings out of an object; what is no string is kept as its JSON text.
pub(crate) fn take_strings(
    object: &mut Object,
    key: &str,
) -> std::collections::BTreeMap<String, String> {
    take_object(object, key)
        .into_iter()
        .map(|(key, value)| match value {
            Value::String(text) => (key, text),
            other => (key, other.to_string()),
        })
        .collect()
}
