//! Locks on a repository: restic's lock files, written, refreshed and honoured.
//!
//! Many shared locks may stand together; an exclusive one stands alone. A lock is refreshed every
//! five minutes by writing a new file and deleting the old; one that was not refreshed for thirty
//! is dead and is taken over without asking anybody. Source: restic's `doc/design.rst`, section
//! "Locks", and its `internal/repository/lock_file.go`.
//!
//! Invariant: whoever publishes has proven, after its last upload, that its lock still stands.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use refloat_storage::{FileKey, FileKind, SharedStorage, StorageErrorKind};

use crate::error::RepositoryError;
use crate::format::lock::LockFile;
use crate::repository::Repository;

/// How often a lock is refreshed.
const REFRESH_EVERY: Duration = Duration::from_mins(5);
/// A lock not refreshed for this long is dead.
const STALE_AFTER: jiff::SignedDuration = jiff::SignedDuration::from_mins(30);
/// Our own lock counts as lost this long after its last refresh: well before others take it for
/// dead, so that clocks may differ by some minutes.
const LOST_AFTER: jiff::SignedDuration = jiff::SignedDuration::from_mins(22);
/// How long to wait between writing a lock and looking for others: two that start together see
/// each other.
const SETTLE: Duration = Duration::from_millis(200);

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

/// Tells the time; injected.
pub type Clock = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

struct Held {
    file: FileKey,
    refreshed: jiff::Timestamp,
}

struct Shared {
    store: LockStore,
    content: LockFile,
    clock: Clock,
    held: Mutex<Held>,
    stop: (Mutex<bool>, Condvar),
}

/// What a lock needs of a repository; outlives the borrow.
struct LockStore {
    storage: SharedStorage,
    codec: Arc<crate::codec::Codec>,
}

/// A lock that stands until it is dropped.
pub struct Lock {
    shared: Arc<Shared>,
    refresher: Option<JoinHandle<()>>,
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
    /// A living lock excludes this one, or storage failed.
    pub fn lock(
        &self,
        mode: LockMode,
        owner: LockOwner,
        clock: Clock,
    ) -> Result<Lock, RepositoryError> {
        let store = LockStore {
            storage: Arc::clone(self.storage()),
            codec: Arc::clone(self.codec()),
        };
        let now = clock();
        let content = LockFile {
            time: now,
            exclusive: mode == LockMode::Exclusive,
            hostname: owner.host,
            username: owner.user,
            pid: owner.process.into(),
            uid: 0,
            gid: 0,
        };
        store.refuse_if_excluded(&content, None, now)?;
        let file = store.write(&content)?;
        // A shared holder deletes nothing, so it may begin at once: an exclusive one that starts
        // at the same moment sees its lock and gives up, and `prove` looks again before anything
        // is published.
        if mode == LockMode::Exclusive {
            std::thread::sleep(SETTLE);
            if let Err(error) = store.refuse_if_excluded(&content, Some(file), clock()) {
                // The refusal is what the caller must know; a lock left behind dies by itself.
                drop(store.storage.delete(&file));
                return Err(error);
            }
        }
        let shared = Arc::new(Shared {
            store,
            content,
            clock,
            held: Mutex::new(Held {
                file,
                refreshed: now,
            }),
            stop: (Mutex::new(false), Condvar::new()),
        });
        let refresher = std::thread::Builder::new()
            .name("lock refresh".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.keep_fresh()
            });
        let refresher = refresher.map_err(|e| RepositoryError::Encode {
            what: "a thread that refreshes the lock",
            cause: e.into(),
        })?;
        Ok(Lock {
            shared,
            refresher: Some(refresher),
        })
    }
}

impl LockStore {
    fn write(&self, content: &LockFile) -> Result<FileKey, RepositoryError> {
        let json = serde_json::to_vec(content).map_err(|e| RepositoryError::Encode {
            what: "a lock",
            cause: e.into(),
        })?;
        let sealed = self.codec.seal_file(&json)?;
        let file = FileKey::new(FileKind::Lock, crate::id::sha256(&sealed));
        self.storage.write(&file, &sealed)?;
        Ok(file)
    }

