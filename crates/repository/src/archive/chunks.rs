//! A large file whose chunks are being stored by several workers.
//!
//! Invariant: the file's node is filled in exactly once: by whoever stores the last chunk, or by
//! the failure of reading.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Shared;
use super::density::Density;
use super::directory::Directory;
use super::worker::{FilePlace, in_order};
use crate::error::RepositoryError;
use crate::id::BlobId;

/// The ids of chunks by number; none for those that are not stored yet.
pub type ChunkList = Vec<Option<BlobId>>;

struct State {
    chunks: ChunkList,
    bytes: u64,
    /// Of the chunks that were not stored before.
    density: Density,
    /// Chunks to be stored, and one more while the file is being cut.
    open: usize,
    failed: bool,
}

/// See the module.
pub struct FileChunks {
    place: FilePlace,
    state: Mutex<State>,
}

impl FileChunks {
    pub fn new(place: FilePlace) -> Arc<Self> {
        let state = State {
            chunks: Vec::new(),
            bytes: 0,
            density: Density::default(),
            open: 1,
            failed: false,
        };
        Arc::new(Self {
            place,
            state: Mutex::new(state),
        })
    }

    /// The directory that the file is in.
    pub fn directory(&self) -> &Directory {
        &self.place.directory
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

    /// A chunk is stored; `density` is that of a new one.
    pub fn stored(
        &self,
        shared: &Shared,
        number: usize,
        id: BlobId,
        density: Density,
    ) -> Result<(), RepositoryError> {
        let mut state = self.state();
        state.density.add(density);
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
        let place = &self.place;
        place.directory.record_failure(&place.entry.name, reason);
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
        let State {
            ref mut chunks,
            bytes,
            density,
            failed,
            ..
        } = *state;
        let chunks = std::mem::take(chunks);
        drop(state);
        let place = self.place.clone();
        if failed {
            return place.directory.fill(shared, place.slot, None);
        }
        place.finish(shared, in_order(chunks), bytes, density)
    }
}
