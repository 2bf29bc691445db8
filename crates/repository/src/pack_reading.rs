//! Reading packs as a whole and their headers, for whoever does not trust the index.
//!
//! Invariant: a blob that is handed out hashes to its id; a header that is handed out is authentic
//! and describes a pack of the very size that was read.

use std::collections::HashMap;

use refloat_storage::{FileKey, FileKind, Listed, SharedStorage, StorageError};

use crate::codec::{Codec, OpenError};
use crate::crypto::OVERHEAD_BYTES;
use crate::error::RepositoryError;
use crate::format::pack::{
    BlobKind, HEADER_BYTES_MAX, HeaderError, LENGTH_FIELD_BYTES, PackedBlob, header_in,
    header_length, read_header,
};
use crate::id::PackId;
use crate::lead::LEAD_BYTES;
use crate::repository::Repository;

/// Memory for stretches of packs has a length of so many bytes, or a multiple.
const STRETCH_BYTES_STEP: usize = 4 << 20;
/// What it may hold from one to the next, in bytes: a run of blobs with what belongs to it. Longer ones are rare, and each
/// thread would keep memory for the longest.
const STRETCH_BYTES_KEPT: usize = 3 * STRETCH_BYTES_STEP;

/// The packs that storage lists, and their sizes in bytes.
///
/// # Errors
/// Storage failed.
pub fn listed_packs(storage: &SharedStorage) -> Result<HashMap<PackId, u64>, StorageError> {
    let listed = storage.list(FileKind::Pack)?;
    Ok(sizes(&listed))
}

/// The sizes in bytes of packs that were listed.
pub fn sizes(listed: &[Listed]) -> HashMap<PackId, u64> {
    let packs = listed.iter();
    packs
        .map(|file| (PackId(*file.key.id()), file.size))
        .collect()
}

/// The file of a pack.
pub const fn pack_file(pack: PackId) -> FileKey {
    FileKey::new(FileKind::Pack, pack.0)
}

/// The file of a pack, for the sake of its blobs of one kind.
pub const fn pack_file_for(pack: PackId, kind: BlobKind) -> FileKey {
    match kind {
        BlobKind::Data => pack_file(pack),
        BlobKind::Tree => pack_file(pack).holding_trees(),
    }
}

/// The file of a pack of these blobs, which are of one kind.
pub fn pack_file_of(pack: PackId, blobs: &[PackedBlob]) -> FileKey {
    let kind = blobs.first().map_or(BlobKind::Data, |blob| blob.kind);
    pack_file_for(pack, kind)
}

/// The bytes of a header entry: type, length, id, and the plaintext's length if compressed.
const fn entry_bytes(blob: &PackedBlob) -> u64 {
    1 + 4
        + 32
        + if blob.uncompressed_length.is_some() {
            4
        } else {
            0
        }
}

/// The size in bytes of a pack that holds exactly these blobs.
pub fn expected_size(blobs: impl IntoIterator<Item = PackedBlob>) -> u64 {
    let frame = (OVERHEAD_BYTES + LENGTH_FIELD_BYTES) as u64;
    blobs.into_iter().fold(frame, |size, blob| {
        size + u64::from(blob.length) + entry_bytes(&blob)
    })
}

/// The entries of the header that ends these bytes.
pub fn header_of(codec: &Codec, pack: &[u8]) -> Result<Vec<PackedBlob>, HeaderError> {
    header_in(codec.cipher(), pack, pack.len() as u64)
}

/// The sealed bytes of a blob within a pack's; none if the pack ends before.
pub fn sealed_blob<'p>(pack: &'p [u8], blob: &PackedBlob) -> Option<&'p [u8]> {
    let start = usize::try_from(blob.offset).ok()?;
    let end = start.checked_add(usize::try_from(blob.length).ok()?)?;
    pack.get(start..end)
}

