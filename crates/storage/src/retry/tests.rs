//! Retrying against a scripted storage and a clock that only sleeping moves.

use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::counting::{CountingStorage, Operation};
use crate::memory::MemoryStorage;

const PACK: FileKey = FileKey::new(FileKind::Pack, [7; 32]);
const SECOND: Duration = Duration::from_secs(1);

/// Fails with the scripted kinds, one per call, then passes calls on. A scripted failure marked
/// as done passes the call on and still reports an error, as a lost answer does. All ask for the same wait.
struct ScriptedStorage {
    inner: SharedStorage,
    script: Mutex<VecDeque<(StorageErrorKind, bool)>>,
    asks_to_wait: Option<Duration>,
}

impl ScriptedStorage {
    fn next<T>(&self, call: impl FnOnce() -> Result<T, StorageError>) -> Result<T, StorageError> {
        match self.script.lock().unwrap().pop_front() {
            None => call(),
            Some((kind, is_done)) => {
                if is_done {
                    call()?;
                }
                let error = StorageError::on(kind, "reach", "it", "script", None);
                Err(error.asking_to_wait(self.asks_to_wait))
            }
        }
    }
}

impl Storage for ScriptedStorage {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn create(&self) -> Result<(), StorageError> {
        self.next(|| self.inner.create())
    }
    fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), StorageError> {
        self.next(|| self.inner.write(key, bytes))
    }
    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
        self.next(|| self.inner.read(key))
    }
    fn read_range(&self, key: &FileKey, at: u64, length: usize) -> Result<Vec<u8>, StorageError> {
        self.next(|| self.inner.read_range(key, at, length))
    }
    fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError> {
        self.next(|| self.inner.size(key))
    }
    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError> {
        self.next(|| self.inner.list(kind))
    }
    fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        self.next(|| self.inner.delete(key))
    }
    fn connections(&self) -> usize {
        2
    }
    fn settling(&self) -> Duration {
        Duration::ZERO
    }
    fn protection(&self) -> Option<Protection> {
        self.inner.protection()
    }
    fn protected_until(&self, key: &FileKey) -> Result<Option<Timestamp>, StorageError> {
        self.next(|| self.inner.protected_until(key))
    }
    fn protect_until(&self, key: &FileKey, until: Timestamp) -> Result<(), StorageError> {
        self.next(|| self.inner.protect_until(key, until))
    }
}

/// Draws a fixed fraction; sleeping moves the clock and is recorded.
struct TestWorld {
    fraction: f64,
    sleeps_max: usize,
    slept: Mutex<Vec<Duration>>,
}

impl RetryWorld for TestWorld {
    fn now(&self) -> Duration {
        self.slept.lock().unwrap().iter().sum()
    }
    fn random_fraction(&self) -> f64 {
        self.fraction
    }
    fn sleep(&self, pause: Duration) -> bool {
        let mut slept = self.slept.lock().unwrap();
        slept.push(pause);
        slept.len() <= self.sleeps_max
    }
}

struct Setup {
    storage: RetryStorage,
    counting: Arc<CountingStorage>,
    world: Arc<TestWorld>,
}

impl Setup {
    fn new(script: &[(StorageErrorKind, bool)], limits: RetryLimits) -> Self {
        Self::of(script, None, limits)
    }

    fn of(
        script: &[(StorageErrorKind, bool)],
        asks_to_wait: Option<Duration>,
        limits: RetryLimits,
    ) -> Self {
        let memory = Arc::new(MemoryStorage::new());
        memory.write(&PACK, b"12345").unwrap();
        let scripted = Arc::new(ScriptedStorage {
            inner: memory,
            script: Mutex::new(script.iter().copied().collect()),
            asks_to_wait,
        });
        let counting = Arc::new(CountingStorage::new(scripted));
        let world = Arc::new(TestWorld {
            fraction: 0.5,
            sleeps_max: usize::MAX,
            slept: Mutex::default(),
        });
        Self {
            storage: RetryStorage::new(Arc::clone(&counting) as _, limits, Arc::clone(&world) as _),
            counting,
            world,
        }
    }

    fn slept(&self) -> Vec<Duration> {
        self.world.slept.lock().unwrap().clone()
    }
}

const LIMITS: RetryLimits = RetryLimits {
    attempts_max: 5,
    first_pause_max: Duration::from_secs(2),
    pause_max: Duration::from_secs(6),
    deadline: Duration::from_mins(1),
    first_deadline: Duration::from_mins(1),
};

const UNAVAILABLE: (StorageErrorKind, bool) = (StorageErrorKind::Unavailable, false);

