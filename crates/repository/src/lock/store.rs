//! The lock files of a repository: written, listed, read and judged.
//!
//! Invariant: no more of them is read than [`LOCKS_MAX`] files of [`LOCK_BYTES_MAX`], each once a
//! run, whatever somebody puts there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use refloat_storage::{FileKey, FileKind, Listed, SharedStorage, StorageErrorKind};

use super::Held;
use super::age::{Ages, is_dead};
use crate::codec::Codec;
use crate::deleter::{Deleters, is_fresh};
use crate::error::RepositoryError;
use crate::format::lock::LockFile;
use crate::id::sha256;
use crate::parallel::{for_each, lock, threads};
use crate::repository::Repository;

/// How many locks are read at most: some minutes of requests on distant storage.
const LOCKS_MAX: usize = 20_000;
/// What is larger is no lock; real ones have less than 1 KiB.
pub(super) const LOCK_BYTES_MAX: u64 = 64 << 10;
/// How many dead locks one run deletes: the next one goes on.
const BURIED_MAX: usize = 1_000;
/// Up to so many locks are read one after the other, as threads cost more than that.
const READ_IN_ORDER: usize = 8;

/// What a lock needs of a repository; outlives the borrow.
pub struct LockStore {
    storage: SharedStorage,
    codec: Arc<Codec>,
    deleters: Arc<Deleters>,
    known: Mutex<BTreeMap<FileKey, Found>>,
}

/// What a file below `locks/` turned out to be.
#[derive(PartialEq, Eq)]
enum Found {
    Lock(LockFile),
    /// Whole, and not of this repository: it stays so.
    Foreign,
    /// The repository's key opened it, and it says nothing that this version understands.
    Unknown,
    /// Its bytes do not hash to its name: it may be on its way.
    Torn,
    /// It is listed, and storage says that it is not there. Some servers say so for any failure, so it may be held, and
    /// whoever wants to be alone waits. Writers pass over it: a listing may lag behind deletions, of locks that are refreshed
    /// above all.
    Withheld,
}

/// What was seen among the locks; none of it excludes ours.
pub struct Seen {
    /// Locks that are dead by the storage's clock.
    pub dead: Vec<FileKey>,
    /// Whether any lock looks dead, by ours or by the storage's clock.
    pub saw_dead: bool,
    /// Living exclusive locks that no deleter vouches for.
    pub passed_over: usize,
}

impl LockStore {
    pub fn of(repository: &Repository) -> Self {
        Self {
            storage: Arc::clone(repository.storage()),
            codec: Arc::clone(repository.codec()),
            deleters: Arc::clone(repository.deleters()),
            known: Mutex::default(),
        }
    }

    pub fn seal(&self, content: &LockFile) -> Result<(FileKey, Vec<u8>), RepositoryError> {
        let vouched = self.deleters.vouch(content);
        let sealed = self.codec.seal_json("a lock", &vouched)?;
        let file = FileKey::new(FileKind::Lock, sha256(&sealed));
        Ok((file, sealed))
    }

    /// Writes the first lock of a run. If that fails, it may be there all the same.
    pub fn begin(&self, content: &LockFile) -> Result<FileKey, RepositoryError> {
        let (file, sealed) = self.seal(content)?;
        if let Err(error) = self.storage.write(&file, &sealed) {
            drop(self.storage.delete(&file));
            return Err(match error.kind() {
                StorageErrorKind::Denied => RepositoryError::MayNotLock(error),
                _ => error.into(),
            });
        }
        Ok(file)
    }

    pub fn write(&self, file: &FileKey, sealed: &[u8]) -> Result<(), RepositoryError> {
        Ok(self.storage.write(file, sealed)?)
    }

    pub fn delete(&self, file: &FileKey) -> Result<(), RepositoryError> {
        Ok(self.storage.delete(file)?)
    }

    pub fn settling(&self) -> Duration {
        self.storage.settling()
    }

    pub fn is_there(&self, file: &FileKey) -> Result<bool, RepositoryError> {
        Ok(self.storage.size(file)?.is_some())
    }

    /// Deletes dead locks, as far as storage lets us: one that stays excludes nobody.
    pub fn bury(&self, dead: &[FileKey]) {
        let some = dead.get(..BURIED_MAX).unwrap_or(dead);
        some.iter().for_each(|file| drop(self.delete(file)));
    }

    /// Looks at the locks of others. `held` is our own, once it is written.
    ///
    /// # Errors
    /// A living one excludes ours; or ours is not listed, so that nobody can tell by the storage's
    /// clock who lives, and others may not see ours either.
    pub fn look(
        &self,
        ours: &LockFile,
        held: Option<&Held>,
        now: jiff::Timestamp,
    ) -> Result<Seen, RepositoryError> {
        let listed = self.storage.list(FileKind::Lock)?;
        if listed.len() > LOCKS_MAX {
            return Err(RepositoryError::TooManyLocks {
                count: listed.len(),
                max: LOCKS_MAX,
            });
        }
        let own = held.and_then(|held| listed.iter().find(|file| file.key == held.file));
        if held.is_some() && own.is_none() {
            return Err(RepositoryError::LostLock);
        }
        if let (Some(own), true) = (own, ours.exclusive) {
            // Writers pass over what they cannot read.
            let read = self.read(&own.key)?;
            if !matches!(read, Some(Found::Lock(_))) {
                return Err(RepositoryError::LostLock);
            }
        }
        let modified = own.and_then(|file| file.modified);
        let tells_times = listed.iter().any(|file| file.modified.is_some());
        let storage_now = match modified {
            None if !tells_times => self.storage.now(),
            told => told,
        };
        let storage_now = storage_now.map(|at| at.to_jiff());
        if let (Some(held), Some(stored)) = (held, storage_now) {
            let ours_then = modified.map_or(now, |_| held.refreshed);
            self.prove_clock(ours, ours_then, stored)?;
        }
        let is_other = |file: &&Listed| !held.is_some_and(|held| held.is_own(&file.key));
        let others: Vec<&Listed> = listed.iter().filter(is_other).collect();
        self.read_all(&others)?;
        self.judge(&others, ours, (now, storage_now))
    }

