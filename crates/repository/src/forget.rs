//! Deleting snapshots that somebody chose; which ones, the retention rules say.
//!
//! A shared lock is enough: what a snapshot refers to stays until a prune, which takes its own
//! exclusive lock and looks at the snapshots again.
//!
//! Invariant: oldest first, so that after a crash the newest are what is left.

use refloat_storage::{FileKey, FileKind, StorageErrorKind};

use crate::error::RepositoryError;
use crate::format::snapshot::SnapshotFile;
use crate::id::SnapshotId;
use crate::lock::Lock;
use crate::repository::Repository;

/// What became of a snapshot that should go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForgetOutcome {
    /// It is deleted.
    Deleted,
    /// It was not there.
    Gone,
    /// Storage keeps it: append-only, object lock.
    Kept,
}

/// Deletes snapshots and tells what became of each, oldest first; unreadable ones come before
/// all others.
///
/// Guarantees: no other file is touched. Crash behaviour: a repetition goes on where it ended.
///
/// # Errors
/// The lock is lost or storage failed; what was deleted until then stays deleted.
pub fn forget(
    repository: &Repository,
    lock: &Lock,
    snapshots: &[SnapshotId],
) -> Result<Vec<(SnapshotId, ForgetOutcome)>, RepositoryError> {
    let mut ordered = Vec::with_capacity(snapshots.len());
    for snapshot in snapshots {
        let read = repository.read_json::<SnapshotFile>(&file(*snapshot));
        let time = match read {
            Ok(snapshot) => Some(snapshot.time.instant()),
            // Gone is told below; one that is damaged may be deleted all the same.
            Err(RepositoryError::DamagedFile { .. }) => None,
            Err(RepositoryError::Storage(e)) if e.kind() == StorageErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        ordered.push((time, *snapshot));
    }
    ordered.sort_unstable();
    ordered.dedup();
    lock.prove()?;
    let ids = ordered.into_iter().map(|(_, snapshot)| snapshot);
    ids.map(|snapshot| Ok((snapshot, delete(repository, snapshot)?)))
        .collect()
}

const fn file(snapshot: SnapshotId) -> FileKey {
    FileKey::new(FileKind::Snapshot, snapshot.0)
}

fn delete(repository: &Repository, snapshot: SnapshotId) -> Result<ForgetOutcome, RepositoryError> {
    let storage = repository.storage();
    if storage.size(&file(snapshot))?.is_none() {
        return Ok(ForgetOutcome::Gone);
    }
    match storage.delete(&file(snapshot)) {
        Ok(()) => Ok(ForgetOutcome::Deleted),
        Err(error) if error.kind() == StorageErrorKind::Denied => Ok(ForgetOutcome::Kept),
        Err(error) => Err(error.into()),
    }
}
