//! Neighbouring blobs of a pack, which are read at once.
//!
//! Invariant: a run is of one pack, and no longer than its limit unless it is a single blob.

use std::ops::Range;

use refloat_storage::{FileKey, SharedStorage, StorageError};

use crate::codec::SealedBytes;
use crate::format::pack::PackedBlob;
use crate::index::Location;
use crate::pack_reading::{pack_file, read_stretch};

/// Blobs that lie so near each other are read at once, gaps included, in bytes: on distant storage about what comes
/// within the time that a request takes before its first byte, and on a folder a tenth of a millisecond.
const GAP_BYTES_MAX: u64 = 512 << 10;
/// No more is read at once, in bytes, unless one blob is larger: a pack of usual size, of up to 16.5 MiB, in two runs, or
/// three where its blobs are large. Each thread has memory for one.
const RUN_BYTES_MAX: u64 = 17 << 19;

/// See the module.
#[derive(Debug)]
pub struct Run {
    file: FileKey,
    locations: Vec<Location>,
}

impl Run {
    /// The pack.
    pub const fn file(&self) -> FileKey {
        self.file
    }

    /// In the order in which they lie.
    pub fn locations(&self) -> &[Location] {
        &self.locations
    }

    fn start(&self) -> u64 {
        self.locations
            .first()
            .map_or(0, |first| first.blob.offset.into())
    }

    /// Where its last blob ends, in bytes from the start of the pack.
    pub fn end(&self) -> u64 {
        self.locations.last().map_or(0, |last| last.blob.end())
    }

    /// Its length, gaps included.
    pub fn bytes(&self) -> u64 {
        self.end().saturating_sub(self.start())
    }

    /// Where the sealed bytes of one of its blobs lie in those of the run.
    pub fn range_of(&self, blob: &PackedBlob) -> Range<usize> {
        let start = usize::try_from(u64::from(blob.offset) - self.start());
        start.map_or(0..0, |start| start..start + blob.length as usize)
    }

    /// Its blobs within its bytes; none if one of them ends beyond.
    pub fn sealed<'b>(&self, bytes: &'b [u8]) -> Option<Vec<SealedBytes<'b>>> {
        let blobs = self.locations.iter().map(|location| &location.blob);
        blobs
            .map(|blob| Some(SealedBytes::of(blob, bytes.get(self.range_of(blob))?)))
            .collect()
    }

    /// Reads it as [`read_stretch`] does.
    ///
    /// # Errors
    /// As that.
    pub fn read<'m>(
        &self,
        storage: &SharedStorage,
        memory: &'m mut Vec<u8>,
    ) -> Result<&'m mut [u8], StorageError> {
        self.read_to(self.end(), storage, memory)
    }

    /// Reads it, and what follows it up to this offset.
    ///
    /// # Errors
    /// As [`read_stretch`].
    pub fn read_to<'m>(
        &self,
        end: u64,
        storage: &SharedStorage,
        memory: &'m mut Vec<u8>,
    ) -> Result<&'m mut [u8], StorageError> {
        let length = usize::try_from(end.saturating_sub(self.start())).unwrap_or(usize::MAX);
        read_stretch(storage, &self.file, self.start(), length, memory)
    }

    fn takes(&self, next: &Location) -> bool {
        let start = u64::from(next.blob.offset);
        pack_file(next.pack) == self.file
            && start <= self.end().saturating_add(GAP_BYTES_MAX)
            && next.blob.end() - self.start() <= RUN_BYTES_MAX
    }
}

/// The runs of blobs that are sorted by pack and offset.
pub fn runs(sorted: impl IntoIterator<Item = Location>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for location in sorted {
        match runs.last_mut() {
            Some(run) if run.takes(&location) => run.locations.push(location),
            _ => runs.push(Run {
                file: pack_file(location.pack),
                locations: vec![location],
            }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::pack::BlobKind;
    use crate::id::{BlobId, PackId};

    #[test]
    fn runs_end_with_their_pack_at_gaps_and_at_the_limit() {
        let location = |(pack, offset, length)| Location {
            pack: PackId([pack; 32]),
            blob: PackedBlob {
                id: BlobId([1; 32]),
                kind: BlobKind::Data,
                offset,
                length,
                uncompressed_length: None,
            },
        };
        let (gap, limit) = (GAP_BYTES_MAX as u32, RUN_BYTES_MAX as u32);
        let blobs = [
            (1, 100, 50),
            (1, 150, 50),
            (1, 200 + gap, 50),
            (1, 251 + 2 * gap, 50),
            (2, 0, limit - 10),
            (2, limit - 10, 10),
            (2, limit, 10),
            (3, limit, 2 * limit),
            (3, 3 * limit, 1),
        ];
        let runs = runs(blobs.map(location));
        let found = runs.iter().map(|run| {
            let pack = run.file().id()[0];
            (pack, run.start(), run.end(), run.locations().len())
        });
        let (gap, limit) = (u64::from(gap), u64::from(limit));
        let expected = [
            (1, 100, 250 + gap, 3),
            (1, 251 + 2 * gap, 301 + 2 * gap, 1),
            (2, 0, limit, 2),
            (2, limit, limit + 10, 1),
            (3, limit, 3 * limit, 1),
            (3, 3 * limit, 3 * limit + 1, 1),
        ];
        assert_eq!(found.collect::<Vec<_>>(), expected);
        let bytes = vec![7; usize::try_from(gap).unwrap() + 150];
        let sealed = runs[0].sealed(&bytes).unwrap();
        assert!(sealed.len() == 3 && sealed.iter().all(|blob| blob.sealed.len() == 50));
        assert!(runs[0].sealed(&bytes[1..]).is_none());
    }
}
