//! The index in memory: sorted, packed arrays.
//!
//! Invariant: looking a blob up never touches storage; of several places of one blob, one is kept.

use std::collections::HashMap;

use crate::by_id::{self, position};
use crate::format::index::IndexFile;
use crate::format::pack::{BlobKind, PackedBlob};
use crate::id::{BlobId, PackId};

/// Where a blob lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Location {
    /// The pack.
    pub pack: PackId,
    /// Where in it.
    pub blob: PackedBlob,
}

/// 48 bytes a blob: 32 of id, 16 of place. The kind is told by the table, "uncompressed" by a
/// plaintext length of [`NOT_COMPRESSED`].
#[derive(Clone, Copy, Debug)]
struct Entry {
    id: BlobId,
    pack: u32,
    offset: u32,
    length: u32,
    uncompressed_length: u32,
}

impl Entry {
    fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.length)
    }
}

const NOT_COMPRESSED: u32 = u32::MAX;

/// All blobs of a repository.
#[derive(Debug, Default)]
pub struct Index {
    packs: Vec<PackId>,
    data: Vec<Entry>,
    trees: Vec<Entry>,
    /// Where the last tree of each pack ends in it.
    tree_ends: Vec<u64>,
}

impl Index {
    /// Looks a blob up.
    #[must_use]
    pub fn get(&self, kind: BlobKind, id: &BlobId) -> Option<Location> {
        let entries = self.entries(kind);
        let entry = entries.get(position(entries, id, |entry| &entry.id)?)?;
        self.location(kind, entry)
    }

    /// Whether a blob is known.
    #[must_use]
    pub fn contains(&self, kind: BlobKind, id: &BlobId) -> bool {
        position(self.entries(kind), id, |entry| &entry.id).is_some()
    }

    /// The number, within [`packs`](Self::packs), of the pack that holds a blob, and where the blob
    /// ends in it.
    #[must_use]
    pub fn end_in_pack(&self, kind: BlobKind, id: &BlobId) -> Option<(usize, u64)> {
        let entries = self.entries(kind);
        let entry = entries.get(position(entries, id, |entry| &entry.id)?)?;
        Some((usize::try_from(entry.pack).ok()?, entry.end()))
    }

    /// Looks a tree up, and where the last of the trees that are known ends in its pack.
    #[must_use]
    pub fn tree(&self, id: &BlobId) -> Option<(Location, u64)> {
        let entry = self
            .trees
            .get(position(&self.trees, id, |entry| &entry.id)?)?;
        let end = self.tree_ends.get(usize::try_from(entry.pack).ok()?)?;
        Some((self.location(BlobKind::Tree, entry)?, *end))
    }

    /// How many different blobs of a kind are known.
    #[must_use]
    pub fn count(&self, kind: BlobKind) -> usize {
        self.entries(kind).len()
    }

    /// All packs that an index lists.
    #[must_use]
    pub fn packs(&self) -> &[PackId] {
        &self.packs
    }

    /// All blobs with their places, in order of ids.
    pub fn iter(&self, kind: BlobKind) -> impl Iterator<Item = Location> {
        self.entries(kind)
            .iter()
            .filter_map(move |entry| self.location(kind, entry))
    }

    const fn entries(&self, kind: BlobKind) -> &Vec<Entry> {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        }
    }

    fn location(&self, kind: BlobKind, entry: &Entry) -> Option<Location> {
        let compressed = entry.uncompressed_length != NOT_COMPRESSED;
        Some(Location {
            pack: *self.packs.get(usize::try_from(entry.pack).ok()?)?,
            blob: PackedBlob {
                id: entry.id,
                kind,
                offset: entry.offset,
                length: entry.length,
                uncompressed_length: compressed.then_some(entry.uncompressed_length),
            },
        })
    }
}

/// Collects index files, in any order, into an [`Index`].
#[derive(Debug, Default)]
pub struct IndexBuilder {
    index: Index,
    pack_numbers: HashMap<PackId, u32>,
}

impl IndexBuilder {
    /// Adds everything an index file lists.
    pub fn add_file(&mut self, file: &IndexFile) {
        for pack in &file.packs {
            self.add_pack(pack.id, pack.blobs.iter().map(|blob| (*blob).into()));
        }
    }

    /// Adds blobs of one pack.
    pub fn add_pack(&mut self, pack: PackId, blobs: impl IntoIterator<Item = PackedBlob>) {
        let next = u32::try_from(self.index.packs.len()).unwrap_or(u32::MAX);
        let number = *self.pack_numbers.entry(pack).or_insert_with(|| {
            self.index.packs.push(pack);
            next
        });
        for blob in blobs {
            let entry = Entry {
                id: blob.id,
                pack: number,
                offset: blob.offset,
                length: blob.length,
                uncompressed_length: blob.uncompressed_length.unwrap_or(NOT_COMPRESSED),
            };
            match blob.kind {
                BlobKind::Data => self.index.data.push(entry),
                BlobKind::Tree => self.index.trees.push(entry),
            }
        }
    }

    fn sort_packs(&mut self) {
        let Index {
            packs, data, trees, ..
        } = &mut self.index;
        let renumbered = by_id::sort_packs(packs);
        for entry in data.iter_mut().chain(trees) {
            entry.pack = renumbered[entry.pack as usize];
        }
    }

