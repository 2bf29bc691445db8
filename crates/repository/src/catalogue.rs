//! What all index files together say, duplicates and splits included: for check, prune and repair.
//!
//! The [`Index`](crate::index::Index) keeps one place a blob and forgets which file said so; here
//! every place is kept, 48 bytes each, and every file with the packs it names.
//!
//! Invariant: one row for each distinct place (pack, offset, blob), however many index files
//! repeat a pack or split it between them (restic #21820).

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Mutex;

use refloat_storage::{FileKind, Listed};

use crate::by_id::{self, position};
use crate::error::RepositoryError;
use crate::format::index::IndexFile;
use crate::format::pack::{BlobKind, PackedBlob};
use crate::id::{BlobId, IndexId, PackId};
use crate::pack_reading::expected_size;
use crate::parallel::{for_each, lock};
use crate::repository::Repository;

/// The bit of [`Row::pack`] that tells data from trees.
const DATA: u32 = 1 << 31;
const NOT_COMPRESSED: u32 = u32::MAX;

/// One place of one blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    id: BlobId,
    pack: u32,
    offset: u32,
    length: u32,
    uncompressed_length: u32,
}

impl Row {
    fn new(pack: u32, blob: &PackedBlob) -> Self {
        let kind = match blob.kind {
            BlobKind::Data => DATA,
            BlobKind::Tree => 0,
        };
        Self {
            id: blob.id,
            pack: pack | kind,
            offset: blob.offset,
            length: blob.length,
            uncompressed_length: blob.uncompressed_length.unwrap_or(NOT_COMPRESSED),
        }
    }

    /// The number of its pack within [`Catalogue::packs`].
    pub const fn pack(&self) -> usize {
        (self.pack & !DATA) as usize
    }

    pub const fn kind(&self) -> BlobKind {
        if self.pack & DATA == 0 {
            BlobKind::Tree
        } else {
            BlobKind::Data
        }
    }

    pub const fn id(&self) -> BlobId {
        self.id
    }

    pub fn blob(&self) -> PackedBlob {
        PackedBlob {
            id: self.id,
            kind: self.kind(),
            offset: self.offset,
            length: self.length,
            uncompressed_length: Some(self.uncompressed_length)
                .filter(|length| *length != NOT_COMPRESSED),
        }
    }
}

/// An index file and what it names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CataloguedFile {
    pub id: IndexId,
    /// Numbers of packs.
    pub packs: Vec<u32>,
    /// Blobs it lists.
    pub blobs: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Catalogue {
    packs: Vec<PackId>,
    /// Trees first, each kind by id, pack and offset.
    rows: Vec<Row>,
    /// How many of the rows are of trees.
    trees: usize,
    /// The rows by pack and offset: their numbers, and where each pack's begin.
    by_pack: Vec<u32>,
    starts: Vec<usize>,
    /// The readable index files, by id.
    pub files: Vec<CataloguedFile>,
    /// The others.
    pub unreadable: Vec<(IndexId, RepositoryError)>,
    /// Packs whose blobs more than one index file lists.
    pub repeated: BTreeSet<PackId>,
}

#[derive(Default)]
struct Building {
    catalogue: Catalogue,
    numbers: HashMap<PackId, u32>,
}

impl Catalogue {
    /// Reads all index files, in parallel.
    ///
    /// # Errors
    /// The listing failed, or an index file is out of reach. A damaged one is in
    /// [`unreadable`](Self::unreadable).
    pub fn load(repository: &Repository, threads: usize) -> Result<Self, RepositoryError> {
        let files = repository.storage().list(FileKind::Index)?;
        Self::load_files(repository, &files, threads)
    }

    /// As [`load`](Self::load), of a listing that was made before.
    pub fn load_files(
        repository: &Repository,
        files: &[Listed],
        threads: usize,
    ) -> Result<Self, RepositoryError> {
        let building = Mutex::new(Building::default());
        for_each(files, threads, |listed| {
            let id = IndexId(*listed.key.id());
            match read_twice(|| repository.read_index(&listed.key)) {
                Ok(file) => lock(&building).add_file(id, &file),
                Err(error @ RepositoryError::DamagedFile { .. }) => {
                    lock(&building).catalogue.unreadable.push((id, error));
                    Ok(())
                }
                Err(error) => Err(error),
            }
        })?;
        let building = building
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(building.finish())
    }

