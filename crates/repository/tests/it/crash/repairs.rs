//! Repairs: after a crash they are repeated, and end where an undisturbed one ends.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_repository::check::{CheckFinding, ReadData};
use refloat_repository::lock::LockMode;
use refloat_repository::repair::{
    HeaderReading, OldSnapshots, plan_index_repair, plan_snapshot_repair, repair_packs,
};
use refloat_repository::{BlobKind, IndexedRepository, PackId, RepositoryError};
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKind, SharedStorage};
use refloat_testkit::damage::Damage;
use refloat_testkit::faults::{FaultPlan, FaultyStorage, Mutation, MutationEffect};
use refloat_testkit::random::Random;
use refloat_testkit::zero_loss::{Picture, picture};

use super::commands::two_points;
use crate::oracle::*;
use crate::pruning::at;
use crate::support::*;

type Repair = fn(&IndexedRepository, jiff::Timestamp) -> Result<(), RepositoryError>;

fn index(repository: &IndexedRepository, now: jiff::Timestamp) -> Result<(), RepositoryError> {
    let (counters, cancel) = (Counters::default(), Cancel::default());
    let lock = repository.lock(LockMode::Exclusive, owner("repair"), at(now))?;
    let plan = plan_index_repair(repository, HeaderReading::Doubtful, &counters, &cancel)?;
    plan.execute(repository, &lock, &counters, &cancel)
        .map(drop)
}

fn packs(repository: &IndexedRepository, now: jiff::Timestamp) -> Result<(), RepositoryError> {
    let (counters, cancel) = (Counters::default(), Cancel::default());
    let lock = repository.lock(LockMode::Exclusive, owner("repair"), at(now))?;
    let report = check_with(repository, ReadData::All);
    let damaged = report.errors().filter_map(|finding| match finding {
        CheckFinding::DamagedPack { pack, .. } | CheckFinding::PackSize { pack, .. } => Some(*pack),
        _ => None,
    });
    let damaged: Vec<PackId> = damaged.collect::<BTreeSet<_>>().into_iter().collect();
    repair_packs(repository, &lock, &damaged, &counters, &cancel).map(drop)
}

fn snapshots(repository: &IndexedRepository, now: jiff::Timestamp) -> Result<(), RepositoryError> {
    let (counters, cancel) = (Arc::new(Counters::default()), Cancel::default());
    let lock = repository.lock(LockMode::Exclusive, owner("repair"), at(now))?;
    let plan = plan_snapshot_repair(repository, ReadData::None, &counters, &cancel)?;
    let old = OldSnapshots::Delete;
    plan.execute(repository.reload()?, &lock, old, &counters, &cancel)
        .map(drop)
}

fn index_of_all_headers(
    repository: &IndexedRepository,
    now: jiff::Timestamp,
) -> Result<(), RepositoryError> {
    let (counters, cancel) = (Counters::default(), Cancel::default());
    let lock = repository.lock(LockMode::Exclusive, owner("repair"), at(now))?;
    let plan = plan_index_repair(repository, HeaderReading::All, &counters, &cancel)?;
    plan.execute(repository, &lock, &counters, &cancel)
        .map(drop)
}

fn everything(repository: &IndexedRepository, now: jiff::Timestamp) -> Result<(), RepositoryError> {
    index(repository, now)?;
    packs(repository, now)?;
    snapshots(repository, now)
}

/// What can be read of every point, in no order: repairs give points new ids.
fn contents(repository: &IndexedRepository) -> Vec<Picture> {
    let repository = repository.reload().unwrap();
    let points = repository.snapshots().unwrap().snapshots.into_iter();
    let pictures = points.map(|(_, snapshot)| picture(&repository, snapshot.tree.unwrap()));
    let mut pictures: Vec<Picture> = pictures.map(Result::unwrap).collect();
    pictures.sort();
    // A point that was rewritten and is not deleted yet may be there beside its new form.
    pictures.dedup();
    pictures
}

/// Damages so many files of a kind.
fn damage(storage: &SharedStorage, kind: FileKind, damage: Damage, one_of: usize) {
    let files = storage.list(kind).unwrap();
    for (number, file) in files
        .iter()
        .enumerate()
        .filter(|(n, _)| n % one_of == 1 % one_of)
    {
        let mut random = Random::new(number as u64);
        damage.inflict(&**storage, &file.key, b"{}", &mut random);
    }
}

/// Damages one of so many packs that hold content and no directories: points lose files and no more.
fn damage_content(storage: &SharedStorage, damage: Damage, one_of: usize) {
    let repository = open(storage).into_indexed().unwrap();
    let trees = repository.index().iter(BlobKind::Tree);
    let tree_packs: BTreeSet<PackId> = trees.map(|place| place.pack).collect();
    let packs = storage.list(FileKind::Pack).unwrap().into_iter();
    let packs = packs.filter(|file| !tree_packs.contains(&PackId(*file.key.id())));
    for (number, file) in packs.enumerate().filter(|(n, _)| n % one_of == 1) {
        let mut random = Random::new(number as u64);
        damage.inflict(&**storage, &file.key, b"{}", &mut random);
    }
}

