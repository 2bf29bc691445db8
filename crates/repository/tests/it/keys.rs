//! Opening, and keys.

use std::sync::Arc;

use refloat_model::secret::Secret;
use refloat_repository::format::key::KeyOrigin;
use refloat_repository::{ChunkerChoice, InitOptions, KeyId, Repository, RepositoryError};
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKey, FileKind, SharedStorage};

use crate::support::*;

fn try_open(storage: &SharedStorage, password: &str) -> Result<Repository, RepositoryError> {
    Repository::open(Arc::clone(storage), &Secret::new(password))
}

#[test]
fn what_cannot_be_opened_says_why() {
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    assert!(matches!(
        try_open(&storage, "x"),
        Err(RepositoryError::NoRepository { .. })
    ));
    drop(init(&storage, ChunkerChoice::Gear));
    assert!(matches!(
        try_open(&storage, "x"),
        Err(RepositoryError::WrongPassword { .. })
    ));
    let again = Repository::init(
        Arc::clone(&storage),
        &Secret::new("x"),
        InitOptions::default(),
    );
    assert!(matches!(
        again,
        Err(RepositoryError::AlreadyInitialized { .. })
    ));
    for key in storage.list(FileKind::Key).unwrap() {
        storage.delete(&key.key).unwrap();
        storage.write(&key.key, b"{}").unwrap();
    }
    assert!(matches!(
        try_open(&storage, PASSWORD),
        Err(RepositoryError::DamagedFile { .. })
    ));
}

#[test]
fn a_repository_of_a_newer_version_is_refused_before_anything_else_is_read() {
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    let repository = init(&storage, ChunkerChoice::Gear);
    let newer = repository
        .codec()
        .cipher()
        .seal(br#"{"version":3,"future":true}"#)
        .unwrap();
    storage.delete(&FileKey::CONFIG).unwrap();
    storage.write(&FileKey::CONFIG, &newer).unwrap();
    let refused = try_open(&storage, PASSWORD);
    assert!(matches!(
        refused,
        Err(RepositoryError::UnsupportedVersion { version: 3, .. })
    ));
}

#[test]
fn keys_are_added_changed_and_removed_but_never_the_last() {
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    let repository = init(&storage, ChunkerChoice::Gear);
    let origin = KeyOrigin::default();
    let second = repository
        .add_key(&Secret::new("second"), origin.clone())
        .unwrap();
    assert_eq!(try_open(&storage, "second").unwrap().key_id(), second);
    assert!(matches!(
        repository.remove_key(repository.key_id()),
        Err(RepositoryError::KeyInUse(_))
    ));
    let unknown = repository.remove_key(KeyId([0; 32]));
    assert!(matches!(
        unknown,
        Err(RepositoryError::NotFound { what: "key", .. })
    ));
    let changed = repository
        .change_password(&Secret::new("changed"), origin)
        .unwrap();
    assert!(matches!(
        try_open(&storage, PASSWORD),
        Err(RepositoryError::WrongPassword { .. })
    ));
    changed.remove_key(second).unwrap();
    assert_eq!(changed.keys().unwrap().len(), 1);
    assert!(changed.keys().unwrap()[0].current);
    drop(try_open(&storage, "changed").unwrap());
}
