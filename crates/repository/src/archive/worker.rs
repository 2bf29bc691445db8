//! Workers: read files, cut them, store chunks, complete directories.
//!
//! A small file is read and stored by one worker without any hand-over. A large one is read and
//! cut by one worker, in order, while its chunks are hashed, compressed and sealed by all; when
//! the queue of chunks is full, the worker that cuts does the next chunk itself, so nobody waits
//! and nothing deadlocks.
//!
//! Invariant: a file whose content could not be read to its end is never stored in part.

use std::io::{self, Read};
use std::sync::Arc;

use crossbeam_channel::{Receiver, select};
use refloat_model::entry::{Content, Entry, EntryKind};
use refloat_model::progress::Counters;

use super::Shared;
use super::buffers::{Buffer, read_full};
use super::chunks::{ChunkList, FileChunks};
use super::cutter::cut_file;
use super::density::{Density, Earlier};
use super::directory::Directory;
use crate::chunker::{CHUNK_BYTES_AVERAGE, CHUNK_BYTES_MIN};
use crate::error::RepositoryError;
use crate::failure::chain;
use crate::format::pack::BlobKind;
use crate::format::tree::Node;
use crate::id::BlobId;

/// For a longer file, in bytes, nothing that was read waits: what is in hand takes memory, and one chunk
/// is all that is wanted of it.
const AWAITED_BYTES_MAX: u64 = 2 * CHUNK_BYTES_AVERAGE as u64;

/// Work for any worker.
pub enum Job {
    /// A file to be read.
    File(Box<FileJob>),
    /// A directory that is complete.
    Directory(Arc<Directory>),
}

/// A file to be read.
pub struct FileJob {
    pub place: FilePlace,
    pub content: Box<dyn Content>,
}

impl FileJob {
    /// Whether what is to be stored of this directory may wait until this file was read and cut: that
    /// is not long, as far as is known, and it is of the same tree, so that nobody's file waits for
    /// another application's. An empty one is done at once, so it does not go with anything.
    fn goes_with(&self, directory: &Directory) -> bool {
        let listed = match self.place.entry.kind {
            EntryKind::File { size } => size,
            _ => u64::MAX,
        };
        (1..=AWAITED_BYTES_MAX).contains(&listed)
            && Arc::ptr_eq(&directory.tree, &self.place.directory.tree)
    }
}

/// A chunk to be stored.
pub struct ChunkJob {
    pub file: Arc<FileChunks>,
    pub number: usize,
    pub buffer: Buffer,
}

/// A worker: goes on until there are no more builders.
pub fn work(shared: &Shared, jobs: &Receiver<Job>) {
    let mut buffers = Buffers::default();
    let chunks = &shared.chunks.1;
    let trees = &shared.trees.1;
    loop {
        // Trees first: a walk waits for them. Then chunks: they hold memory.
        if let Ok(tree) = trees.try_recv() {
            tree.run(shared);
            continue;
        }
        if let Ok(chunk) = chunks.try_recv() {
            store_chunk(shared, chunk, jobs, &mut buffers);
            continue;
        }
        select! {
            recv(trees) -> tree => if let Ok(tree) = tree {
                tree.run(shared);
            },
            recv(chunks) -> chunk => if let Ok(chunk) = chunk {
                store_chunk(shared, chunk, jobs, &mut buffers);
            },
            recv(jobs) -> job => match job {
                Ok(job) => run(shared, job, jobs, &mut buffers),
                Err(_no_more_builders) => break,
            },
        }
    }
    // Whoever cut a file has ended as well by the time this is empty, or does its chunks itself.
    while let Ok(chunk) = chunks.try_recv() {
        store_chunk(shared, chunk, jobs, &mut buffers);
    }
}

/// What two files are read into. They keep their length from file to file: setting it anew for each
/// small one would write more zeros than the file has bytes, a hundred times over.
#[derive(Default)]
struct Buffers {
    first: Vec<u8>,
    second: Vec<u8>,
}

