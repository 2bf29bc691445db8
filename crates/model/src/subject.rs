//! Subjects: the things workloads refer to, named the same by whoever needs and whoever has them.
//!
//! Invariant: two subjects are the same thing exactly if they are equal.

use serde::{Deserialize, Serialize};

/// The kind of a thing that can be referred to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SubjectKind {
    /// A container image, named `repository:tag@sha256:<image id>`.
    Image,
    /// A volume.
    Volume,
    /// A host directory or file mounted into a container.
    Bind,
    /// A network.
    Network,
    /// The definition of a container.
    Container,
    /// A database's content as a dump.
    Database,
    /// A file that a project refers to: compose file, `.env`, configuration.
    File,
    /// A plugin or driver of the engine or cluster.
    Driver,
    /// A swarm or Kubernetes configuration object.
    Config,
    /// A secret.
    Secret,
    /// A Kubernetes or swarm object of any other kind.
    Object,
}

impl SubjectKind {
    /// The word used in waivers and on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Bind => "bind",
            Self::Network => "network",
            Self::Container => "container",
            Self::Database => "database",
            Self::File => "file",
            Self::Driver => "driver",
            Self::Config => "config",
            Self::Secret => "secret",
            Self::Object => "object",
        }
    }
}

/// Something that an item provides or needs, `volume:db-data`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Subject {
    /// The configured name of the source it belongs to; empty for what is the same everywhere
    /// (an image by digest).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// What kind of thing.
    pub kind: SubjectKind,
    /// Its name within the source and kind.
    pub name: String,
}

impl Subject {
    /// A thing of one source.
    #[must_use]
    pub fn new(source: &str, kind: SubjectKind, name: impl Into<String>) -> Self {
        Self {
            source: source.to_owned(),
            kind,
            name: name.into(),
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.kind.word(), self.name)
    }
}
