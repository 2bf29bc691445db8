//! Counting calls and bytes, for statistics and for tests of what an operation costs.
//!
//! Invariant: a call is counted before it reaches the inner storage, its bytes only if it
//! succeeds.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use refloat_model::time::Timestamp;

use crate::{FileKey, FileKind, Listed, Protection, SharedStorage, Storage, StorageError};

/// The calls of [`Storage`] that go to the place itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Operation {
    /// [`Storage::create`].
    Create,
    /// [`Storage::write`].
    Write,
    /// [`Storage::read`] and [`Storage::read_range`].
    Read,
    /// [`Storage::size`].
    Size,
    /// [`Storage::list`].
    List,
    /// [`Storage::delete`].
    Delete,
    /// [`Storage::protected_until`].
    LookUpProtection,
    /// [`Storage::protect_until`].
    Protect,
}

/// How often, how much, and how often in vain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// Calls begun.
    pub calls: u64,
    /// Calls that ended in an error.
    pub failures: u64,
    /// Bytes of files written or read by calls that succeeded.
    pub bytes: u64,
}

/// Counts of a storage, by operation and kind; creating folders belongs to no kind.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts(BTreeMap<(Operation, Option<FileKind>), Count>);

impl Counts {
    /// The counts of one operation on one kind of files.
    #[must_use]
    pub fn of(&self, operation: Operation, kind: FileKind) -> Count {
        let found = self.0.get(&(operation, Some(kind)));
        found.copied().unwrap_or_default()
    }

    /// Calls of one operation, over all kinds.
    #[must_use]
    pub fn calls_of(&self, operation: Operation) -> u64 {
        self.sum(operation, |count| count.calls)
    }

    /// Bytes that one operation moved, over all kinds.
    #[must_use]
    pub fn bytes_of(&self, operation: Operation) -> u64 {
        self.sum(operation, |count| count.bytes)
    }

    fn sum(&self, operation: Operation, number: impl Fn(&Count) -> u64) -> u64 {
        let counts = self.0.iter();
        counts
            .filter(|((counted, _), _)| *counted == operation)
            .map(|(_, count)| number(count))
            .sum()
    }
}

/// Counts what goes through it.
pub struct CountingStorage {
    inner: SharedStorage,
    counts: Mutex<Counts>,
}

impl CountingStorage {
    /// Counts from zero.
    #[must_use]
    pub fn new(inner: SharedStorage) -> Self {
        Self {
            inner,
            counts: Mutex::default(),
        }
    }

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.locked().clone()
    }

    /// The counts so far; counting starts from zero again.
    #[must_use]
    pub fn take(&self) -> Counts {
        std::mem::take(&mut *self.locked())
    }

    /// Numbers are added whole, so a panic elsewhere does not spoil them.
    fn locked(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counted<T>(
        &self,
        operation: Operation,
        kind: Option<FileKind>,
        call: impl FnOnce() -> Result<T, StorageError>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Result<T, StorageError> {
        self.add(operation, kind, |count| count.calls += 1);
        let result = call();
        match &result {
            Ok(value) => {
                let bytes = bytes(value) as u64;
                self.add(operation, kind, |count| count.bytes += bytes);
            }
            Err(_) => self.add(operation, kind, |count| count.failures += 1),
        }
        result
    }

    fn add(&self, operation: Operation, kind: Option<FileKind>, change: impl FnOnce(&mut Count)) {
        change(self.locked().0.entry((operation, kind)).or_default());
    }
}

impl Storage for CountingStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Result<(), StorageError> {
        self.counted(Operation::Create, None, || self.inner.create(), |()| 0)
    }

    fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), StorageError> {
        let call = || self.inner.write(key, bytes);
        self.counted(Operation::Write, Some(key.kind()), call, |()| bytes.len())
    }

    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
        let call = || self.inner.read(key);
        self.counted(Operation::Read, Some(key.kind()), call, Vec::len)
    }

    fn read_range(
        &self,
        key: &FileKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        let call = || self.inner.read_range(key, offset, length);
        self.counted(Operation::Read, Some(key.kind()), call, Vec::len)
    }

    fn read_range_into(
        &self,
        key: &FileKey,
        offset: u64,
        memory: &mut [u8],
    ) -> Result<(), StorageError> {
        let length = memory.len();
        let call = || self.inner.read_range_into(key, offset, memory);
        self.counted(Operation::Read, Some(key.kind()), call, |()| length)
    }

    fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError> {
        let call = || self.inner.size(key);
        self.counted(Operation::Size, Some(key.kind()), call, |_| 0)
    }

    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError> {
        self.counted(Operation::List, Some(kind), || self.inner.list(kind), |_| 0)
    }

    fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        let call = || self.inner.delete(key);
        self.counted(Operation::Delete, Some(key.kind()), call, |()| 0)
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
        self.inner.protection()
    }

    fn protected_until(&self, key: &FileKey) -> Result<Option<Timestamp>, StorageError> {
        let call = || self.inner.protected_until(key);
        self.counted(Operation::LookUpProtection, Some(key.kind()), call, |_| 0)
    }

    fn protect_until(&self, key: &FileKey, until: Timestamp) -> Result<(), StorageError> {
        let call = || self.inner.protect_until(key, until);
        self.counted(Operation::Protect, Some(key.kind()), call, |()| 0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::memory::MemoryStorage;

    #[test]
    fn calls_bytes_and_failures_are_told_apart() {
        let storage = CountingStorage::new(Arc::new(MemoryStorage::new()));
        let pack = FileKey::new(FileKind::Pack, [1; 32]);
        storage.create().unwrap();
        storage.write(&pack, b"12345").unwrap();
        storage.write(&FileKey::CONFIG, b"123").unwrap();
        storage.write(&FileKey::CONFIG, b"1234567").unwrap_err();
        storage.read(&pack).unwrap();
        storage.read_range(&pack, 1, 2).unwrap();
        storage.read_range(&pack, 4, 2).unwrap_err();
        storage.read_range_into(&pack, 1, &mut [0; 3]).unwrap();
        storage.read_range_into(&pack, 3, &mut [0; 3]).unwrap_err();
        storage.size(&pack).unwrap();
        storage.list(FileKind::Pack).unwrap();
        storage.delete(&pack).unwrap();

        let counts = storage.take();
        let count = |calls, failures, bytes| Count {
            calls,
            failures,
            bytes,
        };
        assert_eq!(counts.of(Operation::Write, FileKind::Pack), count(1, 0, 5));
        assert_eq!(
            counts.of(Operation::Write, FileKind::Config),
            count(2, 1, 3)
        );
        assert_eq!(counts.of(Operation::Read, FileKind::Pack), count(5, 2, 10));
        assert_eq!(counts.of(Operation::List, FileKind::Pack), count(1, 0, 0));
        assert_eq!(counts.of(Operation::Read, FileKind::Index), count(0, 0, 0));
        assert_eq!(counts.calls_of(Operation::Write), 3);
        assert_eq!(counts.bytes_of(Operation::Write), 8);
        assert_eq!(counts.calls_of(Operation::Create), 1);
        assert_eq!(storage.counts(), Counts::default());
    }
}
