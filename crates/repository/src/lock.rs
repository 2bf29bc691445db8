//! Locks on a repository: restic's lock files, written, refreshed and honoured.
//!
//! Many shared locks may stand together; an exclusive one stands alone. A lock is refreshed every
//! five minutes by writing a new file and deleting the old; one that was not refreshed for thirty
//! is dead and is taken over without asking anybody. Source: restic's `doc/design.rst`, section
//! "Locks", and its `internal/repository/lock_file.go`.
//!
//! How old a lock is, the storage's clock says, compared with itself: the time of the lock's file
//! against that of our own, written just now. So no clock of ours or of the holder's can make a
//! living lock look dead (borg #9870), nor a dead one that came from the future live for ever.
//!
//! A lock that the repository's key does not open is none for whoever writes: anybody could have
//! put it there. Whoever deletes waits for its end.
//!
//! Invariant: whoever publishes has proven, after its last upload, that its lock still stands.

mod age;
mod records;
mod store;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use refloat_storage::FileKey;

pub use crate::clock::{Clock, Repetition, Timekeeper, Work};
use crate::error::RepositoryError;
use crate::format::lock::LockFile;
use crate::repository::Repository;

pub use records::LockRecord;
use store::{LockStore, Seen};

/// How often a lock is refreshed.
const REFRESH_EVERY: Duration = Duration::from_mins(5);
/// Our own lock counts as lost this long after its last refresh: well before others take it for
/// dead, so that clocks may differ by some minutes.
const LOST_AFTER: jiff::SignedDuration = jiff::SignedDuration::from_mins(22);
/// How often deleting our own lock is tried when the run ends.
const UNLOCK_TRIES_MAX: usize = 3;
/// How long to wait between these tries.
const UNLOCK_PAUSE: Duration = Duration::from_millis(100);
/// How often a shared lock looks for others before it gives way to an exclusive one that came at the
/// same time. With the pauses that is longer than an exclusive one takes to see it and to go:
/// [`SETTLING`](refloat_storage::SETTLING), and some requests.
const YIELD_LOOKS_MAX: usize = 6;
/// How long to wait between these looks.
const YIELD_PAUSE: Duration = Duration::from_millis(100);
/// How often an exclusive lock that stands looks whether a shared one gives way.
const PROVE_LOOKS_MAX: usize = YIELD_LOOKS_MAX + 2;

/// Whether others may work beside us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockMode {
    /// Readers and writers.
    Shared,
    /// Whoever deletes.
    Exclusive,
}

/// Who takes the lock; for records, except that `host` must be unique to the run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockOwner {
    /// `refloat-<run id>`: restic removes locks of its own host whose process is gone.
    pub host: String,
    /// User name.
    pub user: String,
    /// Process id.
    pub process: u32,
}

struct Held {
    file: FileKey,
    refreshed: jiff::Timestamp,
    /// Lock files of ours that should be gone and may still be there: their deletion or their
    /// write failed.
    leftovers: Vec<FileKey>,
}

impl Held {
    fn is_own(&self, file: &FileKey) -> bool {
        self.file == *file || self.leftovers.contains(file)
    }
}

struct Shared {
    store: LockStore,
    content: LockFile,
    clock: Clock,
    held: Mutex<Held>,
}

/// A lock that stands until it is dropped.
pub struct Lock {
    shared: Arc<Shared>,
    refresher: Option<Box<dyn Repetition>>,
    passed_over: usize,
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lock")
            .field("content", &self.shared.content)
            .finish_non_exhaustive()
    }
}

impl Repository {
    /// Takes a lock. Dead locks in the way are removed.
    ///
    /// Crash behaviour: the lock stays and is dead thirty minutes later.
    ///
    /// # Errors
    /// A living lock excludes this one, storage lets nobody write one, or failed.
    pub fn lock(
        &self,
        mode: LockMode,
        owner: LockOwner,
        clock: Clock,
    ) -> Result<Lock, RepositoryError> {
        let store = LockStore::of(self);
        if mode == LockMode::Exclusive && !self.deleters().may_exclude() {
            return Err(RepositoryError::NotDeleter);
        }
        let now = clock.now();
        let content = LockFile {
            time: now,
            exclusive: mode == LockMode::Exclusive,
            hostname: owner.host,
            username: owner.user,
            pid: owner.process.into(),
            uid: 0,
            gid: 0,
            refloat_voucher: None,
        };
        let first = store.look(&content, None, now)?;
        let file = store.begin(&content)?;
        let held = Held {
            file,
            refreshed: now,
            leftovers: Vec::new(),
        };
        let seen = match look_again(&store, &content, &held, &clock, first.saw_dead) {
            Ok(seen) => seen,
            Err(error) => {
                // The refusal is what the caller must know; a lock left behind dies by itself.
                drop(store.delete(&file));
                return Err(error);
            }
        };
        store.bury(&seen.dead);
        let shared = Arc::new(Shared {
            store,
            content,
            clock,
            held: Mutex::new(held),
        });
        let refreshing = Arc::clone(&shared);
        // A failed refresh is tried again at the next turn; `prove` notices when too many fail.
        let work = Box::new(move || drop(refreshing.refresh()));
        let refresher = match shared.clock.every(REFRESH_EVERY, work) {
            Ok(refresher) => refresher,
            Err(error) => {
                shared.unlock();
                return Err(RepositoryError::NoThread {
                    does: "refreshes the lock",
                    cause: error,
                });
            }
        };
        Ok(Lock {
            shared,
            refresher: Some(refresher),
            passed_over: seen.passed_over,
        })
    }
}

