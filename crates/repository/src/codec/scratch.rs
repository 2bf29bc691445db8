//! Contexts and buffers that each thread keeps.
//!
//! Invariant: they hold nothing from one use to the next but memory and settings.

use std::cell::RefCell;

use zstd::zstd_safe::CParameter;

use super::USUAL_LEVEL;
use crate::error::RepositoryError;

/// Blobs from this size are tried before they are compressed.
const TRIED_BYTES_MIN: usize = 256 << 10;
/// The pieces of a large blob, from its beginning to its end, that are compressed on trial, and the share
/// of one that must go away for the whole to be compressed: media and encrypted data fail this at a
/// fraction of the cost, and a disk image with a bit of them among zeros does not.
const TRIAL_PIECES: usize = 4;
const TRIAL_BYTES: usize = 16 << 10;
const TRIAL_NUMERATOR: usize = 31;
const TRIAL_DENOMINATOR: usize = 32;

/// The shortest match that is looked for at the usual level, in bytes. zstd's own choice is four for blobs
/// up to 16 KiB and from 128 to 256 KiB, five for others, and finding the short ones costs more than they
/// are worth (ADR 0017).
const MATCH_BYTES_MIN: u32 = 5;

/// What a buffer may hold between uses, in bytes: four chunks of usual length. Few are longer, and each
/// thread would keep memory for the longest.
pub const SCRATCH_BYTES_KEPT: usize = 4 << 20;

/// Contexts and buffers of one thread, reused for every blob.
pub struct Scratch {
    compressor: zstd::bulk::Compressor<'static>,
    level: i32,
    pub decompressor: zstd::bulk::Decompressor<'static>,
    /// What was compressed, or is to be decompressed.
    pub compressed: Vec<u8>,
    pub plain: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Option<Scratch>> = const { RefCell::new(None) };
}

/// Runs with this thread's contexts. Nested use would panic, so it is only used within leaves.
pub fn with_scratch<T>(
    work: impl FnOnce(&mut Scratch) -> Result<T, RepositoryError>,
) -> Result<T, RepositoryError> {
    SCRATCH.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Some(Scratch {
                compressor: usual_compressor().map_err(RepositoryError::Compress)?,
                level: USUAL_LEVEL,
                decompressor: zstd::bulk::Decompressor::new().map_err(RepositoryError::Compress)?,
                compressed: Vec::new(),
                plain: Vec::new(),
            });
        }
        let done = match slot {
            Some(scratch) => work(scratch),
            None => Err(RepositoryError::Stopped),
        };
        if let Some(Scratch {
            compressed, plain, ..
        }) = slot
        {
            for buffer in [compressed, plain] {
                if buffer.capacity() > SCRATCH_BYTES_KEPT {
                    *buffer = Vec::new();
                }
            }
        }
        done
    })
}

/// Makes room for exactly so many bytes in place of what a buffer holds: to grow by doubling would waste as
/// much again, and copy what nobody wants.
pub fn make_room(buffer: &mut Vec<u8>, bytes: usize) {
    buffer.clear();
    if buffer.capacity() < bytes {
        *buffer = Vec::new();
        buffer.reserve_exact(bytes);
    }
}

fn usual_compressor() -> std::io::Result<zstd::bulk::Compressor<'static>> {
    let mut compressor = zstd::bulk::Compressor::default();
    set_level(&mut compressor, USUAL_LEVEL)?;
    Ok(compressor)
}

fn set_level(compressor: &mut zstd::bulk::Compressor<'_>, level: i32) -> std::io::Result<()> {
    /// What zstd takes as its own choice.
    const ANY: u32 = 0;
    compressor.set_compression_level(level)?;
    compressor.set_parameter(CParameter::MinMatch(match level {
        USUAL_LEVEL => MATCH_BYTES_MIN,
        _ => ANY,
    }))
}

impl Scratch {
    /// Compresses into [`compressed`](Self::compressed).
    pub fn compress(&mut self, plaintext: &[u8], level: i32) -> Result<(), RepositoryError> {
        if self.level != level {
            set_level(&mut self.compressor, level).map_err(RepositoryError::Compress)?;
            self.level = level;
        }
        let bound = zstd::zstd_safe::compress_bound(plaintext.len());
        make_room(&mut self.compressed, bound);
        let _length = self
            .compressor
            .compress_to_buffer(plaintext, &mut self.compressed)
            .map_err(RepositoryError::Compress)?;
        Ok(())
    }

    /// Whether anything of a large blob shrinks at all.
    pub fn trial_shrinks(&mut self, plaintext: &[u8], level: i32) -> Result<bool, RepositoryError> {
        if plaintext.len() < TRIED_BYTES_MIN {
            return Ok(true);
        }
        let stride = (plaintext.len() - TRIAL_BYTES) / (TRIAL_PIECES - 1);
        for piece in 0..TRIAL_PIECES {
            let start = piece * stride;
            self.compress(&plaintext[start..start + TRIAL_BYTES], level.min(1))?;
            if self.compressed.len() * TRIAL_DENOMINATOR < TRIAL_BYTES * TRIAL_NUMERATOR {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
