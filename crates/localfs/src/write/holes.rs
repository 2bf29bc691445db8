//! Runs of zeros that need no disk.
//!
//! Invariant: the pieces of a buffer cover it exactly, in order.

/// Zeros become holes in units of this size, aligned in the file: no file system has smaller
/// blocks by default, and finer holes would only cost calls.
const BLOCK_BYTES: usize = 4096;

static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// A part of a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Piece<'a> {
    /// Bytes to write.
    Data(&'a [u8]),
    /// This many zeros in whole blocks.
    Zeros(usize),
}

/// Splits `bytes`, which lie at `offset` of a file, into data and whole blocks of zeros.
pub(super) fn pieces(offset: u64, bytes: &[u8]) -> impl Iterator<Item = Piece<'_>> {
    let into_block = usize::try_from(offset % BLOCK_BYTES as u64).unwrap_or(0);
    // Bytes before the first block boundary.
    let head = (BLOCK_BYTES - into_block) % BLOCK_BYTES;
    let mut rest = bytes;
    let mut is_start = true;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let start = if is_start { head.min(rest.len()) } else { 0 };
        is_start = false;
        let zeros = if start > 0 { 0 } else { zero_blocks(rest) };
        if zeros > 0 {
            rest = rest.get(zeros..).unwrap_or_default();
            return Some(Piece::Zeros(zeros));
        }
        let (piece, tail) = rest.split_at(start + data_length(rest, start));
        rest = tail;
        Some(Piece::Data(piece))
    })
}

/// Length of the whole blocks of zeros that `bytes` begin with.
fn zero_blocks(bytes: &[u8]) -> usize {
    let is_zero = |block: &&[u8]| *block == ZEROS.as_slice();
    bytes.chunks(BLOCK_BYTES).take_while(is_zero).count() * BLOCK_BYTES
}

/// Length of what follows `start` up to the next whole block of zeros.
fn data_length(bytes: &[u8], start: usize) -> usize {
    let rest = bytes.get(start..).unwrap_or_default();
    let is_data = |block: &&[u8]| *block != ZEROS.as_slice();
    rest.chunks(BLOCK_BYTES)
        .take_while(is_data)
        .map(<[u8]>::len)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(offset: u64, bytes: &[u8], expected: &[Piece<'_>]) {
        let found: Vec<_> = pieces(offset, bytes).collect();
        assert_eq!(found, expected, "at {offset}");
    }

    #[test]
    fn whole_aligned_blocks_of_zeros_are_holes() {
        let zeros = [0; 3 * BLOCK_BYTES];
        let ones = [1; 3 * BLOCK_BYTES];
        check(0, &zeros, &[Piece::Zeros(3 * BLOCK_BYTES)]);
        check(0, &ones, &[Piece::Data(&ones)]);
        check(0, &[], &[]);
        check(0, &zeros[..100], &[Piece::Data(&zeros[..100])]);
        check(
            96,
            &zeros[..2 * BLOCK_BYTES],
            &[
                Piece::Data(&zeros[..4000]),
                Piece::Zeros(BLOCK_BYTES),
                Piece::Data(&zeros[..96]),
            ],
        );
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
