//! S2 and S4: storage that refuses, fills up, or shows less than there is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use refloat_repository::lock::{Clock, LockMode};
use refloat_repository::prune::{PruneLocks, PruneOptions, plan};
use refloat_repository::{IndexedRepository, RepositoryError, SnapshotId};
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKind, SharedStorage, StorageError, StorageErrorKind};
use refloat_testkit::faults::{FaultPlan, FaultyStorage, Selection, ShortLists};
use refloat_testkit::intercept::{Call, Intercepted};
use refloat_testkit::tier;
use refloat_testkit::zero_loss::{ZeroLoss, thorough};

use crate::crash::commands::{back_up, files, two_points};
use crate::oracle::Swap;
use crate::pruning::delete_snapshots;
use crate::support::*;

type Run = fn(&IndexedRepository, &Clock) -> Result<(), RepositoryError>;

fn backup(repository: &IndexedRepository, clock: &Clock) -> Result<(), RepositoryError> {
    back_up(repository, clock, &files(130..190)).map(drop)
}

fn prune(repository: &IndexedRepository, clock: &Clock) -> Result<(), RepositoryError> {
    prune_with(repository, clock, thorough())
}

fn prune_with(
    repository: &IndexedRepository,
    clock: &Clock,
    options: PruneOptions,
) -> Result<(), RepositoryError> {
    let lock = |mode| repository.lock(mode, owner("prune"), Arc::clone(clock));
    let locks = PruneLocks {
        shared: &|| lock(LockMode::Shared),
        exclusive: &|| lock(LockMode::Exclusive),
    };
    let (counters, cancel) = Default::default();
    let pruned = plan(repository, options, clock.now(), &counters, &cancel)
        .and_then(|prepared| prepared.execute(repository, &locks, &counters, &cancel));
    match pruned {
        Ok(_report) => Ok(()),
        Err(refloat_repository::prune::PruneError::Repository(error)) => Err(error),
        Err(other) => panic!("a refusal of storage became {other:?}"),
    }
}

/// What storage says, which calls it concerns, and whether it says so once or from then on.
const REFUSALS: [(StorageErrorKind, bool, bool); 6] = [
    // A full disk or quota still deletes.
    (StorageErrorKind::Full, false, true),
    (StorageErrorKind::Full, false, false),
    // EIO, EINTR beyond patience, a reset connection.
    (StorageErrorKind::Failed, true, false),
    (StorageErrorKind::Unavailable, true, false),
    // Read-only, or no right to write.
    (StorageErrorKind::Denied, true, true),
    (StorageErrorKind::Denied, false, false),
];

/// Refuses the mutation of this number, or it and all later ones.
fn refusing(
    inner: SharedStorage,
    at: u64,
    (kind, also_deletions, for_good): (StorageErrorKind, bool, bool),
) -> (SharedStorage, Arc<AtomicU64>) {
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    let gate = move |call| {
        let key = match call {
            Call::Write(key) => key,
            Call::Delete(key) if also_deletions => key,
            _ => return Ok(()),
        };
        let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
        if number == at || (for_good && number > at) {
            return Err(StorageError::new(kind, "change", &key, "here", None));
        }
        Ok(())
    };
    (Arc::new(Intercepted::new(inner, Box::new(gate))), count)
}

