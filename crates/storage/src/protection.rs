//! Storage that keeps files from deletion for a time, against everybody.
//!
//! Invariant: protection only grows; nothing here makes a time shorter.

use std::time::Duration;

use refloat_model::time::Timestamp;

use crate::{FileKey, FileKind, StorageError};

/// What a storage with such a protection can do beside [`Storage`](crate::Storage).
///
/// Files are protected for [`period`](Self::period) when they are written. What is still needed
/// later has to be extended by somebody, or it could be deleted.
pub trait Protection: Send + Sync {
    /// For how long files are protected.
    fn period(&self) -> Duration;

    /// Whether files of a kind are protected at all: locks are not.
    fn covers(&self, kind: FileKind) -> bool;

    /// Until when nobody can delete a file; none if it is not protected.
    ///
    /// # Errors
    /// There is no such file, or the storage does not tell.
    fn protected_until(&self, key: &FileKey) -> Result<Option<Timestamp>, StorageError>;

    /// Protects a file until a later time.
    ///
    /// # Errors
    /// There is no such file, or the storage refuses.
    fn protect_until(&self, key: &FileKey, until: Timestamp) -> Result<(), StorageError>;
}
