//! Blobs that are all zeros: most of a disk image.
//!
//! They are known by their ids, whoever stored them, so nothing has to be hashed or read for them.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::chunker::{CHUNK_BYTES_MAX, ZERO_RUN_BYTES};
use crate::hash::Sha256;
use crate::id::BlobId;

/// What of a run of zeros may not become a hole: the rest of a block at either end.
const EDGE_BYTES: u64 = 2 * 4096;

/// All blobs of zeros whose length is a multiple of [`ZERO_RUN_BYTES`], as our chunker cuts them.
struct ZeroBlobs {
    ids: Vec<BlobId>,
    lengths: HashMap<BlobId, usize>,
}

/// Hashes 8 MiB, once a process.
fn zero_blobs() -> &'static ZeroBlobs {
    static BLOBS: OnceLock<ZeroBlobs> = OnceLock::new();
    BLOBS.get_or_init(|| {
        let mut hash = Sha256::new();
        let zeros = vec![0; ZERO_RUN_BYTES];
        let lengths = (ZERO_RUN_BYTES..=CHUNK_BYTES_MAX).step_by(ZERO_RUN_BYTES);
        let ids: Vec<BlobId> = lengths
            .clone()
            .map(|_| {
                hash.update(&zeros);
                BlobId(hash.clone().finish())
            })
            .collect();
        let lengths = ids.iter().copied().zip(lengths).collect();
        ZeroBlobs { ids, lengths }
    })
}

/// The id of so many zeros, a multiple of [`ZERO_RUN_BYTES`] up to [`CHUNK_BYTES_MAX`]; none for any
/// other length.
pub fn zero_blob(length: usize) -> Option<BlobId> {
    let number = (length / ZERO_RUN_BYTES).checked_sub(1)?;
    let exact = length.is_multiple_of(ZERO_RUN_BYTES);
    zero_blobs().ids.get(number).copied().filter(|_| exact)
}

/// How many zeros a blob is, in bytes, if its id tells.
pub fn zeros_of(blob: &BlobId) -> Option<u64> {
    zero_blobs().lengths.get(blob).map(|length| *length as u64)
}

/// Whether a blob of this length is known to be zeros.
pub fn is_zero_blob(blob: &BlobId, length: u64) -> bool {
    length.is_multiple_of(ZERO_RUN_BYTES as u64) && zeros_of(blob) == Some(length)
}

/// How many bytes of a file, at least, are in runs of zeros, which take no space when they are
/// restored: as far as whole blobs tell.
pub fn hole_bytes(content: &[BlobId]) -> u64 {
    // Small, and most files are: not worth the 8 MiB that the table hashes.
    if content.len() < 2 {
        return 0;
    }
    let zeros = content.iter().filter_map(zeros_of);
    zeros.map(|length| length - EDGE_BYTES).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_zeros() {
        for length in [1, 2, 7, 127, 128].map(|count| count * ZERO_RUN_BYTES) {
            let id = BlobId::of(&vec![0; length]);
            assert_eq!(zero_blob(length), Some(id), "{length}");
            assert_eq!(zeros_of(&id), Some(length as u64));
        }
        for length in [0, 1, ZERO_RUN_BYTES - 1, ZERO_RUN_BYTES + 1] {
            assert_eq!(zero_blob(length), None, "{length}");
        }
        assert_eq!(zero_blob(CHUNK_BYTES_MAX + ZERO_RUN_BYTES), None);
        let (id, length) = (BlobId::of(&vec![0; 7 << 16]), 7 << 16);
        assert!(is_zero_blob(&id, length));
        for wrong in [0, length - 1, length + ZERO_RUN_BYTES as u64] {
            assert!(!is_zero_blob(&id, wrong), "{wrong}");
        }
        assert_eq!(zeros_of(&BlobId::of(b"else")), None);
    }

    #[test]
    fn blobs_of_zeros_are_holes_but_for_their_edges() {
        let (long, short) = (
            zero_blob(CHUNK_BYTES_MAX).unwrap(),
            zero_blob(ZERO_RUN_BYTES).unwrap(),
        );
        let other = BlobId([7; 32]);
        let (long_hole, short_hole) = ((8 << 20) - 8192, (64 << 10) - 8192);
        for (content, bytes) in [
            (vec![], 0),
            (vec![long], 0),
            (vec![long, other, short], long_hole + short_hole),
            (vec![other, other], 0),
            (vec![other, long, long, long], 3 * long_hole),
        ] {
            assert_eq!(hole_bytes(&content), bytes, "{content:?}");
        }
    }
}
