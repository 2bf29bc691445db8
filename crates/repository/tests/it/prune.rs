//! Prune: what is used stays whatever happens, what is not goes.

use std::sync::Arc;

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_repository::lock::LockMode;
use refloat_repository::prune::{MaxUnused, PruneError, PruneLocks, PruneOptions, PrunePlan};
use refloat_repository::{ChunkerChoice, RepositoryError};
use refloat_storage::counting::{CountingStorage, Operation};
use refloat_storage::local::LocalStorage;
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKind, SharedStorage};

use crate::oracle::*;
use crate::pruning::*;
use crate::support::*;

fn memory() -> (Arc<MemoryStorage>, SharedStorage) {
    let memory = Arc::new(MemoryStorage::new());
    let storage: SharedStorage = Arc::clone(&memory) as SharedStorage;
    (memory, storage)
}

#[test]
fn every_option_keeps_every_snapshot_and_a_second_prune_has_nothing_to_do() {
    let (original, storage) = memory();
    generations(&storage);
    let before = all_snapshots(&storage);
    let bytes_before = stored_bytes(&storage, FileKind::Pack);
    let swap = Swap::new(&storage);
    let repository = open(&swap.shared()).into_indexed().unwrap();
    let now = jiff::Timestamp::now();
    for max_unused in [
        MaxUnused::Bytes(0),
        MaxUnused::PerMille(200),
        MaxUnused::PerMille(1000),
        MaxUnused::Unlimited,
    ] {
        for max_repack_bytes in [None, Some(0), Some(1_500_000)] {
            for pack_bytes_min in [200_000, 1 << 20] {
                let copy: SharedStorage = Arc::new(original.duplicate());
                swap.set(&copy);
                let options = PruneOptions {
                    max_unused,
                    max_repack_bytes,
                    pack_bytes_min,
                    ..PruneOptions::default()
                };
                let prepared = plan_at(&repository, options, now).unwrap();
                let statistics = prepared.plan().statistics;
                assert_eq!(statistics.pack_bytes, bytes_before);
                assert!(statistics.repack_bytes <= max_repack_bytes.unwrap_or(u64::MAX));
                let report = execute_at(prepared, &repository, now).unwrap();
                let bytes_after = stored_bytes(&copy, FileKind::Pack);
                let change = bytes_before + report.bytes_written - report.bytes_deleted;
                assert_eq!(bytes_after, change);
                assert_eq!(
                    report.bytes_deleted,
                    statistics.delete_bytes + statistics.repack_bytes
                );
                assert_eq!(all_of(&repository), before, "{options:?}");
                let found = check_with(&repository, refloat_repository::check::ReadData::All);
                assert_eq!(found.findings, [], "{options:?}");
                let again = plan_at(&repository, options, now).unwrap();
                if max_repack_bytes != Some(1_500_000) {
                    assert!(again.plan().is_empty(), "{options:?}: {}", again.plan());
                }
                if options.max_unused == MaxUnused::Bytes(0) && max_repack_bytes.is_none() {
                    let left = again.plan().statistics;
                    assert_eq!((left.unused_bytes, left.duplicate_bytes), (0, 0));
                }
            }
        }
    }
}

#[test]
fn restic_agrees_with_what_is_left() {
    if !has_restic() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let storage: SharedStorage = Arc::new(LocalStorage::new(folder.path()));
    generations(&storage);
    let before = all_snapshots(&storage);
    let report = prune(&storage, thorough());
    assert!(report.packs_written > 0 && report.packs_deleted > 0);
    require_spotless(&storage);
    assert!(all_snapshots(&storage) == before);
    let said = restic(folder.path(), &["check", "--read-data"]).unwrap();
    assert!(said.contains("no errors were found"), "{said}");
    let said = restic(folder.path(), &["prune", "--dry-run", "--max-unused", "0"]).unwrap();
    assert!(
        said.contains("total prune:           0 blobs / 0 B"),
        "{said}"
    );
}

#[test]
fn a_stored_plan_is_executed_only_on_the_state_it_was_made_for() {
    let (_, storage) = memory();
    generations(&storage);
    let repository = open(&storage);
    let now = jiff::Timestamp::now();
    let (counters, cancel) = (Counters::default(), Cancel::default());
    let prepared = plan_at(&repository, thorough(), now).unwrap();
    let json = serde_json::to_string(prepared.plan()).unwrap();
    let stored: PrunePlan = serde_json::from_str(&json).unwrap();
    assert_eq!(stored, *prepared.plan());
    let text = stored.to_string();
    assert!(text.contains("packs to repack"), "{text}");

    let extra = backup(&storage, &first_generation()).id;
    let refused = stored.clone().prepare(&repository, &counters, &cancel);
    assert!(matches!(refused, Err(PruneError::StateChanged)));
    let refused = execute_at(prepared, &repository, now);
    assert!(
        matches!(refused, Err(PruneError::StateChanged)),
        "{refused:?}"
    );
    let mut tampered = plan_at(&repository, thorough(), now)
        .unwrap()
        .plan()
        .clone();
    let index = open(&storage).into_indexed().unwrap();
    let mut packs = index.index().packs().iter();
    let innocent = *packs.find(|pack| !tampered.delete.contains(pack)).unwrap();
    tampered.delete = std::iter::once(innocent).collect();
    let refused = tampered.prepare(&repository, &counters, &cancel);
    assert!(matches!(refused, Err(PruneError::StateChanged)));
    delete_snapshots(&storage, &[extra]);

    let fresh = plan_at(&repository, thorough(), now)
        .unwrap()
        .plan()
        .clone();
    let before = all_snapshots(&storage);
    let prepared = fresh.prepare(&repository, &counters, &cancel).unwrap();
    let _report = execute_at(prepared, &repository, now).unwrap();
    require_spotless(&storage);
    assert!(all_snapshots(&storage) == before);
}

