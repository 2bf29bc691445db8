//! Writing: from trees that sources push to packs, indexes and a snapshot.
//!
//! ```text
//! source ─▶ TreeBuilder ─▶ jobs ─▶ workers: read, cut, hash, look up, compress, seal, verify
//!  (walks)   (one an item)  (bounded)   │  ▲ chunks of large files (bounded, or done in place)
//!                                       ▼  │
//!                                  open packs ─▶ uploads (bounded) ─▶ storage, then the index
//! ```
//!
//! Write order, an invariant of the format: packs, then the indexes that list them, then, after
//! every pack was seen in storage with its size and the lock was proven, the snapshot. A crash in
//! between leaves packs that the next prune removes, or indexes whose blobs the next run reuses.
//!
//! Invariant: nothing is published through a type other than [`Archived`], which exists only when
//! every pack and index of the run was stored.

mod buffers;
mod builder;
mod chunks;
mod claims;
mod contents;
mod cutter;
mod density;
mod directory;
mod hand;
mod packer;
mod previous;
mod publish;
mod stored;
mod worker;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;

use crate::codec::{Codec, Compression, Decrypted, Prepared};
use crate::error::RepositoryError;
use crate::format::pack::BlobKind;
use crate::format::tree::{Node, TREE_BYTES_MAX, encode};
use crate::id::BlobId;
use crate::pack_reading::listed_packs;
use crate::repository::IndexedRepository;

pub use builder::{FinishedTree, TreeBuilder};
pub use contents::{ContentIndex, EarlierContents, KnownContent};
pub use directory::TreeStatistics;
pub use previous::ParentTree;
pub use publish::{Archived, Checkpoint};

use buffers::SpareBuffers;
use density::Density;
use packer::Packer;
use previous::TreeJob;
use worker::{ChunkJob, Job};

/// Jobs that wait for a worker: enough that workers never starve while the walk reads a
/// directory, few enough that open directory handles stay far below the usual limit of 1,024.
const JOBS_QUEUED_MAX: usize = 256;
/// Chunks of large files that wait, at most 8 MiB each, 1.3 MiB on average.
const CHUNKS_QUEUED_MAX: usize = 4;
/// Packs that wait for upload, besides one in each uploader's hands. Their memory bounds them, too.
const UPLOADS_QUEUED_MAX: usize = 1;

/// How to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArchiveOptions {
    /// How hard to compress.
    pub compression: Compression,
    /// A pack is uploaded when it has reached this size, in bytes.
    pub pack_bytes_min: usize,
    /// Seed of the choice among open packs; none, as in production, takes a random one. With a
    /// seed and one worker the packs are the same every time, for tests.
    pub placement_seed: Option<u64>,
    /// Threads that read, hash and compress.
    pub workers: usize,
    /// Whether access times are recorded; they make every tree that was read a new one.
    pub access_times: bool,
    /// Whether files are read although the parent says that they are unchanged.
    pub read_unchanged: bool,
    /// The largest tree that is written, in bytes of JSON; less than what is read back only in tests.
    pub tree_bytes_max: usize,
}

impl Default for ArchiveOptions {
    fn default() -> Self {
        Self {
            compression: Compression::default(),
            pack_bytes_min: 16 << 20,
            placement_seed: None,
            workers: std::thread::available_parallelism().map_or(2, usize::from),
            access_times: false,
            read_unchanged: false,
            tree_bytes_max: TREE_BYTES_MAX,
        }
    }
}

/// What a run has added to the repository so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Added {
    /// New data blobs.
    pub data_blobs: u64,
    /// New tree blobs.
    pub tree_blobs: u64,
    /// Their plaintext, in bytes.
    pub plaintext_bytes: u64,
    /// Their sealed form in packs, in bytes.
    pub packed_bytes: u64,
}

/// State that builders, workers and uploaders share.
struct Shared {
    repository: IndexedRepository,
    options: ArchiveOptions,
    packer: Packer,
    buffers: SpareBuffers,
    /// Bytes of holes that may still be passed over ([`cutter`]).
    passable: AtomicU64,
    /// By pack number of the index: the pack's size as storage listed it when the run began, 0 if it
    /// did not. What lies in a pack that is gone, or behind the end of one that was cut off, is not
    /// trusted but stored again.
    pack_sizes: Vec<u64>,
    chunks: (Sender<ChunkJob>, Receiver<ChunkJob>),
    trees: (Sender<TreeJob>, Receiver<TreeJob>),
    contents: contents::Contents,
    counters: Arc<Counters>,
    cancel: Cancel,
    stopped: AtomicBool,
    failure: Mutex<Option<RepositoryError>>,
    data_blobs: AtomicU64,
    tree_blobs: AtomicU64,
    plaintext_bytes: AtomicU64,
}

