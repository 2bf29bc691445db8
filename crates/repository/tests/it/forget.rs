//! Forget: deletes what it is told, oldest first, and tells what became of each.

use std::sync::Arc;

use refloat_repository::forget::{ForgetOutcome, forget};
use refloat_repository::{ChunkerChoice, SnapshotId};
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKey, FileKind, SharedStorage, StorageErrorKind};
use refloat_testkit::faults::{FaultPlan, FaultyStorage, Mutation, MutationFault};

use crate::oracle::*;
use crate::support::*;

fn three() -> (SharedStorage, Vec<SnapshotId>) {
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    drop(init(&storage, ChunkerChoice::Gear));
    let files = |number: u8| Files::from([(format!("f{number}"), (1, vec![number; 1000]))]);
    let ids = (0..3).map(|number| backup(&storage, &files(number)).id);
    let ids = ids.collect();
    (storage, ids)
}

#[test]
fn snapshots_go_oldest_first_and_nothing_else_goes() {
    let (storage, ids) = three();
    let packs = stored_bytes(&storage, FileKind::Pack);
    let faulty = Arc::new(FaultyStorage::new(
        Arc::clone(&storage),
        FaultPlan::default(),
    ));
    let repository = open(&(Arc::clone(&faulty) as SharedStorage));
    let lock = shared_lock(&repository);
    let unknown = SnapshotId([1; 32]);
    let outcomes = forget(&repository, &lock, &[ids[1], unknown, ids[0], ids[1]]).unwrap();
    let expected = [
        (unknown, ForgetOutcome::Gone),
        (ids[0], ForgetOutcome::Deleted),
        (ids[1], ForgetOutcome::Deleted),
    ];
    assert_eq!(outcomes, expected);
    drop(lock);
    let mutations = faulty.mutations();
    let snapshot = |id: SnapshotId| Mutation::Delete(FileKey::new(FileKind::Snapshot, id.0));
    assert_eq!(mutations[1..3], [snapshot(ids[0]), snapshot(ids[1])]);
    assert_eq!(mutations.len(), 4, "the lock comes and goes: {mutations:?}");
    let left: Vec<_> = all_snapshots(&storage).into_keys().collect();
    assert_eq!(left, [ids[2]]);
    assert_eq!(stored_bytes(&storage, FileKind::Pack), packs);
    require_spotless(&storage);
}

#[test]
fn what_storage_keeps_is_told_and_is_no_error() {
    let (storage, ids) = three();
    let mutation = Some(MutationFault::refuse_once(2, StorageErrorKind::Denied));
    let plan = FaultPlan {
        mutation,
        ..FaultPlan::default()
    };
    let faulty: SharedStorage = Arc::new(FaultyStorage::new(Arc::clone(&storage), plan));
    let repository = open(&faulty);
    let lock = shared_lock(&repository);
    let outcomes = forget(&repository, &lock, &ids[..2]).unwrap();
    let expected = [
        (ids[0], ForgetOutcome::Kept),
        (ids[1], ForgetOutcome::Deleted),
    ];
    assert_eq!(outcomes, expected);
}

#[test]
fn a_damaged_snapshot_can_be_forgotten() {
    let (storage, ids) = three();
    let file = FileKey::new(FileKind::Snapshot, ids[1].0);
    storage.delete(&file).unwrap();
    storage.write(&file, b"junk").unwrap();
    let repository = open(&storage);
    let lock = shared_lock(&repository);
    let outcomes = forget(&repository, &lock, &ids[1..2]).unwrap();
    assert_eq!(outcomes, [(ids[1], ForgetOutcome::Deleted)]);
    drop(lock);
    require_spotless(&storage);
}

#[test]
fn without_its_lock_nothing_is_deleted() {
    let (storage, ids) = three();
    let repository = open(&storage);
    let lock = shared_lock(&repository);
    for listed in storage.list(FileKind::Lock).unwrap() {
        storage.delete(&listed.key).unwrap();
    }
    let refused = forget(&repository, &lock, &ids);
    assert!(matches!(
        refused,
        Err(refloat_repository::RepositoryError::LostLock)
    ));
    assert_eq!(storage.list(FileKind::Snapshot).unwrap().len(), 3);
}
