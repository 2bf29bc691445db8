//! Workers: read files, cut them, store chunks, complete directories.
//!
//! A small file is read and stored by one worker without any hand-over. A large one is read and
//! cut by one worker, in order, while its chunks are hashed, compressed and sealed by all; when
//! the queue of chunks is full, the worker that cuts does the next chunk itself, so nobody waits
//! and nothing deadlocks. What is hashed stays in the worker's hand until its end ([`Hand`]).
//!
//! Invariant: a file whose content could not be read to its end is never stored in part.

use std::io::{self, Read};
use std::sync::Arc;

use crossbeam_channel::{Receiver, select};
use refloat_model::entry::{Content, Entry, EntryKind, Opened, Reader, Solid};
use refloat_model::progress::Counters;

use super::Shared;
use super::buffers::Buffer;
use super::builder::normalise;
use super::chunks::{ChunkList, FileChunks};
use super::cutter::cut_file;
use super::density::{Density, Earlier};
use super::directory::Directory;
use super::hand::{Hand, Piece};
use crate::chunker::{CHUNK_BYTES_AVERAGE, CHUNK_BYTES_MIN};
use crate::error::RepositoryError;
use crate::failure::chain;
use crate::format::pack::BlobKind;
use crate::format::tree::Node;
use crate::id::BlobId;

/// Nothing that was read waits for a longer file than this, in bytes: it would wait for all that is cut from it.
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

impl ChunkJob {
    /// Stores a chunk that hashes to `id`.
    pub fn store(self, shared: &Shared, id: BlobId) -> Result<(), RepositoryError> {
        let density = shared.store_hashed(BlobKind::Data, id, self.buffer.bytes())?;
        shared.buffers.give_back(self.buffer);
        self.file.stored(shared, self.number, id, density)
    }
}

/// A worker: goes on until there are no more builders.
pub fn work(shared: &Shared, jobs: &Receiver<Job>) {
    let mut hand = Hand::default();
    let chunks = &shared.chunks.1;
    let trees = &shared.trees.1;
    loop {
        // Trees first: a walk waits for them. Then chunks: they hold memory.
        if let Ok(tree) = trees.try_recv() {
            shared.guard(|| hand.finish(shared));
            tree.run(shared);
            continue;
        }
        if let Ok(chunk) = chunks.try_recv() {
            store_chunk(shared, chunk, &mut hand);
            continue;
        }
        if let Ok(job) = jobs.try_recv() {
            run(shared, job, &mut hand);
            continue;
        }
        shared.guard(|| hand.finish(shared));
        select! {
            recv(trees) -> tree => if let Ok(tree) = tree {
                tree.run(shared);
            },
            recv(chunks) -> chunk => if let Ok(chunk) = chunk {
                store_chunk(shared, chunk, &mut hand);
            },
            recv(jobs) -> job => match job {
                Ok(job) => run(shared, job, &mut hand),
                Err(_no_more_builders) => break,
            },
        }
    }
    // Whoever cut a file has ended as well by the time this is empty, or does its chunks itself.
    while let Ok(chunk) = chunks.try_recv() {
        store_chunk(shared, chunk, &mut hand);
    }
    shared.guard(|| hand.finish(shared));
}

fn run(shared: &Shared, job: Job, hand: &mut Hand) {
    if shared.check().is_err() {
        return;
    }
    shared.guard(|| match job {
        Job::Directory(directory) => {
            hand.finish(shared)?;
            directory.complete(shared)
        }
        Job::File(file) => read_file(shared, *file, hand),
    });
}

fn store_chunk(shared: &Shared, chunk: ChunkJob, hand: &mut Hand) {
    if shared.check().is_ok() {
        shared.guard(|| hand.take(shared, Piece::Chunk(chunk)));
    }
}

fn read_file(shared: &Shared, job: FileJob, hand: &mut Hand) -> Result<(), RepositoryError> {
    if hand.directory().is_some_and(|held| !job.goes_with(held)) {
        hand.finish(shared)?;
    }
    let FileJob { mut place, content } = job;
    match content.open_now() {
        Ok(Opened::Listed(mut reader)) => read_content(shared, place, &mut *reader, hand),
        Ok(Opened::Replaced(entry, mut reader)) => {
            place.entry = *entry;
            normalise(&shared.options, &mut place.entry);
            // Not the file that an earlier point has.
            place.earlier.unsettled = false;
            read_content(shared, place, &mut *reader, hand)
        }
        Ok(Opened::Gone) => {
            Counters::add(&place.directory.tree.counters.files_vanished, 1);
            place.directory.fill(shared, place.slot, None)
        }
        Err(error) => fail_file(shared, &place, &error),
    }
}

/// Reads a stream on the caller's thread.
pub fn read_stream(
    shared: &Shared,
    place: FilePlace,
    content: &mut dyn Read,
) -> Result<(), RepositoryError> {
    let mut hand = Hand::default();
    let read = read_content(shared, place, &mut Solid(content), &mut hand);
    // What is in hand is stored even if the run was cancelled meanwhile.
    let stored = hand.finish(shared);
    read.and(stored)
}

fn read_content(
    shared: &Shared,
    place: FilePlace,
    reader: &mut dyn Reader,
    hand: &mut Hand,
) -> Result<(), RepositoryError> {
    let mut content = shared.buffers.take();
    let read = content.read(reader, CHUNK_BYTES_MIN);
    match (read, content.len()) {
        (Err(error), _) => fail_file(shared, &place, &error),
        (Ok(_), 0) => {
            shared.buffers.give_back(content);
            place.finish(shared, Arc::default(), 0, Density::default())
        }
        (Ok(_), length @ ..CHUNK_BYTES_MIN) => {
            Counters::add(&shared.counters.bytes_done, length as u64);
            hand.take(shared, Piece::File(Box::new(place), content))
        }
        (Ok(_), _) => cut_file(shared, &FileChunks::new(place), reader, content, hand),
    }
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
        let is_as_before = earlier.unsettled && earlier.content == content;
        let counter = match earlier.known {
            true if is_as_before => &counters.files_unmodified,
            true => &counters.files_changed,
            false => &counters.files_new,
        };
        Counters::add(counter, 1);
        Counters::add(&counters.bytes, size);
        let index = shared.repository.index();
        if shared.compresses()
            && let Some(bytes) = earlier.randomised(&content, density, index)
        {
            Counters::add(&counters.files_randomised, 1);
            Counters::add(&counters.bytes_randomised, bytes.min(size));
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
