//! Batches of files, and the runs of blobs that they need.
//!
//! Invariant: a run reads one stretch of one pack; its blobs are in the order of their offsets.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use refloat_localfs::RelativePath;
use refloat_model::entry::Metadata;

use crate::format::pack::BlobKind;
use crate::id::{BlobId, PackId};
use crate::index::{Index, Location};

/// Files of a batch: enough that packs are read in long stretches, some MiB of memory. Three are
/// there at a time, one that is being walked and two at work.
const BATCH_FILES_MAX: usize = 4096;
/// Blobs of a batch, so that large files end it as well.
const BATCH_BLOBS_MAX: usize = 16_384;
/// Bytes that one read fetches at most, unless a single blob is larger.
const RUN_BYTES_MAX: u64 = 2 << 20;
/// Bytes between two blobs that are rather read and dropped than skipped by another read.
const GAP_BYTES_MAX: u64 = 64 << 10;

/// A file to be restored.
pub struct FileTask {
    pub path: RelativePath,
    pub metadata: Metadata,
    pub content: Arc<[BlobId]>,
    /// As stored; the blobs must add up to it.
    pub size: u64,
    /// Whether something of its name may be there.
    pub existing: bool,
    /// Whether other names of the same inode may follow.
    pub first_name: bool,
}

/// Another name for a file that comes before.
pub struct LinkTask {
    pub first: RelativePath,
    pub path: RelativePath,
    /// Whether something of its name may be there.
    pub existing: bool,
}

/// Work that is executed together.
#[derive(Default)]
pub struct Batch {
    pub files: Vec<FileTask>,
    blobs: usize,
    pub links: Vec<LinkTask>,
    /// Directories that the walk has left, deepest first.
    pub directories: Vec<(RelativePath, Metadata)>,
}

impl Batch {
    pub fn push(&mut self, file: FileTask) {
        self.blobs += file.content.len();
        self.files.push(file);
    }

    pub const fn is_full(&self) -> bool {
        self.files.len() + self.links.len() + self.directories.len() >= BATCH_FILES_MAX
            || self.blobs >= BATCH_BLOBS_MAX
    }
}

/// Where a blob's plaintext goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Use {
    /// Number of the file in the batch.
    pub file: usize,
    /// Where in the file, in bytes.
    pub offset: u64,
}

/// A blob and where its plaintext goes.
#[derive(Debug)]
pub struct BlobUses {
    pub location: Location,
    pub uses: Vec<Use>,
}

impl BlobUses {
    fn range(&self) -> Range<u64> {
        u64::from(self.location.blob.offset)..self.location.blob.end()
    }
}

/// A stretch of a pack that is read at once.
#[derive(Debug)]
pub struct Run {
    pub pack: PackId,
    pub range: Range<u64>,
    pub blobs: Vec<BlobUses>,
}

impl Run {
    /// How many bytes are read; none if memory cannot hold them.
    pub fn length(&self) -> Option<usize> {
        usize::try_from(self.range.end - self.range.start).ok()
    }
}

/// Why a file cannot be restored from what the index lists.
pub enum Unavailable {
    /// No index knows this blob.
    Missing(BlobId),
    /// The blobs add up to another length than stored.
    Length(u64),
}

/// Collects the blobs of a batch.
pub struct RunPlanner<'i> {
    index: &'i Index,
    blobs: HashMap<BlobId, usize>,
    uses: Vec<BlobUses>,
}

impl<'i> RunPlanner<'i> {
    pub fn new(index: &'i Index) -> Self {
        Self {
            index,
            blobs: HashMap::new(),
            uses: Vec::new(),
        }
    }

    /// Where each blob of a file begins; the blobs are in the index and add up to its size.
    pub fn offsets(&self, file: &FileTask) -> Result<Vec<u64>, Unavailable> {
        let mut offset = 0;
        let mut offsets = Vec::with_capacity(file.content.len() + 1);
        for blob in &*file.content {
            offsets.push(offset);
            let location = self
                .index
                .get(BlobKind::Data, blob)
                .ok_or(Unavailable::Missing(*blob))?;
            offset += location.blob.plaintext_length();
        }
        offsets.push(offset);
        if offset == file.size {
            Ok(offsets)
        } else {
            Err(Unavailable::Length(offset))
        }
    }

    /// Asks for one blob of a file.
    pub fn want(&mut self, blob: BlobId, place: Use) {
        let Some(location) = self.index.get(BlobKind::Data, &blob) else {
            return;
        };
        let next = self.uses.len();
        let at = *self.blobs.entry(blob).or_insert(next);
        if at == next {
            self.uses.push(BlobUses {
                location,
                uses: Vec::new(),
            });
        }
        if let Some(entry) = self.uses.get_mut(at) {
            entry.uses.push(place);
        }
    }

    /// The runs, in the order in which files first need them.
    pub fn into_runs(self) -> Vec<Run> {
        let mut first_use: HashMap<PackId, usize> = HashMap::new();
        for (order, blob) in self.uses.iter().enumerate() {
            first_use.entry(blob.location.pack).or_insert(order);
        }
        let mut blobs = self.uses;
        blobs.sort_by_key(|blob| {
            let order = first_use
                .get(&blob.location.pack)
                .copied()
                .unwrap_or(usize::MAX);
            (order, blob.location.blob.offset)
        });
        let mut runs: Vec<Run> = Vec::new();
        for blob in blobs {
            let (pack, range) = (blob.location.pack, blob.range());
            match runs.last_mut().filter(|run| joins(run, pack, &range)) {
                Some(run) => {
                    run.range.end = run.range.end.max(range.end);
                    run.blobs.push(blob);
                }
                None => runs.push(Run {
                    pack,
                    range,
                    blobs: vec![blob],
                }),
            }
        }
        runs
    }
}

fn joins(run: &Run, pack: PackId, next: &Range<u64>) -> bool {
    run.pack == pack
        && next.start >= run.range.end
        && next.start - run.range.end <= GAP_BYTES_MAX
        && next.end - run.range.start <= RUN_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::pack::PackedBlob;
    use crate::index::IndexBuilder;

    #[test]
    fn neighbours_are_read_together_and_each_blob_once() {
        let blob = |number: u8, offset: u32, length: u32| PackedBlob {
            id: BlobId([number; 32]),
            kind: BlobKind::Data,
            offset,
            length,
            uncompressed_length: None,
        };
        let mut builder = IndexBuilder::default();
        let packs = [PackId([1; 32]), PackId([2; 32])];
        builder.add_pack(
            packs[0],
            [blob(1, 0, 100), blob(2, 100, 100), blob(3, 200_000, 50)],
        );
        builder.add_pack(packs[1], [blob(4, 0, 5 << 20), blob(5, 5 << 20, 64)]);
        let index = builder.build();
        let mut planner = RunPlanner::new(&index);
        let place = |file| Use { file, offset: 0 };
        for (file, number) in [4, 5, 1, 2, 3, 1].into_iter().enumerate() {
            planner.want(BlobId([number; 32]), place(file));
        }
        let runs = planner.into_runs();
        let shape: Vec<_> = runs
            .iter()
            .map(|run| (run.pack, run.range.clone(), run.blobs.len()))
            .collect();
        assert_eq!(
            shape,
            [
                (packs[1], 0..5 << 20, 1),
                (packs[1], 5 << 20..(5 << 20) + 64, 1),
                (packs[0], 0..200, 2),
                (packs[0], 200_000..200_050, 1),
            ]
        );
        assert_eq!(runs[2].blobs[0].uses, [place(2), place(5)]);
    }
}
