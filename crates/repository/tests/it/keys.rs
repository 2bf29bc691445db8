//! Opening, and keys.

use std::sync::Arc;

use refloat_model::secret::Secret;
use refloat_repository::escrow::{Escrow, EscrowError, KeyChoice};
use refloat_repository::format::key::KeyOrigin;
use refloat_repository::lock::{Lock, LockMode};
use refloat_repository::{ChunkerChoice, InitOptions, KeyId, Repository, RepositoryError};
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKey, FileKind, SharedStorage};

use crate::pruning::at;
use crate::support::*;

fn exclusive(repository: &Repository) -> Result<Lock, RepositoryError> {
    let now = jiff::Timestamp::now();
    repository.lock(LockMode::Exclusive, owner("key"), at(now))
}

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

/// A new master key would be written over what the lost config still opens.
#[test]
fn a_repository_that_lost_its_config_is_told_from_none_and_kept() {
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    drop(init(&storage, ChunkerChoice::Gear));
    storage.delete(&FileKey::CONFIG).unwrap();
    let init_with = |password: &str| {
        let options = InitOptions::default();
        Repository::init(Arc::clone(&storage), &Secret::new(password), options)
    };
    let is_lost = |result: Result<Repository, RepositoryError>, kind: FileKind| match result {
        Err(RepositoryError::LostConfig { holds, .. }) => assert_eq!(holds, kind),
        other => panic!("{kind:?}: {other:?}"),
    };
    // Its own password may repeat an `init` that left no more than this.
    is_lost(try_open(&storage, PASSWORD), FileKind::Key);
    is_lost(init_with("another"), FileKind::Key);
    for kind in [FileKind::Pack, FileKind::Index, FileKind::Snapshot] {
        storage
            .write(&FileKey::new(kind, [7; 32]), b"sealed")
            .unwrap();
        is_lost(try_open(&storage, PASSWORD), kind);
        is_lost(init_with(PASSWORD), kind);
    }
    assert_eq!(storage.list(FileKind::Key).unwrap().len(), 1);
    assert_eq!(storage.size(&FileKey::CONFIG).unwrap(), None);
    for kind in [FileKind::Pack, FileKind::Index, FileKind::Snapshot] {
        storage.delete(&FileKey::new(kind, [7; 32])).unwrap();
    }
    drop(init_with(PASSWORD).unwrap());
    drop(try_open(&storage, PASSWORD).unwrap());
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
    let lock = exclusive(&repository).unwrap();
    assert!(matches!(
        repository.remove_key(repository.key_id(), &lock),
        Err(RepositoryError::KeyInUse(_))
    ));
    let unknown = repository.remove_key(KeyId([0; 32]), &lock);
    assert!(matches!(
        unknown,
        Err(RepositoryError::NotFound { what: "key", .. })
    ));
    let changed = repository
        .change_password(&Secret::new("changed"), origin, &lock)
        .unwrap();
    assert!(matches!(
        try_open(&storage, PASSWORD),
        Err(RepositoryError::WrongPassword { .. })
    ));
    changed.remove_key(second, &lock).unwrap();
    assert_eq!(changed.keys().unwrap().len(), 1);
    assert!(changed.keys().unwrap()[0].current);
    drop(try_open(&storage, "changed").unwrap());
}

#[test]
fn two_removals_at_once_never_leave_no_key() {
    // Each run was opened with the key that the other one removes.
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    let first = init(&storage, ChunkerChoice::Gear);
    let _second = first
        .add_key(&Secret::new("second"), KeyOrigin::default())
        .unwrap();
    let second = try_open(&storage, "second").unwrap();
    let held = exclusive(&first).unwrap();
    assert!(matches!(
        exclusive(&second),
        Err(RepositoryError::Locked { .. })
    ));
    first.remove_key(second.key_id(), &held).unwrap();
    drop(held);
    let held = exclusive(&second).unwrap();
    assert!(matches!(
        second.remove_key(first.key_id(), &held),
        Err(RepositoryError::OnlyKey(_))
    ));
    drop(try_open(&storage, PASSWORD).unwrap());

    // A shared lock, which a colleague may hold at the same time, proves nothing.
    drop(held);
    let shared = shared_lock(&first);
    let _third = first
        .add_key(&Secret::new("third"), KeyOrigin::default())
        .unwrap();
    let third = try_open(&storage, "third").unwrap().key_id();
    assert!(matches!(
        first.remove_key(third, &shared),
        Err(RepositoryError::LostLock)
    ));
}

