//! Taking what is undamaged out of damaged packs.
//!
//! Invariant: a blob is saved if any entry of the index or of the pack's own header leads to bytes
//! that open and hash to its id.

use std::collections::BTreeMap;
use std::sync::Mutex;

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_storage::{FileKey, SharedStorage, StorageErrorKind};

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
    /// Bytes that storage does not give, as a disk with bad sectors. Others were read around them.
    pub withheld_bytes: u64,
}

/// What storage gives of a pack.
struct PackBytes {
    /// Empty if the pack is gone; zeros where storage gives nothing.
    bytes: Vec<u8>,
    /// How many bytes it does not give.
    withheld: u64,
}

/// The smallest stretch that is asked for around what cannot be read, in bytes: a sector of most disks.
const SECTOR_BYTES: usize = 4096;

/// The bytes of a pack. A second time if the first transfer was damaged.
///
/// # Errors
/// Storage failed, or gives no byte and does not say that the pack is gone.
fn read_pack(
    repository: &Repository,
    pack: PackId,
    cancel: &Cancel,
) -> Result<PackBytes, RepositoryError> {
    let storage = repository.storage();
    let file = pack_file(pack);
    let mut bytes = Vec::new();
    for _attempt in 0..2 {
        bytes = match storage.read(&file) {
            Ok(read) => read,
            Err(error) if error.kind() == StorageErrorKind::NotFound => Vec::new(),
            Err(error) if error.kind() == StorageErrorKind::Failed => {
                let around = read_around(storage, &file, cancel)?;
                return around.ok_or_else(|| error.into());
            }
            Err(error) => return Err(error.into()),
        };
        if sha256(&bytes) == pack.0 {
            break;
        }
    }
    Ok(PackBytes { bytes, withheld: 0 })
}

/// All of a file but the sectors that storage does not give, as of a failing disk; none if it gives nothing at all.
fn read_around(
    storage: &SharedStorage,
    file: &FileKey,
    cancel: &Cancel,
) -> Result<Option<PackBytes>, RepositoryError> {
    // Gone meanwhile: it gives nothing, and the first error is told.
    let size = storage.size(file)?.unwrap_or_default();
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let (mut bytes, mut withheld) = (Vec::new(), 0);
    let mut stretches: Vec<_> = std::iter::once(0..size).collect();
    while let Some(stretch) = stretches.pop() {
        cancel.check()?;
        let length = stretch.len();
        match storage.read_range(file, stretch.start as u64, length) {
            Ok(read) => bytes.extend_from_slice(&read),
            Err(error) if error.is_of_the_storage() => return Err(error.into()),
            Err(_) if length > SECTOR_BYTES => {
                let middle = stretch.start + (length / 2).next_multiple_of(SECTOR_BYTES);
                // The front half is next.
                stretches.extend([middle..stretch.end, stretch.start..middle]);
            }
            Err(_) => {
                withheld += length;
                bytes.resize(stretch.end, 0);
            }
        }
    }
    Ok((withheld < size).then_some(PackBytes {
        bytes,
        withheld: withheld as u64,
    }))
}

/// Whether a pack is what its name, its header and the index say.
///
/// # Errors
/// As [`salvage`].
pub fn is_sound(
    repository: &Repository,
    catalogue: &Catalogue,
    pack: PackId,
    cancel: &Cancel,
) -> Result<bool, RepositoryError> {
    let PackBytes { bytes, .. } = read_pack(repository, pack, cancel)?;
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
///
/// # Errors
/// Storage failed, or gives no byte of a pack and does not say that it is gone.
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
        let PackBytes { bytes, withheld } = read_pack(repository, *pack, cancel)?;
        let entries = entries(repository, catalogue, *pack, &bytes);
        let mut keep = |blob: &PackedBlob, sealed: &[u8]| writer.add(*blob, sealed);
        let found = open_entries(repository, &entries, &bytes, &mut keep)?;
        let saved = found.values().filter(|is_saved| **is_saved).count() as u64;
        let lost = found.into_iter().filter(|(_, is_saved)| !is_saved);
        lock(&salvaged).push(SalvagedPack {
            pack: *pack,
            saved,
            lost: lost.map(|(blob, _)| blob).collect(),
            withheld_bytes: withheld,
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
