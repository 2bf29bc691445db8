//! Copying snapshots into another repository.
//!
//! Blobs that the other repository has are not copied, so an interrupted copy goes on where its
//! last index was written; snapshots go in groups, and each is there as soon as its group is. A
//! copied snapshot keeps its time, tags and tree, and names the first one as its `original`, by
//! which a repetition recognises it.
//!
//! With other chunker parameters ([`CopyReport::same_chunker`]) later backups into the other
//! repository store changed files of copied snapshots once more: it should have been made with
//! those of the first.
//!
//! A snapshot that is there already is looked into: what it needs and the other repository has
//! lost meanwhile is copied again, and the snapshot there is whole once more.
//!
//! Invariant: every blob is authenticated when it is read, and what is sealed of it was opened again and hashed
//! to its id; a snapshot counts as present only if the other repository has all that it needs.

mod survey;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;

use crate::archive::{Added, ArchiveOptions, Archived, Archiver};
use crate::blobs::BlobReader as _;
use crate::codec::Decrypted;
use crate::error::RepositoryError;
use crate::format::pack::BlobKind;
use crate::format::snapshot::SnapshotFile;
use crate::id::{BlobId, SnapshotId};
use crate::index::Location;
use crate::lock::Lock;
use crate::pack_runs::{Run, runs};
use crate::parallel::{for_each_with, lock, threads};
use crate::repository::{IndexedRepository, Repository};
use crate::tree_walk::{IndexedTrees, walk};

pub use survey::{Broken, Survey, survey};

/// So many snapshots are published together: listing packs costs as much for one as for many.
const GROUP_SNAPSHOTS: usize = 16;

/// What a copy did.
#[derive(Debug, Default)]
pub struct CopyReport {
    /// Snapshots that were copied: their ids here and there.
    pub copied: Vec<(SnapshotId, SnapshotId)>,
    /// Snapshots that had been copied before and are whole there.
    pub present: Vec<(SnapshotId, SnapshotId)>,
    /// Snapshots that had been copied before and lacked something there, which they have again.
    pub completed: Vec<(SnapshotId, SnapshotId)>,
    /// Snapshots that had been copied before, of which it cannot be told whether they are whole
    /// there, or that lack something there that is lost here as well, and why.
    pub unknown: Vec<(SnapshotId, RepositoryError)>,
    /// Snapshots that are not there and cannot be copied, because something of them is lost or
    /// damaged here, and what.
    pub damaged: Vec<(SnapshotId, RepositoryError)>,
    /// What was added.
    pub added: Added,
    /// Whether both repositories cut content at the same places.
    pub same_chunker: bool,
}

