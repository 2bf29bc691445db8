//! Why a prune was not planned or not carried out.
//!
//! Invariant: after any of these nothing that a snapshot needs was deleted.

use crate::error::RepositoryError;
use crate::id::{BlobId, PackId, SnapshotId};

/// A prune that ended early.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// A snapshot cannot be read, so nobody knows what it needs.
    #[error("snapshot {snapshot} cannot be read, so nothing counts as unused")]
    UnreadableSnapshot {
        /// Which.
        snapshot: SnapshotId,
        /// Why.
        #[source]
        source: Box<RepositoryError>,
    },
    /// A tree cannot be read, so nobody knows what it needs.
    #[error("tree {tree} of a snapshot cannot be read, so nothing counts as unused")]
    UnreadableTree {
        /// Which.
        tree: BlobId,
        /// Why.
        #[source]
        source: Box<RepositoryError>,
    },
    /// A blob that a snapshot needs is in no index.
    #[error("data blob {blob} of a snapshot is in no index; check and repair first")]
    MissingBlob {
        /// Which.
        blob: BlobId,
    },
    /// Packs that an index names are not listed; perhaps the listing is short.
    #[error("{count} packs that the index names are not listed, {first} among them")]
    MissingPacks {
        /// How many.
        count: usize,
        /// One of them.
        first: PackId,
    },
    /// A pack has not the size that the index implies.
    #[error("pack {pack} has {found} bytes instead of {expected}; check and repair first")]
    WrongSize {
        /// Which.
        pack: PackId,
        /// By the index.
        expected: u64,
        /// By the listing.
        found: u64,
    },
    /// Snapshots or indexes are not those that the plan was made for.
    #[error("the repository has changed since the prune was planned; plan again")]
    StateChanged,
    /// Our clock and the storage's differ, so no age can be trusted.
    #[error("our clock and the storage's differ by {seconds} s, more than five minutes")]
    ClockSkew {
        /// By how many seconds ours is ahead.
        seconds: i64,
    },
    /// Anything else.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl From<refloat_storage::StorageError> for PruneError {
    fn from(error: refloat_storage::StorageError) -> Self {
        Self::Repository(error.into())
    }
}

impl PruneError {
    /// Whether it is what somebody sees who looks while another one prunes.
    pub(super) fn may_be_of_a_change(&self) -> bool {
        match self {
            Self::MissingPacks { .. } | Self::MissingBlob { .. } => true,
            Self::UnreadableTree { source, .. } => source.is_damage(),
            Self::Repository(error) => error.is_damage(),
            _ => false,
        }
    }
}