impl Shared {
    /// Stops the run; the first failure is the one that is told.
    fn fail(&self, error: RepositoryError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        self.stopped.store(true, Ordering::SeqCst);
        drop(failure);
        self.packer.stop();
    }

    /// Does a piece of work of a thread of the pipeline; an error ends the run, and so does a
    /// panic: the thread goes on, so that nobody waits for it. That the run was cancelled is no
    /// error here: what came before may still be kept.
    fn guard(&self, work: impl FnOnce() -> Result<(), RepositoryError>) {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        let done = done.unwrap_or_else(|_panic| Err(RepositoryError::Panicked));
        match done {
            Ok(()) | Err(RepositoryError::Cancelled(_)) => {}
            Err(error) => self.fail(error),
        }
    }

    /// Whether the run should go on.
    fn check(&self) -> Result<(), RepositoryError> {
        self.cancel.check()?;
        if self.stopped.load(Ordering::Relaxed) {
            return Err(RepositoryError::Stopped);
        }
        Ok(())
    }

    /// The failure that stopped the run, if `error` is only its echo in another thread.
    fn told(&self, error: RepositoryError) -> RepositoryError {
        let echo = matches!(error, RepositoryError::Stopped);
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if echo {
            failure.take().unwrap_or(error)
        } else {
            error
        }
    }

    /// Whether a size in storage tells how much a blob compresses.
    fn compresses(&self) -> bool {
        self.options.compression != Compression::Off && self.repository.config().version >= 2
    }

    /// Whether a blob is in a pack that is there and reaches so far.
    fn has_blob(&self, kind: BlobKind, id: &BlobId) -> bool {
        let place = self.repository.index().end_in_pack(kind, id);
        place.is_some_and(|(number, end)| {
            let size = self.pack_sizes.get(number);
            size.is_some_and(|size| end <= *size)
        })
    }

    /// Stores a blob that hashes to `id` unless it is there or on its way; what was stored of it.
    fn store_hashed(
        &self,
        kind: BlobKind,
        id: BlobId,
        plaintext: &[u8],
    ) -> Result<Density, RepositoryError> {
        let stored = self.store_prepared(kind, id, plaintext.len(), |codec, compression| {
            codec.prepare(id, plaintext, compression)
        });
        stored.inspect_err(|_failed| self.stop_relying())
    }

    /// Others may rely on the claim of what could not be stored: nothing of this run can be published.
    fn stop_relying(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Stores a blob unless it is there or on its way, as it is prepared then; what was stored of it. If that
    /// fails, the blob stays claimed.
    fn store_prepared<'p>(
        &self,
        kind: BlobKind,
        id: BlobId,
        plain: usize,
        prepare: impl FnOnce(&Codec, Compression) -> Result<Prepared<'p>, RepositoryError>,
    ) -> Result<Density, RepositoryError> {
        if self.has_blob(kind, &id) || !self.packer.claim(kind, &id) {
            return Ok(Density::default());
        }
        let compression = match kind {
            BlobKind::Data => self.options.compression,
            // restic compresses trees whatever the setting: they always shrink.
            BlobKind::Tree if self.options.compression == Compression::Off => Compression::Auto,
            BlobKind::Tree => self.options.compression,
        };
        let codec = self.repository.codec();
        let prepared = prepare(codec, compression);
        let sealed = prepared.and_then(|blob| self.packer.add(codec, kind, blob))?;
        let counter = match kind {
            BlobKind::Data => &self.data_blobs,
            BlobKind::Tree => &self.tree_blobs,
        };
        Counters::add(counter, 1);
        let plain = plain as u64;
        Counters::add(&self.plaintext_bytes, plain);
        Ok(Density::of_sealed(plain, sealed))
    }

    /// Stores a directory whose nodes are sorted and unique.
    fn store_tree(&self, nodes: &[Node]) -> Result<BlobId, RepositoryError> {
        let json = encode(nodes);
        let (bytes, max) = (json.len(), self.options.tree_bytes_max);
        if bytes > max {
            return Err(RepositoryError::TreeTooLarge { bytes, max });
        }
        let id = BlobId::of(&json);
        let _density = self.store_hashed(BlobKind::Tree, id, &json)?;
        Ok(id)
    }

    /// Contents, by their digests, that are in packs which are stored.
    fn stored_contents(&self) -> ContentIndex {
        self.contents.filter(|known| {
            let mut blobs = known.content.iter();
            blobs.all(|id| self.packer.is_stored(id) || self.has_blob(BlobKind::Data, id))
        })
    }

