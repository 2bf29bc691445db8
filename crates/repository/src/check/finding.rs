//! What a check can find.
//!
//! Invariant: a finding names its subject by id and never repeats another finding's subject in
//! the same words.

use serde::Serialize;

use crate::format::pack::BlobKind;
use crate::id::{BlobId, IndexId, KeyId, PackId, SnapshotId};

/// One observation. What is not a [remark](Self::is_remark) means that something is lost or
/// damaged.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(tag = "finding", rename_all = "kebab-case")]
pub enum CheckFinding {
    /// A key file is not what its name says, or no key file.
    KeyDamaged {
        /// Which.
        key: KeyId,
        /// How it shows.
        cause: String,
    },
    /// A snapshot cannot be read.
    UnreadableSnapshot {
        /// Which.
        snapshot: SnapshotId,
        /// How it shows.
        cause: String,
    },
    /// A snapshot names no tree: an interrupted restic once wrote such.
    SnapshotWithoutTree {
        /// Which.
        snapshot: SnapshotId,
    },
    /// An index file cannot be read.
    UnreadableIndex {
        /// Which.
        index: IndexId,
        /// How it shows.
        cause: String,
    },
    /// An index names a pack that is not there.
    MissingPack {
        /// Which.
        pack: PackId,
    },
    /// A pack is longer or shorter than its blobs and header must be.
    PackSize {
        /// Which.
        pack: PackId,
        /// By the index, in bytes.
        expected: u64,
        /// By the listing, in bytes.
        found: u64,
    },
    /// A pack that was read is damaged.
    DamagedPack {
        /// Which.
        pack: PackId,
        /// What of it.
        damage: PackDamage,
    },
    /// A sound pack header lists other blobs than the index.
    IndexMismatch {
        /// Of which pack.
        pack: PackId,
        /// Blobs that only the index lists.
        index_only: u64,
        /// Blobs that only the header lists.
        header_only: u64,
    },
    /// A blob that a snapshot needs is lost.
    MissingBlob {
        /// Data or tree.
        kind: BlobKind,
        /// Which.
        blob: BlobId,
        /// Why.
        loss: BlobLoss,
        /// Listed paths that need it.
        paths: u64,
        /// Snapshots of those paths.
        snapshots: u64,
    },
    /// A tree that a snapshot needs is authentic and no tree.
    InvalidTree {
        /// Which.
        tree: BlobId,
        /// Why.
        cause: String,
        /// Listed paths that need it.
        paths: u64,
        /// Snapshots of those paths.
        snapshots: u64,
    },
    /// A tree that a snapshot needs is not given out, which says nothing about whether it is whole.
    WithheldTree {
        /// Which.
        tree: BlobId,
        /// Why.
        cause: String,
    },
    /// A pack that no index names: of a running or interrupted backup. Prune removes old ones.
    UnindexedPack {
        /// Which.
        pack: PackId,
        /// Its size.
        bytes: u64,
    },
    /// Several index files list the same blobs of a pack: of an interrupted prune.
    DuplicateIndex {
        /// Which pack.
        pack: PackId,
    },
}

/// What of a pack is damaged.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(tag = "damage", rename_all = "kebab-case")]
pub enum PackDamage {
    /// It is gone or cut off.
    Unreadable {
        /// Why.
        cause: String,
    },
    /// Storage does not give its bytes, which says nothing about them.
    Withheld {
        /// Why.
        cause: String,
    },
    /// Its bytes do not hash to its name.
    Hash,
    /// Its header cannot be read.
    Header {
        /// How it shows.
        cause: String,
    },
    /// A blob in it cannot be read.
    Blob {
        /// Data or tree.
        kind: BlobKind,
        /// Which.
        blob: BlobId,
        /// How it shows.
        cause: String,
    },
}

/// Why a blob is lost.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlobLoss {
    /// No index lists it.
    NotIndexed,
    /// All packs that hold it are gone, cut or damaged.
    Damaged,
}

impl CheckFinding {
    /// Whether something is not given out, which says nothing about whether it is whole.
    #[must_use]
    pub const fn is_withheld(&self) -> bool {
        matches!(
            self,
            Self::WithheldTree { .. }
                | Self::DamagedPack {
                    damage: PackDamage::Withheld { .. },
                    ..
                }
        )
    }

    /// Whether this is waste that the next prune removes, and nothing is lost or damaged.
    #[must_use]
    pub const fn is_remark(&self) -> bool {
        matches!(
            self,
            Self::UnindexedPack { .. } | Self::DuplicateIndex { .. }
        )
    }
}

impl std::fmt::Display for CheckFinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::KeyDamaged { key, cause } => write!(f, "key {key} is damaged: {cause}"),
            Self::UnreadableSnapshot { snapshot, cause } => {
                write!(f, "snapshot {snapshot} cannot be read: {cause}")
            }
            Self::SnapshotWithoutTree { snapshot } => {
                write!(f, "snapshot {snapshot} names no tree")
            }
            Self::UnreadableIndex { index, cause } => {
                write!(f, "index {index} cannot be read: {cause}")
            }
            Self::MissingPack { pack } => write!(f, "pack {pack} is missing"),
            Self::PackSize {
                pack,
                expected,
                found,
            } => write!(
                f,
                "pack {pack} has {found} bytes instead of {expected}, by the index"
            ),
            Self::DamagedPack {
                pack,
                damage: PackDamage::Withheld { cause },
            } => write!(f, "pack {pack} cannot be read now: {cause}"),
            Self::DamagedPack { pack, damage } => write!(f, "pack {pack} is damaged: {damage}"),
            Self::IndexMismatch {
                pack,
                index_only,
                header_only,
            } => write!(
                f,
                "pack {pack}: {index_only} blobs are only in the index, {header_only} only in \
                 the pack's header"
            ),
            Self::MissingBlob {
                kind,
                blob,
                loss,
                paths,
                snapshots,
            } => {
                let why = match loss {
                    BlobLoss::NotIndexed => "in no index",
                    BlobLoss::Damaged => "in no pack that can be read",
                };
                let word = kind.word();
                write!(f, "{word} blob {blob} is lost ({why}): {paths} paths in ")?;
                write!(f, "{snapshots} snapshots need it")
            }
            Self::InvalidTree {
                tree,
                cause,
                paths,
                snapshots,
            } => {
                write!(f, "tree {tree} is invalid: {cause}: {paths} paths in ")?;
                write!(f, "{snapshots} snapshots need it")
            }
            Self::WithheldTree { tree, cause } => {
                write!(
                    f,
                    "tree {tree} cannot be read now, nor what is below it: {cause}"
                )
            }
            Self::UnindexedPack { pack, bytes } => {
                write!(f, "pack {pack} ({bytes} bytes) is in no index")
            }
            Self::DuplicateIndex { pack } => write!(f, "pack {pack} is in several indexes"),
        }
    }
}

impl std::fmt::Display for PackDamage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable { cause } | Self::Withheld { cause } => {
                write!(f, "it cannot be read: {cause}")
            }
            Self::Hash => f.write_str("its bytes do not hash to its name"),
            Self::Header { cause } => write!(f, "its header: {cause}"),
            Self::Blob { kind, blob, cause } => {
                write!(f, "{} blob {blob}: {cause}", kind.word())
            }
        }
    }
}

/// An error with its causes, for a report.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
