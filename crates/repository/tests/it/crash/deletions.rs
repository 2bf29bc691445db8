//! Forgetting and pruning.

use std::collections::BTreeSet;
use std::sync::Arc;

use refloat_repository::forget::forget;
use refloat_repository::lock::{Clock, LockMode};
use refloat_repository::prune::{MaxUnused, PruneLocks, PruneOptions, plan};
use refloat_repository::{ChunkerChoice, IndexedRepository, SnapshotId};
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKind, SharedStorage};
use refloat_testkit::faults::{FaultyStorage, MutationEffect};
use refloat_testkit::zero_loss::thorough;

use super::commands::{back_up, files};
use super::{Scenario, all, place};
use crate::pruning::delete_snapshots;
use crate::support::*;

/// Many points, each with part of the one before.
fn many_points(count: u64) -> (Arc<MemoryStorage>, Vec<SnapshotId>, jiff::Timestamp) {
    let (memory, storage, start) = place();
    let repository = init(&storage, ChunkerChoice::Gear).into_indexed().unwrap();
    let clock = Hands::at(start).clock();
    let points = (0..count).map(|number| {
        let files = files(number * 6..number * 6 + 14);
        back_up(&repository, &clock, &files).unwrap()
    });
    let points = points.collect();
    (memory, points, start)
}

fn prune_with(options: PruneOptions) -> impl Fn(&IndexedRepository, &Clock) -> Result<(), String> {
    move |repository, clock| {
        let lock = |mode| repository.lock(mode, owner("prune"), Arc::clone(clock));
        let locks = PruneLocks {
            shared: &|| lock(LockMode::Shared),
            exclusive: &|| lock(LockMode::Exclusive),
        };
        let (counters, cancel) = Default::default();
        let prepared = plan(repository, options, clock.now(), &counters, &cancel)
            .map_err(|error| error.to_string())?;
        prepared
            .execute(repository, &locks, &counters, &cancel)
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

/// The state that a command leaves which dies at its n-th mutation, without its lock.
fn dead_run(
    original: &MemoryStorage,
    at: u64,
    run: &dyn Fn(&IndexedRepository),
) -> Arc<MemoryStorage> {
    let memory = Arc::new(original.duplicate());
    let shared: SharedStorage = Arc::clone(&memory) as SharedStorage;
    let dying = FaultyStorage::crashing(Arc::clone(&shared), at, MutationEffect::NotDone);
    let dying = Arc::new(dying);
    run(&open(&(Arc::clone(&dying) as SharedStorage))
        .into_indexed()
        .unwrap());
    assert!(dying.is_crashed(), "it has fewer than {at} mutations");
    for lock in shared.list(FileKind::Lock).unwrap() {
        shared.delete(&lock.key).unwrap();
    }
    memory
}

#[test]
fn a_forget_or_a_prune_that_dies_anywhere_loses_nothing() {
    let (all_there, points, start) = many_points(30);
    let leaving: Vec<SnapshotId> = points.iter().copied().step_by(2).collect();
    let pruned = Arc::new(all_there.duplicate());
    let shared: SharedStorage = Arc::clone(&pruned) as SharedStorage;
    delete_snapshots(&shared, &leaving);
    let few = Arc::new(all_there.duplicate());
    let shared: SharedStorage = Arc::clone(&few) as SharedStorage;
    delete_snapshots(&shared, &points[..29]);
    let dropping = leaving.clone();
    let forgets = move |repository: &IndexedRepository, clock: &Clock| {
        let lock = repository.lock(LockMode::Exclusive, owner("forget"), Arc::clone(clock));
        let lock = lock.map_err(|error| error.to_string())?;
        forget(repository, &lock, &dropping)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let thoroughly = prune_with(thorough());
    let frugally = prune_with(PruneOptions {
        max_repack_bytes: Some(0),
        ..thorough()
    });
    let usually = prune_with(PruneOptions {
        max_unused: MaxUnused::PerMille(50),
        ..thorough()
    });
    let in_large_packs = prune_with(PruneOptions {
        pack_bytes_min: 256 << 10,
        ..thorough()
    });
    let day = jiff::SignedDuration::from_hours(25);
    // Packs without an index, of a backup that died a day ago.
    let orphans = dead_run(&pruned, 12, &|repository| {
        drop(back_up(
            repository,
            &Hands::at(start).clock(),
            &files(300..400),
        ));
    });
    // Blobs that are there twice, of a prune that died before it deleted anything.
    let doubled = dead_run(&pruned, 40, &|repository| {
        drop(thoroughly(repository, &Hands::at(start).clock()));
    });
    for memory in [&orphans, &doubled] {
        memory.set_clock((start + day).into());
    }
    let scenario = |name, original, run| Scenario {
        name,
        original,
        start,
        run,
        leaving: BTreeSet::new(),
    };
    let scenarios = [
        Scenario {
            leaving: leaving.into_iter().collect(),
            ..scenario("forget", &*all_there, &forgets as &super::Run<'_>)
        },
        scenario("prune of every unused byte", &pruned, &thoroughly),
        scenario("prune without repacking", &pruned, &frugally),
        scenario("prune as it is by default", &pruned, &usually),
        scenario("prune of nearly everything", &few, &thoroughly),
        scenario("prune that merges small packs", &pruned, &in_large_packs),
        Scenario {
            start: start + day,
            ..scenario("prune of what a dead backup left", &orphans, &thoroughly)
        },
        Scenario {
            start: start + day,
            ..scenario("prune after one that died", &doubled, &usually)
        },
    ];
    all("C1 forget and prune", &scenarios, 900);
}