    /// What is stored so far, with an index of it.
    fn archived(&self) -> Result<Archived, RepositoryError> {
        let packs = self.packer.write_index(&self.repository)?;
        let known = self.repository.index().packs().iter().zip(&self.pack_sizes);
        let trusted = known
            .filter(|(_, size)| **size > 0)
            .map(|(pack, size)| (*pack, *size))
            .collect();
        let repository = self.repository.clone();
        Ok(Archived::new(repository, packs, trusted, self.added()))
    }

    fn added(&self) -> Added {
        Added {
            data_blobs: Counters::get(&self.data_blobs),
            tree_blobs: Counters::get(&self.tree_blobs),
            plaintext_bytes: Counters::get(&self.plaintext_bytes),
            packed_bytes: self.packer.packed_bytes(),
        }
    }
}

/// Takes trees, as many at once as wanted, and turns them into blobs, packs and indexes.
pub struct Archiver {
    shared: Arc<Shared>,
    jobs: Option<Sender<Job>>,
    workers: Vec<JoinHandle<()>>,
    uploaders: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Archiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archiver")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl Archiver {
    /// Starts the threads.
    ///
    /// The caller holds a shared lock of the repository for as long as the archiver lives, and
    /// gives it to [`Archived::publish`].
    ///
    /// # Errors
    /// No threads, or no randomness.
    pub fn start(
        repository: IndexedRepository,
        options: ArchiveOptions,
        counters: Arc<Counters>,
        cancel: Cancel,
    ) -> Result<Self, RepositoryError> {
        let (jobs, job_queue) = bounded(JOBS_QUEUED_MAX);
        let (uploads, upload_queue) = bounded(UPLOADS_QUEUED_MAX);
        let listed = listed_packs(repository.storage())?;
        let known = repository.index().packs().iter();
        let pack_sizes = known
            .map(|pack| listed.get(pack).copied().unwrap_or_default())
            .collect();
        let connections = repository.storage().connections().max(1);
        let shared = Arc::new(Shared {
            pack_sizes,
            packer: Packer::new(&options, connections, uploads)?,
            buffers: SpareBuffers::new(options.workers),
            passable: AtomicU64::new(cutter::PASSED_BYTES_MAX),
            repository,
            options,
            chunks: bounded(CHUNKS_QUEUED_MAX),
            trees: previous::queue(),
            contents: contents::Contents::default(),
            counters,
            cancel,
            stopped: AtomicBool::new(false),
            failure: Mutex::new(None),
            data_blobs: AtomicU64::new(0),
            tree_blobs: AtomicU64::new(0),
            plaintext_bytes: AtomicU64::new(0),
        });
        let worker = || (Arc::clone(&shared), job_queue.clone());
        let uploader = || (Arc::clone(&shared), upload_queue.clone());
        let workers = spawn("archive", options.workers.max(1), || {
            let (shared, jobs) = worker();
            move || worker::work(&shared, &jobs)
        })?;
        let uploaders = spawn("upload", connections, || {
            let (shared, queue) = uploader();
            move || packer::upload(&shared, &queue)
        })?;
        Ok(Self {
            shared,
            jobs: Some(jobs),
            workers,
            uploaders,
        })
    }

    /// Begins a tree. `parents` is what the same directory held in an earlier point, or in several,
    /// the best first: files in it that did not change are not read.
    #[must_use]
    pub fn tree(&self, parents: Vec<ParentTree>) -> TreeBuilder {
        TreeBuilder::new(Arc::clone(&self.shared), self.jobs.clone(), parents)
    }

    /// Says where contents of earlier points are found by their digest; the first call counts.
    pub fn set_earlier_contents(&self, load: EarlierContents) {
        self.shared.contents.set_earlier(load);
    }

    /// Stores a directory of nodes that exist already, and returns its id.
    ///
    /// # Errors
    /// Two have the same name, or storage failed.
    pub fn store_directory(&self, mut nodes: Vec<Node>) -> Result<BlobId, RepositoryError> {
        nodes.sort_by(|a, b| a.name().cmp(b.name()));
        if let Some(twice) = nodes
            .windows(2)
            .find(|pair| pair[0].name() == pair[1].name())
        {
            let name = String::from_utf8_lossy(twice[0].name()).into_owned();
            let cause = format!("the entry {name:?} is there twice");
            return Err(RepositoryError::encode("a directory", cause));
        }
        self.shared
            .store_tree(&nodes)
            .map_err(|error| self.shared.told(error))
    }

    /// Whether a blob is in the repository already, in a pack that is there.
    #[must_use]
    pub fn holds(&self, kind: BlobKind, id: &BlobId) -> bool {
        self.shared.has_blob(kind, id)
    }

