//! Storage that can be exchanged under an open repository.
//!
//! Invariant: each call sees one of the storages, and its answer is that storage's.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use refloat_model::time::Timestamp;
use refloat_storage::{
    FileKey, FileKind, Listed, Protection, SharedStorage, Storage, StorageError,
};

/// Storage whose files are exchanged while a repository is open: opening costs a key derivation.
pub struct Swap(Mutex<SharedStorage>);

impl Swap {
    /// Shows these first.
    #[must_use]
    pub fn new(storage: &SharedStorage) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Arc::clone(storage))))
    }

    /// For whoever takes a storage.
    #[must_use]
    pub fn shared(self: &Arc<Self>) -> SharedStorage {
        Arc::clone(self) as SharedStorage
    }

    /// Shows these from now on.
    ///
    /// # Panics
    /// Another thread panicked while it did this.
    pub fn set(&self, storage: &SharedStorage) {
        *self.0.lock().unwrap() = Arc::clone(storage);
    }

    fn inner(&self) -> SharedStorage {
        Arc::clone(&self.0.lock().unwrap())
    }
}

impl Storage for Swap {
    fn location(&self) -> String {
        "swap".to_owned()
    }
    fn create(&self) -> Result<(), StorageError> {
        self.inner().create()
    }
    fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), StorageError> {
        self.inner().write(key, bytes)
    }
    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
        self.inner().read(key)
    }
    fn read_range(
        &self,
        key: &FileKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        self.inner().read_range(key, offset, length)
    }
    fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError> {
        self.inner().size(key)
    }
    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError> {
        self.inner().list(kind)
    }
    fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        self.inner().delete(key)
    }
    fn connections(&self) -> usize {
        2
    }
    fn settling(&self) -> Duration {
        self.inner().settling()
    }

    fn now(&self) -> Option<Timestamp> {
        self.inner().now()
    }
    fn protection(&self) -> Option<Protection> {
        self.inner().protection()
    }
    fn protected_until(&self, key: &FileKey) -> Result<Option<Timestamp>, StorageError> {
        self.inner().protected_until(key)
    }
    fn protect_until(&self, key: &FileKey, until: Timestamp) -> Result<(), StorageError> {
        self.inner().protect_until(key, until)
    }
}
