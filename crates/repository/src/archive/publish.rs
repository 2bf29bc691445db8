//! The last step: proving that everything is stored, and writing the snapshot.
//!
//! Invariant: a snapshot is written only after the lock was proven, every pack of the run was
//! listed with its size, and so was every older pack that deduplication trusted; and it is
//! withdrawn if the lock did not stand until after the write.

use refloat_storage::FileKind;

use super::Added;
use super::contents::ContentIndex;
use super::packer::StoredPack;
use crate::error::RepositoryError;
use crate::format::snapshot::SnapshotFile;
use crate::id::SnapshotId;
use crate::lock::Lock;
use crate::pack_reading::{listed_packs, pack_file};
use crate::repository::IndexedRepository;

/// A run whose packs and indexes are stored.
#[derive(Debug)]
pub struct Archived {
    repository: IndexedRepository,
    packs: Vec<StoredPack>,
    trusted: Vec<StoredPack>,
    added: Added,
}

/// What a run has stored that goes on, or was cancelled. It cannot be published: trees of the run
/// may refer to what is not stored yet.
#[derive(Debug)]
pub struct Checkpoint {
    stored: Archived,
    contents: ContentIndex,
}

impl Checkpoint {
    pub(super) const fn new(stored: Archived, contents: ContentIndex) -> Self {
        Self { stored, contents }
    }

    /// Contents, by their digests, that are stored whole: those of the run, and those of earlier
    /// points that it took over.
    #[must_use]
    pub const fn contents(&self) -> &ContentIndex {
        &self.contents
    }
}

impl Archived {
    pub(super) const fn new(
        repository: IndexedRepository,
        packs: Vec<StoredPack>,
        trusted: Vec<StoredPack>,
        added: Added,
    ) -> Self {
        Self {
            repository,
            packs,
            trusted,
            added,
        }
    }

    /// Proves the packs of a checkpoint, too, when this run publishes what refers to them.
    #[must_use]
    pub fn relying_on(mut self, checkpoint: &Checkpoint) -> Self {
        self.trusted.extend(&checkpoint.stored.packs);
        self.trusted.extend(&checkpoint.stored.trusted);
        self
    }

    /// What the run added.
    #[must_use]
    pub const fn added(&self) -> Added {
        self.added
    }

    /// Proves that all is there and writes the snapshot.
    ///
    /// Crash behaviour: before the write there is no recovery point, after it there is a whole
    /// one.
    ///
    /// # Errors
    /// A pack is not in storage as it should be, the lock is lost, or storage failed: nothing is
    /// published, except that a storage that fails after the write may keep a snapshot nobody was
    /// told of.
    pub fn publish(
        &self,
        lock: &Lock,
        snapshot: &SnapshotFile,
    ) -> Result<SnapshotId, RepositoryError> {
        self.prove(lock)?;
        let file = self
            .repository
            .write_json(FileKind::Snapshot, "a snapshot", snapshot)?;
        // A run that was stopped between its proof and its write, for longer than locks live, may
        // have been pruned under meanwhile: what it wrote then is not a recovery point.
        if let Err(error) = lock.prove() {
            let withdrawn = self.repository.storage().delete(&file);
            return Err(match withdrawn {
                Ok(()) => error,
                Err(refused) => RepositoryError::NotWithdrawn {
                    file,
                    cause: refused.into(),
                },
            });
        }
        Ok(SnapshotId(*file.id()))
    }

    /// Proves that the lock holds and that all is there.
    ///
    /// # Errors
    /// A pack is not in storage as it should be, the lock is lost, or storage failed.
    pub fn prove(&self, lock: &Lock) -> Result<(), RepositoryError> {
        // First, that nobody is deleting; then, that everything is there. The other way round,
        // somebody could delete and be gone in between.
        lock.prove()?;
        self.require_packs()
    }

    /// Proves that every pack of the run and every pack it relied on is listed.
    fn require_packs(&self) -> Result<(), RepositoryError> {
        let sizes = listed_packs(self.repository.storage())?;
        let missing = self
            .packs
            .iter()
            .chain(&self.trusted)
            .find(|(pack, size)| sizes.get(pack) != Some(size));
        missing.map_or(Ok(()), |(pack, _)| {
            Err(RepositoryError::NotStored {
                file: pack_file(*pack),
            })
        })
    }
}