    /// Others honour an exclusive lock only if its time is that of its file.
    fn prove_clock(
        &self,
        ours: &LockFile,
        ours_then: jiff::Timestamp,
        stored: jiff::Timestamp,
    ) -> Result<(), RepositoryError> {
        let vouches = ours.exclusive && self.deleters.vouches();
        if !vouches || is_fresh(ours_then, Some(stored)) {
            return Ok(());
        }
        let apart = ours_then.duration_since(stored).abs();
        Err(RepositoryError::DeleterClock {
            minutes: apart.as_mins(),
        })
    }

    fn judge(
        &self,
        others: &[&Listed],
        ours: &LockFile,
        (now, storage_now): (jiff::Timestamp, Option<jiff::Timestamp>),
    ) -> Result<Seen, RepositoryError> {
        let mut seen = Seen {
            dead: Vec::new(),
            saw_dead: false,
            passed_over: 0,
        };
        let known = lock(&self.known);
        for file in others {
            let found = known.get(&file.key);
            let other = match found {
                Some(Found::Lock(lock)) => Some(lock),
                Some(Found::Foreign | Found::Torn | Found::Unknown | Found::Withheld) => None,
                None if file.size > LOCK_BYTES_MAX => None,
                // Gone since it was listed.
                None => continue,
            };
            let modified = file.modified.map(|at| at.to_jiff());
            let ages = Ages {
                claimed: other.map(|lock| lock.time),
                modified,
                now,
                storage_now,
            };
            if is_dead(&ages) {
                seen.saw_dead = true;
                // Without the storage's own time only a look may be wrong, not a deletion.
                if storage_now.is_some() || file.modified.is_none() {
                    seen.dead.push(file.key);
                }
                continue;
            }
            match other {
                _ if ours.exclusive => return Err(locked_by(other, modified)),
                Some(lock) if !lock.exclusive => {}
                Some(lock) if self.deleters.honours(lock, modified) => {
                    return Err(locked_by(other, modified));
                }
                Some(_unvouched) => seen.passed_over += 1,
                // Whoever has the key wrote it, perhaps to keep others out in a way of later.
                None if found == Some(&Found::Unknown) && !self.deleters.vouches() => {
                    return Err(locked_by(None, modified));
                }
                // No lock of this repository: a holder that could not write one did not go on.
                None => {}
            }
        }
        Ok(seen)
    }

    /// Reads those that are not known yet.
    fn read_all(&self, others: &[&Listed]) -> Result<(), RepositoryError> {
        let unknown: Vec<&Listed> = {
            let mut known = lock(&self.known);
            // What is not listed any more need not be remembered.
            let listed: std::collections::BTreeSet<_> = others.iter().map(|f| f.key).collect();
            let stays = |found: &Found| !matches!(found, Found::Torn | Found::Withheld);
            known.retain(|file, found| listed.contains(file) && stays(found));
            let is_new =
                |file: &&&Listed| file.size <= LOCK_BYTES_MAX && !known.contains_key(&file.key);
            others.iter().filter(is_new).copied().collect()
        };
        let count = if unknown.len() > READ_IN_ORDER {
            threads(&self.storage)
        } else {
            1
        };
        let absent = Mutex::new(Vec::new());
        for_each(&unknown, count, |file| {
            match self.read(&file.key)? {
                Some(found) => drop(lock(&self.known).insert(file.key, found)),
                None => lock(&absent).push(file.key),
            }
            Ok(())
        })?;
        let absent = std::mem::take(&mut *lock(&absent));
        if absent.is_empty() {
            return Ok(());
        }
        let still = self.storage.list(FileKind::Lock)?;
        let still = still.iter().filter(|file| absent.contains(&file.key));
        lock(&self.known).extend(still.map(|file| (file.key, Found::Withheld)));
        Ok(())
    }

    /// Nothing if it was deleted since it was listed.
    fn read(&self, file: &FileKey) -> Result<Option<Found>, RepositoryError> {
        let sealed = match self.storage.read(file) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == StorageErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if sha256(&sealed) != *file.id() {
            return Ok(Some(Found::Torn));
        }
        let Ok(json) = self.codec.open_file(sealed) else {
            return Ok(Some(Found::Foreign));
        };
        let lock = serde_json::from_slice(&json);
        Ok(Some(lock.map_or(Found::Unknown, Found::Lock)))
    }
}

fn locked_by(other: Option<&LockFile>, modified: Option<jiff::Timestamp>) -> RepositoryError {
    let since = other.map(|lock| lock.time).or(modified);
    RepositoryError::Locked {
        mode: match other {
            Some(lock) if !lock.exclusive => "by a reader or writer",
            _ => "exclusively",
        },
        holder: other.map_or_else(
            || "a file below locks/ that cannot be read".to_owned(),
            LockFile::holder,
        ),
        since: since.map_or_else(|| "an unknown time".to_owned(), |time| time.to_string()),
    }
}