#[test]
fn whatever_storage_refuses_at_any_call_the_same_command_succeeds_afterwards() {
    let started = Instant::now();
    let (filled, storage, start) = two_points();
    let pruned: Arc<MemoryStorage> = Arc::new(filled.duplicate());
    let first = open(&storage).snapshots().unwrap().snapshots[0].0;
    delete_snapshots(&(Arc::clone(&pruned) as SharedStorage), &[first]);
    let mut states = 0;
    let runs: [(&str, &MemoryStorage, Run); 2] =
        [("backup", &filled, backup), ("prune", &pruned, prune)];
    for (name, original, run) in runs {
        let shared: SharedStorage = Arc::new(original.duplicate());
        let swap = Swap::new(&shared);
        let repository = open(&swap.shared()).into_indexed().unwrap();
        for refusal in REFUSALS {
            for at in 1.. {
                let memory = Arc::new(original.duplicate());
                let shared: SharedStorage = Arc::clone(&memory) as SharedStorage;
                let before = {
                    swap.set(&shared);
                    ZeroLoss::of(&repository.reload().unwrap())
                };
                let (storage, count) = refusing(Arc::clone(&shared), at, refusal);
                swap.set(&storage);
                let what = format!("{name}, {refusal:?} at {at}");
                let clock = Hands::at(start).clock();
                let ended = run(&repository.reload().unwrap(), &clock);
                if count.load(Ordering::SeqCst) < at {
                    break;
                }
                states += 1;
                swap.set(&shared);
                let error = ended.as_ref().err().map(ToString::to_string);
                if let Err(error) = &ended {
                    // Storage's failure, and not one of the source (borg #1138).
                    match error {
                        RepositoryError::Storage(error) | RepositoryError::MayNotLock(error) => {
                            assert_eq!(error.kind(), refusal.0);
                        }
                        // A prune whose first lock cannot be deleted stands in its own way.
                        RepositoryError::Locked { .. } if refusal.1 => {}
                        other => panic!("{what}: {other:?}"),
                    }
                }
                let _report = before.judge(&repository, &format!("{what}: {error:?}"));
                // A lock that could not be deleted is the only thing that may be in the way, and
                // only for thirty minutes.
                let locks = shared.list(FileKind::Lock).unwrap().len();
                let later = start + jiff::SignedDuration::from_mins(31);
                if locks > 0 {
                    memory.set_clock(later.into());
                }
                let clock = Hands::at(if locks > 0 { later } else { start }).clock();
                run(&repository.reload().unwrap(), &clock)
                    .unwrap_or_else(|error| panic!("{what}, and once more: {error:?}"));
                let next_day = start + jiff::SignedDuration::from_hours(26);
                memory.set_clock(next_day.into());
                before.judge_next(&repository, next_day, &what);
            }
        }
    }
    tier::report("S2 refusals", &format!("{states} states"), started);
    assert!(states >= 150, "{states}");
}

#[test]
fn a_prune_works_with_no_more_free_space_than_an_index_and_a_lock() {
    let (filled, storage, start) = two_points();
    let first = open(&storage).snapshots().unwrap().snapshots[0].0;
    delete_snapshots(&storage, &[first]);
    let inner = Arc::clone(&filled) as SharedStorage;
    let gate = |call| match call {
        Call::Write(key) if key.kind() == FileKind::Pack => {
            let kind = StorageErrorKind::Full;
            Err(StorageError::new(kind, "write", &key, "here", None))
        }
        _ => Ok(()),
    };
    let full: SharedStorage = Arc::new(Intercepted::new(inner, Box::new(gate)));
    let repository = open(&full).into_indexed().unwrap();
    let before = storage.list(FileKind::Pack).unwrap().len();
    let sound = ZeroLoss::of(&repository);
    let options = PruneOptions {
        max_repack_bytes: Some(0),
        ..thorough()
    };
    prune_with(&repository, &Hands::at(start).clock(), options).unwrap();
    assert!(storage.list(FileKind::Pack).unwrap().len() < before);
    let _report = sound.judge(&repository, "a full disk");
}

