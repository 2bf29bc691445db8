//! Keeping what recovery points need from deletion, on storage that can.
//!
//! Storage protects each file for a period from the time it is written. A pack that a new point
//! shares with an old one keeps the old one's end, so what is still needed is extended by a pass of
//! its own, once under half of the period is left: not at every backup, and never for what only
//! waits for a prune.
//!
//! Invariant: a point counts as protected only until the first of all files that it needs is not.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_model::time::Timestamp;
use refloat_storage::protection::Protection;
use refloat_storage::{FileKey, FileKind};
use serde::Serialize;

use crate::error::RepositoryError;
use crate::format::pack::BlobKind;
use crate::format::snapshot::SnapshotFile;
use crate::id::{BlobId, SnapshotId};
use crate::pack_reading::pack_file;
use crate::parallel::{for_each, lock, threads};
use crate::repository::{IndexedRepository, SnapshotList};
use crate::tree_walk::{IndexedTrees, walk};

/// What a pass did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct ProtectReport {
    /// Files that recovery points need.
    pub needed: u64,
    /// Files whose protection was extended.
    pub extended: u64,
    /// Until when everything is protected now; none if the repository holds nothing.
    pub until: Option<Timestamp>,
}

/// Extends the protection of everything that snapshots need, where less than half of the period
/// is left. None if the storage protects nothing.
///
/// Crash behaviour: what was extended stays so; a repetition does the rest.
///
/// # Errors
/// A snapshot or tree cannot be read, or storage failed.
pub fn protect(
    repository: &IndexedRepository,
    now: Timestamp,
    counters: &Counters,
    cancel: &Cancel,
) -> Result<Option<ProtectReport>, RepositoryError> {
    let storage = repository.storage();
    let Some(protection) = storage.protection() else {
        return Ok(None);
    };
    let mut files = common_files(repository)?;
    let snapshots = repository.storage().list(FileKind::Snapshot)?;
    files.extend(snapshots.iter().map(|file| file.key));
    // Every way into the repository, not only the key in use.
    let keys = repository.storage().list(FileKind::Key)?;
    files.extend(keys.iter().map(|file| file.key));
    files.sort_unstable();
    files.dedup();
    let SnapshotList {
        snapshots: list,
        mut unreadable,
    } = repository.snapshots()?;
    let roots = list.iter().filter_map(|(_, snapshot)| snapshot.tree);
    files.extend(packs(repository, roots, cancel)?);
    files.retain(|file| protection.covers(file.kind()));
    Counters::add(&counters.entries_expected, files.len() as u64);

    let period = protection.period();
    let enough = later(now, period / 2);
    let end = later(now, period);
    let report = Mutex::new(ProtectReport::default());
    for_each(&files, threads(storage), |file| {
        cancel.check()?;
        let until = protection.protected_until(file)?;
        let is_due = until.is_none_or(|until| until < enough);
        if is_due {
            protection.protect_until(file, end)?;
        }
        let until = if is_due { Some(end) } else { until };
        let mut report = lock(&report);
        report.needed += 1;
        report.extended += u64::from(is_due);
        report.until = match (report.until, until) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Counters::add(&counters.entries_done, 1);
        Ok(())
    })?;
    // What a snapshot needs that cannot be read is not known, so not all is kept.
    match unreadable.pop() {
        Some((_, error)) => Err(error),
        None => Ok(Some(*lock(&report))),
    }
}

/// Until when each snapshot can be restored whatever somebody deletes; none inside if part of it
/// is not protected, and none at all if the storage protects nothing.
///
/// # Errors
/// A tree cannot be read, or storage failed.
pub fn protected_until(
    repository: &IndexedRepository,
    snapshots: &[(SnapshotId, SnapshotFile)],
    cancel: &Cancel,
) -> Result<Option<BTreeMap<SnapshotId, Option<Timestamp>>>, RepositoryError> {
    let storage = repository.storage();
    let Some(protection) = storage.protection() else {
        return Ok(None);
    };
    let known: Mutex<HashMap<FileKey, Option<Timestamp>>> = Mutex::default();
    let first_end = |files: &[FileKey]| -> Result<Option<Timestamp>, RepositoryError> {
        let lacking: Vec<FileKey> = {
            let known = lock(&known);
            let lacking = files.iter().filter(|file| !known.contains_key(file));
            lacking.copied().collect()
        };
        for_each(&lacking, threads(storage), |file| {
            cancel.check()?;
            let until = ask(protection, file)?;
            lock(&known).insert(*file, until);
            Ok(())
        })?;
        let known = lock(&known);
        // None is less than every time: one file that is not protected decides.
        Ok(files
            .iter()
            .filter_map(|file| known.get(file).copied())
            .min()
            .flatten())
    };
    let common = common_files(repository)?;
    let mut ends = BTreeMap::new();
    for (id, snapshot) in snapshots {
        let mut files = common.clone();
        files.push(FileKey::new(FileKind::Snapshot, id.0));
        files.extend(packs(repository, snapshot.tree.into_iter(), cancel)?);
        files.retain(|file| protection.covers(file.kind()));
        ends.insert(*id, first_end(&files)?);
    }
    Ok(Some(ends))
}

fn ask(protection: &dyn Protection, file: &FileKey) -> Result<Option<Timestamp>, RepositoryError> {
    Ok(protection.protected_until(file)?)
}

/// What every snapshot needs: config, the key that opened the repository, and the indexes.
fn common_files(repository: &IndexedRepository) -> Result<Vec<FileKey>, RepositoryError> {
    let mut files = vec![
        FileKey::CONFIG,
        FileKey::new(FileKind::Key, repository.key_id().0),
    ];
    let indexes = repository.storage().list(FileKind::Index)?;
    files.extend(indexes.iter().map(|file| file.key));
    Ok(files)
}

/// The packs that trees need.
fn packs(
    repository: &IndexedRepository,
    roots: impl Iterator<Item = BlobId>,
    cancel: &Cancel,
) -> Result<Vec<FileKey>, RepositoryError> {
    let threads = threads(repository.storage());
    let packs = Mutex::new(HashSet::new());
    let trees = IndexedTrees::new(repository);
    walk(&trees, roots, threads, cancel, |tree, nodes| {
        let content = nodes?.iter().flat_map(|node| node.content.iter());
        let blobs = content.map(|blob| (BlobKind::Data, *blob));
        for (kind, blob) in blobs.chain([(BlobKind::Tree, tree)]) {
            let missing = RepositoryError::MissingBlob {
                kind: kind.word(),
                blob,
            };
            let location = repository.index().get(kind, &blob).ok_or(missing)?;
            lock(&packs).insert(location.pack);
        }
        Ok(())
    })?;
    let packs = std::mem::take(&mut *lock(&packs));
    Ok(packs.into_iter().map(pack_file).collect())
}

fn later(time: Timestamp, by: std::time::Duration) -> Timestamp {
    let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
    Timestamp {
        seconds: time.seconds.saturating_add(seconds),
        ..time
    }
}
