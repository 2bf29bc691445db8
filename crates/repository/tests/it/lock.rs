//! Locks: who excludes whom, what is dead, and what restic sees.

use std::sync::Arc;

use refloat_repository::format::lock::LockFile;
use refloat_repository::lock::{Clock, LockMode};
use refloat_repository::{ChunkerChoice, Repository, RepositoryError};
use refloat_storage::local::LocalStorage;
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKind, SharedStorage};

use crate::support::*;

fn repository() -> (SharedStorage, Repository) {
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    let repository = init(&storage, ChunkerChoice::Gear);
    (storage, repository)
}

fn later(minutes: i64) -> Clock {
    Arc::new(move || jiff::Timestamp::now() + jiff::SignedDuration::from_mins(minutes))
}

#[test]
fn shared_locks_stand_together_and_exclusive_ones_alone() {
    let (storage, repository) = repository();
    let first = repository
        .lock(LockMode::Shared, owner("a"), clock())
        .unwrap();
    let second = repository
        .lock(LockMode::Shared, owner("b"), clock())
        .unwrap();
    let refused = repository.lock(LockMode::Exclusive, owner("c"), clock());
    assert!(matches!(refused, Err(RepositoryError::Locked { .. })));
    drop((first, second));
    let exclusive = repository
        .lock(LockMode::Exclusive, owner("c"), clock())
        .unwrap();
    for mode in [LockMode::Shared, LockMode::Exclusive] {
        let refused = repository.lock(mode, owner("d"), clock());
        assert!(matches!(refused, Err(RepositoryError::Locked { .. })));
    }
    drop(exclusive);
    assert_eq!(storage.list(FileKind::Lock).unwrap(), []);
}

#[test]
fn a_lock_that_is_gone_or_old_or_excluded_proves_nothing() {
    let (storage, repository) = repository();
    let lock = repository
        .lock(LockMode::Shared, owner("a"), clock())
        .unwrap();
    lock.prove().unwrap();
    for listed in storage.list(FileKind::Lock).unwrap() {
        storage.delete(&listed.key).unwrap();
    }
    assert!(matches!(lock.prove(), Err(RepositoryError::LostLock)));
    drop(lock);

    let time = Arc::new(std::sync::Mutex::new(jiff::Timestamp::now()));
    let injected: Clock = Arc::new({
        let time = Arc::clone(&time);
        move || *time.lock().unwrap()
    });
    let lock = repository
        .lock(LockMode::Shared, owner("a"), injected)
        .unwrap();
    *time.lock().unwrap() += jiff::SignedDuration::from_mins(23);
    assert!(matches!(lock.prove(), Err(RepositoryError::LostLock)));
    drop(lock);

    let lock = repository
        .lock(LockMode::Shared, owner("a"), clock())
        .unwrap();
    write_lock(&repository, jiff::Timestamp::now(), true);
    assert!(matches!(lock.prove(), Err(RepositoryError::Locked { .. })));
}

fn write_lock(repository: &Repository, time: jiff::Timestamp, exclusive: bool) {
    let lock = LockFile {
        time,
        exclusive,
        hostname: "other".into(),
        username: "x".into(),
        pid: 1,
        uid: 0,
        gid: 0,
    };
    let _file = repository
        .write_json(FileKind::Lock, "a lock", &lock)
        .unwrap();
}

#[test]
fn a_dead_lock_is_taken_over_and_a_living_one_is_not() {
    let memory = Arc::new(MemoryStorage::new());
    let now = jiff::Timestamp::now();
    memory.set_clock(now.into());
    let storage: SharedStorage = memory;
    let repository = init(&storage, ChunkerChoice::Gear);
    // Dead by its own clock, but its file is new: its holder's clock may be wrong.
    write_lock(&repository, now - jiff::SignedDuration::from_hours(5), true);
    let refused = repository.lock(LockMode::Shared, owner("a"), clock());
    assert!(matches!(refused, Err(RepositoryError::Locked { .. })));
    // Thirty-one minutes later its file is old as well.
    let lock = repository
        .lock(LockMode::Exclusive, owner("a"), later(31))
        .unwrap();
    assert_eq!(storage.list(FileKind::Lock).unwrap().len(), 1);
    drop(lock);
    // A lock from the future is not dead.
    write_lock(
        &repository,
        now + jiff::SignedDuration::from_hours(5),
        false,
    );
    let refused = repository.lock(LockMode::Exclusive, owner("a"), later(31));
    assert!(matches!(refused, Err(RepositoryError::Locked { .. })));
}

#[test]
fn restic_sees_our_locks_and_we_see_its() {
    if !has_restic() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let storage: SharedStorage = Arc::new(LocalStorage::new(folder.path()));
    let repository = init(&storage, ChunkerChoice::Rabin);
    let lock = repository
        .lock(LockMode::Shared, owner("run"), clock())
        .unwrap();
    let refused = restic(folder.path(), &["prune"]).unwrap_err();
    assert!(refused.contains("already locked by"), "{refused}");
    // restic removes locks of dead processes of its own host by itself; ours must survive that.
    let _list = restic(folder.path(), &["list", "locks"]).unwrap();
    let _unlocked = restic(folder.path(), &["unlock"]).unwrap();
    lock.prove().unwrap();
    drop(lock);
    let _pruned = restic(folder.path(), &["prune"]).unwrap();
}