#[test]
fn the_last_key_that_opens_stays_when_the_one_in_use_was_damaged() {
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    let repository = init(&storage, ChunkerChoice::Gear);
    let other = repository
        .add_key(&Secret::new("other"), KeyOrigin::default())
        .unwrap();
    let own = FileKey::new(FileKind::Key, repository.key_id().0);
    storage.delete(&own).unwrap();
    storage.write(&own, b"{}").unwrap();
    let lock = exclusive(&repository).unwrap();
    assert!(matches!(
        repository.remove_key(other, &lock),
        Err(RepositoryError::OnlyKey(_))
    ));
    drop(try_open(&storage, "other").unwrap());
}

#[test]
fn an_escrow_brings_back_destroyed_keys_and_config_and_harms_nothing() {
    let memory = Arc::new(MemoryStorage::new());
    let storage: SharedStorage = Arc::clone(&memory) as SharedStorage;
    let repository = init(&storage, ChunkerChoice::Gear);
    let _second = repository
        .add_key(&Secret::new("second"), KeyOrigin::default())
        .unwrap();
    let files = Files::from([("a".to_owned(), (1, noise(5_000, 1)))]);
    let _id = backup(&storage, &files).id;
    let text = serde_json::to_vec(&Escrow::of(&repository).unwrap()).unwrap();
    let escrow = Escrow::parse(&text).unwrap();
    assert!(!String::from_utf8(text.clone()).unwrap().contains(PASSWORD));
    let put = |storage: &SharedStorage, password: &str| {
        escrow.put_back(storage, &Secret::new(password), KeyChoice::Opened)
    };

    // Nothing is wrong: nothing is written.
    let restored = put(&storage, PASSWORD).unwrap();
    assert_eq!((restored.keys.len(), restored.config), (0, false));

    // A2: whoever can write overwrites config and all keys.
    for file in storage.list(FileKind::Key).unwrap() {
        storage.delete(&file.key).unwrap();
        storage.write(&file.key, &[0; 300]).unwrap();
    }
    storage.delete(&FileKey::CONFIG).unwrap();
    storage.write(&FileKey::CONFIG, &[0; 200]).unwrap();
    assert!(try_open(&storage, PASSWORD).is_err());
    assert!(matches!(
        put(&storage, "wrong"),
        Err(EscrowError::WrongPassword)
    ));
    assert_eq!(
        storage.read(&FileKey::CONFIG).unwrap(),
        [0; 200],
        "not touched"
    );
    let restored = put(&storage, "second").unwrap();
    assert_eq!((restored.keys.len(), restored.config), (2, true));
    for password in [PASSWORD, "second"] {
        let repository = try_open(&storage, password)
            .unwrap()
            .into_indexed()
            .unwrap();
        let tree = newest_tree(&repository);
        assert_eq!(read_files(&repository, tree), contents(&files));
    }

    // Another repository is not overwritten, though nothing opens it.
    let other: SharedStorage = Arc::new(MemoryStorage::new());
    let options = InitOptions::default();
    drop(Repository::init(Arc::clone(&other), &Secret::new("unknown"), options).unwrap());
    let before = other.read(&FileKey::CONFIG).unwrap();
    assert!(matches!(
        put(&other, PASSWORD),
        Err(EscrowError::OtherRepository { .. })
    ));
    assert_eq!(other.read(&FileKey::CONFIG).unwrap(), before);
    for cut in [0, 1, 10, text.len() / 2, text.len() - 1] {
        assert!(Escrow::parse(&text[..cut]).is_err());
    }
}

/// Whoever imports after an accident cannot tell which keys were removed since the export, and by whom.
#[test]
fn keys_that_were_removed_come_back_only_when_all_are_asked_for() {
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    let repository = init(&storage, ChunkerChoice::Gear);
    let leaver = KeyOrigin {
        username: "leaver".to_owned(),
        ..KeyOrigin::default()
    };
    let removed = repository.add_key(&Secret::new("left"), leaver).unwrap();
    let escrow = Escrow::of(&repository).unwrap();
    let lock = exclusive(&repository).unwrap();
    repository.remove_key(removed, &lock).unwrap();
    drop(lock);

    let put = |choice| escrow.put_back(&storage, &Secret::new(PASSWORD), choice);
    let restored = put(KeyChoice::Opened).unwrap();
    assert_eq!((restored.keys, restored.config), (Vec::new(), false));
    let [left_out] = &restored.left_out[..] else {
        panic!("{:?}", restored.left_out);
    };
    assert_eq!(
        (left_out.id, &*left_out.origin.username),
        (removed, "leaver")
    );
    assert!(try_open(&storage, "left").is_err());

    let restored = put(KeyChoice::All).unwrap();
    assert_eq!(
        (restored.keys, restored.left_out),
        (vec![removed], Vec::new())
    );
    assert!(try_open(&storage, "left").is_ok());
}

