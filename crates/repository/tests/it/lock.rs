//! Locks: who excludes whom, what is dead, and what restic sees.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use refloat_model::secret::Secret;
use refloat_model::time::Timestamp;
use refloat_repository::format::lock::LockFile;
use refloat_repository::lock::{Clock, LockMode, Repetition, Timekeeper, Work};
use refloat_repository::{ChunkerChoice, DeleterKey, InitOptions, Repository, RepositoryError};
use refloat_storage::local::LocalStorage;
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{
    FileKey, FileKind, Listed, Protection, SharedStorage, Storage, StorageError, StorageErrorKind,
};

use refloat_testkit::intercept::{Call, Intercepted};

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

/// Without our own lock in the listing nobody can tell the storage's time: a look by our clock, which
/// is ahead here, would take a living lock for dead.
#[test]
fn a_lock_that_a_listing_does_not_show_proves_nothing_and_buries_nobody() {
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    drop(init(&storage, ChunkerChoice::Gear));
    let others = open(&storage);
    let living = others
        .lock(LockMode::Exclusive, owner("living"), clock())
        .unwrap();
    let earlier = storage.list(FileKind::Lock).unwrap();
    let hiding = Arc::new(Retelling {
        inner: Arc::clone(&storage),
        retell: move |_| earlier.clone(),
    });
    let ours = open(&(hiding as SharedStorage));
    for mode in [LockMode::Shared, LockMode::Exclusive] {
        let refused = ours.lock(mode, owner("ours"), later(40));
        assert!(
            matches!(refused, Err(RepositoryError::LostLock)),
            "{refused:?}"
        );
    }
    living.prove().unwrap();
    assert_eq!(storage.list(FileKind::Lock).unwrap().len(), 1);
}

/// Storage that lists other locks than there are.
struct Retelling<F> {
    inner: SharedStorage,
    retell: F,
}

impl<F: Fn(Vec<Listed>) -> Vec<Listed> + Send + Sync> Storage for Retelling<F> {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn create(&self) -> Result<(), StorageError> {
        self.inner.create()
    }
    fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), StorageError> {
        self.inner.write(key, bytes)
    }
    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
        self.inner.read(key)
    }
    fn read_range(
        &self,
        key: &FileKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        self.inner.read_range(key, offset, length)
    }
    fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError> {
        self.inner.size(key)
    }
    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError> {
        match kind {
            FileKind::Lock => self.inner.list(kind).map(&self.retell),
            kind => self.inner.list(kind),
        }
    }
    fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        self.inner.delete(key)
    }
    fn connections(&self) -> usize {
        self.inner.connections()
    }
    fn settling(&self) -> Duration {
        self.inner.settling()
    }
    fn now(&self) -> Option<Timestamp> {
        self.inner.now()
    }
    fn protection(&self) -> Option<Protection> {
        None
    }
    fn protected_until(&self, _key: &FileKey) -> Result<Option<Timestamp>, StorageError> {
        Ok(None)
    }
    fn protect_until(&self, key: &FileKey, until: Timestamp) -> Result<(), StorageError> {
        self.inner.protect_until(key, until)
    }
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
        refloat_voucher: None,
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
    let storage = Arc::clone(&memory) as SharedStorage;
    let repository = init(&storage, ChunkerChoice::Gear);
    // Dead by its own clock, but its file is new: its holder's clock may be wrong.
    write_lock(&repository, now - jiff::SignedDuration::from_hours(5), true);
    let refused = repository.lock(LockMode::Shared, owner("a"), clock());
    assert!(matches!(refused, Err(RepositoryError::Locked { .. })));
    // Our clock alone does not make it old: the storage's says that no time passed.
    let refused = repository.lock(LockMode::Exclusive, owner("a"), later(31));
    assert!(matches!(refused, Err(RepositoryError::Locked { .. })));
    assert_eq!(storage.list(FileKind::Lock).unwrap().len(), 1);
    // Thirty-one minutes later its file is old as well.
    memory.set_clock((now + jiff::SignedDuration::from_mins(31)).into());
    let lock = repository
        .lock(LockMode::Exclusive, owner("a"), later(31))
        .unwrap();
    assert_eq!(storage.list(FileKind::Lock).unwrap().len(), 1);
    drop(lock);
    // A lock from the future lives as long as its file is young, and no longer.
    let future = now + jiff::SignedDuration::from_hours(5);
    write_lock(&repository, future, false);
    let refused = repository.lock(LockMode::Exclusive, owner("a"), later(31));
    assert!(matches!(refused, Err(RepositoryError::Locked { .. })));
    memory.set_clock((now + jiff::SignedDuration::from_mins(62)).into());
    drop(
        repository
            .lock(LockMode::Exclusive, owner("a"), later(62))
            .unwrap(),
    );
    assert_eq!(storage.list(FileKind::Lock).unwrap(), []);
}