/// Copies snapshots from one repository to another, for which a shared lock is held; who may
/// prune the first holds one there as well.
///
/// Guarantees: a snapshot is published only when everything it needs was seen in storage. Crash
/// behaviour: packs and indexes without a snapshot, which a repetition uses.
///
/// # Errors
/// A snapshot is not there, storage failed, or the lock is lost. Groups that were finished before
/// stay. What is lost or damaged of one snapshot ends no other's copy.
pub fn copy(
    from: &IndexedRepository,
    to: &IndexedRepository,
    snapshots: &[SnapshotId],
    lock: &Lock,
    counters: &Arc<Counters>,
    cancel: &Cancel,
) -> Result<CopyReport, RepositoryError> {
    let Survey {
        wanted,
        present,
        broken,
        unknown,
    } = survey(from, to, snapshots, cancel)?;
    let mut report = CopyReport {
        same_chunker: same_chunker(from, to),
        present,
        unknown,
        ..CopyReport::default()
    };
    let carry = |roots: Vec<BlobId>| carry(from, to, roots, counters, cancel);
    // What is damaged here, if something is; then nothing of the group is there.
    let add = |group: &[(SnapshotId, SnapshotFile)], report: &mut CopyReport| {
        let roots = group.iter().filter_map(|(_, snapshot)| snapshot.tree);
        let archived = match carry(roots.collect())? {
            Ok(archived) => archived,
            Err(damage) => return Ok(Some(damage)),
        };
        for (id, snapshot) in group {
            report.copied.push((*id, archived.publish(lock, snapshot)?));
        }
        report.added = sum(report.added, archived.added());
        Ok::<_, RepositoryError>(None)
    };
    for group in wanted.chunks(GROUP_SNAPSHOTS) {
        if add(group, &mut report)?.is_none() {
            continue;
        }
        // One of them; which one it is, each by itself tells.
        for one in group {
            if let Some(damage) = add(std::slice::from_ref(one), &mut report)? {
                report.damaged.push((one.0, damage));
            }
        }
    }
    // After what is new: that an old one cannot be completed must keep no new one from going there.
    let complete = |group: &[Broken], report: &mut CopyReport| {
        let roots = group.iter().filter_map(|point| point.snapshot.tree);
        let archived = carry(roots.collect())??;
        archived.prove(lock)?;
        let points = group.iter().map(|point| (point.here, point.there));
        report.completed.extend(points);
        report.added = sum(report.added, archived.added());
        Ok::<_, RepositoryError>(())
    };
    for group in broken.chunks(GROUP_SNAPSHOTS) {
        match complete(group, &mut report) {
            // One of them; which one it is, each by itself tells.
            Err(error) if error.is_of_one_thing() => {
                for point in group {
                    match complete(std::slice::from_ref(point), &mut report) {
                        Err(error) if error.is_of_one_thing() => {
                            report.unknown.push((point.here, error));
                        }
                        ended => ended?,
                    }
                }
            }
            ended => ended?,
        }
    }
    Ok(report)
}

fn same_chunker(from: &Repository, to: &Repository) -> bool {
    let (from, to) = (from.config(), to.config());
    match (&from.refloat_chunker, &to.refloat_chunker) {
        (None, None) => from.chunker_polynomial == to.chunker_polynomial,
        (one, other) => one == other,
    }
}

const fn sum(one: Added, other: Added) -> Added {
    Added {
        data_blobs: one.data_blobs + other.data_blobs,
        tree_blobs: one.tree_blobs + other.tree_blobs,
        plaintext_bytes: one.plaintext_bytes + other.plaintext_bytes,
        packed_bytes: one.packed_bytes + other.packed_bytes,
    }
}

/// Copies what these trees need; within, what is lost or damaged at the source. What came before
/// that is indexed, so that the next attempt need not bring it again.
fn carry(
    from: &IndexedRepository,
    to: &IndexedRepository,
    roots: Vec<BlobId>,
    counters: &Arc<Counters>,
    cancel: &Cancel,
) -> Result<Result<Archived, RepositoryError>, RepositoryError> {
    let options = ArchiveOptions::default();
    let archiver = Archiver::start(to.renewed()?, options, Arc::clone(counters), cancel.clone())?;
    let source = Source {
        from,
        unreadable: Mutex::default(),
    };
    let copied = copy_blobs(&source, &archiver, roots, counters, cancel);
    match (copied, std::mem::take(&mut *lock(&source.unreadable))) {
        // If it was the other side that failed, this says so.
        (Err(_stopped), Some(error)) => archiver.finish().map(|_stored| Err(error)),
        (Err(error), None) => Err(error),
        (Ok(()), _) => archiver.finish().map(Ok),
    }
}

/// The repository that is read, and what of it is lost, damaged or withheld: that ends the copy of these snapshots, and
/// not that of others.
struct Source<'a> {
    from: &'a IndexedRepository,
    unreadable: Mutex<Option<RepositoryError>>,
}

impl Source<'_> {
    /// What is told to the other threads of a failed reading.
    fn failed(&self, error: RepositoryError) -> RepositoryError {
        if !error.is_of_one_thing() {
            return error;
        }
        lock(&self.unreadable).get_or_insert(error);
        RepositoryError::Stopped
    }
}

