//! Storage that asks a function before each call.
//!
//! Invariant: a call that the function lets pass gets the inner storage's answer.

use std::ops::Range;
use std::time::Duration;

use refloat_model::time::Timestamp;
use refloat_storage::{
    FileKey, FileKind, Listed, Protection, SharedStorage, Storage, StorageError, StorageErrorKind,
};

/// A call that is about to happen.
#[derive(Clone, Copy, Debug)]
pub enum Call {
    /// [`Storage::create`].
    Create,
    /// [`Storage::write`].
    Write(FileKey),
    /// [`Storage::read`] and [`Storage::read_range`].
    Read(FileKey),
    /// [`Storage::size`].
    Size(FileKey),
    /// [`Storage::list`].
    List(FileKind),
    /// [`Storage::delete`].
    Delete(FileKey),
    /// [`Storage::protected_until`].
    LookUpProtection(FileKey),
    /// [`Storage::protect_until`].
    Protect(FileKey),
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Create => f.write_str("create"),
            Self::Write(key) => write!(f, "write {}", key.kind().folder()),
            Self::Read(key) => write!(f, "read {}", key.kind().folder()),
            Self::Size(key) => write!(f, "size {}", key.kind().folder()),
            Self::List(kind) => write!(f, "list {}", kind.folder()),
            Self::Delete(key) => write!(f, "delete {}", key.kind().folder()),
            Self::LookUpProtection(key) => {
                write!(f, "look up the protection of {}", key.kind().folder())
            }
            Self::Protect(key) => write!(f, "protect {}", key.kind().folder()),
        }
    }
}

/// Decides about a call: an error is the call's answer, and nothing is done.
pub type Gate = Box<dyn Fn(Call) -> Result<(), StorageError> + Send + Sync>;

/// See the module.
pub struct Intercepted {
    inner: SharedStorage,
    gate: Gate,
    connections: usize,
    settling: Duration,
    bad_sectors: Option<(FileKey, Range<u64>)>,
}

impl Intercepted {
    /// Asks `gate` before each call to `inner`.
    #[must_use]
    pub fn new(inner: SharedStorage, gate: Gate) -> Self {
        let (connections, settling) = (inner.connections(), inner.settling());
        Self {
            inner,
            gate,
            connections,
            settling,
            bad_sectors: None,
        }
    }

    /// The same, which asks for no more calls at once than these.
    #[must_use]
    pub const fn with_connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// The same, whose listings are said to show what others write only after so long.
    #[must_use]
    pub const fn with_settling(mut self, settling: Duration) -> Self {
        self.settling = settling;
        self
    }

    /// The same, which fails whatever reads one of these bytes of a file, as a disk with bad sectors does.
    #[must_use]
    pub fn with_bad_sectors(mut self, key: FileKey, bytes: Range<u64>) -> Self {
        self.bad_sectors = Some((key, bytes));
        self
    }

    fn pass_over_sectors(&self, key: &FileKey, read: Range<u64>) -> Result<(), StorageError> {
        match &self.bad_sectors {
            Some((bad, sectors))
                if bad == key && read.start < sectors.end && sectors.start < read.end =>
            {
                Err(StorageError::new(
                    StorageErrorKind::Failed,
                    "read",
                    key,
                    self.location(),
                    Some("Input/output error".into()),
                ))
            }
            _ => Ok(()),
        }
    }
}

impl Storage for Intercepted {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Result<(), StorageError> {
        (self.gate)(Call::Create)?;
        self.inner.create()
    }

    fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), StorageError> {
        (self.gate)(Call::Write(*key))?;
        self.inner.write(key, bytes)
    }

    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
        (self.gate)(Call::Read(*key))?;
        self.pass_over_sectors(key, 0..u64::MAX)?;
        self.inner.read(key)
    }

    fn read_range(
        &self,
        key: &FileKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        (self.gate)(Call::Read(*key))?;
        self.pass_over_sectors(key, offset..offset.saturating_add(length as u64))?;
        self.inner.read_range(key, offset, length)
    }

    fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError> {
        (self.gate)(Call::Size(*key))?;
        self.inner.size(key)
    }

    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError> {
        (self.gate)(Call::List(kind))?;
        self.inner.list(kind)
    }

    fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        (self.gate)(Call::Delete(*key))?;
        self.inner.delete(key)
    }

    fn connections(&self) -> usize {
        self.connections
    }
    fn settling(&self) -> Duration {
        self.settling
    }

    fn now(&self) -> Option<Timestamp> {
        self.inner.now()
    }
    fn protection(&self) -> Option<Protection> {
        self.inner.protection()
    }
    fn protected_until(&self, key: &FileKey) -> Result<Option<Timestamp>, StorageError> {
        (self.gate)(Call::LookUpProtection(*key))?;
        self.inner.protected_until(key)
    }
    fn protect_until(&self, key: &FileKey, until: Timestamp) -> Result<(), StorageError> {
        (self.gate)(Call::Protect(*key))?;
        self.inner.protect_until(key, until)
    }
}