/// The storage as one that answers some calls on locks with an error.
fn refusing(
    storage: &SharedStorage,
    refuses: impl Fn(Call) -> Option<StorageErrorKind> + Send + Sync + 'static,
) -> Repository {
    let gate = move |call: Call| {
        let (Call::Read(key) | Call::Delete(key)) = call else {
            return Ok(());
        };
        match refuses(call).filter(|_| key.kind() == FileKind::Lock) {
            Some(kind) => Err(StorageError::new(kind, "reach", &key, "here", None)),
            None => Ok(()),
        }
    };
    let storage: SharedStorage = Arc::new(Intercepted::new(Arc::clone(storage), Box::new(gate)));
    open(&storage)
}

#[test]
fn a_lock_that_is_listed_counts_though_the_storage_says_that_it_is_not_there() {
    let (storage, repository) = repository();
    for mode in [LockMode::Shared, LockMode::Exclusive] {
        let held = repository.lock(mode, owner("a"), clock()).unwrap();
        let file = storage.list(FileKind::Lock).unwrap()[0].key;
        let blind = refusing(&storage, move |call| match call {
            Call::Read(key) => (key == file).then_some(StorageErrorKind::NotFound),
            _ => None,
        });
        // Writers pass over what a listing that lags may show.
        drop(blind.lock(LockMode::Shared, owner("b"), clock()).unwrap());
        {
            let refused = blind.lock(LockMode::Exclusive, owner("b"), clock());
            let refused = refused.unwrap_err();
            assert!(
                matches!(refused, RepositoryError::Locked { .. }),
                "{refused:?}"
            );
        }
        drop(held);
        drop(
            blind
                .lock(LockMode::Exclusive, owner("b"), clock())
                .unwrap(),
        );
    }
}

