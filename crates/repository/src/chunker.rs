//! Content-defined chunking: where a file's content is cut into blobs.
//!
//! Invariant: boundaries depend on content and the repository's secret parameters alone, never on
//! how the bytes arrived.

pub mod gear;
pub mod rabin;

/// No chunk is shorter, except a file's last.
pub const CHUNK_BYTES_MIN: usize = 512 << 10;
/// The size chunks have on average.
pub const CHUNK_BYTES_AVERAGE: usize = 1 << 20;
/// No chunk is longer.
pub const CHUNK_BYTES_MAX: usize = 8 << 20;

/// A repository's chunker, shared by all threads.
#[derive(Debug)]
pub enum Chunker {
    /// restic's, for repositories that restic writes to as well.
    Rabin(rabin::Rabin),
    /// Ours.
    Gear(gear::Gear),
}

/// How far the search for a chunk's end has come; new for every chunk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Search {
    hash: u64,
    position: usize,
}

impl Chunker {
    /// Looks for the end of the chunk that `chunk` begins with, going on where `search` stopped.
    ///
    /// `chunk` holds all bytes since the chunk's beginning; more may be appended and the search
    /// continued. None means that the end is not among them; at [`CHUNK_BYTES_MAX`] a chunk always
    /// ends.
    pub fn find_end(&self, search: &mut Search, chunk: &[u8]) -> Option<usize> {
        let bounded = &chunk[..chunk.len().min(CHUNK_BYTES_MAX)];
        if bounded.len() < CHUNK_BYTES_MIN {
            return None;
        }
        let found = match self {
            Self::Rabin(rabin) => rabin.find_end(search, bounded),
            Self::Gear(gear) => gear.find_end(search, bounded),
        };
        found.or((bounded.len() == CHUNK_BYTES_MAX).then_some(CHUNK_BYTES_MAX))
    }
}