/// Looks at the locks of others once our own is there: of two that start together, each writes
/// before it looks, so at least one sees the other. Where listings lag that is not exact; there
/// whoever deletes waits, and looks again before each deletion.
///
/// Whoever wants to be alone and came at the same time gives up when it sees us, so a shared lock waits
/// for that; not for one that was there before and only `seemed_dead`, by a wrong clock of ours.
///
/// # Errors
/// A living lock excludes ours, or storage failed.
fn look_again(
    store: &LockStore,
    ours: &LockFile,
    held: &Held,
    clock: &Clock,
    seemed_dead: bool,
) -> Result<Seen, RepositoryError> {
    let settling = store.settling();
    if ours.exclusive && !settling.is_zero() {
        clock.sleep(settling);
    }
    let may_pass = |error: &RepositoryError| match error {
        RepositoryError::Locked { .. } => !ours.exclusive && !seemed_dead,
        // Our own is not listed yet.
        RepositoryError::LostLock => !settling.is_zero(),
        _ => false,
    };
    let look = || store.look(ours, Some(held), clock.now());
    repeat(clock, YIELD_LOOKS_MAX, look, may_pass)
}

/// Looks until it succeeds, fails with what does not pass by itself, or was done so many times.
fn repeat(
    clock: &Clock,
    looks_max: usize,
    look: impl Fn() -> Result<Seen, RepositoryError>,
    may_pass: impl Fn(&RepositoryError) -> bool,
) -> Result<Seen, RepositoryError> {
    for _ in 1..looks_max {
        match look() {
            Err(error) if may_pass(&error) => clock.sleep(YIELD_PAUSE),
            seen => return seen,
        }
    }
    look()
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the lock that is held is there and young enough for others to honour it.
    fn stands(&self, held: &Held, now: jiff::Timestamp) -> Result<bool, RepositoryError> {
        let there = self.store.is_there(&held.file)?;
        Ok(there && now.duration_since(held.refreshed) <= LOST_AFTER)
    }

    fn refresh(&self) -> Result<(), RepositoryError> {
        let mut held = self.held();
        self.sweep_leftovers(&mut held);
        if !self.stands(&held, self.clock.now())? {
            return Err(RepositoryError::LostLock);
        }
        // Waiting for storage may have taken long, and the lock's time is compared with its file's.
        let now = self.clock.now();
        let (file, sealed) = self.store.seal(&LockFile {
            time: now,
            ..self.content.clone()
        })?;
        if let Err(error) = self.store.write(&file, &sealed) {
            // It may be there although the answer did not come; nobody would ever delete it.
            held.leftovers.push(file);
            return Err(error);
        }
        let old = std::mem::replace(&mut held.file, file);
        held.refreshed = now;
        held.leftovers.push(old);
        self.sweep_leftovers(&mut held);
        Ok(())
    }

    /// Deletes what should be gone; what cannot be deleted is tried again at the next turn and at
    /// the end, so that no file of ours keeps others out after the run.
    fn sweep_leftovers(&self, held: &mut Held) {
        held.leftovers
            .retain(|file| self.store.delete(file).is_err());
    }

    fn unlock(&self) {
        let mut held = self.held();
        let file = held.file;
        held.leftovers.push(file);
        for turn in 0..UNLOCK_TRIES_MAX {
            if turn > 0 {
                self.clock.sleep(UNLOCK_PAUSE);
            }
            self.sweep_leftovers(&mut held);
            if held.leftovers.is_empty() {
                return;
            }
        }
        // A lock that cannot be deleted is dead in thirty minutes.
    }
}

impl Lock {
    /// Proves that the lock still stands: its file is there, was refreshed lately, and nobody
    /// holds one that excludes it.
    ///
    /// # Errors
    /// It does not; nothing may be published any more.
    pub fn prove(&self) -> Result<(), RepositoryError> {
        let shared = &*self.shared;
        let held = shared.held();
        let now = shared.clock.now();
        if !shared.stands(&held, now)? {
            return Err(RepositoryError::LostLock);
        }
        let ours = &shared.content;
        // Who saw ours too late gives way; to end a deletion for its sake would help nobody.
        let may_pass = |error: &RepositoryError| {
            ours.exclusive && matches!(error, RepositoryError::Locked { .. })
        };
        let look = || shared.store.look(ours, Some(&held), shared.clock.now());
        let _seen = repeat(&shared.clock, PROVE_LOOKS_MAX, look, may_pass)?;
        Ok(())
    }

    /// Proves that the lock is exclusive and still stands.
    ///
    /// # Errors
    /// As [`Lock::prove`]; a shared lock proves nothing here.
    pub fn prove_exclusive(&self) -> Result<(), RepositoryError> {
        if !self.shared.content.exclusive {
            return Err(RepositoryError::LostLock);
        }
        self.prove()
    }

    /// How many living exclusive locks of others kept nobody out when this one was taken, because
    /// no deleter vouches for them.
    #[must_use]
    pub const fn passed_over(&self) -> usize {
        self.passed_over
    }

    /// The moment by the lock's clock.
    #[must_use]
    pub fn now(&self) -> jiff::Timestamp {
        self.shared.clock.now()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(self.refresher.take());
        self.shared.unlock();
    }
}
