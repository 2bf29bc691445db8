//! Comparing a file that is there with the stored one, blob by blob.
//!
//! Invariant: a blob counts as equal only if its bytes hash to its id, or are the zeros that it names.

use refloat_localfs::is_zeros;
use refloat_localfs::write::ExistingFile;

use super::batch::FileTask;
use crate::id::BlobId;
use crate::zeros::is_zero_blob;

/// Which blobs of `task` the existing file already holds in their places. What cannot be read
/// counts as different.
pub fn equal_blobs(file: &ExistingFile, task: &FileTask, offsets: &[u64]) -> Vec<bool> {
    let mut buffer = Vec::new();
    let ranges = offsets.windows(2);
    let blobs = task.content.iter().zip(ranges);
    blobs
        .map(|(blob, range)| {
            let [start, end] = range else { return false };
            if *end > file.size() {
                return false;
            }
            let Ok(length) = usize::try_from(end - start) else {
                return false;
            };
            buffer.resize(length, 0);
            let read = file.read_at(*start, &mut buffer);
            let is_read = read.is_ok_and(|read| read == length);
            // Not by asking for holes: some file systems said so of data that was not on disk yet.
            match is_zero_blob(blob, end - start) {
                true => is_read && is_zeros(&buffer),
                false => is_read && BlobId::of(&buffer) == *blob,
            }
        })
        .collect()
}

/// How many bytes the equal ones of some blobs hold.
pub fn equal_bytes(equal: &[bool], offsets: &[u64]) -> u64 {
    let lengths = offsets.windows(2).map(|range| match range {
        [start, end] => end - start,
        _ => 0,
    });
    equal
        .iter()
        .zip(lengths)
        .filter(|(equal, _)| **equal)
        .map(|(_, length)| length)
        .sum()
}
