//! Storage that keeps files from deletion for a time, against everybody.
//!
//! Invariant: protection only grows; nothing here makes a time shorter.

use std::time::Duration;

use crate::{FileKey, FileKind, StorageError, StorageErrorKind};

/// How a storage keeps files from deletion.
///
/// Files are protected for the period when they are written. What is still needed later has to be
/// extended by somebody, or it could be deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Protection {
    /// For how long files are protected.
    pub period: Duration,
}

impl Protection {
    /// Whether files of a kind are protected at all: locks are not, or no run could end.
    #[must_use]
    pub const fn covers(self, kind: FileKind) -> bool {
        !matches!(kind, FileKind::Lock)
    }
}

/// The cause of a refusal.
#[derive(Debug, thiserror::Error)]
#[error("this storage keeps nothing from deletion")]
struct Unprotected;

/// What storage without protection answers to
/// [`protect_until`](crate::Storage::protect_until).
#[must_use]
pub fn unprotected(key: &FileKey, location: impl Into<String>) -> StorageError {
    StorageError::new(
        StorageErrorKind::Failed,
        "extend the protection of",
        key,
        location,
        Some(Box::new(Unprotected)),
    )
}
