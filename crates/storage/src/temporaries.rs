//! What writers leave that died in the middle of a write.
//!
//! Invariant: only names that writers of a repository give to unfinished files are removed.

use std::time::Duration;

use crate::StorageError;

/// A place where a file has another name while it is being written.
pub trait Temporaries {
    /// Removes the unfinished files of writers that died.
    ///
    /// Age is measured by the place's own clock from the last write. The write of a
    /// live writer whose temporary file is removed fails, so `older_than` should be longer than any
    /// single write takes.
    ///
    /// # Errors
    /// A folder cannot be listed or a file not removed.
    fn remove_stale(&self, older_than: Duration) -> Result<StaleTemporaries, StorageError>;
}

/// What [`Temporaries::remove_stale`] removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StaleTemporaries {
    /// How many files.
    pub files: u64,
    /// How many bytes they had.
    pub bytes: u64,
}
