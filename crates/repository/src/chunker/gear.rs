//! Gear-based chunking with normalised chunk sizes (FastCDC).
//!
//! Source: Wen Xia et al., "FastCDC: a Fast and Efficient Content-Defined Chunking Approach for
//! Data Deduplication", USENIX ATC 2016: the gear hash, skipping to the minimum, and normalised
//! chunking with a stricter mask before the average size and a laxer one behind it.
//!
//! The table is derived from a secret of the repository, so that chunk sizes do not tell which
//! content is stored.
//!
//! Invariant: for one seed the boundaries never change; a change is a new kind in the config.

use refloat_localfs::is_zeros;

use super::{CHUNK_BYTES_AVERAGE, CHUNK_BYTES_MIN, Search};
use crate::id::sha256;

/// One bit more than the average asks for before it, one fewer behind it ("normalisation 1");
/// the top bits of the hash depend on the most bytes.
const MASK_STRICT: u64 = !0 << (64 - 21);
const MASK_LAX: u64 = !0 << (64 - 19);

/// Bytes that are looked at together; fewer and more are slower on the processors that were tried.
const AT_ONCE: usize = 4;

/// Bytes that are passed over together if they are zeros.
const RUN_BYTES: usize = 4096;

/// The table of one repository.
pub struct Gear {
    table: Box<[u64; 256]>,
    /// What the hash comes to after 64 zeros, and stays at.
    settled: u64,
}

impl std::fmt::Debug for Gear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gear(***)")
    }
}

impl Gear {
    /// Derives the table: entry *i* is the first eight bytes, little-endian, of
    /// SHA-256("refloat gear v1" ‖ seed ‖ *i* as one byte).
    #[must_use]
    pub fn new(seed: &[u8; 32]) -> Self {
        let mut table = Box::new([0; 256]);
        for (byte, entry) in (0..=u8::MAX).zip(table.iter_mut()) {
            let mut message = b"refloat gear v1".to_vec();
            message.extend_from_slice(seed);
            message.push(byte);
            let hash = sha256(&message);
            *entry = hash
                .first_chunk::<8>()
                .map_or(0, |bytes| u64::from_le_bytes(*bytes));
        }
        let settled = table[0].wrapping_neg();
        Self { table, settled }
    }

    /// See [`super::Chunker::find_end`].
    pub(super) fn find_end(&self, search: &mut Search, chunk: &[u8]) -> Option<usize> {
        search.position = search.position.max(CHUNK_BYTES_MIN);
        let middle = CHUNK_BYTES_AVERAGE.min(chunk.len());
        self.scan(search, chunk, middle, MASK_STRICT)
            .or_else(|| self.scan(search, chunk, chunk.len(), MASK_LAX))
    }

    /// Moves on to `end`, unless the byte before makes the masked hash zero: the chunk's end.
    #[inline]
    fn scan(&self, search: &mut Search, chunk: &[u8], end: usize, mask: u64) -> Option<usize> {
        let window = chunk.get(search.position..end)?;
        let mut hash = search.hash;
        // The mask is the top bits.
        let limit = 1 << mask.trailing_zeros();
        for (number, run) in window.chunks(RUN_BYTES).enumerate() {
            if hash == self.settled && hash >= limit && is_zeros(run) {
                continue;
            }
            if let Some(at) = self.scan_run(&mut hash, run, limit) {
                return Some(search.position + number * RUN_BYTES + at);
            }
        }
        search.hash = hash;
        search.position = end;
        None
    }

