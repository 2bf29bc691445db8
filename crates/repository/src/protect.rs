//! Keeping what recovery points need from deletion, on storage that can.
//!
//! Storage protects each file for a period from the time it is written. A pack that a new point
//! shares with an old one keeps the old one's end, so what is still needed is extended by a pass of
//! its own, once under half of the period is left: not at every backup, and never for what only
//! waits for a prune.
//!
//! Invariant: a point counts as protected only until the first of all files that it needs is not,
//! and one file that cannot be protected keeps no other from it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_model::time::Timestamp;
use refloat_storage::{FileKey, FileKind, SharedStorage, StorageErrorKind};
use serde::Serialize;

use crate::error::RepositoryError;
use crate::format::pack::BlobKind;
use crate::format::snapshot::SnapshotFile;
use crate::format::tree::Node;
use crate::id::{BlobId, PackId, SnapshotId};
use crate::pack_reading::pack_file;
use crate::parallel::{for_each, lock, threads};
use crate::repository::{IndexedRepository, Repository, SnapshotList};
use crate::tree_walk::{IndexedTrees, walk};

/// So many refusals without one success say that these credentials may protect nothing: every
/// further file would only be asked for in vain.
const REFUSALS_MAX: usize = 24;

/// What a pass did.
#[derive(Debug, Default, Serialize)]
pub struct ProtectReport {
    /// Files that recovery points need.
    pub needed: u64,
    /// Files whose protection was extended.
    pub extended: u64,
    /// Until when everything is protected now; none if the repository holds nothing, or not all
    /// of it is protected.
    pub until: Option<Timestamp>,
    /// What is not kept, or not known to be needed, and why.
    #[serde(skip)]
    pub failures: Vec<ProtectFailure>,
}

/// Something that recovery points need and that is not kept.
#[derive(Debug)]
pub struct ProtectFailure {
    /// A file, or a tree whose content is not known.
    pub subject: String,
    /// Why.
    pub error: RepositoryError,
}

/// Collects from several threads what is not kept.
#[derive(Default)]
struct Failures(Mutex<Vec<ProtectFailure>>);

/// Counts refusals until the first file whose protection was extended.
#[derive(Default)]
struct Refusals {
    count: AtomicUsize,
    are_of_files: AtomicBool,
}

impl Refusals {
    fn extended(&self) {
        self.are_of_files.store(true, Ordering::Relaxed);
    }

    /// Hands an error on as one of its file, or as one that ends the pass.
    fn judge(&self, error: RepositoryError) -> Result<RepositoryError, RepositoryError> {
        let is_refusal = matches!(
            &error,
            RepositoryError::Storage(error) if error.kind() == StorageErrorKind::Denied
        );
        if is_refusal
            && !self.are_of_files.load(Ordering::Relaxed)
            && self.count.fetch_add(1, Ordering::Relaxed) + 1 >= REFUSALS_MAX
        {
            return Err(error);
        }
        Ok(error)
    }
}

impl Failures {
    /// Records an error that concerns one thing; any other one ends the pass.
    fn record(&self, subject: String, error: RepositoryError) -> Result<(), RepositoryError> {
        if !error.is_of_one_thing() {
            return Err(error);
        }
        lock(&self.0).push(ProtectFailure { subject, error });
        Ok(())
    }

    fn take(&self) -> Vec<ProtectFailure> {
        let mut failures = std::mem::take(&mut *lock(&self.0));
        failures.sort_by(|one, other| one.subject.cmp(&other.subject));
        failures
    }
}

/// Extends the protection of everything that snapshots need, where less than half of the period
/// is left. None if the storage protects nothing.
///
/// Snapshots are read before the index, which so knows what all of them need.
///
/// Crash behaviour: what was extended stays so; a repetition does the rest.
///
/// # Errors
/// Storage is out of reach or refuses to protect anything, or the run was cancelled. What concerns
/// one file is in the report.
pub fn protect(
    repository: Repository,
    now: Timestamp,
    counters: &Counters,
    cancel: &Cancel,
) -> Result<Option<ProtectReport>, RepositoryError> {
    let Some(terms) = repository.storage().protection() else {
        return Ok(None);
    };
    let failures = Failures::default();
    let SnapshotList {
        snapshots,
        unreadable,
    } = repository.snapshots()?;
    let snapshot_file = |id: &SnapshotId| FileKey::new(FileKind::Snapshot, id.0);
    let mut files: Vec<FileKey> = snapshots.iter().map(|(id, _)| snapshot_file(id)).collect();
    // What a snapshot needs that cannot be read is not known, so not all is kept.
    for (id, error) in unreadable {
        files.push(snapshot_file(&id));
        failures.record(snapshot_file(&id).path(), error)?;
    }
    let repository = repository.into_indexed()?;
    for id in repository.damaged_indexes() {
        let file = FileKey::new(FileKind::Index, id.0);
        let error = RepositoryError::damaged(file, "what only it lists is not known");
        failures.record(file.path(), error)?;
    }
    files.extend(common_files(&repository)?);
    // Every way into the repository, not only the key in use.
    let keys = repository.storage().list(FileKind::Key)?;
    files.extend(keys.iter().map(|file| file.key));
    let roots = snapshots.iter().filter_map(|(_, snapshot)| snapshot.tree);
    files.extend(packs(&repository, roots, cancel, |subject, error| {
        failures.record(subject, error)
    })?);
    files.retain(|file| terms.covers(file.kind()));
    files.sort_unstable();
    files.dedup();
    Counters::add(&counters.entries_expected, files.len() as u64);

    let times = Times {
        enough: later(now, terms.period / 2),
        end: later(now, terms.period),
    };
    let report = Mutex::new(ProtectReport::default());
    let refusals = Refusals::default();
    for_each(&files, threads(repository.storage()), |file| {
        cancel.check()?;
        match times.extend(repository.storage(), file) {
            Ok(kept) => {
                if kept.is_extended {
                    refusals.extended();
                }
                lock(&report).add(kept);
            }
            Err(error) => failures.record(file.path(), refusals.judge(error)?)?,
        }
        Counters::add(&counters.entries_done, 1);
        Ok(())
    })?;
    let mut report = std::mem::take(&mut *lock(&report));
    report.needed = files.len() as u64;
    report.failures = failures.take();
    if !report.failures.is_empty() {
        report.until = None;
    }
    Ok(Some(report))
}