/// Reads a stretch of a file into memory that is kept from stretch to stretch: as [`stretch_of`] it. What lies behind
/// is left over from others.
///
/// # Errors
/// As [`Storage::read_range`](refloat_storage::Storage::read_range).
pub fn read_stretch<'m>(
    storage: &SharedStorage,
    file: &FileKey,
    offset: u64,
    length: usize,
    memory: &'m mut Vec<u8>,
) -> Result<&'m mut [u8], StorageError> {
    if memory.len() > LEAD_BYTES + STRETCH_BYTES_KEPT && length <= STRETCH_BYTES_KEPT {
        *memory = Vec::new();
    }
    if stretch_of(memory, length).is_none() && length <= STRETCH_BYTES_KEPT {
        // Zeros that nobody wrote take no memory until they are overwritten.
        *memory = Vec::new();
        *memory = vec![0; LEAD_BYTES + length.next_multiple_of(STRETCH_BYTES_STEP)];
    }
    match stretch_of(memory, length) {
        Some(bytes) => storage.read_range_into(file, offset, bytes)?,
        // An index may state any length: memory is taken only for what is there.
        None => {
            *memory = Vec::new();
            *memory = storage.read_range(file, offset, length)?;
            memory.reserve_exact(LEAD_BYTES);
            drop(memory.splice(..0, [0; LEAD_BYTES]));
        }
    }
    Ok(&mut memory[LEAD_BYTES..][..length])
}

/// The stretch of this length in such memory; none if it is too small for that.
pub fn stretch_of(memory: &mut [u8], length: usize) -> Option<&mut [u8]> {
    memory.get_mut(LEAD_BYTES..)?.get_mut(..length)
}

/// Opens a blob's sealed bytes; `sealed` is spoilt, `out` is replaced.
pub fn open_sealed(
    codec: &Codec,
    blob: &PackedBlob,
    sealed: &mut [u8],
    out: &mut Vec<u8>,
) -> Result<(), OpenError> {
    out.clear();
    codec.open_blob(blob.id, sealed, blob.uncompressed(), out)
}

impl Repository {
    /// Reads one blob from one place of a pack.
    ///
    /// # Errors
    /// The pack is out of reach, or its bytes are not that blob.
    pub(crate) fn read_place(
        &self,
        file: &FileKey,
        blob: &PackedBlob,
    ) -> Result<Vec<u8>, RepositoryError> {
        let length = blob.length as usize;
        let mut sealed = self
            .storage()
            .read_range(file, blob.offset.into(), length)?;
        let mut plaintext = Vec::new();
        open_sealed(self.codec(), blob, &mut sealed, &mut plaintext).map_err(|cause| {
            RepositoryError::DamagedBlob {
                blob: blob.id,
                pack: *file,
                cause: cause.into(),
            }
        })?;
        Ok(plaintext)
    }

    /// Reads only the header of a pack of this size.
    ///
    /// # Errors
    /// The pack is out of reach, or its header is damaged.
    pub(crate) fn read_pack_header(
        &self,
        pack: PackId,
        size: u64,
    ) -> Result<Vec<PackedBlob>, RepositoryError> {
        /// Enough for a thousand blobs, so that one call does for nearly all packs.
        const FIRST_READ_BYTES: u64 = 40 << 10;
        let file = pack_file(pack);
        let damaged = |error: HeaderError| RepositoryError::damaged(file, error);
        let tail = |length: u64| {
            let bytes = usize::try_from(length).unwrap_or(0);
            self.storage().read_range(&file, size - length, bytes)
        };
        let mut bytes = tail(FIRST_READ_BYTES.min(size))?;
        let field = *bytes
            .last_chunk()
            .ok_or_else(|| damaged(HeaderError::TooShort(size)))?;
        let length = header_length(field, size).map_err(damaged)?;
        let whole = length + LENGTH_FIELD_BYTES;
        if whole > bytes.len() {
            debug_assert!(length <= HEADER_BYTES_MAX, "header_length bounds it");
            bytes = tail(whole as u64)?;
        }
        let start = bytes.len().checked_sub(whole);
        let start = start.ok_or_else(|| damaged(HeaderError::TooShort(size)))?;
        let end = start + length;
        let sealed = bytes
            .get_mut(start..end)
            .ok_or_else(|| damaged(HeaderError::TooShort(size)))?;
        read_header(self.codec().cipher(), sealed, size).map_err(damaged)
    }
}
