//! A stored file's bytes as a stream.
//!
//! Invariant: every byte handed out belongs to a blob that hashed to its id.

use std::io::{self, Read};
use std::sync::Arc;

use refloat_repository::{BlobId, BlobKind, BlobReader as _, IndexedRepository};

/// Reads a file blob by blob; one blob is in memory at a time.
pub struct BlobStream {
    repository: IndexedRepository,
    content: Arc<[BlobId]>,
    next: usize,
    blob: io::Cursor<Vec<u8>>,
}

impl BlobStream {
    /// A stream over the blobs of one file.
    #[must_use]
    pub fn new(repository: IndexedRepository, content: Arc<[BlobId]>) -> Self {
        Self {
            repository,
            content,
            next: 0,
            blob: io::Cursor::default(),
        }
    }
}

impl Read for BlobStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.blob.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(id) = self.content.get(self.next) else {
                return Ok(0);
            };
            let blob = self.repository.read_blob(BlobKind::Data, *id);
            self.blob = io::Cursor::new(blob.map_err(io::Error::other)?);
            self.next += 1;
        }
    }
}
