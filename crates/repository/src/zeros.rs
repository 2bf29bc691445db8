//! Runs of zeros: most of a disk image.

use std::sync::OnceLock;

use crate::chunker::CHUNK_BYTES_MAX;
use crate::id::BlobId;

/// The id of the longest chunk there is if it is all zeros: our chunker cuts long runs into those.
pub fn zero_chunk() -> BlobId {
    static ID: OnceLock<BlobId> = OnceLock::new();
    *ID.get_or_init(|| BlobId::of(&vec![0; CHUNK_BYTES_MAX]))
}

/// How many bytes of a file, at least, are in runs of zeros, which take no space when they are
/// restored: as far as whole chunks tell.
pub fn hole_bytes(content: &[BlobId]) -> u64 {
    // Only where chunks repeat is it worth knowing which one that of zeros is.
    let is_hole = |pair: &&[BlobId]| matches!(pair, [a, b] if a == b && *a == zero_chunk());
    let holes = content.windows(2).filter(is_hole).count();
    holes as u64 * CHUNK_BYTES_MAX as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_zeros_in_a_row_are_holes() {
        let (zeros, other) = (zero_chunk(), BlobId([7; 32]));
        let chunk = CHUNK_BYTES_MAX as u64;
        for (content, chunks) in [
            (vec![], 0),
            (vec![zeros], 0),
            (vec![zeros, other, zeros], 0),
            (vec![other, other], 0),
            (vec![other, zeros, zeros, zeros, other, zeros, zeros], 3),
        ] {
            assert_eq!(hole_bytes(&content), chunks * chunk, "{content:?}");
        }
    }
}
