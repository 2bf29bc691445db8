//! Runs of zeros that need no disk.
//!
//! Invariant: the pieces of a buffer cover it exactly, in order.

use rustix::fd::OwnedFd;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::file::read_fully;

/// Zeros are looked for in units of this size, aligned in the file: no file system has smaller
/// blocks by default, and finer holes would only cost calls.
const BLOCK_BYTES: usize = 4096;

static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// A part of a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Piece<'a> {
    /// Bytes to write.
    Data(&'a [u8]),
    /// This many zeros: whole blocks, and what lies in the first and last block of the buffer.
    Zeros(usize),
}

/// Splits `bytes`, which lie at `offset` of a file, into data and zeros.
///
/// The parts of blocks at both ends count as blocks, because the rest of their block is in the
/// buffers before and after, which are cut anywhere.
pub(super) fn pieces(offset: u64, bytes: &[u8]) -> impl Iterator<Item = Piece<'_>> {
    let into_block = usize::try_from(offset % BLOCK_BYTES as u64).unwrap_or(0);
    let mut first = BLOCK_BYTES - into_block;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let is_zero = is_zeros(rest.get(..first).unwrap_or(rest));
        let mut end = first.min(rest.len());
        while let Some(tail) = rest.get(end..).filter(|tail| !tail.is_empty()) {
            let block = tail.get(..BLOCK_BYTES).unwrap_or(tail);
            if is_zeros(block) != is_zero {
                break;
            }
            end += block.len();
        }
        let (piece, tail) = rest.split_at(end);
        (rest, first) = (tail, BLOCK_BYTES);
        Some(if is_zero {
            Piece::Zeros(piece.len())
        } else {
            Piece::Data(piece)
        })
    })
}

/// Whether all bytes are zero. Bytes that are not show that within the first few.
#[must_use]
pub fn is_zeros(bytes: &[u8]) -> bool {
    bytes
        .chunks(BLOCK_BYTES)
        .all(|block| ZEROS.get(..block.len()) == Some(block))
}

/// How much is read at once of what is no hole.
const READ_BYTES: usize = 256 << 10;

/// Whether a range of a file is zeros to its end; what lies in holes is not read.
///
/// Moves the handle's own position, which nothing else uses.
pub(super) fn are_zeros(fd: &OwnedFd, offset: u64, length: u64) -> Result<bool, Errno> {
    let mut buffer = Vec::new();
    let (mut at, end) = (offset, offset.saturating_add(length));
    while at < end {
        let data = match seek(fd, SeekFrom::Data(at)) {
            Ok(data) => data.max(at),
            // Nothing but a hole up to the file's end.
            Err(Errno::NXIO) => return Ok(rustix::fs::fstat(fd)?.st_size.cast_unsigned() >= end),
            Err(Errno::INVAL | Errno::NOTSUP) => at,
            Err(errno) => return Err(errno),
        };
        if data >= end {
            return Ok(true);
        }
        let wanted = usize::try_from(end - data).map_or(READ_BYTES, |left| left.min(READ_BYTES));
        buffer.resize(wanted, 0);
        if read_fully(fd, data, &mut buffer)? < wanted || !is_zeros(&buffer) {
            return Ok(false);
        }
        at = data + wanted as u64;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_anywhere_tells() {
        let mut bytes = vec![0; 10_000];
        assert!(is_zeros(&bytes) && is_zeros(&[]));
        for at in [0, 1, 4095, 4096, 8191, 8192, 9999] {
            bytes[at] = 1;
            assert!(!is_zeros(&bytes), "{at}");
            bytes[at] = 0;
        }
    }

    fn check(offset: u64, bytes: &[u8], expected: &[Piece<'_>]) {
        let found: Vec<_> = pieces(offset, bytes).collect();
        // Not assert_eq: nobody wants to read these buffers.
        assert!(found == expected, "at {offset}: {:?}", lengths(&found));
    }

    fn lengths(pieces: &[Piece<'_>]) -> Vec<(&'static str, usize)> {
        let length = |piece: &Piece<'_>| match piece {
            Piece::Data(data) => ("data", data.len()),
            Piece::Zeros(length) => ("zeros", *length),
        };
        pieces.iter().map(length).collect()
    }

    #[test]
    fn whole_aligned_blocks_of_zeros_are_holes() {
        let zeros = [0; 3 * BLOCK_BYTES];
        let ones = [1; 3 * BLOCK_BYTES];
        check(0, &zeros, &[Piece::Zeros(3 * BLOCK_BYTES)]);
        check(0, &ones, &[Piece::Data(&ones)]);
        check(0, &[], &[]);
        check(0, &zeros[..100], &[Piece::Zeros(100)]);
        check(96, &zeros, &[Piece::Zeros(3 * BLOCK_BYTES)]);
        let edges = [&zeros[..4000], &ones[..BLOCK_BYTES], &zeros[..96]].concat();
        check(
            96,
            &edges,
            &[
                Piece::Zeros(4000),
                Piece::Data(&ones[..BLOCK_BYTES]),
                Piece::Zeros(96),
            ],
        );
        // Shifted by one, both block boundaries fall into the ones.
        let (data, zeros_after) = edges.split_at(4001 + BLOCK_BYTES);
        let shifted = [Piece::Data(data), Piece::Zeros(zeros_after.len())];
        check(95, &edges, &shifted);
        let mixed = [&ones[..BLOCK_BYTES + 1], &zeros[..2 * BLOCK_BYTES], &[7]].concat();
        check(
            0,
            &mixed,
            &[
                Piece::Data(&mixed[..2 * BLOCK_BYTES]),
                Piece::Zeros(BLOCK_BYTES),
                Piece::Data(&mixed[3 * BLOCK_BYTES..]),
            ],
        );
        check(5, &ones[..10], &[Piece::Data(&ones[..10])]);
    }
}
