//! Content-defined chunking: where a file's content is cut into blobs.
//!
//! Invariant: boundaries depend on content and the repository's secret parameters alone, never on
//! how the bytes arrived.

pub mod gear;
pub mod rabin;
pub(crate) mod zero_runs;

use zero_runs::Run;

/// No chunk is shorter, except a file's last and those beside long runs of zeros.
pub const CHUNK_BYTES_MIN: usize = 512 << 10;
/// The size chunks have on average.
pub const CHUNK_BYTES_AVERAGE: usize = 1 << 20;
/// No chunk is longer.
pub const CHUNK_BYTES_MAX: usize = 8 << 20;
/// From this length on zeros are chunks of their own, with multiples of it, where
/// [`Chunker::GearAndZeros`] cuts.
pub const ZERO_RUN_BYTES: usize = 64 << 10;

/// A repository's chunker, shared by all threads.
#[derive(Debug)]
pub enum Chunker {
    /// restic's, for repositories that restic writes to as well.
    Rabin(rabin::Rabin),
    /// Our first kind.
    Gear(gear::Gear),
    /// Ours: as [`Gear`](Self::Gear), and long runs of zeros are chunks of their own, so that what lies
    /// between them in a disk image is all that has to be hashed and stored. Chunks beside runs may be
    /// shorter than [`CHUNK_BYTES_MIN`].
    GearAndZeros(gear::Gear),
}

/// What follows the bytes that are there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// More, perhaps.
    ToCome,
    /// Nothing: the content ends.
    None,
}

/// How far the search for a chunk's end has come; new for every chunk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Search {
    hash: u64,
    position: usize,
    /// The first block in which a run of zeros may lie.
    zero_block: usize,
}

impl Chunker {
    /// Whether long runs of zeros are chunks of their own.
    #[must_use]
    pub const fn sets_zeros_apart(&self) -> bool {
        matches!(self, Self::GearAndZeros(_))
    }

    /// Looks for the end of the chunk that `chunk` begins with, going on where `search` stopped.
    ///
    /// `chunk` holds all bytes since the chunk's beginning; more may be appended and the search
    /// continued. None means that the end is not among them, or, with [`Rest::None`], that all of them
    /// are one chunk; at [`CHUNK_BYTES_MAX`] a chunk always ends.
    pub fn find_end(&self, search: &mut Search, chunk: &[u8], rest: Rest) -> Option<usize> {
        let bounded = &chunk[..chunk.len().min(CHUNK_BYTES_MAX)];
        let found = match self {
            Self::Rabin(_) | Self::Gear(_) if bounded.len() < CHUNK_BYTES_MIN => None,
            Self::Rabin(rabin) => rabin.find_end(search, bounded),
            Self::Gear(gear) => gear.find_end(search, bounded),
            Self::GearAndZeros(gear) => {
                // What comes behind the longest chunk does not matter for it.
                let rest = match bounded.len() {
                    CHUNK_BYTES_MAX => Rest::None,
                    _ => rest,
                };
                find_end_or_zeros(gear, search, bounded, rest)
            }
        };
        found.or((bounded.len() == CHUNK_BYTES_MAX).then_some(CHUNK_BYTES_MAX))
    }
}

/// A chunk that begins with a long run ends at its last multiple of [`ZERO_RUN_BYTES`]; any other
/// before the first run, if the gear ends it nowhere before.
fn find_end_or_zeros(
    gear: &gear::Gear,
    search: &mut Search,
    chunk: &[u8],
    rest: Rest,
) -> Option<usize> {
    match zero_runs::first(&mut search.zero_block, chunk, rest) {
        Run::None => gear.find_end(search, chunk),
        Run::At(0) => {
            let zeros = zero_runs::leading(chunk);
            let has_ended = zeros < chunk.len() || rest == Rest::None;
            has_ended.then_some(zeros / ZERO_RUN_BYTES * ZERO_RUN_BYTES)
        }
        Run::At(start) => gear.find_end(search, &chunk[..start]).or(Some(start)),
        Run::Perhaps(start) => gear.find_end(search, &chunk[..start]),
    }
}