    /// A lock; none if it was deleted since it was listed.
    fn read(&self, file: &FileKey) -> Result<Option<LockFile>, RepositoryError> {
        let sealed = match self.storage.read(file) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == StorageErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let json = self
            .codec
            .open_file(sealed)
            .map_err(|e| RepositoryError::damaged(*file, e))?;
        serde_json::from_slice(&json)
            .map(Some)
            .map_err(|e| RepositoryError::damaged(*file, e))
    }

    fn refuse_if_excluded(
        &self,
        ours: &LockFile,
        own: Option<FileKey>,
        now: jiff::Timestamp,
    ) -> Result<(), RepositoryError> {
        for listed in self.storage.list(FileKind::Lock)? {
            if Some(listed.key) == own {
                continue;
            }
            let other = match self.read(&listed.key) {
                Ok(Some(lock)) => lock,
                Ok(None) => continue,
                // Unreadable: torn or of a foreign key. The storage's own clock tells its age.
                Err(RepositoryError::DamagedFile { .. }) => {
                    if listed
                        .modified
                        .is_some_and(|at| is_stale(at.to_jiff(), now))
                    {
                        self.storage.delete(&listed.key)?;
                        continue;
                    }
                    unreadable_lock(listed.modified.map(|at| at.to_jiff()))
                }
                Err(error) => return Err(error),
            };
            // Dead only if both its own clock and the storage's say so: a holder whose clock is
            // wrong still refreshes its file.
            let stored_recently = listed
                .modified
                .is_some_and(|at| !is_stale(at.to_jiff(), now));
            if is_stale(other.time, now) && !stored_recently {
                self.storage.delete(&listed.key)?;
                continue;
            }
            if ours.exclusive || other.exclusive {
                return Err(RepositoryError::Locked {
                    mode: if other.exclusive {
                        "exclusively"
                    } else {
                        "by a reader or writer"
                    },
                    holder: format!(
                        "{}@{} (process {})",
                        other.username, other.hostname, other.pid
                    ),
                    since: other.time.to_string(),
                });
            }
        }
        Ok(())
    }
}

fn is_stale(time: jiff::Timestamp, now: jiff::Timestamp) -> bool {
    now.duration_since(time) > STALE_AFTER
}

fn unreadable_lock(modified: Option<jiff::Timestamp>) -> LockFile {
    LockFile {
        time: modified.unwrap_or(jiff::Timestamp::MAX),
        exclusive: true,
        hostname: "an unreadable lock file".to_owned(),
        username: "somebody".to_owned(),
        pid: 0,
        uid: 0,
        gid: 0,
    }
}

impl Shared {
    fn keep_fresh(&self) {
        let (stopped, wake) = &self.stop;
        let mut stop = stopped.lock().unwrap_or_else(PoisonError::into_inner);
        while !*stop {
            let waited = wake.wait_timeout_while(stop, REFRESH_EVERY, |stop| !*stop);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            stop = guard;
            if timeout.timed_out() {
                // A failed refresh is tried again at the next turn; `prove` notices when too many
                // fail.
                drop(self.refresh());
            }
        }
    }

    fn refresh(&self) -> Result<(), RepositoryError> {
        let now = (self.clock)();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if self.store.storage.size(&held.file)?.is_none() {
            return Err(RepositoryError::LostLock);
        }
        if now.duration_since(held.refreshed) > LOST_AFTER {
            return Err(RepositoryError::LostLock);
        }
        let file = self.store.write(&LockFile {
            time: now,
            ..self.content.clone()
        })?;
        let old = std::mem::replace(
            &mut *held,
            Held {
                file,
                refreshed: now,
            },
        );
        Ok(self.store.storage.delete(&old.file)?)
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
        let held = shared.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (shared.clock)();
        let there = shared.store.storage.size(&held.file)?.is_some();
        if !there || now.duration_since(held.refreshed) > LOST_AFTER {
            return Err(RepositoryError::LostLock);
        }
        shared
            .store
            .refuse_if_excluded(&shared.content, Some(held.file), now)
    }

    /// The moment by the lock's clock.
    #[must_use]
    pub fn now(&self) -> jiff::Timestamp {
        (self.shared.clock)()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let (stopped, wake) = &self.shared.stop;
        *stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        wake.notify_all();
        if let Some(refresher) = self.refresher.take() {
            // A refresher that panicked has nothing left to undo.
            drop(refresher.join());
        }
        let held = self
            .shared
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // A lock that cannot be deleted is dead in thirty minutes.
        drop(self.shared.store.storage.delete(&held.file));
    }
}
