//! Locks that are taken at the same time: who sees whom, who waits, and who gives way.

use std::sync::Arc;
use std::time::Duration;

use refloat_repository::lock::{Clock, LockMode, Timekeeper};
use refloat_repository::{ChunkerChoice, Repository, RepositoryError};
use refloat_storage::local::LocalStorage;
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKey, FileKind, SETTLING, SharedStorage};
use refloat_testkit::intercept::{Call, Intercepted};

use crate::support::*;

fn repository() -> (SharedStorage, Repository) {
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    let repository = init(&storage, ChunkerChoice::Gear);
    (storage, repository)
}

/// A lock's file, which is gone again and can be put back.
fn lock_of_another(repository: &Repository, mode: LockMode) -> (FileKey, Vec<u8>) {
    let lock = repository.lock(mode, owner("another"), clock());
    let storage = repository.storage();
    let file = storage.list(FileKind::Lock).unwrap()[0].key;
    let bytes = storage.read(&file).unwrap();
    drop(lock.unwrap());
    (file, bytes)
}

/// A clock, so much ahead, of somebody who waits as long as one says. How long is noted, and when it is
/// so long, something is done.
struct Waiting {
    ahead: jiff::SignedDuration,
    waited: std::sync::Mutex<Duration>,
    meanwhile: (Duration, Box<dyn Fn() + Send + Sync>),
}

impl Waiting {
    fn ahead_by_minutes(minutes: i64) -> Arc<Self> {
        Self::with(minutes, Duration::MAX, || {})
    }

    fn with(minutes: i64, at: Duration, work: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            ahead: jiff::SignedDuration::from_mins(minutes),
            waited: std::sync::Mutex::default(),
            meanwhile: (at, Box::new(work)),
        })
    }

    fn waited(&self) -> Duration {
        *self.waited.lock().unwrap()
    }
}

impl Timekeeper for Waiting {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now() + self.ahead
    }
    fn sleep(&self, duration: Duration) {
        let mut waited = self.waited.lock().unwrap();
        *waited += duration;
        if *waited == self.meanwhile.0 {
            (self.meanwhile.1)();
        }
    }
}

/// A shared lock that comes at the same time as an exclusive one, and goes again when it has seen it: the
/// exclusive one, which stands, waits for that and no longer. One that only thought that the other
/// was dead, by its clock, is gone at once.
#[test]
fn an_exclusive_lock_outlasts_a_shared_one_that_gives_way() {
    let memory = Arc::new(MemoryStorage::new());
    // Its files have times, by which everybody's clock is judged.
    memory.set_clock(jiff::Timestamp::now().into());
    let storage: SharedStorage = memory;
    let repository = init(&storage, ChunkerChoice::Gear);
    let (file, bytes) = lock_of_another(&repository, LockMode::Shared);

    let at = Duration::from_millis(500);
    let place = Arc::clone(&storage);
    let patient = Waiting::with(0, at, move || place.delete(&file).unwrap());
    let exclusive = repository.lock(
        LockMode::Exclusive,
        owner("e"),
        Arc::clone(&patient) as Clock,
    );
    let exclusive = exclusive.unwrap();
    storage.write(&file, &bytes).unwrap();
    exclusive.prove_exclusive().unwrap();
    assert_eq!(patient.waited(), at);
    storage.write(&file, &bytes).unwrap();
    let refused = exclusive.prove();
    assert!(
        matches!(refused, Err(RepositoryError::Locked { .. })),
        "{refused:?}"
    );
    assert_eq!(patient.waited(), Duration::from_millis(1200));
    storage.delete(&file).unwrap();

    for minutes in [0, 40] {
        let clock = Waiting::ahead_by_minutes(minutes);
        let refused = repository.lock(LockMode::Shared, owner("b"), Arc::clone(&clock) as Clock);
        assert!(
            matches!(refused, Err(RepositoryError::Locked { .. })),
            "{refused:?}"
        );
        assert_eq!(clock.waited(), Duration::ZERO, "{minutes} minutes ahead");
    }
    exclusive.prove_exclusive().unwrap();
}

