//! No more calls at once than a storage is good for.
//!
//! Invariant: locks and the config never wait: a lock that is not refreshed in time is lost.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use refloat_model::time::Timestamp;

use crate::{FileKey, FileKind, Listed, Protection, SharedStorage, Storage, StorageError};

/// Makes calls wait while the limit is reached.
pub struct LimitedStorage {
    inner: SharedStorage,
    limit: usize,
    running: Mutex<usize>,
    ended: Condvar,
}

/// One call; the next may begin when it is dropped.
struct Turn<'a>(&'a LimitedStorage);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut running = self
            .0
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *running -= 1;
        self.0.ended.notify_one();
    }
}

impl LimitedStorage {
    /// So many calls at once; 0 counts as 1.
    #[must_use]
    pub fn new(inner: SharedStorage, limit: usize) -> Self {
        Self {
            inner,
            limit: limit.max(1),
            running: Mutex::new(0),
            ended: Condvar::new(),
        }
    }

    fn turn(&self, kind: FileKind) -> Option<Turn<'_>> {
        if matches!(kind, FileKind::Lock | FileKind::Config) {
            return None;
        }
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running = self
            .ended
            .wait_while(running, |running| *running >= self.limit)
            .unwrap_or_else(PoisonError::into_inner);
        *running += 1;
        Some(Turn(self))
    }
}

impl Storage for LimitedStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Result<(), StorageError> {
        self.inner.create()
    }

    fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), StorageError> {
        let _turn = self.turn(key.kind());
        self.inner.write(key, bytes)
    }

    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
        let _turn = self.turn(key.kind());
        self.inner.read(key)
    }

    fn read_range(
        &self,
        key: &FileKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        let _turn = self.turn(key.kind());
        self.inner.read_range(key, offset, length)
    }

    fn read_range_into(
        &self,
        key: &FileKey,
        offset: u64,
        memory: &mut [u8],
    ) -> Result<(), StorageError> {
        let _turn = self.turn(key.kind());
        self.inner.read_range_into(key, offset, memory)
    }

    fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError> {
        let _turn = self.turn(key.kind());
        self.inner.size(key)
    }

    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError> {
        let _turn = self.turn(kind);
        self.inner.list(kind)
    }

    fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        let _turn = self.turn(key.kind());
        self.inner.delete(key)
    }

    fn connections(&self) -> usize {
        self.inner.connections().min(self.limit)
    }

    fn settling(&self) -> Duration {
        self.inner.settling()
    }

    fn now(&self) -> Option<Timestamp> {
        self.inner.now()
    }

    fn protection(&self) -> Option<Protection> {
        self.inner.protection()
    }

    fn protected_until(&self, key: &FileKey) -> Result<Option<Timestamp>, StorageError> {
        let _turn = self.turn(key.kind());
        self.inner.protected_until(key)
    }

    fn protect_until(&self, key: &FileKey, until: Timestamp) -> Result<(), StorageError> {
        let _turn = self.turn(key.kind());
        self.inner.protect_until(key, until)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::memory::MemoryStorage;

    /// Knows how many calls it saw at once.
    #[derive(Default)]
    struct Watching {
        inner: MemoryStorage,
        now: AtomicUsize,
        most: AtomicUsize,
    }

    impl Storage for Watching {
        fn location(&self) -> String {
            self.inner.location()
        }
        fn create(&self) -> Result<(), StorageError> {
            self.inner.create()
        }
        fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), StorageError> {
            self.watch();
            self.inner.write(key, bytes)
        }
        fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
            self.inner.read(key)
        }
        fn read_range(&self, key: &FileKey, at: u64, n: usize) -> Result<Vec<u8>, StorageError> {
            self.inner.read_range(key, at, n)
        }
        fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError> {
            self.inner.size(key)
        }
        fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError> {
            self.inner.list(kind)
        }
        fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
            self.inner.delete(key)
        }
        fn connections(&self) -> usize {
            8
        }
        fn settling(&self) -> Duration {
            Duration::ZERO
        }
        fn protection(&self) -> Option<Protection> {
            self.inner.protection()
        }
        fn protected_until(&self, key: &FileKey) -> Result<Option<Timestamp>, StorageError> {
            self.inner.protected_until(key)
        }
        fn protect_until(&self, key: &FileKey, until: Timestamp) -> Result<(), StorageError> {
            self.watch();
            self.inner.protect_until(key, until)
        }
    }

    impl Watching {
        fn watch(&self) {
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(2));
            self.now.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn no_more_calls_go_at_once_than_allowed() {
        let watching = Arc::new(Watching::default());
        let storage = LimitedStorage::new(Arc::clone(&watching) as SharedStorage, 3);
        assert_eq!(storage.connections(), 3);
        std::thread::scope(|scope| {
            for thread in 0..12 {
                let storage = &storage;
                scope.spawn(move || {
                    for number in 0..5 {
                        let key = FileKey::new(FileKind::Pack, [thread * 5 + number; 32]);
                        storage.write(&key, b"x").unwrap();
                    }
                });
            }
        });
        assert_eq!(watching.most.swap(0, Ordering::SeqCst), 3);
        let packs = storage.list(FileKind::Pack).unwrap();
        assert_eq!(packs.len(), 60);
        std::thread::scope(|scope| {
            for some in packs.chunks(5) {
                let storage = &storage;
                scope.spawn(move || {
                    for pack in some {
                        let protected = storage.protect_until(&pack.key, Timestamp::default());
                        protected.unwrap_err();
                    }
                });
            }
        });
        assert_eq!(watching.most.load(Ordering::SeqCst), 3);
    }
}
