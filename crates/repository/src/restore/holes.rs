//! Zeros that a restore need not read: their blobs' ids tell what they are.
//!
//! Invariant: what counts as written is a hole by what the file system says, or was read back.

use std::ops::Range;

use refloat_localfs::{FileHandle, WriteError};
use refloat_model::progress::Counters;

use super::{Job, ReadBack};
use crate::id::BlobId;
use crate::zeros::{is_zero_blob, zeros_of};

/// A hole is made in steps of so many bytes: where the file system knows none, it is written.
const STEP_BYTES: u64 = 64 << 20;

/// Splits the blobs that a file still wants into those to be fetched, and ranges of zeros, neighbours
/// together. `offsets` says where each blob of `content` begins, and where the last ends.
pub fn split(
    content: &[BlobId],
    offsets: &[u64],
    wanted: impl Iterator<Item = usize>,
) -> (Vec<usize>, Vec<Range<u64>>) {
    let mut holes: Vec<Range<u64>> = Vec::new();
    let mut others = Vec::new();
    for number in wanted {
        let (Some(blob), Some([start, end])) =
            (content.get(number), offsets.get(number..number + 2))
        else {
            continue;
        };
        // What the index says of its length may be wrong; then it is read, and that shows.
        if !is_zero_blob(blob, end - start) {
            others.push(number);
            continue;
        }
        match holes.last_mut().filter(|hole| hole.end == *start) {
            Some(hole) => hole.end = *end,
            None => holes.push(*start..*end),
        }
    }
    (others, holes)
}

/// How many zeros the blob that begins at `offset` is, if they are in one of the holes.
pub fn at(holes: &[Range<u64>], offset: u64, blob: &BlobId) -> Option<u64> {
    let hole = holes.get(holes.partition_point(|hole| hole.end <= offset))?;
    let length = zeros_of(blob)?;
    (hole.start <= offset && offset + length <= hole.end).then_some(length)
}

/// Makes holes in a file and proves that they are there.
///
/// # Errors
/// One cannot be made, or does not read back as zeros. When the job stops, holes may be missing.
pub fn make(job: &Job<'_>, handle: &FileHandle, holes: &[Range<u64>]) -> Result<(), WriteError> {
    for hole in holes {
        let mut at = hole.start;
        while at < hole.end && !job.is_stopped() {
            let length = STEP_BYTES.min(hole.end - at);
            handle.write_hole(at, length)?;
            Counters::add(&job.bytes_written, length);
            Counters::add(&job.counters.bytes_done, length);
            if job.options.read_back == ReadBack::Everything {
                handle.verify_hole(at, length)?;
                Counters::add(&job.bytes_verified, length);
            }
            at += length;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zeros::zero_blob;

    #[test]
    fn zeros_side_by_side_are_one_hole_and_others_are_fetched() {
        let (long, short) = (zero_blob(8 << 20).unwrap(), zero_blob(64 << 10).unwrap());
        let data = BlobId([7; 32]);
        let content = [long, long, short, data, short, data, long];
        let lengths = [8 << 20, 8 << 20, 64 << 10, 1000, 64 << 10, 5, 8 << 20];
        let mut offsets = vec![0];
        for length in lengths {
            offsets.push(offsets[offsets.len() - 1] + length);
        }
        let (others, holes) = split(&content, &offsets, 0..7);
        assert_eq!(others, [3, 5]);
        let expected = [
            0..offsets[3],
            offsets[4]..offsets[5],
            offsets[6]..offsets[7],
        ];
        assert_eq!(holes, expected);
        for (blob, offset) in content.iter().zip(&offsets) {
            let zeros = zeros_of(blob);
            assert_eq!(at(&holes, *offset, blob), zeros, "{offset}");
        }
        assert_eq!(at(&holes, offsets[4], &long), None, "it does not end there");
        assert_eq!(at(&holes, offsets[3], &short), None, "no hole");
        // A blob that is there already parts a hole; a wrong length is not believed.
        let (_, holes) = split(&content, &offsets, [0, 2].into_iter());
        assert_eq!(holes, [0..8 << 20, offsets[2]..offsets[3]]);
        assert_eq!(split(&[long], &[0, 7], 0..1), (vec![0], vec![]));
    }
}