    /// A catalogue of these packs, without index files.
    #[cfg(test)]
    pub fn of_packs(
        packs: impl IntoIterator<Item = (PackId, Vec<PackedBlob>)>,
    ) -> Result<Self, RepositoryError> {
        let mut building = Building::default();
        for (pack, blobs) in packs {
            let _number = building.add_pack(pack, &blobs)?;
        }
        Ok(building.finish())
    }

    pub fn packs(&self) -> &[PackId] {
        &self.packs
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub fn pack_of(&self, row: &Row) -> PackId {
        self.packs[row.pack()]
    }

    /// The numbers of the rows of a blob: empty, and then its start means nothing, if no index knows it.
    pub fn copies(&self, kind: BlobKind, id: &BlobId) -> Range<usize> {
        let (first, rows) = match kind {
            BlobKind::Tree => (0, &self.rows[..self.trees]),
            BlobKind::Data => (self.trees, &self.rows[self.trees..]),
        };
        let Some(at) = position(rows, id, |row| &row.id) else {
            return 0..0;
        };
        let is_copy = |row: &&Row| row.id == *id;
        let before = rows[..at].iter().rev().take_while(is_copy).count();
        let behind = rows[at..].iter().take_while(is_copy).count();
        first + at - before..first + at + behind
    }

    /// The numbers of the rows of a pack, by offset.
    pub fn rows_of_pack(&self, pack: usize) -> &[u32] {
        match (self.starts.get(pack), self.starts.get(pack + 1)) {
            (Some(start), Some(end)) => &self.by_pack[*start..*end],
            _ => &[],
        }
    }

    /// The blobs of a pack, by offset.
    pub fn blobs_of_pack(&self, pack: usize) -> Vec<PackedBlob> {
        self.rows_of_pack(pack)
            .iter()
            .map(|row| self.rows[*row as usize].blob())
            .collect()
    }

    /// Where the last of the blobs of a pack ends.
    pub fn end_of_blobs(&self, pack: usize) -> u64 {
        let last = self.rows_of_pack(pack).last();
        last.map_or(0, |row| self.rows[*row as usize].blob().end())
    }

    /// The size in bytes that a pack must have if the index lists it completely.
    pub fn pack_size(&self, pack: usize) -> u64 {
        let rows = self.rows_of_pack(pack).iter();
        expected_size(rows.map(|row| self.rows[*row as usize].blob()))
    }
}

impl Building {
    fn add_file(&mut self, id: IndexId, file: &IndexFile) -> Result<(), RepositoryError> {
        let mut packs = Vec::with_capacity(file.packs.len());
        let mut blobs = 0;
        for pack in &file.packs {
            let listed: Vec<PackedBlob> = pack.blobs.iter().map(|blob| (*blob).into()).collect();
            blobs += listed.len();
            packs.push(self.add_pack(pack.id, &listed)?);
        }
        packs.sort_unstable();
        packs.dedup();
        let file = CataloguedFile { id, packs, blobs };
        self.catalogue.files.push(file);
        Ok(())
    }

    fn add_pack(&mut self, pack: PackId, blobs: &[PackedBlob]) -> Result<u32, RepositoryError> {
        let packs = &mut self.catalogue.packs;
        let next = u32::try_from(packs.len()).ok().filter(|n| *n < DATA);
        let next = next
            .ok_or_else(|| RepositoryError::encode("an index", "it names more than 2^31 packs"))?;
        let number = *self.numbers.entry(pack).or_insert_with(|| {
            packs.push(pack);
            next
        });
        let rows = blobs.iter().map(|blob| Row::new(number, blob));
        self.catalogue.rows.extend(rows);
        Ok(number)
    }

