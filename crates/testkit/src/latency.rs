//! Storage that is as slow as a network, for tests of pipelines and deadlines.
//!
//! Invariant: only time is changed, never an answer.

use std::time::Duration;

use refloat_model::time::Timestamp;
use refloat_storage::{
    FileKey, FileKind, Listed, Protection, SharedStorage, Storage, StorageError,
};

/// How slow.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// Time that every call takes before it does anything.
    pub per_call: Duration,
    /// Bytes that one call moves in a second; none for no limit.
    pub bytes_per_second: Option<u64>,
    /// What the storage says about useful concurrency.
    pub connections: usize,
}

/// Delays every call.
pub struct SlowStorage {
    inner: SharedStorage,
    latency: Latency,
}

impl SlowStorage {
    /// Slows a storage down.
    #[must_use]
    pub const fn new(inner: SharedStorage, latency: Latency) -> Self {
        Self { inner, latency }
    }

    fn wait(&self, bytes: usize) {
        let transfer = match self.latency.bytes_per_second {
            Some(rate) => Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / rate),
            None => Duration::ZERO,
        };
        std::thread::sleep(self.latency.per_call + transfer);
    }
}

impl Storage for SlowStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Result<(), StorageError> {
        self.wait(0);
        self.inner.create()
    }

    fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), StorageError> {
        self.wait(bytes.len());
        self.inner.write(key, bytes)
    }

    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
        let result = self.inner.read(key);
        self.wait(result.as_ref().map_or(0, Vec::len));
        result
    }

    fn read_range(
        &self,
        key: &FileKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        let result = self.inner.read_range(key, offset, length);
        self.wait(result.as_ref().map_or(0, Vec::len));
        result
    }

    fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError> {
        self.wait(0);
        self.inner.size(key)
    }

    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError> {
        self.wait(0);
        self.inner.list(kind)
    }

    fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        self.wait(0);
        self.inner.delete(key)
    }

    fn connections(&self) -> usize {
        self.latency.connections
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
        self.wait(0);
        self.inner.protected_until(key)
    }
    fn protect_until(&self, key: &FileKey, until: Timestamp) -> Result<(), StorageError> {
        self.wait(0);
        self.inner.protect_until(key, until)
    }
}
