//! Pack files: sealed blobs one after the other, then a sealed header that lists them.
//!
//! ```text
//! blob₁ ‖ … ‖ blobₙ ‖ sealed(header) ‖ length of sealed(header), u32 little-endian
//! header entry: type u8 ‖ sealed length u32 ‖ [plaintext length u32, types 2 and 3] ‖ id 32 bytes
//! type: 0 data, 1 tree, 2 compressed data, 3 compressed tree
//! ```
//!
//! Source: restic's `doc/design.rst`, section "Pack Format".
//!
//! Invariant: entries decoded from a header lie one after the other from offset 0 and end exactly
//! where the header begins.

use serde::{Deserialize, Serialize};

use crate::crypto::{Cipher, CryptoError, OVERHEAD_BYTES};
use crate::id::BlobId;

/// The largest header that is read, in bytes: as restic's limit.
pub const HEADER_BYTES_MAX: usize = 16 << 20;
/// The header's length field at a pack's end, in bytes.
pub const LENGTH_FIELD_BYTES: usize = 4;

const ENTRY_BYTES_PLAIN: usize = 1 + 4 + 32;
const ENTRY_BYTES_COMPRESSED: usize = ENTRY_BYTES_PLAIN + 4;

/// What a blob holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobKind {
    /// Part of a file's content.
    Data,
    /// A directory.
    Tree,
}

impl BlobKind {
    /// The word of the format.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Tree => "tree",
        }
    }
}

/// One blob in a pack.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PackedBlob {
    /// The blob.
    pub id: BlobId,
    /// Data or tree.
    pub kind: BlobKind,
    /// Where its sealed form begins, in bytes.
    pub offset: u32,
    /// How long its sealed form is, in bytes.
    pub length: u32,
    /// How long its plaintext is, in bytes, if it is compressed.
    pub uncompressed_length: Option<u32>,
}

impl PackedBlob {
    /// Where its sealed form ends in the pack, in bytes.
    #[must_use]
    pub fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.length)
    }

    /// How long its plaintext is, in bytes, if it is compressed: as [`Codec`](crate::codec::Codec) takes it.
    pub(crate) fn uncompressed(&self) -> Option<usize> {
        self.uncompressed_length.map(|length| length as usize)
    }

    /// How long its plaintext is, in bytes.
    #[must_use]
    pub fn plaintext_length(&self) -> u64 {
        self.uncompressed_length.map_or_else(
            || u64::from(self.length).saturating_sub(OVERHEAD_BYTES as u64),
            u64::from,
        )
    }
}

/// Why a pack's header cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The file is shorter than a header can be.
    #[error("the pack of {0} bytes is too short")]
    TooShort(u64),
    /// The length field is impossible.
    #[error("the header length of {0} bytes is impossible")]
    InvalidLength(u32),
    /// The header does not authenticate.
    #[error("the header cannot be opened")]
    Sealed(#[from] CryptoError),
    /// An entry's type is unknown.
    #[error("blob type {0} is unknown")]
    UnknownType(u8),
    /// An entry is cut off.
    #[error("the last header entry is cut off")]
    CutOff,
    /// The entries do not fill the pack.
    #[error("the header lists {listed} bytes of blobs, the pack holds {held}")]
    SizeMismatch {
        /// Sum of the entries.
        listed: u64,
        /// Bytes before the header.
        held: u64,
    },
}

/// Appends the sealed header and its length to a pack's blobs.
///
/// # Errors
/// No randomness.
pub fn finish_pack(
    cipher: &Cipher,
    pack: &mut Vec<u8>,
    blobs: &[PackedBlob],
) -> Result<(), CryptoError> {
    let mut header = Vec::with_capacity(blobs.len() * ENTRY_BYTES_COMPRESSED);
    for blob in blobs {
        let tree = u8::from(blob.kind == BlobKind::Tree);
        match blob.uncompressed_length {
            None => header.push(tree),
            Some(_) => header.push(2 + tree),
        }
        header.extend_from_slice(&blob.length.to_le_bytes());
        if let Some(length) = blob.uncompressed_length {
            header.extend_from_slice(&length.to_le_bytes());
        }
        header.extend_from_slice(&blob.id.0);
    }
    let start = pack.len();
    cipher.seal_into(&header, pack)?;
    let length = u32::try_from(pack.len() - start).unwrap_or(u32::MAX);
    pack.extend_from_slice(&length.to_le_bytes());
    Ok(())
}

/// The entries of the header that ends these bytes, which are the last of a pack of this size.
///
/// # Errors
/// There is no authentic header of such a pack.
pub fn header_in(cipher: &Cipher, end: &[u8], size: u64) -> Result<Vec<PackedBlob>, HeaderError> {
    let too_short = HeaderError::TooShort(size);
    let (rest, field) = end.split_last_chunk().ok_or(too_short)?;
    let length = header_length(*field, size)?;
    let start = rest.len().checked_sub(length);
    let sealed = start.and_then(|start| rest.get(start..));
    let mut sealed = sealed.ok_or(HeaderError::TooShort(size))?.to_vec();
    read_header(cipher, &mut sealed, size)
}

