//! A large file whose chunks are being stored by several workers.
//!
//! Invariant: the file's node is filled in exactly once: by whoever stores the last chunk, or by
//! the failure of reading.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use refloat_model::entry::Entry;

use super::Shared;
use super::directory::Directory;
use super::worker::{finish_file, in_order};
use crate::error::RepositoryError;
use crate::id::BlobId;

/// The ids of chunks by number; none for those that are not stored yet.
pub type ChunkList = Vec<Option<BlobId>>;

struct State {
    chunks: ChunkList,
    bytes: u64,
    /// Chunks to be stored, and one more while the file is being cut.
    open: usize,
    failed: bool,
}

/// See the module.
pub struct FileChunks {
    directory: Arc<Directory>,
    slot: usize,
    entry: Entry,
    known: bool,
    state: Mutex<State>,
}

impl FileChunks {
    pub fn new(directory: Arc<Directory>, slot: usize, entry: Entry, known: bool) -> Arc<Self> {
        let state = State {
            chunks: Vec::new(),
            bytes: 0,
            open: 1,
            failed: false,
        };
        Arc::new(Self {
            directory,
            slot,
            entry,
            known,
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the next chunk, `bytes` long.
    pub fn hand_out(&self, bytes: usize) -> usize {
        let mut state = self.state();
        state.chunks.push(None);
        state.bytes += bytes as u64;
        state.open += 1;
        state.chunks.len() - 1
    }

    /// A chunk was stored.
    pub fn stored(
        &self,
        shared: &Shared,
        number: usize,
        id: BlobId,
    ) -> Result<(), RepositoryError> {
        let mut state = self.state();
        if let Some(place) = state.chunks.get_mut(number) {
            *place = Some(id);
        }
        self.end_one(shared, state)
    }

    /// The file was read to its end.
    pub fn all_handed_out(&self, shared: &Shared) -> Result<(), RepositoryError> {
        self.end_one(shared, self.state())
    }

    /// The file could not be read to its end: nothing of it is kept.
    pub fn fail(&self, shared: &Shared, reason: String) -> Result<(), RepositoryError> {
        self.directory.record_failure(&self.entry.name, reason);
        let mut state = self.state();
        state.failed = true;
        self.end_one(shared, state)
    }

    fn end_one(
        &self,
        shared: &Shared,
        mut state: MutexGuard<'_, State>,
    ) -> Result<(), RepositoryError> {
        state.open -= 1;
        if state.open > 0 {
            return Ok(());
        }
        let (chunks, bytes, failed) =
            (std::mem::take(&mut state.chunks), state.bytes, state.failed);
        drop(state);
        if failed {
            return self.directory.fill(shared, self.slot, None);
        }
        let (entry, content) = (self.entry.clone(), in_order(chunks));
        finish_file(
            shared,
            &self.directory,
            self.slot,
            entry,
            self.known,
            content,
            bytes,
        )
    }
}