    /// Sorts and drops duplicates.
    #[must_use]
    pub fn build(self) -> Index {
        self.build_preferring(&HashMap::new())
    }

    /// As [`build`](Self::build); of several places of a blob one within a pack of `sizes` stays,
    /// if there is any: a pack that is gone or cut off must not hide the copy that replaced it.
    #[must_use]
    pub fn build_preferring(mut self, sizes: &HashMap<PackId, u64>) -> Index {
        self.sort_packs();
        let packs = self.index.packs.iter();
        let sizes: Vec<u64> = packs
            .map(|id| sizes.get(id).copied().unwrap_or_default())
            .collect();
        let is_absent = |entry: &Entry| {
            let size = usize::try_from(entry.pack).ok();
            let size = size.and_then(|pack| sizes.get(pack));
            size.is_none_or(|size| entry.end() > *size)
        };
        for entries in [&mut self.index.data, &mut self.index.trees] {
            let rest = |entry: &Entry| {
                let lengths = (entry.length, entry.uncompressed_length);
                (is_absent(entry), entry.pack, entry.offset, lengths)
            };
            by_id::sort(entries, |entry| &entry.id, rest);
            entries.dedup_by_key(|entry| entry.id);
            entries.shrink_to_fit();
        }
        let mut ends = vec![0; self.index.packs.len()];
        for entry in &self.index.trees {
            let end: &mut u64 = &mut ends[entry.pack as usize];
            *end = entry.end().max(*end);
        }
        self.index.tree_ends = ends;
        self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(id: BlobId, kind: BlobKind, offset: u32) -> PackedBlob {
        PackedBlob {
            id,
            kind,
            offset,
            length: 40,
            uncompressed_length: Some(offset),
        }
    }

    #[test]
    fn an_entry_takes_48_bytes() {
        assert_eq!(size_of::<Entry>(), 48);
    }

    #[test]
    fn every_blob_is_found_and_no_other() {
        let ids: Vec<BlobId> = (0..5000_u32)
            .map(|i| BlobId::of(&i.to_le_bytes()))
            .collect();
        let mut builder = IndexBuilder::default();
        for (number, chunk) in ids.chunks(100).enumerate() {
            let pack = PackId([u8::try_from(number).unwrap(); 32]);
            builder.add_pack(pack, chunk.iter().map(|id| blob(*id, BlobKind::Data, 7)));
            builder.add_pack(
                pack,
                chunk.iter().take(1).map(|id| blob(*id, BlobKind::Tree, 9)),
            );
        }
        let index = builder.build();
        for (number, id) in ids.iter().enumerate() {
            let found = index.get(BlobKind::Data, id).unwrap();
            assert_eq!(
                found.pack,
                PackId([u8::try_from(number / 100).unwrap(); 32])
            );
            assert_eq!(found.blob, blob(*id, BlobKind::Data, 7));
            assert_eq!(index.contains(BlobKind::Tree, id), number % 100 == 0);
        }
        assert!(
            (5000..9000_u32)
                .all(|i| !index.contains(BlobKind::Data, &BlobId::of(&i.to_le_bytes())))
        );
    }

    #[test]
    fn the_end_of_a_pack_s_trees_is_known() {
        let at = |number: u8, kind, offset| blob(BlobId([number; 32]), kind, offset);
        let mut builder = IndexBuilder::default();
        let trees = [at(1, BlobKind::Tree, 900), at(2, BlobKind::Tree, 30)];
        builder.add_pack(PackId([2; 32]), trees);
        builder.add_pack(PackId([1; 32]), [at(3, BlobKind::Tree, 5)]);
        builder.add_pack(PackId([2; 32]), [at(4, BlobKind::Data, 5_000)]);
        let index = builder.build();
        for (tree, start) in [(1, 900), (2, 900), (3, 5)] {
            let id = BlobId([tree; 32]);
            let (tree, end) = index.tree(&id).unwrap();
            assert_eq!(Some(tree), index.get(BlobKind::Tree, &id));
            assert_eq!(end, start + u64::from(tree.blob.length));
        }
        assert_eq!(index.tree(&BlobId([4; 32])), None, "no tree");
    }

    #[test]
    fn ids_that_defeat_interpolation_are_found_as_well() {
        let mut builder = IndexBuilder::default();
        let id = |low: u16| {
            let mut bytes = [0; 32];
            bytes[30..].copy_from_slice(&low.to_be_bytes());
            BlobId(bytes)
        };
        builder.add_pack(
            PackId([0; 32]),
            (0..2000).map(|i| blob(id(i), BlobKind::Data, 0)),
        );
        builder.add_pack(
            PackId([0; 32]),
            [blob(BlobId([255; 32]), BlobKind::Data, 0)],
        );
        let index = builder.build();
        assert!((0..2000).all(|i| index.contains(BlobKind::Data, &id(i))));
        assert!(!index.contains(BlobKind::Data, &id(2000)));
    }

    #[test]
    fn a_blob_in_two_packs_counts_once() {
        let mut builder = IndexBuilder::default();
        let id = BlobId::of(b"x");
        builder.add_pack(PackId([1; 32]), [blob(id, BlobKind::Data, 0)]);
        builder.add_pack(PackId([2; 32]), [blob(id, BlobKind::Data, 50)]);
        let index = builder.build();
        assert_eq!(index.count(BlobKind::Data), 1);
        assert_eq!(index.packs().len(), 2);
    }
}