/// Does a job, and whatever others it took from the queue.
fn run(shared: &Shared, job: Job, jobs: &Receiver<Job>, buffers: &mut Buffers) {
    let mut next = Some(job);
    while let Some(job) = next.take() {
        if shared.check().is_err() {
            return;
        }
        shared.guard(|| {
            match job {
                Job::Directory(directory) => directory.complete(shared)?,
                Job::File(file) => next = read_files(shared, *file, jobs, buffers)?,
            }
            Ok(())
        });
    }
}

/// Stores a file, and with a small one what comes next: two are hashed in little more time than one.
/// Gives back what it took from the queue and does not go with it.
fn read_files(
    shared: &Shared,
    file: FileJob,
    jobs: &Receiver<Job>,
    Buffers { first, second }: &mut Buffers,
) -> Result<Option<Job>, RepositoryError> {
    let Some(small) = read_file(shared, file, first)? else {
        return Ok(None);
    };
    let bytes = &first[..small.length];
    let other = match jobs.try_recv() {
        Ok(Job::File(other)) if other.goes_with(&small.place.directory) => other,
        taken => {
            small.store(shared, BlobId::of(bytes), bytes)?;
            return Ok(taken.ok());
        }
    };
    // What is in hand is stored even if the run was cancelled meanwhile.
    match read_file(shared, *other, second) {
        Ok(Some(other)) => {
            let others = &second[..other.length];
            let [id, other_id] = BlobId::of_two(bytes, others);
            small.store(shared, id, bytes)?;
            other.store(shared, other_id, others)?;
        }
        // It was cut, and its chunks wait unless somebody took them.
        cut => {
            match shared.chunks.1.try_recv() {
                Ok(chunk) => {
                    let [id, chunk_id] = BlobId::of_two(bytes, chunk.buffer.bytes());
                    small.store(shared, id, bytes)?;
                    store_hashed(shared, chunk, chunk_id)?;
                }
                Err(_none) => small.store(shared, BlobId::of(bytes), bytes)?,
            }
            cut?;
        }
    }
    Ok(None)
}

/// Stores a chunk, and with it another that waits or what comes next.
fn store_chunk(shared: &Shared, chunk: ChunkJob, jobs: &Receiver<Job>, buffers: &mut Buffers) {
    if shared.check().is_err() {
        return;
    }
    let mut left = None;
    shared.guard(|| {
        left = store_with_next(shared, chunk, jobs, buffers)?;
        Ok(())
    });
    if let Some(job) = left {
        run(shared, job, jobs, buffers);
    }
}

/// Gives back what it took from the queue and does not go with the chunk.
fn store_with_next(
    shared: &Shared,
    chunk: ChunkJob,
    jobs: &Receiver<Job>,
    Buffers { first, .. }: &mut Buffers,
) -> Result<Option<Job>, RepositoryError> {
    if !shared.chunks.1.is_empty() {
        return store_two(shared, chunk).map(|()| None);
    }
    let next = match jobs.try_recv() {
        Ok(Job::File(next)) if next.goes_with(chunk.file.directory()) => next,
        taken => return store_two(shared, chunk).map(|()| taken.ok()),
    };
    match read_file(shared, *next, first) {
        Ok(Some(small)) => {
            let bytes = &first[..small.length];
            let [chunk_id, id] = BlobId::of_two(chunk.buffer.bytes(), bytes);
            store_hashed(shared, chunk, chunk_id)?;
            small.store(shared, id, bytes)?;
        }
        cut => {
            store_two(shared, chunk)?;
            cut?;
        }
    }
    Ok(None)
}

pub fn store_two(shared: &Shared, chunk: ChunkJob) -> Result<(), RepositoryError> {
    let Ok(other) = shared.chunks.1.try_recv() else {
        let id = BlobId::of(chunk.buffer.bytes());
        return store_hashed(shared, chunk, id);
    };
    let [id, other_id] = BlobId::of_two(chunk.buffer.bytes(), other.buffer.bytes());
    store_hashed(shared, chunk, id)?;
    store_hashed(shared, other, other_id)
}

pub fn store_hashed(shared: &Shared, chunk: ChunkJob, id: BlobId) -> Result<(), RepositoryError> {
    let ChunkJob {
        file,
        number,
        buffer,
    } = chunk;
    let density = shared.store_hashed(BlobKind::Data, id, buffer.bytes())?;
    shared.buffers.give_back(buffer);
    file.stored(shared, number, id, density)
}