/// All states of a repair of one damaged repository; how many there were.
fn everywhere(
    original: &MemoryStorage,
    name: &str,
    repair: Repair,
    start: jiff::Timestamp,
) -> usize {
    let copy: SharedStorage = Arc::new(original.duplicate());
    let counting = Arc::new(FaultyStorage::new(copy, FaultPlan::default()));
    let repository = open(&(Arc::clone(&counting) as SharedStorage));
    let repository = repository.into_indexed().unwrap();
    repair(&repository, start).unwrap();
    let steps = counting.mutations().len() as u64;
    everything(&repository, start).unwrap();
    let expected = contents(&repository);
    let states: Vec<(u64, MutationEffect)> = (1..=steps)
        .flat_map(|at| MutationEffect::ALL.map(|effect| (at, effect)))
        .collect();
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let storage: SharedStorage = Arc::new(original.duplicate());
                let swap = Swap::new(&storage);
                let repository = open(&swap.shared()).into_indexed().unwrap();
                while let Some((at, effect)) = states.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let memory = Arc::new(original.duplicate());
                    let shared: SharedStorage = Arc::clone(&memory) as SharedStorage;
                    let faulty = FaultyStorage::crashing(Arc::clone(&shared), *at, *effect);
                    let faulty = Arc::new(faulty);
                    swap.set(&(Arc::clone(&faulty) as SharedStorage));
                    let _ended = repair(&repository, start);
                    let last = faulty.mutations()[*at as usize - 1];
                    if *effect == MutationEffect::Torn && !matches!(last, Mutation::Write(_)) {
                        continue;
                    }
                    let what = format!("{name}: {effect:?} at {at}, {last}");
                    swap.set(&shared);
                    let later = start + jiff::SignedDuration::from_hours(25);
                    memory.set_clock(later.into());
                    everything(&repository, later).unwrap_or_else(|e| panic!("{what}: {e:?}"));
                    let torn = match (effect, last) {
                        (MutationEffect::Torn, Mutation::Write(file)) => Some(file),
                        _ => None,
                    };
                    let _pruned = refloat_testkit::zero_loss::next_prune(&repository, later, torn)
                        .unwrap_or_else(|e| panic!("{what}: {e:?}"));
                    assert!(contents(&repository) == expected, "{what}");
                    let report = check_with(&repository, ReadData::All);
                    assert_eq!(report.findings, [], "{what}");
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    done.into_inner()
}

#[test]
fn a_repair_that_dies_anywhere_is_repeated_and_gives_up_nothing_more() {
    let started = Instant::now();
    let damaged = |kind, how, one_of| {
        let (memory, storage, start) = two_points();
        damage(&storage, kind, how, one_of);
        (memory, start)
    };
    let lossy = |how, one_of| {
        let (memory, storage, start) = two_points();
        damage_content(&storage, how, one_of);
        (memory, start)
    };
    let (no_index, start) = damaged(FileKind::Index, Damage::Deleted, 2);
    let mut states = everywhere(&no_index, "an index is gone", index, start);
    let (torn_index, start) = damaged(FileKind::Index, Damage::CutToHalf, 2);
    states += everywhere(&torn_index, "an index is cut", index, start);
    let (headers, start) = damaged(FileKind::Pack, Damage::CutByOneByte, 2);
    states += everywhere(&headers, "headers are cut", index, start);
    // A bit in the root directory of a point leaves nothing to repair it from.
    let (flipped, start) = lossy(Damage::RandomBit, 2);
    states += everywhere(&flipped, "packs with a flipped bit", packs, start);
    states += everywhere(&flipped, "all repairs in turn", everything, start);
    let (lost, start) = lossy(Damage::ZeroedBlock, 3);
    let storage: SharedStorage = Arc::clone(&lost) as SharedStorage;
    let repository = open(&storage).into_indexed().unwrap();
    index(&repository, start).unwrap();
    packs(&repository, start).unwrap();
    states += everywhere(&lost, "points that lost files", snapshots, start);
    let (no_indexes, start) = damaged(FileKind::Index, Damage::Deleted, 1);
    states += everywhere(&no_indexes, "all indexes are gone", index, start);
    let (junk, start) = damaged(FileKind::Pack, Damage::JunkAppended, 2);
    states += everywhere(&junk, "packs with junk", index_of_all_headers, start);
    let (halves, start) = lossy(Damage::CutToHalf, 6);
    states += everywhere(&halves, "packs that are cut", everything, start);
    let (gone, start) = lossy(Damage::Deleted, 8);
    states += everywhere(&gone, "packs are gone", everything, start);
    refloat_testkit::tier::report("C1 repair", &format!("{states} states"), started);
    assert!(states >= 300, "{states}");
}
