//! C1: every command that changes a repository dies at every mutation, in three ways.
//!
//! The storage dies before the mutation, after it and before the answer, or in the middle of it.
//! Each state is judged as it is, and once more after a day, a backup and a prune.

pub mod commands;
mod deletions;
mod keys;
mod protects;
mod repairs;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use refloat_repository::lock::Clock;
use refloat_repository::{IndexedRepository, SnapshotId};
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKey, SharedStorage};
use refloat_testkit::faults::{FaultPlan, FaultyStorage, Mutation, MutationEffect};
use refloat_testkit::zero_loss::{Witness, ZeroLoss};

use crate::oracle::Swap;
use crate::support::*;

/// Carries a command out; an error is a command that said so.
type Run<'a> = dyn Fn(&IndexedRepository, &Clock) -> Result<(), String> + Sync + 'a;

/// A command on a state.
struct Scenario<'a> {
    name: &'static str,
    original: &'a MemoryStorage,
    start: jiff::Timestamp,
    run: &'a Run<'a>,
    /// What the command is to drop.
    leaving: BTreeSet<SnapshotId>,
}

/// A storage and a moment that both clocks show.
fn place() -> (Arc<MemoryStorage>, SharedStorage, jiff::Timestamp) {
    let memory = Arc::new(MemoryStorage::new());
    // Nanoseconds do not survive every clock.
    let start = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap();
    memory.set_clock(start.into());
    let storage: SharedStorage = Arc::clone(&memory) as SharedStorage;
    (memory, storage, start)
}

impl Scenario<'_> {
    /// The mutations of the command when nothing disturbs it.
    fn steps(&self) -> Vec<Mutation> {
        let copy: SharedStorage = Arc::new(self.original.duplicate());
        let faulty = Arc::new(FaultyStorage::new(copy, FaultPlan::default()));
        let repository = open(&(Arc::clone(&faulty) as SharedStorage));
        let repository = repository.into_indexed().unwrap();
        (self.run)(&repository, &Hands::at(self.start).clock()).unwrap();
        faulty.mutations()
    }

    /// Goes through all states; how many there were.
    fn everywhere(&self, witness: &Witness) -> usize {
        let steps = self.steps();
        let states: Vec<(u64, MutationEffect)> = (1..=steps.len() as u64)
            .flat_map(|at| MutationEffect::ALL.map(|effect| (at, effect)))
            .collect();
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let storage: SharedStorage = Arc::new(self.original.duplicate());
                    let swap = Swap::new(&storage);
                    let repository = open(&swap.shared()).into_indexed().unwrap();
                    let before = ZeroLoss::of(&repository).leaving(self.leaving.clone());
                    while let Some((at, effect)) = states.get(next.fetch_add(1, Ordering::SeqCst)) {
                        let judged = self.crash(&swap, &repository, &before, (*at, *effect));
                        if let Some(storage) = judged {
                            done.fetch_add(1, Ordering::SeqCst);
                            witness.see(&*storage, self.name);
                        }
                    }
                });
            }
        });
        done.into_inner()
    }

    /// One state; none if a deletion would have to be torn.
    fn crash(
        &self,
        swap: &Arc<Swap>,
        repository: &IndexedRepository,
        before: &ZeroLoss,
        (at, effect): (u64, MutationEffect),
    ) -> Option<SharedStorage> {
        let memory = Arc::new(self.original.duplicate());
        let shared: SharedStorage = Arc::clone(&memory) as SharedStorage;
        let faulty = Arc::new(FaultyStorage::crashing(Arc::clone(&shared), at, effect));
        swap.set(&(Arc::clone(&faulty) as SharedStorage));
        let reloaded = repository.reload().unwrap();
        let ended = (self.run)(&reloaded, &Hands::at(self.start).clock());
        let mutations = faulty.mutations();
        let Some(last) = mutations.get(at as usize - 1) else {
            // Another order of uploads made the command shorter.
            return None;
        };
        let torn = match (effect, last) {
            (MutationEffect::Torn, Mutation::Write(file)) => Some(*file),
            (MutationEffect::Torn, _) => return None,
            _ => None,
        };
        let what = format!("{}: {effect:?} at {at}, {last}", self.name);
        assert!(ended.is_err() || is_lock(last), "{what}: reported as done");
        swap.set(&shared);
        let before = before.clone().torn(torn);
        let _report = before.judge(repository, &what);
        let later = self.start + jiff::SignedDuration::from_hours(25);
        memory.set_clock(later.into());
        before.judge_next(repository, later, &what);
        Some(shared)
    }
}

/// Whether nothing but a lock is concerned: the work was done, or not begun.
fn is_lock(step: &Mutation) -> bool {
    let of_lock = |file: &FileKey| file.kind() == refloat_storage::FileKind::Lock;
    matches!(step, Mutation::Write(file) | Mutation::Delete(file) if of_lock(file))
}

/// Goes through scenarios and tells how much that was.
fn all(suite: &str, scenarios: &[Scenario<'_>], at_least: usize) {
    let started = Instant::now();
    let witness = Witness::new(PASSWORD);
    let mut states = 0;
    for scenario in scenarios {
        states += scenario.everywhere(&witness);
    }
    let seen = witness.count();
    let what = format!("{states} states, {seen} of them seen by restic");
    refloat_testkit::tier::report(suite, &what, started);
    assert!(states >= at_least, "{suite}: {states} states");
}
