//! Keys and snapshots: each file authentic and of its kind.
//!
//! Invariant: a file that vanished between listing and reading was deleted by somebody and is no
//! finding.

use std::sync::Mutex;

use refloat_storage::{FileKind, StorageErrorKind};

use super::finding::{CheckFinding, chain};
use crate::catalogue::read_twice;
use crate::error::RepositoryError;
use crate::format::key::KeyFile;
use crate::format::snapshot::SnapshotFile;
use crate::id::{BlobId, KeyId, SnapshotId, sha256};
use crate::parallel::{for_each, lock};
use crate::repository::Repository;

/// All snapshots of a repository.
#[derive(Debug, Default)]
pub struct Snapshots {
    /// Oldest first.
    pub readable: Vec<(SnapshotId, SnapshotFile)>,
    pub unreadable: Vec<(SnapshotId, RepositoryError)>,
}

impl Snapshots {
    /// The snapshots that have a tree, with it.
    pub fn roots(&self) -> Vec<(SnapshotId, BlobId)> {
        let roots = self.readable.iter();
        roots
            .filter_map(|(id, snapshot)| Some((*id, snapshot.tree?)))
            .collect()
    }

    pub fn findings(&self) -> Vec<CheckFinding> {
        let unreadable =
            self.unreadable
                .iter()
                .map(|(snapshot, error)| CheckFinding::UnreadableSnapshot {
                    snapshot: *snapshot,
                    cause: chain(error),
                });
        let treeless = self
            .readable
            .iter()
            .filter(|(_, file)| file.tree.is_none())
            .map(|(snapshot, _)| CheckFinding::SnapshotWithoutTree {
                snapshot: *snapshot,
            });
        unreadable.chain(treeless).collect()
    }
}

/// Reads all snapshots, in parallel.
///
/// # Errors
/// The listing failed, or a snapshot is out of reach.
pub fn load_snapshots(
    repository: &Repository,
    threads: usize,
) -> Result<Snapshots, RepositoryError> {
    let files = repository.storage().list(FileKind::Snapshot)?;
    let found = Mutex::new(Snapshots::default());
    for_each(&files, threads, |listed| {
        let id = SnapshotId(*listed.key.id());
        match read_twice(|| repository.read_json(&listed.key)) {
            Ok(snapshot) => lock(&found).readable.push((id, snapshot)),
            Err(error @ RepositoryError::DamagedFile { .. }) => {
                lock(&found).unreadable.push((id, error));
            }
            Err(RepositoryError::Storage(error)) if error.kind() == StorageErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    })?;
    let mut snapshots = found
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    snapshots
        .readable
        .sort_by_key(|(id, snapshot)| (snapshot.time.instant(), *id));
    snapshots.unreadable.sort_by_key(|(id, _)| *id);
    Ok(snapshots)
}

/// Checks that every key file is what its name says and holds a key that could be tried.
pub fn check_keys(repository: &Repository) -> Result<Vec<CheckFinding>, RepositoryError> {
    let storage = repository.storage();
    let mut findings = Vec::new();
    for listed in storage.list(FileKind::Key)? {
        let damage = || match storage.read(&listed.key) {
            Ok(json) if sha256(&json) != *listed.key.id() => {
                Ok(Some("its bytes do not hash to its name".to_owned()))
            }
            Ok(json) => {
                let parsed = serde_json::from_slice::<KeyFile>(&json);
                Ok(parsed.err().map(|error| chain(&error)))
            }
            Err(error) if error.kind() == StorageErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        if damage()?.is_some()
            && let Some(cause) = damage()?
        {
            let key = KeyId(*listed.key.id());
            findings.push(CheckFinding::KeyDamaged { key, cause });
        }
    }
    Ok(findings)
}
