//! A volume as it must be created again; its data lies beside it.
//!
//! Invariant: nothing in it depends on the volume's content or on who uses it at the moment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Document, Object};

/// `/docker/<source>/volumes/<name>/volume.json`; the data is the directory `data` beside it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct VolumeDefinition {
    /// Its name.
    pub name: String,
    /// `local`, or a plugin's name.
    pub driver: String,
    /// The driver's options: an NFS server and path, a device, a tmpfs size. May hold passwords.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `local` or `global`.
    pub scope: String,
    /// Whether the engine made the name up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
    /// What the engine says besides and this program does not know.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub other: Object,
}

impl Document for VolumeDefinition {
    const VERSION: u32 = 1;
    const WORD: &'static str = "volume";
}

impl VolumeDefinition {
    /// The compose project it belongs to.
    #[must_use]
    pub fn project(&self) -> Option<&str> {
        self.labels
            .get(super::project::LABEL_PROJECT)
            .map(String::as_str)
    }
}