/// A file that is one chunk, at the beginning of a buffer.
struct SmallFile {
    place: FilePlace,
    length: usize,
}

impl SmallFile {
    fn store(self, shared: &Shared, id: BlobId, bytes: &[u8]) -> Result<(), RepositoryError> {
        let density = shared.store_hashed(BlobKind::Data, id, bytes)?;
        let size = bytes.len() as u64;
        self.place.finish(shared, Arc::from([id]), size, density)
    }
}

fn read_file(
    shared: &Shared,
    job: FileJob,
    buffer: &mut Vec<u8>,
) -> Result<Option<SmallFile>, RepositoryError> {
    let FileJob { place, content } = job;
    match content.open() {
        Ok(mut reader) => read_content(shared, place, &mut *reader, buffer),
        Err(error) => fail_file(shared, &place, &error).map(|()| None),
    }
}

/// Reads a stream on the caller's thread.
pub fn read_stream(
    shared: &Shared,
    place: FilePlace,
    content: &mut dyn Read,
) -> Result<(), RepositoryError> {
    let mut buffer = Vec::new();
    match read_content(shared, place, content, &mut buffer)? {
        None => Ok(()),
        Some(small) => {
            let bytes = &buffer[..small.length];
            small.store(shared, BlobId::of(bytes), bytes)
        }
    }
}

/// Reads a file. A small one, which is then to be stored, is given back; all others are done.
fn read_content(
    shared: &Shared,
    place: FilePlace,
    reader: &mut dyn Read,
    buffer: &mut Vec<u8>,
) -> Result<Option<SmallFile>, RepositoryError> {
    if buffer.len() < CHUNK_BYTES_MIN {
        buffer.resize(CHUNK_BYTES_MIN, 0);
    }
    match read_full(reader, &mut buffer[..CHUNK_BYTES_MIN]) {
        Err(error) => fail_file(shared, &place, &error)?,
        Ok(0) => place.finish(shared, Arc::default(), 0, Density::default())?,
        Ok(length) if length < CHUNK_BYTES_MIN => {
            Counters::add(&shared.counters.bytes_done, length as u64);
            return Ok(Some(SmallFile { place, length }));
        }
        Ok(_there_is_more) => {
            let file = FileChunks::new(place);
            let start = std::mem::replace(buffer, shared.buffers.take().into_memory());
            cut_file(shared, &file, reader, Buffer::of(start, CHUNK_BYTES_MIN))?;
        }
    }
    Ok(None)
}

fn fail_file(shared: &Shared, place: &FilePlace, error: &io::Error) -> Result<(), RepositoryError> {
    let reason = format!("cannot read: {}", chain(error));
    place.directory.record_failure(&place.entry.name, reason);
    place.directory.fill(shared, place.slot, None)
}

/// A file and where its node goes.
#[derive(Clone)]
pub struct FilePlace {
    pub directory: Arc<Directory>,
    pub slot: usize,
    pub entry: Entry,
    pub earlier: Earlier,
}

impl FilePlace {
    /// Puts the file's node in its place; its size is what was read, whatever `stat` said before.
    /// `density` is that of the part that was not stored before.
    pub fn finish(
        self,
        shared: &Shared,
        content: Arc<[BlobId]>,
        size: u64,
        density: Density,
    ) -> Result<(), RepositoryError> {
        let Self {
            directory,
            slot,
            mut entry,
            earlier,
        } = self;
        let counters = &directory.tree.counters;
        let counter = match earlier.known {
            true => &counters.files_changed,
            false => &counters.files_new,
        };
        Counters::add(counter, 1);
        Counters::add(&counters.bytes, size);
        if shared.compresses() && earlier.density.turned_random(density) {
            Counters::add(&counters.files_randomised, 1);
            Counters::add(&counters.bytes_randomised, size);
        }
        entry.kind = EntryKind::File { size };
        let node = Node {
            entry,
            content,
            subtree: None,
            foreign: None,
        };
        directory.fill(shared, slot, Some(node))
    }
}

/// A chunk list in the order of the file.
pub fn in_order(chunks: ChunkList) -> Arc<[BlobId]> {
    chunks.into_iter().flatten().collect()
}