/// Whether a finished pack is, bit for bit as far as seals reach, what was put into it.
///
/// The last look before an upload: memory may have changed since each blob was proven.
#[must_use]
pub fn is_intact(cipher: &Cipher, pack: &[u8], blobs: &[PackedBlob]) -> bool {
    let intact = |blob: &PackedBlob| {
        let start = blob.offset as usize;
        let sealed = pack.get(start..start.saturating_add(blob.length as usize));
        sealed.is_some_and(|sealed| cipher.authenticate(sealed).is_ok())
    };
    let header = || header_in(cipher, pack, pack.len() as u64);
    blobs.iter().all(intact) && header().is_ok_and(|header| header == blobs)
}

/// The sealed header's length from the last four bytes of a pack.
///
/// # Errors
/// It is impossible for a pack of `pack_bytes`.
pub fn header_length(
    field: [u8; LENGTH_FIELD_BYTES],
    pack_bytes: u64,
) -> Result<usize, HeaderError> {
    let length = u32::from_le_bytes(field);
    let invalid = HeaderError::InvalidLength(length);
    let bytes = usize::try_from(length).map_err(|_too_large| HeaderError::InvalidLength(length))?;
    let fits = u64::from(length) + LENGTH_FIELD_BYTES as u64 <= pack_bytes;
    if !fits || !(OVERHEAD_BYTES..=HEADER_BYTES_MAX).contains(&bytes) {
        return Err(invalid);
    }
    Ok(bytes)
}

/// Reads the entries of a sealed header that ends a pack of `pack_bytes`.
///
/// # Errors
/// The header is not authentic or does not describe such a pack.
pub fn read_header(
    cipher: &Cipher,
    sealed: &mut [u8],
    pack_bytes: u64,
) -> Result<Vec<PackedBlob>, HeaderError> {
    let held = pack_bytes
        .checked_sub((sealed.len() + LENGTH_FIELD_BYTES) as u64)
        .ok_or(HeaderError::TooShort(pack_bytes))?;
    let mut header: &[u8] = cipher.open_in_place(sealed)?;
    let mut blobs = Vec::with_capacity(header.len() / ENTRY_BYTES_PLAIN);
    let mut offset: u64 = 0;
    while let Some((kind_byte, rest)) = header.split_first() {
        let (kind, compressed) = match kind_byte {
            0 => (BlobKind::Data, false),
            1 => (BlobKind::Tree, false),
            2 => (BlobKind::Data, true),
            3 => (BlobKind::Tree, true),
            other => return Err(HeaderError::UnknownType(*other)),
        };
        let (length, rest) = take_u32(rest)?;
        let (uncompressed_length, rest) = if compressed {
            let (length, rest) = take_u32(rest)?;
            (Some(length), rest)
        } else {
            (None, rest)
        };
        let (id, rest) = rest.split_first_chunk::<32>().ok_or(HeaderError::CutOff)?;
        header = rest;
        let too_far = |_too_large| HeaderError::SizeMismatch {
            listed: offset,
            held,
        };
        let start = u32::try_from(offset).map_err(too_far)?;
        blobs.push(PackedBlob {
            id: BlobId(*id),
            kind,
            offset: start,
            length,
            uncompressed_length,
        });
        offset += u64::from(length);
    }
    if offset != held {
        return Err(HeaderError::SizeMismatch {
            listed: offset,
            held,
        });
    }
    Ok(blobs)
}

fn take_u32(bytes: &[u8]) -> Result<(u32, &[u8]), HeaderError> {
    let (field, rest) = bytes.split_first_chunk::<4>().ok_or(HeaderError::CutOff)?;
    Ok((u32::from_le_bytes(*field), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Key;

    fn blob(kind: BlobKind, offset: u32, length: u32, raw: Option<u32>) -> PackedBlob {
        PackedBlob {
            id: BlobId([7; 32]),
            kind,
            offset,
            length,
            uncompressed_length: raw,
        }
    }

    #[test]
    fn headers_come_back_and_must_fill_the_pack() {
        let cipher = Cipher::new(&Key::random().unwrap()).unwrap();
        let blobs = [
            blob(BlobKind::Data, 0, 100, None),
            blob(BlobKind::Tree, 100, 50, Some(400)),
            blob(BlobKind::Data, 150, 33, Some(0)),
        ];
        let mut pack = vec![1; 183];
        finish_pack(&cipher, &mut pack, &blobs).unwrap();
        let size = pack.len() as u64;
        let field = *pack.last_chunk::<4>().unwrap();
        let length = header_length(field, size).unwrap();
        let sealed = pack[pack.len() - 4 - length..pack.len() - 4].to_vec();
        assert_eq!(
            read_header(&cipher, &mut sealed.clone(), size).unwrap(),
            blobs
        );
        assert!(matches!(
            read_header(&cipher, &mut sealed.clone(), size + 1),
            Err(HeaderError::SizeMismatch {
                listed: 183,
                held: 184
            })
        ));
    }

    #[test]
    fn impossible_lengths_are_refused_without_reading() {
        for (length, size) in [(0, 1000), (31, 1000), (997, 1000), (u32::MAX, u64::MAX)] {
            assert!(
                header_length(length.to_le_bytes(), size).is_err(),
                "{length} of {size}"
            );
        }
        assert_eq!(header_length(996_u32.to_le_bytes(), 1000).unwrap(), 996);
    }
}