/// Copies what the other repository lacks.
fn copy_blobs(
    source: &Source<'_>,
    to: &Archiver,
    roots: Vec<BlobId>,
    counters: &Counters,
    cancel: &Cancel,
) -> Result<(), RepositoryError> {
    let from = source.from;
    let threads = threads(from.storage());
    let missing: Mutex<HashSet<(BlobKind, BlobId)>> = Mutex::default();
    walk(
        &IndexedTrees::new(from),
        roots,
        threads,
        cancel,
        |tree, nodes| {
            let nodes = nodes.map_err(|error| source.failed(error))?;
            let content = nodes.iter().flat_map(|node| node.content.iter());
            let blobs = content.map(|blob| (BlobKind::Data, *blob));
            for (kind, blob) in blobs.chain([(BlobKind::Tree, tree)]) {
                if !to.holds(kind, &blob) {
                    lock(&missing).insert((kind, blob));
                }
            }
            Ok(())
        },
    )?;
    let missing = std::mem::take(&mut *lock(&missing));
    let located = locate(from, missing).map_err(|error| source.failed(error))?;
    let runs = runs(located);
    let bytes = runs.iter().map(Run::bytes).sum();
    Counters::add(&counters.bytes_expected, bytes);
    for_each_with(&runs, threads, |run, memory| {
        cancel.check()?;
        copy_run(source, to, run, memory)?;
        Counters::add(&counters.bytes_done, run.bytes());
        Ok(())
    })
}

fn locate(
    from: &IndexedRepository,
    blobs: HashSet<(BlobKind, BlobId)>,
) -> Result<Vec<Location>, RepositoryError> {
    let located = blobs.into_iter().map(|(kind, blob)| {
        let missing = RepositoryError::MissingBlob {
            kind: kind.word(),
            blob,
        };
        from.index().get(kind, &blob).ok_or(missing)
    });
    let mut located: Vec<Location> = located.collect::<Result<_, _>>()?;
    located.sort_unstable_by_key(|location| (location.pack, location.blob.offset));
    Ok(located)
}

fn copy_run(
    source: &Source<'_>,
    to: &Archiver,
    run: &Run,
    memory: &mut Vec<u8>,
) -> Result<(), RepositoryError> {
    let from = source.from;
    let bytes = match run.read(from.storage(), memory) {
        Ok(bytes) => bytes,
        // Perhaps some of them can be read alone, or elsewhere.
        Err(error) if !error.is_of_the_storage() => {
            return copy_one_by_one(source, to, run.locations());
        }
        Err(error) => return Err(error.into()),
    };
    for location in run.locations() {
        let range = run.range_of(&location.blob);
        let sealed = bytes.get_mut(range).unwrap_or_default();
        let blob = match from.decrypt_located(location, sealed) {
            Ok(blob) => blob,
            Err(_damaged) => {
                copy_one_by_one(source, to, std::slice::from_ref(location))?;
                continue;
            }
        };
        let damage_here = || {
            let opened = from.read_place(&run.file(), &location.blob);
            opened.err().filter(RepositoryError::is_damage)
        };
        let stored = to.store_decrypted(location.blob.kind, &blob, damage_here);
        stored.map_err(|error| match error {
            damaged @ RepositoryError::DamagedBlob { .. } => source.failed(damaged),
            other => other,
        })?;
    }
    Ok(())
}

/// Copies blobs that did not come as a stretch, each from whatever place serves.
fn copy_one_by_one(
    source: &Source<'_>,
    to: &Archiver,
    locations: &[Location],
) -> Result<(), RepositoryError> {
    for Location { blob, .. } in locations {
        let read = source.from.read_blob(blob.kind, blob.id);
        let plaintext = read.map_err(|error| source.failed(error))?;
        let whole = Decrypted::proven(blob.id, &plaintext);
        to.store_decrypted(blob.kind, &whole, || None)?;
    }
    Ok(())
}
