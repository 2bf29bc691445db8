//! Writing packs of blobs that are sealed already, and the indexes that list them.
//!
//! Write order: packs, then the index files that list them; a crash in between leaves packs that
//! the next prune removes.
//!
//! Invariant: what is added is sealed bytes that somebody opened and hashed just before.

use std::sync::Mutex;

use refloat_storage::FileKind;

use crate::error::RepositoryError;
use crate::format::index::{IndexFile, IndexPack};
use crate::format::pack::{BlobKind, PackedBlob, finish_pack, is_intact};
use crate::id::{IndexId, PackId, sha256};
use crate::pack_reading::pack_file_of;
use crate::parallel::lock;
use crate::repository::Repository;

/// An index file is written when so many blobs wait for one, as restic does: what a crash leaves
/// behind is then reused and not uploaded again.
pub const INDEX_BLOBS_MAX: usize = 50_000;

/// The share of a pack's usual size that it may have beyond it. A pack in which the next blob has
/// no room is closed before: its memory, of which there is one for each open pack, is then not
/// made for the largest blob.
const PACK_SHARE_OVER: usize = 32;

/// How much memory a pack is begun with, in bytes, which is full with `pack_bytes_min`.
pub const fn usual_bytes(pack_bytes_min: usize) -> usize {
    pack_bytes_min + pack_bytes_min / PACK_SHARE_OVER
}

/// Whether a pack of so many bytes should be closed before a blob of this sealed length. One that is not half
/// full is not: prune would count it as small and write it again.
pub const fn has_no_room(pack_bytes_min: usize, have: usize, sealed: usize) -> bool {
    have > 0 && have >= pack_bytes_min / 2 && have + sealed > usual_bytes(pack_bytes_min)
}

/// A pack that was stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewPack {
    pub id: PackId,
    pub bytes: u64,
    pub blobs: Vec<PackedBlob>,
}

#[derive(Default)]
struct OpenPack {
    bytes: Vec<u8>,
    blobs: Vec<PackedBlob>,
}

/// What a writer has stored.
#[derive(Debug, Default)]
pub struct Written {
    pub packs: Vec<NewPack>,
    pub indexes: Vec<IndexId>,
    /// How many of the packs an index lists.
    indexed: usize,
}

impl Written {
    pub fn bytes(&self) -> u64 {
        self.packs.iter().map(|pack| pack.bytes).sum()
    }
}

/// Many threads may add at once; whoever fills a pack uploads it.
pub struct PackWriter<'a> {
    repository: &'a Repository,
    pack_bytes_min: usize,
    data: Mutex<OpenPack>,
    trees: Mutex<OpenPack>,
    written: Mutex<Written>,
}

impl<'a> PackWriter<'a> {
    pub fn new(repository: &'a Repository, pack_bytes_min: usize) -> Self {
        Self {
            repository,
            pack_bytes_min,
            data: Mutex::default(),
            trees: Mutex::default(),
            written: Mutex::default(),
        }
    }

    /// Adds a sealed blob; its offset does not matter.
    pub fn add(&self, blob: PackedBlob, sealed: &[u8]) -> Result<(), RepositoryError> {
        let mut open = lock(self.open(blob.kind));
        while has_no_room(self.pack_bytes_min, open.bytes.len(), sealed.len()) {
            let full = std::mem::take(&mut *open);
            drop(open);
            self.store(full)?;
            open = lock(self.open(blob.kind));
        }
        let offset = u32::try_from(open.bytes.len());
        let offset = offset.map_err(|e| RepositoryError::encode("a pack", e))?;
        // Exactly what a pack takes: doubling would take up to as much again.
        if open.bytes.capacity() == 0 {
            open.bytes.reserve_exact(usual_bytes(self.pack_bytes_min));
        }
        open.bytes.reserve_exact(sealed.len());
        open.bytes.extend_from_slice(sealed);
        open.blobs.push(PackedBlob { offset, ..blob });
        if open.bytes.len() < self.pack_bytes_min {
            return Ok(());
        }
        let full = std::mem::take(&mut *open);
        drop(open);
        self.store(full)
    }

    const fn open(&self, kind: BlobKind) -> &Mutex<OpenPack> {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        }
    }

    fn store(&self, mut pack: OpenPack) -> Result<(), RepositoryError> {
        let codec = self.repository.codec();
        finish_pack(codec.cipher(), &mut pack.bytes, &pack.blobs)?;
        let id = PackId(sha256(&pack.bytes));
        if !is_intact(codec.cipher(), &pack.bytes, &pack.blobs) {
            return Err(RepositoryError::NotReadBack { what: "a pack" });
        }
        self.repository
            .storage()
            .write(&pack_file_of(id, &pack.blobs), &pack.bytes)?;
        let mut written = lock(&self.written);
        written.packs.push(NewPack {
            id,
            bytes: pack.bytes.len() as u64,
            blobs: pack.blobs,
        });
        let waiting = written.packs[written.indexed..].iter();
        if waiting.map(|pack| pack.blobs.len()).sum::<usize>() >= INDEX_BLOBS_MAX {
            self.write_waiting(&mut written)?;
        }
        Ok(())
    }

    fn write_waiting(&self, written: &mut Written) -> Result<(), RepositoryError> {
        let waiting = &written.packs[written.indexed..];
        if waiting.is_empty() {
            return Ok(());
        }
        let packs = waiting.iter().map(|pack| (pack.id, pack.blobs.clone()));
        let id = write_index(self.repository, packs.collect())?;
        written.indexes.push(id);
        written.indexed = written.packs.len();
        Ok(())
    }

    /// Stores what is open, and its index.
    pub fn finish(self) -> Result<Written, RepositoryError> {
        for open in [&self.data, &self.trees] {
            let pack = std::mem::take(&mut *lock(open));
            if !pack.blobs.is_empty() {
                self.store(pack)?;
            }
        }
        let mut written = std::mem::take(&mut *lock(&self.written));
        self.write_waiting(&mut written)?;
        Ok(written)
    }
}

/// Writes one index file.
pub fn write_index(
    repository: &Repository,
    packs: Vec<(PackId, Vec<PackedBlob>)>,
) -> Result<IndexId, RepositoryError> {
    let packs = packs.into_iter().map(|(id, blobs)| IndexPack {
        id,
        blobs: blobs.into_iter().map(Into::into).collect(),
    });
    let file = IndexFile {
        supersedes: Vec::new(),
        packs: packs.collect(),
    };
    let file = repository.write_json(FileKind::Index, "an index", &file)?;
    Ok(IndexId(*file.id()))
}