/// Which end is far enough away, and which one follows one that is not.
struct Times {
    enough: Timestamp,
    end: Timestamp,
}

/// A file that is kept.
struct Kept {
    until: Timestamp,
    is_extended: bool,
}

impl Times {
    fn extend(&self, storage: &SharedStorage, file: &FileKey) -> Result<Kept, RepositoryError> {
        let until = storage.protected_until(file)?;
        if let Some(until) = until.filter(|until| *until >= self.enough) {
            return Ok(Kept {
                until,
                is_extended: false,
            });
        }
        storage.protect_until(file, self.end)?;
        // A success alone does not keep it: what the storage says afterwards counts, of which
        // some keep whole seconds only.
        let until = storage.protected_until(file)?;
        match until.filter(|until| until.seconds >= self.end.seconds) {
            Some(until) => Ok(Kept {
                until,
                is_extended: true,
            }),
            None => Err(RepositoryError::NotExtended { file: *file }),
        }
    }
}

impl ProtectReport {
    fn add(&mut self, kept: Kept) {
        self.extended += u64::from(kept.is_extended);
        let first = self.until.map_or(kept.until, |until| until.min(kept.until));
        self.until = Some(first);
    }
}

/// Until when each snapshot can be restored whatever somebody deletes; none inside if part of it
/// is not protected, missing or damaged, and none at all if the storage protects nothing.
///
/// # Errors
/// Storage failed, or does not tell.
pub fn protected_until(
    repository: &IndexedRepository,
    snapshots: &[(SnapshotId, SnapshotFile)],
    cancel: &Cancel,
) -> Result<Option<BTreeMap<SnapshotId, Option<Timestamp>>>, RepositoryError> {
    let storage = repository.storage();
    let Some(terms) = storage.protection() else {
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
            let until = match storage.protected_until(file) {
                Err(error) if error.kind() == StorageErrorKind::NotFound => None,
                other => other?,
            };
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
        let failures = Failures::default();
        files.extend(packs(
            repository,
            snapshot.tree.into_iter(),
            cancel,
            |subject, error| failures.record(subject, error),
        )?);
        files.retain(|file| terms.covers(file.kind()));
        let is_whole = failures.take().is_empty();
        let end = if is_whole { first_end(&files)? } else { None };
        ends.insert(*id, end);
    }
    Ok(Some(ends))
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

/// The packs that trees need; what cannot be told is handed on, and an error that comes back ends
/// the walk.
fn packs(
    repository: &IndexedRepository,
    roots: impl Iterator<Item = BlobId>,
    cancel: &Cancel,
    lost: impl Fn(String, RepositoryError) -> Result<(), RepositoryError> + Sync,
) -> Result<Vec<FileKey>, RepositoryError> {
    let threads = threads(repository.storage());
    let packs = Mutex::new(HashSet::new());
    let trees = IndexedTrees::new(repository);
    walk(&trees, roots, threads, cancel, |tree, nodes| {
        let subject = || format!("tree {tree}");
        let nodes = match nodes {
            Ok(nodes) => nodes,
            Err(error) => return lost(subject(), error),
        };
        let (found, missing) = packs_of(repository, tree, nodes);
        lock(&packs).extend(found);
        match missing {
            Some(error) => lost(subject(), error),
            None => Ok(()),
        }
    })?;
    let packs = std::mem::take(&mut *lock(&packs));
    Ok(packs.into_iter().map(pack_file).collect())
}

/// The packs of a tree and its files, and the first blob that no index lists.
fn packs_of(
    repository: &IndexedRepository,
    tree: BlobId,
    nodes: &[Node],
) -> (Vec<PackId>, Option<RepositoryError>) {
    let content = nodes.iter().flat_map(|node| node.content.iter());
    let blobs = content.map(|blob| (BlobKind::Data, *blob));
    let mut missing = None;
    let mut packs: Vec<PackId> = Vec::new();
    for (kind, blob) in blobs.chain([(BlobKind::Tree, tree)]) {
        match repository.index().get(kind, &blob) {
            Some(location) if packs.last() != Some(&location.pack) => packs.push(location.pack),
            Some(_) => {}
            None => {
                let kind = kind.word();
                missing.get_or_insert(RepositoryError::MissingBlob { kind, blob });
            }
        }
    }
    (packs, missing)
}

fn later(time: Timestamp, by: std::time::Duration) -> Timestamp {
    let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
    Timestamp {
        seconds: time.seconds.saturating_add(seconds),
        ..time
    }
}