    fn finish(self) -> Catalogue {
        let mut catalogue = self.catalogue;
        drop(self.numbers);
        catalogue.sort_packs();
        let Catalogue {
            packs,
            rows,
            repeated,
            ..
        } = &mut catalogue;
        let rest = |row: &Row| (row.pack, row.offset, row.length, row.uncompressed_length);
        let trees = trees_first(rows);
        let (of_trees, of_data) = rows.split_at_mut(trees);
        for rows in [of_trees, of_data] {
            by_id::sort(rows, |row| &row.id, rest);
        }
        rows.dedup_by(|again, first| {
            let same = again == first;
            if same {
                repeated.insert(packs[first.pack()]);
            }
            same
        });
        rows.shrink_to_fit();
        catalogue.trees = rows.partition_point(|row| row.kind() == BlobKind::Tree);
        catalogue.group_by_pack();
        catalogue.files.sort_by_key(|file| file.id);
        catalogue.unreadable.sort_by_key(|(id, _)| *id);
        catalogue
    }
}

/// Brings rows of trees before those of data. Returns how many they are.
fn trees_first(rows: &mut [Row]) -> usize {
    let mut trees = 0;
    for at in 0..rows.len() {
        if rows[at].kind() == BlobKind::Tree {
            rows.swap(at, trees);
            trees += 1;
        }
    }
    trees
}

impl Catalogue {
    /// Numbers packs in the order of their ids, so that equal indexes give equal plans whatever
    /// the order in which their files were read.
    fn sort_packs(&mut self) {
        let renumbered = by_id::sort_packs(&mut self.packs);
        for row in &mut self.rows {
            row.pack = renumbered[row.pack()] | (row.pack & DATA);
        }
        for file in &mut self.files {
            for pack in &mut file.packs {
                *pack = renumbered[*pack as usize];
            }
            file.packs.sort_unstable();
        }
    }

    fn group_by_pack(&mut self) {
        let mut starts = vec![0; self.packs.len() + 1];
        for row in &self.rows {
            starts[row.pack() + 1] += 1;
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let (mut by_pack, mut next) = (vec![0; self.rows.len()], starts.clone());
        for (number, row) in (0_u32..).zip(&self.rows) {
            let place = &mut next[row.pack()];
            by_pack[*place] = number;
            *place += 1;
        }
        for range in starts.windows(2) {
            let of_pack = &mut by_pack[range[0]..range[1]];
            of_pack.sort_unstable_by_key(|number| (self.rows[*number as usize].offset, *number));
        }
        self.by_pack = by_pack;
        self.starts = starts;
    }
}

/// Reads a file again before it is called damaged: a first transfer may have been (restic #5467).
pub fn read_twice<T>(read: impl Fn() -> Result<T, RepositoryError>) -> Result<T, RepositoryError> {
    match read() {
        Err(RepositoryError::DamagedFile { .. }) => read(),
        read => read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(id: u8, kind: BlobKind, offset: u32) -> PackedBlob {
        PackedBlob {
            id: BlobId([id; 32]),
            kind,
            offset,
            length: 50,
            uncompressed_length: None,
        }
    }

    #[test]
    fn a_row_takes_48_bytes() {
        assert_eq!(size_of::<Row>(), 48);
    }

    #[test]
    fn splits_are_joined_repeats_are_noticed_and_duplicates_stay() {
        let (one, two) = (PackId([2; 32]), PackId([1; 32]));
        let mut building = Building::default();
        let [a, b] = [blob(7, BlobKind::Data, 0), blob(8, BlobKind::Tree, 50)];
        let elsewhere = blob(7, BlobKind::Data, 0);
        let twice_in_pack = blob(7, BlobKind::Data, 50);
        for (pack, blob) in [
            (one, a),
            (one, b),
            (one, a),
            (two, elsewhere),
            (two, twice_in_pack),
        ] {
            building.add_pack(pack, &[blob]).unwrap();
        }
        let catalogue = building.finish();
        assert_eq!(catalogue.packs(), [two, one]);
        assert_eq!(catalogue.blobs_of_pack(1), [a, b]);
        assert_eq!(catalogue.blobs_of_pack(0), [elsewhere, twice_in_pack]);
        assert_eq!(
            catalogue.copies(BlobKind::Data, &BlobId([7; 32])),
            1..4,
            "the tree comes first"
        );
        assert_eq!(catalogue.copies(BlobKind::Tree, &BlobId([7; 32])), 0..0);
        assert_eq!(catalogue.repeated, BTreeSet::from([one]));
        assert_eq!(catalogue.pack_size(1), 100 + 2 * 37 + 32 + 4);
        assert_eq!(catalogue.rows_of_pack(2), &[] as &[u32]);
        assert_eq!([1, 2].map(|pack| catalogue.end_of_blobs(pack)), [100, 0]);
    }
}
