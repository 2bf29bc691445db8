//! Taking what is undamaged out of damaged packs.
//!
//! Invariant: a blob is saved if any entry of the index or of the pack's own header leads to bytes
//! that open and hash to its id.

use std::collections::BTreeMap;
use std::sync::Mutex;

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_storage::StorageErrorKind;

use crate::catalogue::Catalogue;
use crate::error::RepositoryError;
use crate::format::pack::{BlobKind, PackedBlob};
use crate::id::{BlobId, PackId, sha256};
use crate::pack_reading::{header_of, open_sealed, pack_file, sealed_blob};
use crate::pack_writing::PackWriter;
use crate::parallel::{for_each, lock, threads};
use crate::repository::Repository;

/// What was in a damaged pack.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SalvagedPack {
    /// Which.
    pub pack: PackId,
    /// Blobs that were saved.
    pub saved: u64,
    /// Blobs that no bytes of this pack are any more. Another pack may hold them.
    pub lost: Vec<(BlobKind, BlobId)>,
}

/// The bytes of a pack; empty if it is gone. A second time if the first transfer was damaged.
pub fn read_pack(repository: &Repository, pack: PackId) -> Result<Vec<u8>, RepositoryError> {
    let read = || match repository.storage().read(&pack_file(pack)) {
        Err(error) if error.kind() == StorageErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    };
    let first = read()?;
    if sha256(&first) == pack.0 {
        return Ok(first);
    }
    Ok(read()?)
}

/// Whether a pack is what its name, its header and the index say.
pub fn is_sound(
    repository: &Repository,
    catalogue: &Catalogue,
    pack: PackId,
) -> Result<bool, RepositoryError> {
    let bytes = read_pack(repository, pack)?;
    if sha256(&bytes) != pack.0 {
        return Ok(false);
    }
    let Ok(header) = header_of(repository.codec(), &bytes) else {
        return Ok(false);
    };
    let entries = entries(repository, catalogue, pack, &bytes);
    let found = open_entries(repository, &entries, &bytes, &mut |_, _| Ok(()))?;
    let all_open = found.values().all(|is_saved| *is_saved);
    let known = catalogue.packs().binary_search(&pack);
    let indexed = known.map_or_else(|_| Vec::new(), |number| catalogue.blobs_of_pack(number));
    Ok(all_open && (indexed.is_empty() || indexed == header))
}

/// Copies every undamaged blob of these packs; the packs themselves are not touched.
pub fn salvage(
    repository: &Repository,
    catalogue: &Catalogue,
    packs: &[PackId],
    writer: &PackWriter<'_>,
    counters: &Counters,
    cancel: &Cancel,
) -> Result<Vec<SalvagedPack>, RepositoryError> {
    let salvaged = Mutex::new(Vec::new());
    for_each(packs, threads(repository.storage()), |pack| {
        cancel.check()?;
        let bytes = read_pack(repository, *pack)?;
        let entries = entries(repository, catalogue, *pack, &bytes);
        let mut keep = |blob: &PackedBlob, sealed: &[u8]| writer.add(*blob, sealed);
        let found = open_entries(repository, &entries, &bytes, &mut keep)?;
        let saved = found.values().filter(|is_saved| **is_saved).count() as u64;
        let lost = found.into_iter().filter(|(_, is_saved)| !is_saved);
        lock(&salvaged).push(SalvagedPack {
            pack: *pack,
            saved,
            lost: lost.map(|(blob, _)| blob).collect(),
        });
        Counters::add(&counters.bytes_done, bytes.len() as u64);
        Ok(())
    })?;
    let mut salvaged = std::mem::take(&mut *lock(&salvaged));
    salvaged.sort();
    Ok(salvaged)
}

/// What the index and the header say that is in the pack.
fn entries(
    repository: &Repository,
    catalogue: &Catalogue,
    pack: PackId,
    bytes: &[u8],
) -> Vec<PackedBlob> {
    let known = catalogue.packs().binary_search(&pack);
    let mut entries = known.map_or_else(|_| Vec::new(), |number| catalogue.blobs_of_pack(number));
    entries.extend(header_of(repository.codec(), bytes).unwrap_or_default());
    entries.sort_unstable();
    entries.dedup();
    entries
}

/// Takes a blob that opened, with its sealed bytes.
type Keep<'a> = dyn FnMut(&PackedBlob, &[u8]) -> Result<(), RepositoryError> + 'a;

/// Which blobs open; each of those goes to `keep` once, with its sealed bytes.
fn open_entries(
    repository: &Repository,
    entries: &[PackedBlob],
    bytes: &[u8],
    keep: &mut Keep<'_>,
) -> Result<BTreeMap<(BlobKind, BlobId), bool>, RepositoryError> {
    let mut found = BTreeMap::new();
    let (mut spoilt, mut plaintext) = (Vec::new(), Vec::new());
    for blob in entries {
        let is_saved = found.entry((blob.kind, blob.id)).or_insert(false);
        if *is_saved {
            continue;
        }
        let Some(sealed) = sealed_blob(bytes, blob) else {
            continue;
        };
        spoilt.clear();
        spoilt.extend_from_slice(sealed);
        let opened = open_sealed(repository.codec(), blob, &mut spoilt, &mut plaintext);
        if opened.is_ok() {
            keep(blob, sealed)?;
            *is_saved = true;
        }
    }
    Ok(found)
}
