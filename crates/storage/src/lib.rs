//! Where a repository's files live: one contract, several implementations, small decorators.
//!
//! Invariant: a file that [`Storage::list`] shows is complete; a writer that dies leaves nothing
//! under its final name.

pub mod cache;
pub mod concurrency;
pub mod counting;
mod error;
mod file;
pub mod local;
pub mod location;
pub mod memory;
pub mod pace;
pub mod protection;
pub mod read_only;
pub mod retry;
pub mod temporaries;

use std::sync::Arc;
use std::time::Duration;

use refloat_model::time::Timestamp;

pub use error::{StorageError, StorageErrorKind};
pub use file::{FileKey, FileKind, Listed};
pub use location::{Location, LocationError, open_folder};
pub use protection::Protection;

/// [`Storage::settling`] of whatever is not of this machine: as long as restic waits.
pub const SETTLING: Duration = Duration::from_millis(200);

/// A place for the files of one repository.
///
/// Retry: implementations do not retry; [`StorageError::is_retryable`] tells the retry decorator
/// what may be tried again. Calls may block and may come from many threads at once.
///
/// Atomicity: after a successful [`write`](Self::write) the file is complete and durable; after a
/// failed one it is either absent or complete, never torn.
///
/// Ordering: a write that returned is visible to every later call of any process.
///
/// Every method is required: a decorator that forgets one would go round what it is there for. Only
/// `read_range_into` is made of another, and `now` is left out by what has no clock.
pub trait Storage: Send + Sync {
    /// The address without credentials, for messages.
    fn location(&self) -> String;

    /// Prepares an empty place (creates folders) for a new repository.
    ///
    /// # Errors
    /// The place cannot be made. That a repository is there already is not this call's business.
    fn create(&self) -> Result<(), StorageError>;

    /// Writes a whole file under a name that is not taken.
    ///
    /// Content-named files (packs, indexes, snapshots) may be written twice with the same bytes;
    /// the second write must succeed and change nothing.
    ///
    /// # Errors
    /// `AlreadyExists` only for [`FileKind::Config`] and only if the storage can tell atomically.
    fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), StorageError>;

    /// Reads a whole file.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError>;

    /// Reads exactly `length` bytes at `offset`.
    ///
    /// # Errors
    /// `NotFound` if there is no such file, `ShortRead` if it ends before.
    fn read_range(
        &self,
        key: &FileKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError>;

    /// Fills `memory` with the bytes at `offset`; after an error its content is undefined. Whoever reads
    /// much takes the same memory for each piece: the kernel clears what is new.
    ///
    /// # Errors
    /// As [`read_range`](Self::read_range).
    fn read_range_into(
        &self,
        key: &FileKey,
        offset: u64,
        memory: &mut [u8],
    ) -> Result<(), StorageError> {
        memory.copy_from_slice(&self.read_range(key, offset, memory.len())?);
        Ok(())
    }

    /// The size of a file in bytes; none if there is none.
    ///
    /// # Errors
    /// The storage cannot tell.
    fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError>;

    /// All files of a kind, in no order. Names that are no ids are passed over.
    ///
    /// # Errors
    /// The listing could not be completed: never a short list instead of an error.
    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError>;

    /// Removes a file. A file that is not there is no error: deletion is repeated after crashes.
    ///
    /// # Errors
    /// `Denied` when the storage keeps it (append-only, object lock).
    fn delete(&self, key: &FileKey) -> Result<(), StorageError>;

    /// How many calls at once make sense: a local disk 2, an object store 8 or more.
    fn connections(&self) -> usize;

    /// How long to wait after a write until a listing surely shows what others wrote at the same
    /// time. By the ordering above not at all, and so it is on a file system of this machine;
    /// servers and what lies between are not always true to it ([`SETTLING`]).
    fn settling(&self) -> Duration;

    /// The moment by the storage's own clock, as it told when it last answered; none if it tells no
    /// time. Whoever compares it with other times asks right after a call: what passes while this
    /// machine sleeps is not counted.
    fn now(&self) -> Option<Timestamp> {
        None
    }

    /// How files are kept from deletion; none if they are not.
    fn protection(&self) -> Option<Protection>;

    /// Until when nobody can delete a file; none if it is known not to be protected.
    ///
    /// # Errors
    /// There is no such file, or the storage does not tell.
    fn protected_until(&self, key: &FileKey) -> Result<Option<Timestamp>, StorageError>;

    /// Protects a file until a later time.
    ///
    /// # Errors
    /// There is no such file, or the storage refuses or protects nothing.
    fn protect_until(&self, key: &FileKey, until: Timestamp) -> Result<(), StorageError>;
}

/// Storage as the layers above hold it.
pub type SharedStorage = Arc<dyn Storage>;