#[test]
fn a_prune_under_wrong_listings_loses_nothing() {
    let started = Instant::now();
    let (filled, storage, start) = two_points();
    let ids: Vec<SnapshotId> = {
        let repository = open(&storage).into_indexed().unwrap();
        let clock = Hands::at(start).clock();
        for numbers in [150..170, 160..190] {
            let _id = back_up(&repository, &clock, &files(numbers)).unwrap();
        }
        let list = repository.snapshots().unwrap().snapshots;
        list.into_iter().map(|(id, _)| id).collect()
    };
    delete_snapshots(&storage, &ids[..2]);
    let swap = Swap::new(&storage);
    let repository = open(&swap.shared()).into_indexed().unwrap();
    let sound = ZeroLoss::of(&repository);
    let (mut refused, mut done) = (0, 0);
    let seeds = tier::seeds(1_000, 10_000, 50_000);
    for seed in &seeds {
        let memory = Arc::new(filled.duplicate());
        let shared: SharedStorage = Arc::clone(&memory) as SharedStorage;
        // Packs, indexes, or both; a few missing, or a tenth, or half; always or now and then.
        // Snapshots of which nothing tells that they exist are the ledger's business.
        let kinds = match seed % 3 {
            0 => vec![FileKind::Pack],
            1 => vec![FileKind::Index],
            _ => vec![FileKind::Pack, FileKind::Index, FileKind::Lock],
        };
        let lists = match seed % 4 {
            0 => Selection::All,
            1 => Selection::Nth(1 + seed % 7),
            2 => Selection::From(1 + seed % 7),
            _ => Selection::First(1 + seed % 7),
        };
        let per_mille = [10, 100, 500][(seed % 3) as usize];
        let short = ShortLists {
            lists,
            kinds,
            seed: *seed,
            per_mille,
        };
        let plan = FaultPlan {
            lists: Some(short),
            ..FaultPlan::default()
        };
        swap.set(&(Arc::new(FaultyStorage::new(Arc::clone(&shared), plan)) as SharedStorage));
        let clock = Hands::at(start).clock();
        match prune_or_refuse(&repository, &clock) {
            true => done += 1,
            false => refused += 1,
        }
        swap.set(&shared);
        let what = format!("seed {seed}");
        let _report = sound.judge(&repository, &what);
        if seed % 50 == 0 {
            let later = start + jiff::SignedDuration::from_hours(25);
            memory.set_clock(later.into());
            sound.judge_next(&repository, later, &what);
        }
    }
    let what = format!("{} seeds, {refused} refused, {done} pruned", seeds.len());
    tier::report("S4 short listings", &what, started);
    assert!(seeds.len() == 1 || (refused > 0 && done > 0), "{what}");
}

/// Whether it pruned.
fn prune_or_refuse(repository: &IndexedRepository, clock: &Clock) -> bool {
    let lock = |mode| repository.lock(mode, owner("prune"), Arc::clone(clock));
    let locks = PruneLocks {
        shared: &|| lock(LockMode::Shared),
        exclusive: &|| lock(LockMode::Exclusive),
    };
    let (counters, cancel) = Default::default();
    plan(repository, thorough(), clock.now(), &counters, &cancel)
        .and_then(|prepared| prepared.execute(repository, &locks, &counters, &cancel))
        .is_ok()
}

#[test]
fn an_upload_that_lies_is_noticed_before_the_snapshot() {
    use refloat_testkit::faults::{Lie, Lies};
    let started = Instant::now();
    let (filled, _, start) = two_points();
    let shared: SharedStorage = Arc::new(filled.duplicate());
    let swap = Swap::new(&shared);
    let repository = open(&swap.shared()).into_indexed().unwrap();
    let mut cases = 0;
    for lie in [Lie::Absent, Lie::Cut] {
        for nth in 1.. {
            let shared: SharedStorage = Arc::new(filled.duplicate());
            let before = shared.list(FileKind::Snapshot).unwrap();
            let indexes = shared.list(FileKind::Index).unwrap();
            let lies = Lies {
                writes: Selection::Nth(nth),
                kinds: vec![FileKind::Pack],
                lie,
            };
            let plan = FaultPlan {
                lies: Some(lies),
                ..FaultPlan::default()
            };
            let faulty = Arc::new(FaultyStorage::new(Arc::clone(&shared), plan));
            swap.set(&(Arc::clone(&faulty) as SharedStorage));
            let ended = backup(&repository.reload().unwrap(), &Hands::at(start).clock());
            let mutations = faulty.mutations();
            let packs = mutations.iter().filter(|mutation| {
                matches!(mutation, refloat_testkit::faults::Mutation::Write(key)
                    if key.kind() == FileKind::Pack)
            });
            if (packs.count() as u64) < nth {
                break;
            }
            cases += 1;
            let what = format!("{lie:?} at pack {nth}");
            assert!(
                matches!(ended, Err(RepositoryError::NotStored { .. })),
                "{what}: {ended:?}"
            );
            assert_eq!(shared.list(FileKind::Snapshot).unwrap(), before, "{what}");
            let after = shared.list(FileKind::Index).unwrap();
            assert_eq!(after, indexes, "{what}: no index names it");
        }
    }
    tier::report("S5 lying uploads", &format!("{cases} lies"), started);
    assert!(cases >= 20, "{cases}");
}
