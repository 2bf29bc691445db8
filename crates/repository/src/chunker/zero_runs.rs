//! Where a long run of zeros begins: most of a disk image is such runs.
//!
//! Invariant: which runs are found depends on the content alone; all of
//! [`ZERO_RUN_BYTES`](super::ZERO_RUN_BYTES) or more are, and no shorter one.

use refloat_localfs::is_zeros;

use super::{Rest, ZERO_RUN_BYTES};

/// Every run that is long enough has a block of this size, counted from the chunk's beginning, that is
/// all zeros: only the beginnings of blocks need a look.
const BLOCK_BYTES: usize = ZERO_RUN_BYTES / 2;

/// The first long run of zeros in a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Run {
    /// There is none.
    None,
    /// It begins here.
    At(usize),
    /// The zeros from here on, up to the end of what is there, may become one.
    Perhaps(usize),
}

/// Looks for the first run, going on at block `from`, before which there is none.
pub fn first(from: &mut usize, bytes: &[u8], rest: Rest) -> Run {
    let blocks = bytes.chunks_exact(BLOCK_BYTES);
    for (number, block) in blocks.enumerate().skip(*from) {
        *from = number;
        if !is_zeros(block) {
            continue;
        }
        let at = number * BLOCK_BYTES;
        let before = bytes.get(..at).unwrap_or_default();
        let start = at - trailing(before);
        let end = (start + ZERO_RUN_BYTES).min(bytes.len());
        let behind = bytes.get(at + BLOCK_BYTES..end).unwrap_or_default();
        if !is_zeros(behind) {
            continue;
        }
        if end == start + ZERO_RUN_BYTES {
            return Run::At(start);
        }
        return perhaps(start, rest);
    }
    perhaps(bytes.len() - trailing(bytes), rest)
}

const fn perhaps(start: usize, rest: Rest) -> Run {
    match rest {
        Rest::ToCome => Run::Perhaps(start),
        Rest::None => Run::None,
    }
}

/// How many zeros the bytes begin with.
pub fn leading(bytes: &[u8]) -> usize {
    const PIECE_BYTES: usize = 4096;
    let pieces = bytes.chunks(PIECE_BYTES);
    let zeros = pieces.take_while(|piece| is_zeros(piece)).count() * PIECE_BYTES;
    let tail = bytes.get(zeros..).unwrap_or_default();
    let more = tail.iter().position(|byte| *byte != 0);
    (zeros + more.unwrap_or(tail.len())).min(bytes.len())
}

/// How many zeros the bytes end with.
fn trailing(bytes: &[u8]) -> usize {
    bytes.iter().rev().take_while(|byte| **byte == 0).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition, byte by byte.
    fn expected(bytes: &[u8]) -> Run {
        let mut start = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if *byte != 0 {
                start = at + 1;
            } else if at + 1 - start == ZERO_RUN_BYTES {
                return Run::At(start);
            }
        }
        Run::None
    }

    #[test]
    fn runs_of_all_lengths_at_all_places_are_found_and_no_shorter_ones() {
        let lengths = [1, 100, BLOCK_BYTES, ZERO_RUN_BYTES - 1, ZERO_RUN_BYTES];
        let mut found = 0;
        for start in (0..4 * BLOCK_BYTES).step_by(4093) {
            for length in lengths.into_iter().chain([ZERO_RUN_BYTES + start]) {
                let mut bytes = vec![1; 11 * BLOCK_BYTES];
                bytes[start..start + length].fill(0);
                // And one that is too short, right before or behind.
                let gap = start.saturating_sub(5000)..start.saturating_sub(1);
                bytes[gap].fill(0);
                let mut from = 0;
                let run = first(&mut from, &bytes, Rest::None);
                assert_eq!(run, expected(&bytes), "{length} at {start}");
                found += usize::from(run != Run::None);
                // As it comes: never told too early, and in the end the same.
                let (mut from, mut last) = (0, Run::None);
                for end in (0..bytes.len()).step_by(10_007).chain([bytes.len()]) {
                    last = first(&mut from, &bytes[..end], Rest::ToCome);
                    match last {
                        Run::At(at) => {
                            assert_eq!(Run::At(at), run, "{length} at {start}");
                            break;
                        }
                        Run::Perhaps(at) => assert!(is_zeros(&bytes[at..end])),
                        Run::None => panic!("more was to come"),
                    }
                }
                assert!(run == Run::None || last == run, "{length} at {start}");
            }
        }
        assert!(found > 60, "{found}");
    }

    #[test]
    fn zeros_at_the_end_wait_for_what_comes() {
        let mut bytes = vec![1; 100_000];
        assert_eq!(first(&mut 0, &bytes, Rest::ToCome), Run::Perhaps(100_000));
        bytes.extend([0; 7]);
        assert_eq!(first(&mut 0, &bytes, Rest::ToCome), Run::Perhaps(100_000));
        assert_eq!(first(&mut 0, &bytes, Rest::None), Run::None);
        assert_eq!(first(&mut 0, &[], Rest::ToCome), Run::Perhaps(0));
    }

    #[test]
    fn leading_zeros_are_counted_to_the_byte() {
        for length in [0, 1, 4095, 4096, 4097, 70_000] {
            let mut bytes = vec![0; length];
            assert_eq!(leading(&bytes), length);
            bytes.extend([1, 0, 0]);
            assert_eq!(leading(&bytes), length);
        }
    }
}