/// The other one's lock comes into the listing between our first look and our second.
#[test]
fn a_shared_lock_waits_for_an_exclusive_one_that_came_at_the_same_time_to_give_up() {
    for gives_up in [true, false] {
        let (storage, repository) = repository();
        let (file, bytes) = lock_of_another(&repository, LockMode::Exclusive);
        let place = Arc::clone(&storage);
        let comes = move |call| {
            if matches!(call, Call::Write(key) if key.kind() == FileKind::Lock) {
                place.write(&file, &bytes)?;
            }
            Ok(())
        };
        let storage_of_both: SharedStorage =
            Arc::new(Intercepted::new(Arc::clone(&storage), Box::new(comes)));
        let repository = open(&storage_of_both);
        let at = Duration::from_millis(300);
        let place = Arc::clone(&storage);
        let clock = Waiting::with(0, at, move || {
            if gives_up {
                place.delete(&file).unwrap();
            }
        });
        let got = repository.lock(LockMode::Shared, owner("s"), Arc::clone(&clock) as Clock);
        if gives_up {
            drop(got.unwrap());
            assert_eq!(clock.waited(), at);
            assert_eq!(storage.list(FileKind::Lock).unwrap(), []);
        } else {
            assert!(
                matches!(got, Err(RepositoryError::Locked { .. })),
                "{got:?}"
            );
            assert_eq!(clock.waited(), Duration::from_millis(500));
            assert_eq!(
                storage.list(FileKind::Lock).unwrap().len(),
                1,
                "ours is gone"
            );
        }
    }
}

#[test]
fn only_an_exclusive_lock_waits_and_as_long_as_its_storage_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let local: SharedStorage = Arc::new(LocalStorage::new(folder.path()));
    let far = Intercepted::new(Arc::new(MemoryStorage::new()), Box::new(|_call| Ok(())));
    let remote: SharedStorage = Arc::new(far.with_settling(SETTLING));
    for (storage, expected) in [
        (local, Duration::ZERO),
        (remote, Duration::from_millis(200)),
    ] {
        let repository = init(&storage, ChunkerChoice::Gear);
        for (mode, expected) in [
            (LockMode::Shared, Duration::ZERO),
            (LockMode::Exclusive, expected),
        ] {
            let clock = Waiting::ahead_by_minutes(0);
            let lock = repository.lock(mode, owner("a"), Arc::clone(&clock) as Clock);
            drop(lock.unwrap());
            assert_eq!(clock.waited(), expected, "{mode:?}");
        }
    }
}

/// In a folder nobody waits for the other: what one wrote, the other's listing shows.
#[test]
fn of_two_that_start_at_once_in_a_folder_never_both_get_an_exclusive_lock() {
    let folder = tempfile::tempdir().unwrap();
    let storage: SharedStorage = Arc::new(LocalStorage::new(folder.path()));
    let repository = init(&storage, ChunkerChoice::Gear);
    assert_eq!(storage.settling(), Duration::ZERO);
    let others = [LockMode::Shared, LockMode::Exclusive];
    let mut none = [0, 0];
    for round in 0..300 {
        let modes = [LockMode::Exclusive, others[round % 2]];
        let (start, end) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
        let got: usize = std::thread::scope(|scope| {
            let racers = [0, 1].map(|racer| {
                let (repository, start, end, mode) = (&repository, &start, &end, modes[racer]);
                // Not always to the same microsecond: then both would always see each other.
                let late = Duration::from_micros(100 * racer as u64 * (round as u64 / 2 % 16));
                scope.spawn(move || {
                    start.wait();
                    std::thread::sleep(late);
                    let lock = repository.lock(mode, owner(&format!("{mode:?}")), clock());
                    // Held until the other one was through.
                    end.wait();
                    match lock {
                        Ok(lock) => drop(lock),
                        Err(RepositoryError::Locked { .. }) => return 0,
                        Err(error) => panic!("{error}"),
                    }
                    1
                })
            });
            racers.map(|racer| racer.join().unwrap()).iter().sum()
        });
        assert!(got < 2, "round {round}: both of {modes:?} got a lock");
        none[round % 2] += usize::from(got == 0);
    }
    println!(
        "of 150 each: none beside a shared lock {}, beside an exclusive one {}",
        none[0], none[1]
    );
    // A shared lock goes on when the other has given up, unless that takes longer than it waits.
    assert!(none[0] < 15, "{}", none[0]);
    // Two that want to be alone may both give up, but not always.
    assert!(none[1] < 150);
    assert_eq!(storage.list(FileKind::Lock).unwrap(), []);
}