    /// Where in a run the hash falls below a limit: behind the byte that does it.
    #[inline]
    fn scan_run(&self, hash: &mut u64, run: &[u8], limit: u64) -> Option<usize> {
        let mut before = *hash;
        let (groups, rest) = run.as_chunks::<AT_ONCE>();
        for (number, group) in groups.iter().enumerate() {
            // What the group adds to the hash does not depend on it: one step waits for the one
            // before, and not one for each byte.
            let (mut added, mut hashes) = (0_u64, [0; AT_ONCE]);
            for (at, byte) in group.iter().enumerate() {
                added = (added << 1).wrapping_add(self.table[usize::from(*byte)]);
                hashes[at] = (before << (at + 1)).wrapping_add(added);
            }
            if hashes.iter().any(|hash| *hash < limit) {
                let at = hashes.iter().position(|hash| *hash < limit)?;
                return Some(number * AT_ONCE + at + 1);
            }
            before = hashes[AT_ONCE - 1];
        }
        for (at, byte) in rest.iter().enumerate() {
            before = (before << 1).wrapping_add(self.table[usize::from(*byte)]);
            if before < limit {
                return Some(run.len() - rest.len() + at + 1);
            }
        }
        *hash = before;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunker::rabin::{Polynomial, Rabin};
    use crate::chunker::{CHUNK_BYTES_MAX, Chunker, Rest, ZERO_RUN_BYTES};

    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        (0..length)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            })
            .collect()
    }

    fn cuts(chunker: &Chunker, mut data: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while !data.is_empty() {
            let length = chunker
                .find_end(&mut Search::default(), data, Rest::None)
                .unwrap_or(data.len());
            lengths.push(length);
            data = &data[length..];
        }
        lengths
    }

    #[test]
    fn sizes_keep_their_bounds_and_average() {
        let data = noise(96 << 20, 7);
        let lengths = cuts(&Chunker::Gear(Gear::new(&[1; 32])), &data);
        assert_eq!(lengths.iter().sum::<usize>(), data.len());
        let (_, whole) = lengths.split_last().unwrap();
        assert!(
            whole
                .iter()
                .all(|l| (CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(l))
        );
        let average = data.len() / lengths.len();
        assert!((900 << 10..1500 << 10).contains(&average), "{average}");
    }

    #[test]
    fn an_insertion_moves_only_the_chunks_around_it() {
        let chunker = Chunker::Gear(Gear::new(&[1; 32]));
        let data = noise(24 << 20, 3);
        let mut changed = data.clone();
        changed.splice(5_000_000..5_000_000, *b"inserted");
        let (before, after) = (cuts(&chunker, &data), cuts(&chunker, &changed));
        let same_tail = before
            .iter()
            .rev()
            .zip(after.iter().rev())
            .take_while(|(a, b)| a == b)
            .count();
        assert!(
            before.len() - same_tail <= 8,
            "{} of {}",
            same_tail,
            before.len()
        );
    }

    #[test]
    fn boundaries_never_change() {
        let lengths = cuts(&Chunker::Gear(Gear::new(&[1; 32])), &noise(8 << 20, 11));
        // Pinned by the first run; a difference means existing repositories stop deduplicating.
        let pinned = [
            1173713, 563446, 1073630, 1343414, 1119354, 919624, 1933593, 261834,
        ];
        assert_eq!(lengths, pinned);
        let other = cuts(&Chunker::Gear(Gear::new(&[2; 32])), &noise(8 << 20, 11));
        assert_ne!(lengths, other, "the seed must matter");
    }

    /// As it was before runs of zeros were passed over.
    fn end_byte_by_byte(gear: &Gear, chunk: &[u8]) -> Result<usize, u64> {
        let mut hash = 0_u64;
        for (at, byte) in chunk.iter().enumerate().skip(CHUNK_BYTES_MIN) {
            hash = (hash << 1).wrapping_add(gear.table[usize::from(*byte)]);
            let mask = if at < CHUNK_BYTES_AVERAGE {
                MASK_STRICT
            } else {
                MASK_LAX
            };
            if hash & mask == 0 {
                return Ok(at + 1);
            }
        }
        Err(hash)
    }

    #[test]
    fn zeros_with_something_in_between_end_where_they_did() {
        for seed in 1..40_u8 {
            let gear = Gear::new(&[seed; 32]);
            let mut data = vec![0; 4 << 20];
            let start = CHUNK_BYTES_MIN + usize::from(seed) * 50_021;
            let islands = [start, start + 60_000, start + 60_100, start + 1_000_003];
            for (number, at) in islands.into_iter().enumerate() {
                let bytes = noise(1 + number * 3000, u64::from(seed));
                data[at..at + bytes.len()].copy_from_slice(&bytes);
            }
            let expected = end_byte_by_byte(&gear, &data);
            for step in [1 << 19, 77_777, data.len()] {
                let mut search = Search::default();
                let mut ends = (step..data.len() + step)
                    .step_by(step)
                    .map(|end| gear.find_end(&mut search, &data[..end.min(data.len())]));
                let end = ends.find_map(|end| end);
                assert_eq!(end.ok_or(search.hash), expected, "{seed}, steps of {step}");
            }
            // Something right before a run: its zeros still count.
            let mut data = vec![0; CHUNK_BYTES_MIN + 3 * RUN_BYTES];
            data[CHUNK_BYTES_MIN + RUN_BYTES..][..RUN_BYTES].fill(seed);
            let mut search = Search::default();
            let end = gear.find_end(&mut search, &data);
            assert_eq!(
                end.ok_or(search.hash),
                end_byte_by_byte(&gear, &data),
                "{seed}"
            );
        }
    }

    fn check_arrival(chunker: &Chunker, data: &[u8]) {
        let whole = chunker.find_end(&mut Search::default(), data, Rest::None);
        for step in [1 << 19, 77_777, 1 << 20, 3_000_001, data.len()] {
            let mut search = Search::default();
            let mut ends = (step..data.len() + step).step_by(step).map(|end| {
                let end = end.min(data.len());
                let rest = match end == data.len() {
                    true => Rest::None,
                    false => Rest::ToCome,
                };
                chunker.find_end(&mut search, &data[..end], rest)
            });
            assert_eq!(ends.find_map(|end| end), whole, "steps of {step}");
        }
    }

    #[test]
    fn the_end_does_not_depend_on_how_bytes_arrive() {
        let data = noise(9 << 20, 5);
        let gear = || Gear::new(&[1; 32]);
        for chunker in [
            Chunker::Gear(gear()),
            Chunker::GearAndZeros(gear()),
            Chunker::Rabin(Rabin::new(Polynomial::random().unwrap())),
        ] {
            check_arrival(&chunker, &data);
        }
        let chunker = Chunker::GearAndZeros(gear());
        for seed in 0..60 {
            let (run, others) = (noise(2, seed), noise(4, seed + 100));
            let length = [0, 1, ZERO_RUN_BYTES - 1, ZERO_RUN_BYTES, 300_000, 9 << 20];
            let length =
                length[usize::from(run[0]) % 6] + usize::from(run[1]) * (seed as usize % 2);
            let start = [0, 1, 5000, 600_000, 1 << 20, 1_100_000][usize::from(others[0]) % 6];
            let mut data = noise(start, seed);
            data.extend(vec![0; length]);
            data.extend(noise(usize::from(others[1]) * 3000, seed));
            data.extend(vec![0; usize::from(others[2]) * 700]);
            check_arrival(&chunker, &data);
        }
    }

    /// Zeros are chunks of their own from 64 KiB on, in multiples of that; the rest is as it was.
    #[test]
    fn long_runs_of_zeros_are_set_apart() {
        let gear = || Gear::new(&[1; 32]);
        let (plain, apart) = (Chunker::Gear(gear()), Chunker::GearAndZeros(gear()));
        let data = noise(8 << 20, 11);
        assert_eq!(cuts(&plain, &data), cuts(&apart, &data), "no zeros");
        let unit = ZERO_RUN_BYTES;
        let island = |length| noise(length, 3);
        let image = [
            &vec![0; 9 * unit][..],
            &island(4096),
            &vec![0; unit - 1],
            &island(10_000),
            &vec![0; (20 << 20) + 5],
            &island(100),
            &vec![0; 2 * unit + 77],
        ]
        .concat();
        let expected = [
            9 * unit,
            4096 + unit - 1 + 10_000,
            8 << 20,
            8 << 20,
            4 << 20,
            5 + 100,
            2 * unit,
            77,
        ];
        assert_eq!(cuts(&apart, &image), expected);
        assert_eq!(cuts(&plain, &image).len(), 3, "the first kind joins them");
        // What is between two runs is cut as if it were alone.
        let between = noise(3 << 20, 12);
        let image = [&vec![0; unit][..], &between, &vec![0; unit]].concat();
        let alone = cuts(&apart, &between);
        let found = cuts(&apart, &image);
        assert_eq!(found[1..=alone.len()], alone);
    }
}
