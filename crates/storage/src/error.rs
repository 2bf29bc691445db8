//! Why a storage call failed.
//!
//! Invariant: the text never holds credentials; the kind tells what a caller can do.

use std::error::Error;
use std::time::Duration;

use crate::file::FileKey;

/// What a caller can tell apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StorageErrorKind {
    /// There is no such file.
    NotFound,
    /// The file is there already.
    AlreadyExists,
    /// The storage refuses: rights, append-only, object lock.
    Denied,
    /// The storage does not know who we are: credentials are wrong, expired or missing.
    Unauthorized,
    /// The bucket, container or folder that should hold the repository does not exist.
    NoPlace,
    /// The other side could not prove who it is.
    Untrusted,
    /// This machine's clock is too far from the storage's.
    ClockSkew,
    /// No space or quota left.
    Full,
    /// The file ends before the range that was asked for.
    ShortRead,
    /// The storage cannot be reached, or failed in a way that may pass.
    Unavailable,
    /// The storage answers, and says that it cannot do it at this moment.
    Busy,
    /// This run was asked to stop, and makes no more calls.
    Interrupted,
    /// Anything else; trying again does not help.
    Failed,
}

/// A failed storage call: operation, subject, cause.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {subject} at {location}")]
pub struct StorageError {
    kind: StorageErrorKind,
    operation: &'static str,
    // Errors of all callers have this one within them: it is kept short.
    subject: Box<str>,
    location: Box<str>,
    retry_after: Option<Duration>,
    #[source]
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl StorageError {
    /// A failed call on one file.
    pub fn new(
        kind: StorageErrorKind,
        operation: &'static str,
        key: &FileKey,
        location: impl Into<String>,
        cause: Option<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::on(kind, operation, key.path(), location, cause)
    }

    /// A failed call on something else: a folder, a listing.
    pub fn on(
        kind: StorageErrorKind,
        operation: &'static str,
        subject: impl Into<String>,
        location: impl Into<String>,
        cause: Option<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            operation,
            subject: subject.into().into_boxed_str(),
            location: location.into().into_boxed_str(),
            retry_after: None,
            cause,
        }
    }

    /// What a caller can tell apart.
    #[must_use]
    pub const fn kind(&self) -> StorageErrorKind {
        self.kind
    }

    /// How long the storage asks to wait before the next call.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The same, of a storage that asks to wait.
    #[must_use]
    pub fn asking_to_wait(self, retry_after: Option<Duration>) -> Self {
        Self {
            retry_after,
            ..self
        }
    }

    /// The same, of a run that was asked to stop before it could try again.
    #[must_use]
    pub fn interrupted(self) -> Self {
        Self {
            kind: StorageErrorKind::Interrupted,
            ..self
        }
    }

    /// Whether the storage itself is at fault, and not the file: others fail as well then.
    #[must_use]
    pub const fn is_of_the_storage(&self) -> bool {
        matches!(
            self.kind,
            StorageErrorKind::Unavailable | StorageErrorKind::Busy
        )
    }

    /// Whether this shows that the file is gone or ends too early. Other failures say nothing about what it
    /// holds: whoever may not read it now may read it tomorrow.
    #[must_use]
    pub const fn is_loss(&self) -> bool {
        matches!(
            self.kind,
            StorageErrorKind::NotFound | StorageErrorKind::ShortRead
        )
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            StorageErrorKind::Unavailable | StorageErrorKind::Busy | StorageErrorKind::ShortRead
        )
    }
}