/// A key of an `init` that died, and what somebody who may write put there under its right name.
#[test]
fn an_escrow_comes_back_whatever_else_lay_among_the_keys() {
    // Keys are tried in the order of their ids: ours shall not be among the first.
    let (storage, repository) = loop {
        let storage: SharedStorage = Arc::new(MemoryStorage::new());
        let repository = init(&storage, ChunkerChoice::Gear);
        if repository.key_id().0[0] >= 0x80 {
            break (storage, repository);
        }
    };
    let junk = |bytes: &[u8]| {
        let key = FileKey::new(FileKind::Key, refloat_repository::BlobId::of(bytes).0);
        storage.write(&key, bytes).unwrap();
    };
    let mut dead_keys = 0;
    loop {
        let other: SharedStorage = Arc::new(MemoryStorage::new());
        let dead = Repository::init(other, &Secret::new(PASSWORD), Default::default()).unwrap();
        let key = FileKey::new(FileKind::Key, dead.key_id().0);
        let bytes = dead.storage().read(&key).unwrap();
        junk(&bytes);
        // A key under another name is none.
        let renamed = FileKey::new(FileKind::Key, [dead_keys as u8; 32]);
        storage.write(&renamed, &bytes).unwrap();
        dead_keys += 1;
        if dead.key_id() < repository.key_id() {
            break;
        }
    }
    (0_u8..8).for_each(|byte| junk(&[byte; 40]));
    let escrow = Escrow::of(&repository).unwrap();
    assert_eq!(escrow.keys(), 1 + dead_keys, "what is no key is not taken");
    let put = |password| escrow.put_back(&storage, &Secret::new(password), KeyChoice::Opened);
    // A damaged config beside them is not taken for another repository's.
    storage.delete(&FileKey::CONFIG).unwrap();
    storage.write(&FileKey::CONFIG, &[0; 200]).unwrap();
    let restored = put(PASSWORD).unwrap();
    assert_eq!((restored.keys.len(), restored.config), (0, true));

    storage.delete(&FileKey::CONFIG).unwrap();
    for key in storage.list(FileKind::Key).unwrap() {
        storage.delete(&key.key).unwrap();
    }
    assert!(matches!(put("wrong"), Err(EscrowError::WrongPassword)));
    let restored = put(PASSWORD).unwrap();
    assert_eq!((restored.keys.len(), restored.config), (1, true));
    assert_eq!(open(&storage).config().id, repository.config().id);
}

#[test]
fn an_init_beside_keys_of_one_that_died_makes_a_repository_that_opens() {
    // Of the same password, as it is left before the config is written, and of another one that
    // lost a race for the config and died before it took its key away.
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    let leave_key = |password: &str| {
        let other: SharedStorage = Arc::new(MemoryStorage::new());
        let dead = Repository::init(other, &Secret::new(password), Default::default()).unwrap();
        let key = FileKey::new(FileKind::Key, dead.key_id().0);
        storage
            .write(&key, &dead.storage().read(&key).unwrap())
            .unwrap();
    };
    leave_key(PASSWORD);
    let made = init(&storage, ChunkerChoice::Gear);
    leave_key("another");
    assert_eq!(storage.list(FileKind::Key).unwrap().len(), 3);
    let again = open(&storage);
    assert_eq!(again.config().id, made.config().id);
    let files = Files::from([("a".to_owned(), (1, noise(10_000, 1)))]);
    let _saved = backup(&storage, &files);
    assert_eq!(
        read_files(&open(&storage).into_indexed().unwrap(), newest_tree(&again)),
        contents(&files)
    );
    // The key of the other dead one opens nothing.
    let refused = Repository::open(Arc::clone(&storage), &Secret::new("another"));
    assert!(refused.is_err(), "{refused:?}");
}
