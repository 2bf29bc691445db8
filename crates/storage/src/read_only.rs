//! Storage that nobody may change: media and credentials that only read, and every command that
//! must work on them.
//!
//! Invariant: no mutation reaches the inner storage.

use std::time::Duration;

use refloat_model::time::Timestamp;

use crate::{
    FileKey, FileKind, Listed, Protection, SharedStorage, Storage, StorageError, StorageErrorKind,
};

/// Refuses every mutation before anything else is done.
pub struct ReadOnlyStorage {
    inner: SharedStorage,
}

impl ReadOnlyStorage {
    /// Guards a storage.
    #[must_use]
    pub const fn new(inner: SharedStorage) -> Self {
        Self { inner }
    }

    fn refuse(&self, operation: &'static str, subject: &str) -> StorageError {
        StorageError::on(
            StorageErrorKind::Denied,
            operation,
            subject,
            self.inner.location(),
            Some(Box::new(OpenedReadOnly)),
        )
    }
}

/// The cause of a refusal.
#[derive(Debug, thiserror::Error)]
#[error("the repository was opened read-only")]
struct OpenedReadOnly;

impl Storage for ReadOnlyStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Result<(), StorageError> {
        Err(self.refuse("create", "folders"))
    }

    fn write(&self, key: &FileKey, _bytes: &[u8]) -> Result<(), StorageError> {
        Err(self.refuse("write", &key.path()))
    }

    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
        self.inner.read(key)
    }

    fn read_range(
        &self,
        key: &FileKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        self.inner.read_range(key, offset, length)
    }

    fn read_range_into(
        &self,
        key: &FileKey,
        offset: u64,
        memory: &mut [u8],
    ) -> Result<(), StorageError> {
        self.inner.read_range_into(key, offset, memory)
    }

    fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError> {
        self.inner.size(key)
    }

    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError> {
        self.inner.list(kind)
    }

    fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        Err(self.refuse("delete", &key.path()))
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
        self.inner.protected_until(key)
    }

    fn protect_until(&self, key: &FileKey, _until: Timestamp) -> Result<(), StorageError> {
        Err(self.refuse("extend the protection of", &key.path()))
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::sync::Arc;

    use super::*;
    use crate::counting::{CountingStorage, Operation};
    use crate::memory::MemoryStorage;

    #[test]
    fn reads_pass_and_mutations_do_not() {
        let memory = Arc::new(MemoryStorage::new());
        let key = FileKey::new(FileKind::Pack, [1; 32]);
        memory.write(&key, b"pack").unwrap();
        let counting = Arc::new(CountingStorage::new(memory));
        let storage = ReadOnlyStorage::new(Arc::clone(&counting) as SharedStorage);

        let refused = [
            storage.create().unwrap_err(),
            storage.write(&FileKey::CONFIG, b"config").unwrap_err(),
            storage.delete(&key).unwrap_err(),
            storage
                .protect_until(&key, Timestamp::default())
                .unwrap_err(),
        ];
        for error in &refused {
            assert_eq!(error.kind(), StorageErrorKind::Denied);
            assert_eq!(
                error.source().unwrap().to_string(),
                "the repository was opened read-only"
            );
        }
        assert_eq!(refused[1].to_string(), "cannot write config at memory");
        assert_eq!(storage.read(&key).unwrap(), b"pack");
        assert_eq!(storage.read_range(&key, 1, 2).unwrap(), b"ac");
        assert_eq!(storage.size(&key).unwrap(), Some(4));
        assert_eq!(storage.list(FileKind::Pack).unwrap().len(), 1);
        let counts = counting.counts();
        let mutations = [
            Operation::Create,
            Operation::Write,
            Operation::Delete,
            Operation::Protect,
        ];
        for operation in mutations {
            assert_eq!(counts.calls_of(operation), 0, "{operation:?}");
        }
    }
}