#[test]
fn pauses_double_up_to_their_bound_until_success() {
    let setup = Setup::new(&[UNAVAILABLE; 4], LIMITS);
    assert_eq!(setup.storage.read(&PACK).unwrap(), b"12345");
    assert_eq!(setup.slept(), [SECOND, SECOND * 2, SECOND * 3, SECOND * 3]);
}

#[test]
fn what_is_read_into_memory_is_tried_again_like_all_else() {
    let setup = Setup::new(&[UNAVAILABLE; 2], LIMITS);
    let mut memory = *b"??";
    setup
        .storage
        .read_range_into(&PACK, 1, &mut memory)
        .unwrap();
    assert_eq!(&memory, b"23");
    assert_eq!(setup.slept(), [SECOND, SECOND * 2]);
    assert_eq!(setup.counting.counts().calls_of(Operation::Read), 3);
}

#[test]
fn attempts_are_limited() {
    let setup = Setup::new(&[UNAVAILABLE; 6], LIMITS);
    let error = setup.storage.list(FileKind::Pack).unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unavailable);
    assert_eq!(setup.counting.counts().calls_of(Operation::List), 5);
}

#[test]
fn errors_that_stay_are_not_tried_again() {
    use StorageErrorKind::{AlreadyExists, Denied, Failed, Full, NotFound};
    for kind in [NotFound, AlreadyExists, Denied, Full, Failed] {
        let setup = Setup::new(&[(kind, false)], LIMITS);
        assert_eq!(setup.storage.read(&PACK).unwrap_err().kind(), kind);
        assert_eq!(setup.slept(), []);
    }
}

#[test]
fn no_attempt_starts_after_the_deadline() {
    let limits = RetryLimits {
        attempts_max: u32::MAX,
        deadline: SECOND * 7,
        first_deadline: SECOND * 2,
        ..LIMITS
    };
    let setup = Setup::new(&[UNAVAILABLE; 100], limits);
    setup.storage.delete(&PACK).unwrap_err();
    assert_eq!(setup.slept(), [SECOND], "nothing answered yet");
    setup.storage.reached.store(true, Ordering::Relaxed);
    setup.world.slept.lock().unwrap().clear();
    setup.storage.delete(&PACK).unwrap_err();
    // 1 + 2 + 3 seconds are spent; 3 more would pass the deadline.
    assert_eq!(setup.slept(), [SECOND, SECOND * 2, SECOND * 3]);
}

#[test]
fn what_a_storage_asks_to_wait_comes_before_the_pause() {
    let throttled = (StorageErrorKind::Busy, false);
    let slept = |asked: u32, deadline: Duration| {
        let limits = RetryLimits { deadline, ..LIMITS };
        let setup = Setup::of(&[throttled; 2], Some(SECOND * asked), limits);
        assert_eq!(setup.storage.read(&PACK).unwrap(), b"12345");
        setup.slept()
    };
    let minute = SECOND * 60;
    // Longer than any pause of ours may be.
    assert_eq!(slept(10, minute), [SECOND * 11, SECOND * 12]);
    assert_eq!(slept(0, minute), [SECOND, SECOND * 2]);
    // A box in between that asks for more than there is time for does not end a backup.
    assert_eq!(slept(86_400, minute), [SECOND, SECOND * 2]);
    assert_eq!(slept(59, minute), [SECOND, SECOND * 2]);
}

/// Breaks the first bytes of the first reads.
struct Breaking(MemoryStorage, Mutex<u32>);

impl Storage for Breaking {
    fn location(&self) -> String {
        self.0.location()
    }
    fn create(&self) -> Result<(), StorageError> {
        self.0.create()
    }
    fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), StorageError> {
        self.0.write(key, bytes)
    }
    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
        let mut bytes = self.0.read(key)?;
        let mut left = self.1.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            bytes[0] ^= 1;
        }
        Ok(bytes)
    }
    fn read_range(&self, key: &FileKey, at: u64, length: usize) -> Result<Vec<u8>, StorageError> {
        self.0.read_range(key, at, length)
    }
    fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError> {
        self.0.size(key)
    }
    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError> {
        self.0.list(kind)
    }
    fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        self.0.delete(key)
    }
    fn connections(&self) -> usize {
        self.0.connections()
    }
    fn settling(&self) -> Duration {
        self.0.settling()
    }
    fn protection(&self) -> Option<Protection> {
        self.0.protection()
    }
    fn protected_until(&self, key: &FileKey) -> Result<Option<Timestamp>, StorageError> {
        self.0.protected_until(key)
    }
    fn protect_until(&self, key: &FileKey, until: Timestamp) -> Result<(), StorageError> {
        self.0.protect_until(key, until)
    }
}

