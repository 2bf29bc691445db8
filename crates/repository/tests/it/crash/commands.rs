//! Backups and copies.

use std::collections::BTreeSet;
use std::sync::Arc;

use refloat_model::cancel::Cancel;
use refloat_model::entry::SinkError;
use refloat_model::progress::Counters;
use refloat_repository::archive::{ArchiveOptions, Archiver};
use refloat_repository::copy::copy;
use refloat_repository::lock::{Clock, LockMode};
use refloat_repository::{
    BlobReader as _, ChunkerChoice, IndexedRepository, RepositoryError, SnapshotId,
};
use refloat_storage::SharedStorage;
use refloat_storage::memory::MemoryStorage;
use refloat_testkit::faults::{FaultyStorage, MutationEffect};

use super::{Scenario, all, place};
use crate::support::*;

/// Small files in many small packs: each pack is a mutation.
pub fn files(numbers: std::ops::Range<u64>) -> Files {
    numbers
        .map(|number| {
            let path = format!("d{}/s{}/file-{number}", number % 5, number % 3);
            (path, (1, noise(5_000 + number as usize * 7, number)))
        })
        .collect()
}

/// Backs files up as the command does, into packs of 16 KiB.
pub fn back_up(
    repository: &IndexedRepository,
    clock: &Clock,
    files: &Files,
) -> Result<SnapshotId, RepositoryError> {
    let lock = repository.lock(LockMode::Shared, owner("backup"), Arc::clone(clock))?;
    let repository = repository.reload()?;
    let parent = repository.snapshots()?.snapshots.pop();
    let previous = parent
        .and_then(|(_, snapshot)| repository.read_tree(snapshot.tree?).ok())
        .unwrap_or_default();
    let options = ArchiveOptions {
        pack_bytes_min: 16 << 10,
        placement_seed: Some(5),
        workers: 1,
        ..ArchiveOptions::default()
    };
    let counters = Arc::new(Counters::default());
    let archiver = Archiver::start(repository, options, counters, Cancel::default())?;
    let mut builder = archiver.tree(settled(previous));
    // Who meets the failure first is told what it was.
    if let Err(SinkError(cause)) = try_push(&mut builder, files, &Arc::default()) {
        return Err(*cause.downcast::<RepositoryError>().unwrap());
    }
    let root = archiver.store_directory(builder.finish()?.nodes)?;
    archiver.finish()?.publish(&lock, &snapshot(root))
}

/// A repository with two generations of files.
pub fn two_points() -> (Arc<MemoryStorage>, SharedStorage, jiff::Timestamp) {
    let (memory, storage, start) = place();
    let repository = init(&storage, ChunkerChoice::Gear).into_indexed().unwrap();
    let clock = Hands::at(start).clock();
    for numbers in [0..100, 60..160] {
        let _id = back_up(&repository, &clock, &files(numbers)).unwrap();
    }
    (memory, storage, start)
}

/// Another repository, with more points than a copy publishes at once.
fn other_points() -> IndexedRepository {
    let (_memory, storage, start) = place();
    let repository = init(&storage, ChunkerChoice::Gear).into_indexed().unwrap();
    let clock = Hands::at(start).clock();
    for number in 0..40 {
        let files = files(number * 5..number * 5 + 8);
        let _id = back_up(&repository, &clock, &files).unwrap();
    }
    repository.reload().unwrap()
}

/// Copies points as the command does.
fn copier<'a>(
    from: &'a IndexedRepository,
    ids: &'a [SnapshotId],
) -> impl Fn(&IndexedRepository, &Clock) -> Result<(), String> + Sync + 'a {
    move |repository, clock| {
        let lock = repository.lock(LockMode::Shared, owner("copy"), Arc::clone(clock));
        let lock = lock.map_err(|error| error.to_string())?;
        let counters = Arc::new(Counters::default());
        let copied = copy(from, repository, ids, &lock, &counters, &Cancel::default());
        copied.map(drop).map_err(|error| error.to_string())
    }
}

#[test]
fn a_backup_or_a_copy_that_dies_anywhere_loses_nothing() {
    let (empty, storage, start) = place();
    drop(init(&storage, ChunkerChoice::Gear));
    let (filled, from, _) = two_points();
    let from = open(&from).into_indexed().unwrap();
    let ids: Vec<SnapshotId> = from
        .snapshots()
        .unwrap()
        .snapshots
        .iter()
        .map(|s| s.0)
        .collect();
    let backup_of = |files: Files| {
        move |repository: &IndexedRepository, clock: &Clock| {
            let saved = back_up(repository, clock, &files);
            saved.map(drop).map_err(|error| error.to_string())
        }
    };
    let first = backup_of(files(0..300));
    let incremental = backup_of(files(100..340));
    let unchanged = backup_of(files(60..160));
    let copied = copier(&from, &ids);
    let many = other_points();
    let many_ids: Vec<SnapshotId> = many
        .snapshots()
        .unwrap()
        .snapshots
        .iter()
        .map(|s| s.0)
        .collect();
    let imported = copier(&many, &many_ids);
    // Packs without an index, of a run that died in the middle.
    let leftovers = Arc::new(filled.duplicate());
    let dying: SharedStorage = Arc::clone(&leftovers) as SharedStorage;
    let dying = Arc::new(FaultyStorage::crashing(dying, 30, MutationEffect::NotDone));
    let dead = open(&(dying as SharedStorage)).into_indexed().unwrap();
    assert!(back_up(&dead, &Hands::at(start).clock(), &files(100..260)).is_err());
    let after_death = backup_of(files(100..260));
    let scenario = |name, original, run| Scenario {
        name,
        original,
        start,
        run,
        leaving: BTreeSet::new(),
    };
    let scenarios = [
        scenario("first backup", &*empty, &first as &super::Run<'_>),
        scenario("incremental backup", &filled, &incremental),
        scenario("backup of what did not change", &filled, &unchanged),
        scenario("copy into an empty repository", &empty, &copied),
        scenario(
            "copy of many points into a filled repository",
            &filled,
            &imported,
        ),
        scenario("backup after one that died", &*leftovers, &after_death),
    ];
    all("C1 backup and copy", &scenarios, 750);
}
