//! A recovery point as an adapter sees it when it restores.
//!
//! Invariant: bytes handed out were verified against their ids; a damaged point gives errors,
//! never wrong bytes.

use std::error::Error;
use std::io::Read;
use std::path::Path;

use refloat_model::cancel::Cancel;
use refloat_model::entry::{Entry, TreeSink};
use refloat_model::point::{ItemRecord, PointRecord};
use refloat_model::tree_path::TreePath;

/// Why a stored thing could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {path} of the recovery point")]
pub struct StoredError {
    /// `read`, `list`, `restore` …
    pub operation: &'static str,
    /// Where in the point.
    pub path: TreePath,
    /// What happened.
    #[source]
    pub cause: Box<dyn Error + Send + Sync>,
}

/// What writing a stored folder to disk came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WrittenFolder {
    /// Files and other entries that are now as stored.
    pub entries: u64,
    /// Content bytes verified in place.
    pub bytes_verified: u64,
    /// What could not be restored, each with its path and reason; empty means all is there.
    pub failures: Vec<String>,
}

/// One recovery point, opened for reading.
pub trait StoredPoint: Send + Sync {
    /// The point's summary.
    fn record(&self) -> &PointRecord;

    /// The manifest of one source.
    ///
    /// # Errors
    /// It cannot be read.
    fn items(&self, source: &str) -> Result<Vec<ItemRecord>, StoredError>;

    /// The entry at `path`; none if there is none.
    ///
    /// # Errors
    /// A directory above it cannot be read.
    fn stat(&self, path: &TreePath) -> Result<Option<Entry>, StoredError>;

    /// The entries of the directory `path`, sorted by name.
    ///
    /// # Errors
    /// It is no directory or cannot be read.
    fn list(&self, path: &TreePath) -> Result<Vec<Entry>, StoredError>;

    /// Opens the file at `path` for one read from start to end.
    ///
    /// # Errors
    /// It is no file, or its blobs are not all there.
    fn open(&self, path: &TreePath) -> Result<Box<dyn Read + Send>, StoredError>;

    /// Pushes what the directory `path` holds (not the directory itself) into `sink`, depth first
    /// in order of names; the way for targets that take a stream.
    ///
    /// # Errors
    /// Something cannot be read, or the sink gave up.
    fn walk(
        &self,
        path: &TreePath,
        sink: &mut dyn TreeSink,
        cancel: &Cancel,
    ) -> Result<(), StoredError>;

    /// Writes what the directory `path` holds into the existing folder `destination`, with all
    /// metadata (the folder's own too), in parallel, verified. Entries that are already equal
    /// stay; others of the same name are replaced; strangers stay.
    ///
    /// # Errors
    /// Nothing could be done at all. Single entries that failed are in the answer.
    fn write_folder(
        &self,
        path: &TreePath,
        destination: &Path,
        cancel: &Cancel,
    ) -> Result<WrittenFolder, StoredError>;
}