#[test]
fn a_file_that_broke_on_its_way_is_read_once_more() {
    let key = FileKey::new(FileKind::Index, Sha256::digest(b"index").into());
    let read = |broken| {
        let memory = MemoryStorage::new();
        memory.write(&key, b"index").unwrap();
        let breaking = Arc::new(Breaking(memory, Mutex::new(broken)));
        let world = Arc::new(SystemWorld::new(refloat_model::cancel::Cancel::default()));
        let storage = RetryStorage::new(breaking, LIMITS, world);
        storage.read(&key).unwrap()
    };
    assert_eq!(read(1), b"index");
    assert_ne!(
        read(2),
        b"index",
        "what stays broken is the reader's to judge"
    );
}

#[test]
fn a_stopped_run_gives_up_as_interrupted() {
    let mut setup = Setup::new(&[UNAVAILABLE; 9], LIMITS);
    let world = Arc::new(TestWorld {
        fraction: 0.0,
        sleeps_max: 1,
        slept: Mutex::default(),
    });
    setup.storage.world = Arc::clone(&world) as _;
    let error = setup.storage.create().unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Interrupted);
    assert_eq!(setup.counting.counts().calls_of(Operation::Create), 2);
}

#[test]
fn a_config_written_by_an_attempt_whose_answer_was_lost_is_written() {
    let lost = (StorageErrorKind::Unavailable, true);
    let setup = Setup::new(&[lost], LIMITS);
    setup.storage.write(&FileKey::CONFIG, b"mine").unwrap();
    let setup = Setup::new(&[UNAVAILABLE], LIMITS);
    setup.counting.write(&FileKey::CONFIG, b"lost").unwrap_err();
    setup.counting.write(&FileKey::CONFIG, b"theirs").unwrap();
    let error = setup.storage.write(&FileKey::CONFIG, b"mine").unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::AlreadyExists);
}

#[test]
fn another_writers_config_is_never_taken_for_ours() {
    // The same bytes, but nothing of ours failed before: somebody else was first.
    let setup = Setup::new(&[], LIMITS);
    setup.counting.write(&FileKey::CONFIG, b"same").unwrap();
    let error = setup.storage.write(&FileKey::CONFIG, b"same").unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::AlreadyExists);
}

#[test]
fn a_file_that_is_short_for_good_is_not_read_again() {
    let setup = Setup::new(&[], LIMITS);
    let error = setup.storage.read_range(&PACK, 3, 3).unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::ShortRead);
    assert_eq!(setup.slept(), []);
    let setup = Setup::new(&[(StorageErrorKind::ShortRead, false)], LIMITS);
    assert_eq!(setup.storage.read_range(&PACK, 3, 2).unwrap(), b"45");
    assert_eq!(setup.slept(), [SECOND]);
}

#[test]
fn bounds_do_not_overflow() {
    let limits = RetryLimits::default();
    assert_eq!(limits.pause_bound(1), SECOND);
    assert_eq!(limits.pause_bound(4), SECOND * 8);
    assert_eq!(limits.pause_bound(u32::MAX), SECOND * 60);
}

#[test]
fn calls_of_protection_are_tried_again_like_all_others() {
    let now = refloat_model::time::Timestamp {
        seconds: 1_000,
        nanoseconds: 0,
    };
    let memory = Arc::new(MemoryStorage::protecting(SECOND));
    memory.set_clock(now);
    memory.write(&PACK, b"12345").unwrap();
    let scripted = Arc::new(ScriptedStorage {
        inner: memory,
        script: Mutex::new([UNAVAILABLE; 4].into()),
        asks_to_wait: None,
    });
    let world = Arc::new(TestWorld {
        fraction: 0.5,
        sleeps_max: usize::MAX,
        slept: Mutex::default(),
    });
    let storage = RetryStorage::new(scripted, LIMITS, world);
    assert_eq!(storage.protection().unwrap().period, SECOND);
    let later = refloat_model::time::Timestamp {
        seconds: 2_000,
        ..now
    };
    storage.protect_until(&PACK, later).unwrap();
    assert_eq!(storage.protected_until(&PACK).unwrap(), Some(later));
}

#[test]
fn a_server_that_is_busy_was_reached() {
    let limits = RetryLimits {
        attempts_max: 20,
        first_deadline: SECOND * 2,
        ..LIMITS
    };
    let absent = Setup::new(&[UNAVAILABLE; 10], limits);
    absent.storage.list(FileKind::Pack).unwrap_err();
    assert_eq!(absent.slept(), [SECOND], "an address that never answers");
    let busy = Setup::new(&[(StorageErrorKind::Busy, false); 10], limits);
    busy.storage.list(FileKind::Pack).unwrap();
    assert_eq!(busy.slept().len(), 10);
}
