//! Restoring stored trees into a local folder.
//!
//! ```text
//! walk (trees, directories, links) ─▶ batches of files ─▶ runs of blobs by pack
//!                                      (two at once)          │
//!                readers (each run read once, some ahead) ◀────┘
//!                      └─▶ workers: open, write, read back
//! ```
//!
//! The walk goes ahead while the batches before are written, so memory depends on batches and not
//! on the tree. Batches end in their order: links and the metadata of directories come after all
//! files before them. Within a batch every pack is read once, neighbouring blobs together, and a blob is
//! opened once however many files need it. Blobs are verified against their ids before anything is
//! written, and what was written is read back and compared.
//!
//! Crash behaviour: a file that replaces one appears complete or not at all, except large ones,
//! which are written in place so that a repeated restore goes on where it was. Files in new
//! directories grow under their names, private until they are complete. Repeating a restore
//! compares contents and writes only what differs.
//!
//! Invariant: an entry is either as stored or named in the report.

mod batch;
mod compare;
mod execute;
mod holes;
mod names;
mod read_ahead;
mod survey;
mod turns;
mod walk;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use refloat_localfs::FolderWriter;
use refloat_localfs::write::DirectoryState;
use refloat_model::cancel::Cancel;
use refloat_model::entry::Metadata;
use refloat_model::finding::Finding;
use refloat_model::progress::Counters;

use crate::error::RepositoryError;
use crate::failure::{EntryFailure, FailureLog};
use crate::format::tree::Node;
use crate::repository::IndexedRepository;

pub use names::CountedFiles;
pub use survey::{Survey, Surveys, survey};

/// How to restore.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RestoreOptions {
    /// Threads that open and write, for each of two batches.
    pub workers: usize,
    /// Whether what was written is read back and compared.
    pub read_back: ReadBack,
    /// Whether the folder holds nothing that has the name of an entry, so that one that is taken is taken
    /// by another entry.
    pub folder: DirectoryState,
}

/// Whether what was written is read back and compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadBack {
    /// Every byte.
    Everything,
    /// Nothing; blobs are verified before they are written all the same.
    Nothing,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            workers,
            read_back: ReadBack::Everything,
            folder: DirectoryState::Existing,
        }
    }
}

/// What restoring came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RestoreReport {
    /// Entries that are now as stored.
    pub entries: u64,
    /// Content bytes written.
    pub bytes_written: u64,
    /// Content bytes that were there already.
    pub bytes_kept: u64,
    /// Content bytes read back and compared, kept ones included; holes that were made, by what the file
    /// system says of them.
    pub bytes_verified: u64,
    /// Entries that are not as stored; the first 1,000, by path.
    pub failures: Vec<EntryFailure>,
    /// How many are not.
    pub failure_count: u64,
    /// Metadata that the system refused: owners, attributes.
    pub findings: Vec<Finding>,
}

/// What the threads of one restore share.
struct Job<'r> {
    repository: &'r IndexedRepository,
    writer: &'r FolderWriter,
    options: RestoreOptions,
    counters: Arc<Counters>,
    cancel: Cancel,
    failures: FailureLog,
    entries: AtomicU64,
    bytes_written: AtomicU64,
    bytes_kept: AtomicU64,
    bytes_verified: AtomicU64,
    stopped: AtomicBool,
    fatal: Mutex<Option<RepositoryError>>,
}

impl Job<'_> {
    /// Ends the restore: nothing else will succeed either.
    fn fail(&self, error: RepositoryError) {
        self.fatal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
        self.stopped.store(true, Ordering::SeqCst);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }

    fn entry_done(&self) {
        Counters::add(&self.entries, 1);
        Counters::add(&self.counters.entries_done, 1);
    }
}

/// Writes `nodes` into the writer's folder and, if given, sets the folder's own metadata.
///
/// Entries of the same names are replaced where they differ; strangers stay.
///
/// # Errors
/// The run was cancelled or the folder is full. Everything else is in the report.
pub fn restore(
    repository: &IndexedRepository,
    nodes: Vec<Node>,
    folder_metadata: Option<Metadata>,
    writer: &FolderWriter,
    options: RestoreOptions,
    counters: Arc<Counters>,
    cancel: Cancel,
) -> Result<RestoreReport, RepositoryError> {
    let job = Job {
        repository,
        writer,
        options,
        counters,
        cancel,
        failures: FailureLog::default(),
        entries: AtomicU64::new(0),
        bytes_written: AtomicU64::new(0),
        bytes_kept: AtomicU64::new(0),
        bytes_verified: AtomicU64::new(0),
        stopped: AtomicBool::new(false),
        fatal: Mutex::new(None),
    };
    walk::run(&job, nodes, folder_metadata);
    if let Some(error) = job
        .fatal
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
    {
        return Err(error);
    }
    job.cancel.check()?;
    writer.sync()?;
    let mut failures = job.failures.take();
    failures.kept.sort();
    Ok(RestoreReport {
        entries: Counters::get(&job.entries),
        bytes_written: Counters::get(&job.bytes_written),
        bytes_kept: Counters::get(&job.bytes_kept),
        bytes_verified: Counters::get(&job.bytes_verified),
        failures: failures.kept,
        failure_count: failures.count,
        findings: writer.take_findings().into_list("restored files"),
    })
}
