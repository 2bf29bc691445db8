//! Prune under crashes: at every write and deletion, in every way it can fail.

use std::sync::Arc;

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_repository::check::{CheckFinding, ReadData};
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKind, SharedStorage};
use refloat_testkit::faults::{FaultPlan, FaultyStorage, Mutation, MutationEffect};

use crate::oracle::*;
use crate::pruning::*;
use crate::support::*;

#[test]
fn after_a_crash_at_any_step_nothing_is_lost_and_the_next_prune_finishes() {
    let original = Arc::new(MemoryStorage::new());
    let start = jiff::Timestamp::now();
    original.set_clock(start.into());
    let storage: SharedStorage = Arc::clone(&original) as SharedStorage;
    generations(&storage);
    let before = all_snapshots(&storage);
    let steps = steps_of_a_prune(&original, start);
    // Two locks and their removal, new packs, two indexes, and what is deleted; blobs go at random
    // into packs, so the number varies a little.
    assert!(steps.len() >= 10, "{steps:?}");
    let states: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = MutationEffect::ALL
            .into_iter()
            .map(|effect| {
                let (original, before, steps) = (&original, &before, &steps);
                scope.spawn(move || crash_everywhere(original, before, steps, effect, start))
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert!(states > 2 * steps.len(), "{states} states");
}

/// The mutations of a prune that nothing disturbs.
fn steps_of_a_prune(original: &MemoryStorage, start: jiff::Timestamp) -> Vec<Mutation> {
    let copy: SharedStorage = Arc::new(original.duplicate());
    let faulty = Arc::new(FaultyStorage::new(copy, FaultPlan::default()));
    let repository = open(&(Arc::clone(&faulty) as SharedStorage));
    let _report = prune_at(&repository, thorough(), start).unwrap();
    let steps = faulty.mutations();
    in_order(&steps);
    steps
}

/// Packs, their index; then indexes, then packs go.
fn in_order(steps: &[Mutation]) {
    let of = |wanted: &dyn Fn(&Mutation) -> bool| {
        let found = steps.iter().enumerate().filter(|(_, step)| wanted(step));
        let numbers: Vec<usize> = found.map(|(number, _)| number).collect();
        (*numbers.first().unwrap(), *numbers.last().unwrap())
    };
    let write = |kind: FileKind| {
        of(&move |step| matches!(step, Mutation::Write(file) if file.kind() == kind))
    };
    let delete = |kind: FileKind| {
        of(&move |step| matches!(step, Mutation::Delete(file) if file.kind() == kind))
    };
    assert!(write(FileKind::Pack).1 < write(FileKind::Index).0);
    // An index all of whose packs are dead goes before the next one is written.
    assert!(write(FileKind::Index).0 < delete(FileKind::Index).0);
    assert!(delete(FileKind::Index).1 < delete(FileKind::Pack).0);
}

fn crash_everywhere(
    original: &MemoryStorage,
    before: &std::collections::BTreeMap<refloat_repository::SnapshotId, Content>,
    steps: &[Mutation],
    effect: MutationEffect,
    start: jiff::Timestamp,
) -> usize {
    let storage: SharedStorage = Arc::new(original.duplicate());
    let swap = Swap::new(&storage);
    let repository = open(&swap.shared()).into_indexed().unwrap();
    let mut states = 0;
    for (number, step) in (1..).zip(steps) {
        if effect == MutationEffect::Torn && matches!(step, Mutation::Delete(_)) {
            continue;
        }
        states += 1;
        let what = format!("{effect:?} at {number}, {step}");
        let copy = Arc::new(original.duplicate());
        let shared: SharedStorage = Arc::clone(&copy) as SharedStorage;
        let faulty = Arc::new(FaultyStorage::crashing(Arc::clone(&shared), number, effect));
        swap.set(&(Arc::clone(&faulty) as SharedStorage));
        let ended = prune_at(&repository, thorough(), start);
        let unlocking = number as usize == steps.len();
        assert!(ended.is_err() || unlocking || is_unlock(&faulty), "{what}");

        swap.set(&shared);
        let found = check_with(&repository, ReadData::All);
        let torn_index = |finding: &CheckFinding| {
            effect == MutationEffect::Torn
                && matches!(finding, CheckFinding::UnreadableIndex { .. })
        };
        let errors: Vec<_> = found
            .errors()
            .filter(|finding| !torn_index(finding))
            .collect();
        assert!(errors.is_empty(), "{what}: {errors:#?}");
        assert_eq!(found.lost, [], "{what}");
        if found.is_clean() {
            assert!(all_of(&repository) == *before, "{what}");
        }
        recover(&repository, &copy, start, &what);
        assert!(all_of(&repository) == *before, "{what}");
    }
    states
}

fn is_unlock(faulty: &FaultyStorage) -> bool {
    matches!(faulty.mutations().last(), Some(Mutation::Delete(file)) if file.kind() == FileKind::Lock)
}

/// A day later, without anybody having unlocked anything.
fn recover(
    repository: &refloat_repository::Repository,
    storage: &MemoryStorage,
    start: jiff::Timestamp,
    what: &str,
) {
    let later = start + jiff::SignedDuration::from_hours(25);
    storage.set_clock(later.into());
    // The lock of the run tells the storage's time and removes dead locks.
    let lock = repository.lock(
        refloat_repository::lock::LockMode::Shared,
        owner("a"),
        at(later),
    );
    let (counters, cancel) = (Counters::default(), Cancel::default());
    let options = thorough();
    let prepared =
        refloat_repository::prune::plan(repository, options, later, &counters, &cancel).unwrap();
    drop(lock.unwrap());
    let _report =
        execute_at(prepared, repository, later).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = check_with(repository, ReadData::All);
    assert_eq!(found.findings, [], "{what}");
    let again = plan_at(repository, options, later).unwrap();
    assert!(again.plan().is_empty(), "{what}: {}", again.plan());
}