    /// Stores a blob of another repository unless it is there or on its way; its first proof is that of what was
    /// sealed. If that fails, `damage_there` says whether the other repository's is not what its id says. Then it
    /// stays claimed and others can still be stored: the caller gives no blob twice, and publishes nothing that needs it.
    ///
    /// # Errors
    /// What `damage_there` said. Or it cannot be sealed or stored, and the run is over.
    pub(crate) fn store_decrypted(
        &self,
        kind: BlobKind,
        blob: &Decrypted<'_>,
        damage_there: impl FnOnce() -> Option<RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let shared = &self.shared;
        let length = blob.plaintext_bytes();
        let prepare = |codec: &Codec, compression| codec.prepare_decrypted(blob, compression);
        let stored = shared.store_prepared(kind, blob.id(), length, prepare);
        stored.map(drop).map_err(|error| {
            if matches!(error, RepositoryError::VerifyFailed { .. }) {
                if let Some(damage) = damage_there() {
                    return damage;
                }
                // For all threads, whichever failed first: this machine is not to be trusted.
                shared.fail(RepositoryError::VerifyFailed { blob: blob.id() });
                return error;
            }
            shared.stop_relying();
            shared.told(error)
        })
    }

    /// As [`complete`](Self::complete), where nothing of a cancelled run is to be kept.
    ///
    /// # Errors
    /// See there.
    pub fn finish(mut self) -> Result<Archived, RepositoryError> {
        self.complete()
    }

    /// Waits for all work and uploads, and writes the indexes. Nothing can be brought after it.
    ///
    /// All builders must have finished.
    ///
    /// # Errors
    /// Anything of the run failed, but for blobs that another repository has damaged, or it was cancelled; nothing can
    /// be published then. What a cancelled run has stored can be [kept](Self::keep).
    pub fn complete(&mut self) -> Result<Archived, RepositoryError> {
        self.end();
        self.must_go_on()?;
        self.shared.cancel.check()?;
        self.shared.archived()
    }

    /// Stores what a cancelled run has read so far, and writes the indexes: the next run need not
    /// store it again. Its complete contents, by their digests, are in the result as well.
    ///
    /// # Errors
    /// Anything of the run failed.
    pub fn keep(mut self) -> Result<Checkpoint, RepositoryError> {
        // First of what is stored: what is still to be sent may take longer than a run that is asked to stop has.
        self.must_go_on()?;
        drop(self.shared.archived()?);
        self.end();
        self.must_go_on()?;
        self.checkpoint()
    }

    /// The failure that stopped the run, if one did.
    fn must_go_on(&self) -> Result<(), RepositoryError> {
        match self.shared.stopped.load(Ordering::SeqCst) {
            true => Err(self.shared.told(RepositoryError::Stopped)),
            false => Ok(()),
        }
    }

    /// Writes an index of the packs that are stored so far, so that they serve the next run should
    /// this one be killed; and tells which contents lie in those and in older packs alone.
    ///
    /// # Errors
    /// Storage failed. The run may go on.
    pub fn checkpoint(&self) -> Result<Checkpoint, RepositoryError> {
        // In this order: what is stored in between is not told, and is in no index yet.
        let contents = self.shared.stored_contents();
        Ok(Checkpoint::new(self.shared.archived()?, contents))
    }

    /// Ends all threads when they have done what is to be done.
    fn end(&mut self) {
        drop(self.jobs.take());
        join(&mut self.workers, &self.shared);
        if !self.shared.stopped.load(Ordering::SeqCst) {
            let flushed = self.shared.packer.flush(self.shared.repository.codec());
            flushed.unwrap_or_else(|error| self.shared.fail(error));
        }
        self.shared.packer.close();
        join(&mut self.uploaders, &self.shared);
    }
}

impl Drop for Archiver {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        drop(self.jobs.take());
        join(&mut self.workers, &self.shared);
        self.shared.packer.close();
        join(&mut self.uploaders, &self.shared);
    }
}

fn spawn<F: FnOnce() + Send + 'static>(
    name: &str,
    count: usize,
    mut make: impl FnMut() -> F,
) -> Result<Vec<JoinHandle<()>>, RepositoryError> {
    let thread = |number| {
        std::thread::Builder::new()
            .name(format!("{name} {number}"))
            .spawn(make())
            .map_err(|cause| RepositoryError::NoThread {
                does: "reads or uploads",
                cause,
            })
    };
    (0..count).map(thread).collect()
}

fn join(threads: &mut Vec<JoinHandle<()>>, shared: &Shared) {
    for thread in threads.drain(..) {
        if thread.join().is_err() {
            shared.fail(RepositoryError::Panicked);
        }
    }
}
