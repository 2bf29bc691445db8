//! Storage in memory: for tests, and the reference for what the contract means.
//!
//! Invariant: a file's bytes never change in place; a write puts a whole new file under its name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use refloat_model::time::Timestamp;

use crate::protection::unprotected;
use crate::{FileKey, FileKind, Listed, Protection, Storage, StorageError, StorageErrorKind};

/// The files of one repository, gone with the process.
#[derive(Default)]
pub struct MemoryStorage {
    state: Mutex<State>,
}

#[derive(Clone, Default)]
struct State {
    protection: Option<Protection>,
    files: BTreeMap<FileKey, StoredFile>,
    /// What the storage's own clock shows; it stands still until somebody sets it.
    now: Option<Timestamp>,
}

#[derive(Clone)]
struct StoredFile {
    bytes: Arc<[u8]>,
    modified: Option<Timestamp>,
    /// Until when it is protected.
    until: Option<Timestamp>,
}

impl MemoryStorage {
    /// An empty place whose clock tells nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty place that protects what is written, by its own clock.
    #[must_use]
    pub fn protecting(period: std::time::Duration) -> Self {
        let this = Self::new();
        this.state().protection = Some(Protection { period });
        this
    }

    /// Sets the storage's own clock, which later writes are stamped with.
    pub fn set_clock(&self, now: Timestamp) {
        self.state().now = Some(now);
    }

    /// A second place with the same files; later changes to one do not show in the other.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self {
            state: Mutex::new(self.state().clone()),
        }
    }

    /// No call leaves the map half changed, so a panic elsewhere does not spoil it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, operation: &'static str, key: &FileKey) -> Result<StoredFile, StorageError> {
        let found = self.state().files.get(key).cloned();
        found.ok_or_else(|| self.error(StorageErrorKind::NotFound, operation, key))
    }

    fn error(
        &self,
        kind: StorageErrorKind,
        operation: &'static str,
        key: &FileKey,
    ) -> StorageError {
        StorageError::new(kind, operation, key, self.location(), None)
    }
}

impl Storage for MemoryStorage {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn create(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), StorageError> {
        let mut state = self.state();
        if let Some(old) = state.files.get(key) {
            if key.kind() == FileKind::Config {
                drop(state);
                return Err(self.error(StorageErrorKind::AlreadyExists, "write", key));
            }
            if *old.bytes == *bytes {
                return Ok(());
            }
        }
        let modified = state.now;
        let bytes = Arc::from(bytes);
        let terms = state.protection.filter(|terms| terms.covers(key.kind()));
        let until = terms.and_then(|terms| Some(later(modified?, terms.period)));
        let file = StoredFile {
            bytes,
            modified,
            until,
        };
        state.files.insert(*key, file);
        Ok(())
    }

    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
        Ok(self.file("read", key)?.bytes.to_vec())
    }

    fn read_range(
        &self,
        key: &FileKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        let file = self.file("read", key)?;
        let range = usize::try_from(offset)
            .ok()
            .and_then(|start| Some(start..start.checked_add(length)?));
        range
            .and_then(|range| file.bytes.get(range))
            .map(<[u8]>::to_vec)
            .ok_or_else(|| self.error(StorageErrorKind::ShortRead, "read", key))
    }

    fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError> {
        let state = self.state();
        Ok(state.files.get(key).map(|file| file.bytes.len() as u64))
    }

    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError> {
        let state = self.state();
        let files = state.files.iter().filter(|(key, _)| key.kind() == kind);
        Ok(files
            .map(|(key, file)| Listed {
                key: *key,
                size: file.bytes.len() as u64,
                modified: file.modified,
            })
            .collect())
    }

    fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        let mut state = self.state();
        let until = state.files.get(key).and_then(|file| file.until);
        if until > state.now {
            drop(state);
            return Err(self.error(StorageErrorKind::Denied, "delete", key));
        }
        state.files.remove(key);
        Ok(())
    }

    fn connections(&self) -> usize {
        8
    }

    fn settling(&self) -> Duration {
        Duration::ZERO
    }

    fn now(&self) -> Option<Timestamp> {
        self.state().now
    }

    fn protection(&self) -> Option<Protection> {
        self.state().protection
    }

    fn protected_until(&self, key: &FileKey) -> Result<Option<Timestamp>, StorageError> {
        Ok(self.file("look up the protection of", key)?.until)
    }

    fn protect_until(&self, key: &FileKey, until: Timestamp) -> Result<(), StorageError> {
        let mut state = self.state();
        if state.protection.is_none() {
            drop(state);
            return Err(unprotected(key, self.location()));
        }
        match state.files.get_mut(key) {
            Some(file) if file.until <= Some(until) => {
                file.until = Some(until);
                Ok(())
            }
            found => {
                let kind = match found {
                    Some(_) => StorageErrorKind::Denied,
                    None => StorageErrorKind::NotFound,
                };
                drop(state);
                Err(self.error(kind, "extend the protection of", key))
            }
        }
    }
}

fn later(time: Timestamp, by: std::time::Duration) -> Timestamp {
    let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
    Timestamp {
        seconds: time.seconds.saturating_add(seconds),
        ..time
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SharedStorage;

    const AT_TEN: Timestamp = Timestamp {
        seconds: 10,
        nanoseconds: 0,
    };

    #[test]
    fn listings_carry_the_storages_own_clock() {
        let storage = MemoryStorage::new();
        let (old, new) = (
            FileKey::new(FileKind::Pack, [1; 32]),
            FileKey::new(FileKind::Pack, [2; 32]),
        );
        storage.write(&old, b"a").unwrap();
        storage.set_clock(AT_TEN);
        storage.write(&new, b"bc").unwrap();
        let listed = |key, size, modified| Listed {
            key,
            size,
            modified,
        };
        assert_eq!(
            storage.list(FileKind::Pack).unwrap(),
            [listed(old, 1, None), listed(new, 2, Some(AT_TEN))]
        );
    }

    /// The method has a default, which must not stand for what is decorated.
    #[test]
    fn every_decorator_tells_the_time_of_what_it_decorates() {
        use crate::{cache, concurrency, counting, local, pace, read_only, retry};
        let memory = MemoryStorage::new();
        memory.set_clock(AT_TEN);
        let inner: SharedStorage = Arc::new(memory);
        let of = || Arc::clone(&inner);
        let world = Arc::new(retry::SystemWorld::new(
            refloat_model::cancel::Cancel::default(),
        ));
        let limits = retry::RetryLimits::default();
        let decorated: [SharedStorage; 6] = [
            Arc::new(retry::RetryStorage::new(of(), limits, world)),
            Arc::new(pace::PacedStorage::new(of(), pace::Traffic::default())),
            Arc::new(concurrency::LimitedStorage::new(of(), 1)),
            Arc::new(counting::CountingStorage::new(of())),
            Arc::new(read_only::ReadOnlyStorage::new(of())),
            Arc::new(cache::CachedStorage::new(
                of(),
                local::LocalStorage::new("/not/there"),
            )),
        ];
        for storage in decorated {
            assert_eq!(storage.now(), Some(AT_TEN));
        }
        assert_eq!(local::LocalStorage::new("/not/there").now(), None);
    }

    #[test]
    fn a_duplicate_goes_its_own_way() {
        let storage = MemoryStorage::new();
        let key = FileKey::new(FileKind::Lock, [3; 32]);
        storage.write(&key, b"lock").unwrap();
        let copy = storage.duplicate();
        storage.delete(&key).unwrap();
        assert_eq!(copy.read(&key).unwrap(), b"lock");
        assert_eq!(storage.size(&key).unwrap(), None);
    }
}