#[test]
fn a_backup_that_ends_while_prune_repacks_keeps_what_it_reused() {
    let (_, storage) = memory();
    generations(&storage);
    let repository = open(&storage);
    let now = jiff::Timestamp::now();
    let prepared = plan_at(&repository, thorough(), now).unwrap();
    assert!(prepared.plan().repacks() && !prepared.plan().delete.is_empty());
    let exclusive = || {
        // Reuses blobs of packs that are about to be deleted.
        let reused = backup(&storage, &first_generation());
        assert_eq!(reused.added.data_blobs, 0, "all of it was reused");
        repository.lock(LockMode::Exclusive, owner("prune"), at(now))
    };
    let locks = PruneLocks {
        shared: &|| repository.lock(LockMode::Shared, owner("prune"), at(now)),
        exclusive: &exclusive,
    };
    let (counters, cancel) = (Counters::default(), Cancel::default());
    let report = prepared
        .execute(&repository, &locks, &counters, &cancel)
        .unwrap();
    assert!(!report.packs_needed_again.is_empty());
    let snapshots = all_snapshots(&storage);
    assert_eq!(snapshots.len(), 3);
    let reused = contents(&first_generation());
    assert!(snapshots.values().any(|files| *files == reused));
    require_clean(&storage);
}

#[test]
fn a_prune_that_ends_while_another_repacks_is_noticed() {
    let (_, storage) = memory();
    generations(&storage);
    let before = all_snapshots(&storage);
    let repository = open(&storage);
    let now = jiff::Timestamp::now();
    let prepared = plan_at(&repository, thorough(), now).unwrap();
    let exclusive = || {
        let _other = prune(&storage, thorough());
        repository.lock(LockMode::Exclusive, owner("prune"), at(now))
    };
    let locks = PruneLocks {
        shared: &|| repository.lock(LockMode::Shared, owner("prune"), at(now)),
        exclusive: &exclusive,
    };
    let (counters, cancel) = (Counters::default(), Cancel::default());
    let refused = prepared.execute(&repository, &locks, &counters, &cancel);
    assert!(
        matches!(refused, Err(PruneError::StateChanged)),
        "{refused:?}"
    );
    require_spotless(&storage);
    assert!(all_snapshots(&storage) == before);
}

#[test]
fn a_writer_at_work_makes_prune_wait_only_before_the_sweep() {
    let (_, storage) = memory();
    generations(&storage);
    let before = all_snapshots(&storage);
    let repository = open(&storage);
    let writer = shared_lock(&repository);
    let refused = prune_at(&repository, thorough(), jiff::Timestamp::now());
    assert!(
        matches!(
            refused,
            Err(PruneError::Repository(RepositoryError::Locked { .. }))
        ),
        "{refused:?}"
    );
    drop(writer);
    require_clean(&storage);
    // What was repacked is not repacked again, but for what lies in the last of the new packs, which may be so small that
    // it goes before the old one it came from.
    let report = prune(&storage, thorough());
    assert!(report.packs_written <= 1, "{report:?}");
    assert!(report.packs_deleted > 0, "{report:?}");
    require_spotless(&storage);
    assert!(all_snapshots(&storage) == before);
}

#[test]
fn nothing_but_one_index_is_written_when_nothing_is_repacked() {
    let (_, storage) = memory();
    generations(&storage);
    let before = all_snapshots(&storage);
    let largest = storage.list(FileKind::Index).unwrap();
    let indexes: u64 = largest.iter().map(|file| file.size).sum();
    let counting = Arc::new(CountingStorage::new(Arc::clone(&storage)));
    let repository = open(&(Arc::clone(&counting) as SharedStorage));
    let options = PruneOptions {
        max_unused: MaxUnused::Unlimited,
        ..frugal()
    };
    let report = prune_at(&repository, options, jiff::Timestamp::now()).unwrap();
    assert!(report.packs_deleted > 0);
    let counts = counting.counts();
    assert_eq!(counts.of(Operation::Write, FileKind::Pack).calls, 0);
    assert_eq!(counts.of(Operation::Write, FileKind::Index).calls, 1);
    assert!(counts.of(Operation::Write, FileKind::Index).bytes < indexes);
    require_spotless(&storage);
    assert!(all_snapshots(&storage) == before);
}

#[test]
fn an_empty_repository_has_nothing_to_prune() {
    let (_, storage) = memory();
    drop(init(&storage, ChunkerChoice::Gear));
    assert!(
        plan_at(&open(&storage), thorough(), jiff::Timestamp::now())
            .unwrap()
            .plan()
            .is_empty()
    );
    let id = backup(&storage, &first_generation()).id;
    delete_snapshots(&storage, &[id]);
    let report = prune(&storage, frugal());
    assert!(report.packs_deleted > 0);
    assert_eq!(storage.list(FileKind::Pack).unwrap(), []);
    assert_eq!(storage.list(FileKind::Index).unwrap(), []);
    require_spotless(&storage);
}
