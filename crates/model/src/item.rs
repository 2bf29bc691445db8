//! Items, workloads and the inventory of a source.
//!
//! Invariant: an item's path is unique within a recovery point and stays the same from run to
//! run, because parents are found by it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::finding::Finding;
use crate::outcome::{Consistency, Outcome};
use crate::subject::Subject;
use crate::tree_path::TreePath;

/// What an item is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemKind {
    /// The settings of a host or engine.
    Host,
    /// The definition of a container.
    Container,
    /// A compose project or swarm stack with its files.
    Project,
    /// A network.
    Network,
    /// A volume with its data.
    Volume,
    /// A bind mount's data.
    Bind,
    /// A container's changed root filesystem.
    RootFilesystem,
    /// A container image.
    Image,
    /// A database dump.
    Dump,
    /// A folder of a file system.
    Folder,
    /// Swarm or cluster objects.
    Object,
}

impl ItemKind {
    /// The word used in tables and on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Container => "container",
            Self::Project => "project",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Bind => "bind",
            Self::RootFilesystem => "rootfs",
            Self::Image => "image",
            Self::Dump => "dump",
            Self::Folder => "folder",
            Self::Object => "object",
        }
    }
}

/// One thing that can be captured, as discovery found it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// Its name for people: `db-data`, `postgres:15`.
    pub title: String,
    /// Where it lies in the recovery point. The item is the single entry of this name: a file or
    /// a whole directory.
    pub path: TreePath,
    /// The workload it belongs to; none for what belongs to the source as such.
    pub workload: Option<String>,
    /// Why it is not to be captured: an [`Outcome::Skipped`]; none if it is to be captured.
    pub skip: Option<Outcome>,
    /// What this item brings back.
    pub provides: Vec<Subject>,
    /// What this item needs to work again.
    pub requires: Vec<Subject>,
    /// Size in bytes where discovery could tell cheaply.
    pub bytes_estimate: Option<u64>,
    /// Whether people must not see its content unasked.
    pub sensitive: bool,
    /// What may be lost or inconsistent, for `discover`.
    pub risks: Vec<String>,
}

impl Item {
    /// One with nothing special about it.
    #[must_use]
    pub fn new(kind: ItemKind, title: impl Into<String>, path: TreePath) -> Self {
        Self {
            kind,
            title: title.into(),
            path,
            workload: None,
            skip: None,
            provides: Vec::new(),
            requires: Vec::new(),
            bytes_estimate: None,
            sensitive: false,
            risks: Vec::new(),
        }
    }
}

/// An application unit a person names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Workload {
    /// Its name, unique within the source.
    pub name: String,
    /// `compose project`, `container`, `folder`.
    pub kind: String,
    /// What it needs to run: the union of what its parts require.
    pub requires: Vec<Subject>,
}

/// An image that workloads of a source are made from, with every name by which others hold it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct ImageUse {
    /// What the workloads require.
    #[serde(flatten)]
    pub subject: Subject,
    /// The name they were started by: `registry.local:5000/team/app:1.2`.
    pub reference: String,
    /// What registries call it, as far as the source knows:
    /// `registry.local:5000/team/app@sha256:…`.
    pub digests: Vec<String>,
    /// The digest of its configuration, `sha256:…`; empty where the source does not know it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The platforms of the machines it runs on, `linux/arm64`; empty unless all are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
}

/// Where something ran when the point was taken (M18).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Placement {
    /// The workload.
    pub workload: String,
    /// The service within it, where there is one.
    pub service: Option<String>,
    /// Container name.
    pub container: String,
    /// Host or node name.
    pub node: String,
    /// Image reference with digest.
    pub image: String,
    /// Volumes and binds it had mounted.
    pub mounts: Vec<String>,
    /// `running`, `exited`, `paused` …
    pub state: String,
    /// When it was started, RFC 3339; empty if never.
    pub started: String,
}

/// Everything a source holds that a policy selects, found without changing anything.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Inventory {
    /// The system's own identity (engine id, cluster UID), to notice a swapped system.
    pub identity: String,
    /// Versions of the system and its parts: `engine` → `20.10.24`.
    pub versions: BTreeMap<String, String>,
    /// Application units.
    pub workloads: Vec<Workload>,
    /// Things that can be captured, also those that a rule skips.
    pub items: Vec<Item>,
    /// What ran where.
    pub placements: Vec<Placement>,
    /// The images that workloads are made from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageUse>,
    /// What a person should know.
    pub findings: Vec<Finding>,
}

/// What capturing one item came to, besides its tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capture {
    /// How consistent the content is.
    pub consistency: Consistency,
    /// Warnings of this item, for example metadata that the engine's API loses.
    pub findings: Vec<Finding>,
}