#[test]
fn where_files_have_no_times_the_storage_s_own_moment_outweighs_a_clock_that_is_ahead() {
    let memory = Arc::new(MemoryStorage::new());
    let storage = Arc::clone(&memory) as SharedStorage;
    drop(init(&storage, ChunkerChoice::Gear));
    // As a REST server: it lists no times, and each of its answers tells the moment.
    let timeless = |listed: Vec<Listed>| {
        let without = |file: Listed| Listed {
            modified: None,
            ..file
        };
        listed.into_iter().map(without).collect()
    };
    let repository = open(
        &(Arc::new(Retelling {
            inner: Arc::clone(&storage),
            retell: timeless,
        }) as SharedStorage),
    );
    let now = jiff::Timestamp::now();
    write_lock(&repository, now, false);
    assert_eq!(storage.list(FileKind::Lock).unwrap()[0].modified, None);
    let in_minutes = |minutes| now + jiff::SignedDuration::from_mins(minutes);
    for (storage_minutes, our_minutes, is_dead) in [(3, 31, false), (31, 3, false), (31, 31, true)]
    {
        memory.set_clock(in_minutes(storage_minutes).into());
        let taken = repository.lock(
            LockMode::Exclusive,
            owner("a"),
            Hands::at(in_minutes(our_minutes)).clock(),
        );
        match taken {
            Ok(_) => assert!(is_dead, "{storage_minutes}, {our_minutes}"),
            Err(RepositoryError::Locked { .. }) => assert!(!is_dead),
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_dead_lock_that_nobody_may_delete_keeps_nobody_out() {
    let memory = Arc::new(MemoryStorage::new());
    let now = jiff::Timestamp::now();
    memory.set_clock(now.into());
    let storage = Arc::clone(&memory) as SharedStorage;
    write_lock(&init(&storage, ChunkerChoice::Gear), now, true);
    let dead = storage.list(FileKind::Lock).unwrap()[0].key;
    memory.set_clock((now + jiff::SignedDuration::from_mins(31)).into());
    let repository = refusing(&storage, move |call| match call {
        Call::Delete(key) => (key == dead).then_some(StorageErrorKind::Denied),
        _ => None,
    });
    for mode in [LockMode::Shared, LockMode::Exclusive] {
        drop(repository.lock(mode, owner("a"), later(31)).unwrap());
    }
    let left: Vec<_> = storage.list(FileKind::Lock).unwrap();
    assert_eq!(left.iter().map(|file| file.key).collect::<Vec<_>>(), [dead]);
}

/// Whatever lies below `locks/` and is not sealed by the repository's key anybody may have put there.
#[test]
fn what_the_key_does_not_open_keeps_no_writer_out_and_no_deleter_in() {
    let memory = Arc::new(MemoryStorage::new());
    let now = jiff::Timestamp::now();
    memory.set_clock(now.into());
    let storage = Arc::clone(&memory) as SharedStorage;
    let repository = init(&storage, ChunkerChoice::Gear);
    let put = |bytes: &[u8], name: Option<[u8; 32]>| {
        let id = name.unwrap_or_else(|| refloat_repository::id::sha256(bytes));
        storage
            .write(&FileKey::new(FileKind::Lock, id), bytes)
            .unwrap();
    };
    put(b"", None);
    put(&[7; 300], None);
    put(&vec![1; 1 << 20], None);
    put(b"torn", Some([9; 32]));
    // It may be on its way, so whoever deletes waits.
    let refused = repository.lock(LockMode::Exclusive, owner("d"), clock());
    assert!(
        matches!(refused, Err(RepositoryError::Locked { .. })),
        "{refused:?}"
    );
    let foreign: SharedStorage = Arc::new(MemoryStorage::new());
    let other = init(&foreign, ChunkerChoice::Gear);
    write_lock(&other, now, true);
    for listed in foreign.list(FileKind::Lock).unwrap() {
        put(&foreign.read(&listed.key).unwrap(), None);
    }
    for number in 0..50_u8 {
        put(&[number; 64], None);
    }
    let lock = repository
        .lock(LockMode::Shared, owner("a"), clock())
        .unwrap();
    lock.prove().unwrap();
    assert_eq!(lock.passed_over(), 0);
    // One that is torn now may be whole a moment later.
    write_lock(&repository, now, true);
    let locks = storage.list(FileKind::Lock).unwrap();
    assert!(matches!(lock.prove(), Err(RepositoryError::Locked { .. })));
    drop(lock);
    assert_eq!(locks.len(), 57, "nothing that is young was deleted");
}

#[test]
fn a_lock_that_is_torn_at_first_counts_once_it_is_whole() {
    let (storage, repository) = repository();
    write_lock(&repository, jiff::Timestamp::now(), true);
    let key = storage.list(FileKind::Lock).unwrap()[0].key;
    let whole = storage.read(&key).unwrap();
    storage.delete(&key).unwrap();
    storage.write(&key, &whole[..9]).unwrap();
    let lock = repository
        .lock(LockMode::Shared, owner("a"), clock())
        .unwrap();
    lock.prove().unwrap();
    storage.delete(&key).unwrap();
    storage.write(&key, &whole).unwrap();
    assert!(matches!(lock.prove(), Err(RepositoryError::Locked { .. })));
}

/// Somebody changed the lock of a run that deletes: writers may have passed over it.
#[test]
fn an_exclusive_lock_that_cannot_be_read_any_more_proves_nothing() {
    let (storage, repository) = repository();
    let lock = repository
        .lock(LockMode::Exclusive, owner("a"), clock())
        .unwrap();
    lock.prove_exclusive().unwrap();
    let key = storage.list(FileKind::Lock).unwrap()[0].key;
    storage.delete(&key).unwrap();
    storage.write(&key, b"junk").unwrap();
    assert!(matches!(
        lock.prove_exclusive(),
        Err(RepositoryError::LostLock)
    ));
}

/// A5: with a deleter key, no lock of whoever holds a writer's credentials and the password keeps
/// writers out; a deleter's does, and without the key nobody deletes.
#[test]
fn only_a_deleters_lock_keeps_writers_out() {
    let memory = Arc::new(MemoryStorage::new());
    let now = jiff::Timestamp::now();
    memory.set_clock(now.into());
    let storage = Arc::clone(&memory) as SharedStorage;
    let (key, text) = DeleterKey::generate().unwrap();
    let options = InitOptions {
        deleter: Some(key.public()),
        ..InitOptions::default()
    };
    drop(Repository::init(Arc::clone(&storage), &Secret::new(PASSWORD), options).unwrap());
    let key = || DeleterKey::parse(&text).unwrap();
    let (writer, deleter) = (open(&storage), open(&storage).with_deleter(key()));
    let refused = writer.lock(LockMode::Exclusive, owner("thief"), clock());
    assert!(matches!(refused, Err(RepositoryError::NotDeleter)));
    let stranger = open(&storage).with_deleter(DeleterKey::generate().unwrap().0);
    let refused = stranger.lock(LockMode::Exclusive, owner("thief"), clock());
    assert!(matches!(refused, Err(RepositoryError::NotDeleter)));

    // The flood.
    for _ in 0..30 {
        write_lock(&writer, now, true);
    }
    let lock = writer.lock(LockMode::Shared, owner("a"), clock()).unwrap();
    lock.prove().unwrap();
    assert_eq!(lock.passed_over(), 30);
    drop(lock);
    // Nobody is deleted from under them: whoever deletes waits until the flood is cleared.
    let refused = deleter.lock(LockMode::Exclusive, owner("d"), clock());
    assert!(matches!(refused, Err(RepositoryError::Locked { .. })));
    for listed in storage.list(FileKind::Lock).unwrap() {
        storage.delete(&listed.key).unwrap();
    }

    let exclusive = deleter
        .lock(LockMode::Exclusive, owner("d"), clock())
        .unwrap();
    exclusive.prove_exclusive().unwrap();
    let refused = writer.lock(LockMode::Shared, owner("a"), clock());
    assert!(matches!(refused, Err(RepositoryError::Locked { .. })));
    // Stored again later, it keeps nobody out.
    let file = storage.list(FileKind::Lock).unwrap()[0].key;
    let bytes = storage.read(&file).unwrap();
    drop(exclusive);
    memory.set_clock((now + jiff::SignedDuration::from_mins(16)).into());
    storage.write(&file, &bytes).unwrap();
    drop(
        writer
            .lock(LockMode::Shared, owner("a"), later(16))
            .unwrap(),
    );

    // A deleter whose clock would make its lock look like such a one deletes nothing.
    for listed in storage.list(FileKind::Lock).unwrap() {
        storage.delete(&listed.key).unwrap();
    }
    let refused = deleter.lock(LockMode::Exclusive, owner("d"), later(40));
    assert!(
        matches!(
            refused,
            Err(RepositoryError::DeleterClock { minutes: 24 | 23 })
        ),
        "{refused:?}"
    );
    assert_eq!(storage.list(FileKind::Lock).unwrap(), []);
}

/// A clock that refreshes when asked to.
struct Manual {
    now: std::sync::Mutex<jiff::Timestamp>,
    work: std::sync::Mutex<Vec<Work>>,
}

struct Registered;
impl Repetition for Registered {}

impl Timekeeper for Manual {
    fn now(&self) -> jiff::Timestamp {
        *self.now.lock().unwrap()
    }
    fn sleep(&self, _duration: std::time::Duration) {}
    fn every(
        &self,
        _period: std::time::Duration,
        work: Work,
    ) -> std::io::Result<Box<dyn Repetition>> {
        self.work.lock().unwrap().push(work);
        Ok(Box::new(Registered))
    }
}

#[test]
fn a_refresh_whose_deletion_fails_leaves_no_lock_behind() {
    for mode in [LockMode::Shared, LockMode::Exclusive] {
        let refusing = Arc::new(AtomicBool::new(false));
        let refuses = |yes| refusing.store(yes, Ordering::SeqCst);
        let asked = Arc::clone(&refusing);
        let gate = move |call| match call {
            Call::Delete(key) if asked.load(Ordering::SeqCst) => {
                let kind = StorageErrorKind::Unavailable;
                Err(StorageError::new(kind, "delete", &key, "here", None))
            }
            _ => Ok(()),
        };
        let inner: SharedStorage = Arc::new(MemoryStorage::new());
        let storage: SharedStorage = Arc::new(Intercepted::new(inner, Box::new(gate)));
        let repository = init(&storage, ChunkerChoice::Gear);
        let clock = Arc::new(Manual {
            now: std::sync::Mutex::new(jiff::Timestamp::now()),
            work: std::sync::Mutex::default(),
        });
        let lock = repository
            .lock(mode, owner("a"), Arc::clone(&clock) as Clock)
            .unwrap();
        let locks = || storage.list(FileKind::Lock).unwrap().len();
        let refresh = || {
            *clock.now.lock().unwrap() += jiff::SignedDuration::from_mins(5);
            clock.work.lock().unwrap()[0]();
        };
        refuses(true);
        refresh();
        refresh();
        assert_eq!(locks(), 3);
        // Its own remains do not exclude it.
        lock.prove().unwrap();
        refuses(false);
        refresh();
        assert_eq!(
            locks(),
            1,
            "the next refresh deletes what the last ones could not"
        );
        refuses(true);
        refresh();
        assert_eq!(locks(), 2);
        refuses(false);
        drop(lock);
        assert_eq!(locks(), 0, "and so does the end of the run");
    }
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
