//! Sealing and opening of blobs and files: compression, encryption, and the proof that what is
//! about to be uploaded can be read back.
//!
//! Invariant: a blob leaves [`Codec::seal_blob`] only after its sealed form was opened again and
//! hashed to its id.

use std::cell::RefCell;

use crate::crypto::{Cipher, OVERHEAD_BYTES};
use crate::error::RepositoryError;
use crate::id::BlobId;

/// The largest plaintext of a blob that is read, in bytes. restic's chunks end at 8 MiB; trees may
/// be larger.
pub const BLOB_BYTES_MAX: usize = crate::format::tree::TREE_BYTES_MAX;

/// How hard to compress, in restic's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compression {
    /// Data blobs as they are; everything else compressed.
    Off,
    /// zstd level 3; what does not shrink is stored as it is.
    #[default]
    Auto,
    /// zstd level 1.
    Fastest,
    /// zstd level 11.
    Better,
    /// zstd level 19.
    Max,
}

impl Compression {
    /// zstd's level; none for no compression.
    #[must_use]
    pub const fn level(self) -> Option<i32> {
        match self {
            Self::Off => None,
            Self::Auto => Some(3),
            Self::Fastest => Some(1),
            Self::Better => Some(11),
            Self::Max => Some(19),
        }
    }
}

/// The first bytes of a large blob that are compressed on trial, and the share of them that must
/// go away for the rest to be tried: media and encrypted data fail this at a fraction of the cost.
const TRIAL_BYTES: usize = 64 << 10;
const TRIAL_NUMERATOR: usize = 31;
const TRIAL_DENOMINATOR: usize = 32;

/// Contexts whose buffers grew beyond this are not kept, in bytes.
const SCRATCH_BYTES_KEPT: usize = 17 << 20;

/// Contexts and buffers of one thread, reused for every blob.
struct Scratch {
    compressor: zstd::bulk::Compressor<'static>,
    level: i32,
    decompressor: zstd::bulk::Decompressor<'static>,
    compressed: Vec<u8>,
    opened: Vec<u8>,
    plain: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Option<Scratch>> = const { RefCell::new(None) };
}

/// Runs with this thread's contexts. Nested use would panic, so it is only used within leaves.
fn with_scratch<T>(
    work: impl FnOnce(&mut Scratch) -> Result<T, RepositoryError>,
) -> Result<T, RepositoryError> {
    SCRATCH.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Some(Scratch {
                compressor: zstd::bulk::Compressor::new(3).map_err(RepositoryError::Compress)?,
                level: 3,
                decompressor: zstd::bulk::Decompressor::new().map_err(RepositoryError::Compress)?,
                compressed: Vec::new(),
                opened: Vec::new(),
                plain: Vec::new(),
            });
        }
        let done = match slot {
            Some(scratch) => work(scratch),
            None => Err(RepositoryError::Stopped),
        };
        // One huge tree must not keep its memory on every thread for ever.
        if slot
            .as_ref()
            .is_some_and(|scratch| scratch.plain.capacity() > SCRATCH_BYTES_KEPT)
        {
            *slot = None;
        }
        done
    })
}

impl Scratch {
    fn compress(&mut self, plaintext: &[u8], level: i32) -> Result<(), RepositoryError> {
        if self.level != level {
            self.compressor
                .set_compression_level(level)
                .map_err(RepositoryError::Compress)?;
            self.level = level;
        }
        self.compressed.clear();
        self.compressed
            .reserve(zstd::zstd_safe::compress_bound(plaintext.len()));
        let _length = self
            .compressor
            .compress_to_buffer(plaintext, &mut self.compressed)
            .map_err(RepositoryError::Compress)?;
        Ok(())
    }

    /// Whether the beginning of a large blob shrinks at all.
    fn trial_shrinks(&mut self, plaintext: &[u8], level: i32) -> Result<bool, RepositoryError> {
        let Some(middle) = plaintext.len().checked_sub(4 * TRIAL_BYTES) else {
            return Ok(true);
        };
        let start = middle / 2;
        self.compress(&plaintext[start..start + TRIAL_BYTES], level.min(1))?;
        Ok(self.compressed.len() * TRIAL_DENOMINATOR < TRIAL_BYTES * TRIAL_NUMERATOR)
    }
}

/// Why a sealed blob cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The MAC differs.
    #[error(transparent)]
    Crypto(#[from] crate::crypto::CryptoError),
    /// zstd refuses it.
    #[error("the compressed bytes are invalid")]
    Decompress(#[source] std::io::Error),
    /// Longer than anything that is read.
    #[error("{0} bytes of plaintext are beyond the limit")]
    TooLarge(u64),
    /// Not as long as stated.
    #[error("{found} bytes of plaintext instead of {stated}")]
    Length {
        /// As the index or header states.
        stated: usize,
        /// As it came out.
        found: usize,
    },
    /// The plaintext is not what the id names.
    #[error("the content hashes to {0}")]
    Hash(BlobId),
    /// No version of the format begins like this.
    #[error("the first byte {0:#04x} is of no known encoding")]
    UnknownEncoding(u8),
}

/// Seals and opens for one repository.
#[derive(Debug)]
pub struct Codec {
    cipher: Cipher,
    version: u32,
}

/// A blob ready to be packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealedLength {
    /// Bytes appended.
    pub sealed: usize,
    /// Bytes of plaintext if it is compressed.
    pub uncompressed: Option<usize>,
}

impl Codec {
    /// For a repository of the given format version.
    #[must_use]
    pub const fn new(cipher: Cipher, version: u32) -> Self {
        Self { cipher, version }
    }

    /// The cipher alone, for pack headers and the config.
    #[must_use]
    pub const fn cipher(&self) -> &Cipher {
        &self.cipher
    }

    /// Appends the sealed form of a blob to `out`, after proving that it opens to `id` again.
    ///
    /// # Errors
    /// It did not read back: memory or the library is faulty. `out` is as it was.
    pub fn seal_blob(
        &self,
        id: BlobId,
        plaintext: &[u8],
        compression: Compression,
        out: &mut Vec<u8>,
    ) -> Result<SealedLength, RepositoryError> {
        let start = out.len();
        let level = compression
            .level()
            .filter(|_| self.version >= 2 && !plaintext.is_empty());
        let sealed = with_scratch(|scratch| {
            let compressed = match level {
                Some(level) if scratch.trial_shrinks(plaintext, level)? => {
                    scratch.compress(plaintext, level)?;
                    scratch.compressed.len() < plaintext.len()
                }
                _ => false,
            };
            let body = if compressed {
                &scratch.compressed
            } else {
                plaintext
            };
            self.cipher.seal_into(body, out)?;
            scratch.opened.clear();
            scratch.opened.extend_from_slice(&out[start..]);
            let stated = compressed.then_some(plaintext.len());
            let sealed = SealedLength {
                sealed: out.len() - start,
                uncompressed: stated,
            };
            match self.open_with(
                &mut scratch.decompressor,
                &mut scratch.opened,
                stated,
                &mut scratch.plain,
            ) {
                Ok(plain) if BlobId::of(plain) == id => Ok(sealed),
                _ => Err(RepositoryError::VerifyFailed { blob: id }),
            }
        });
        if sealed.is_err() {
            out.truncate(start);
        }
        sealed
    }

    /// Opens a sealed blob in `sealed` and appends its plaintext to `out`, verified against `id`.
    ///
    /// # Errors
    /// The bytes are not that blob. `out` is then as it was.
    pub fn open_blob(
        &self,
        id: BlobId,
        sealed: &mut [u8],
        uncompressed: Option<usize>,
        out: &mut Vec<u8>,
    ) -> Result<(), OpenError> {
        let body = self.cipher.open_in_place(sealed)?;
        let Some(stated) = uncompressed else {
            check_id(id, body)?;
            out.extend_from_slice(body);
            return Ok(());
        };
        if stated > BLOB_BYTES_MAX {
            return Err(OpenError::TooLarge(stated as u64));
        }
        let start = out.len();
        let opened = decompress_after(body, stated, out);
        let checked = opened.and_then(|()| check_id(id, &out[start..]));
        if checked.is_err() {
            out.truncate(start);
        }
        checked
    }

    fn open_with<'b>(
        &self,
        decompressor: &mut zstd::bulk::Decompressor<'static>,
        sealed: &'b mut [u8],
        uncompressed: Option<usize>,
        plain: &'b mut Vec<u8>,
    ) -> Result<&'b [u8], OpenError> {
        let body = self.cipher.open_in_place(sealed)?;
        let Some(stated) = uncompressed else {
            return Ok(body);
        };
        plain.clear();
        plain.reserve(stated);
        let found = decompressor
            .decompress_to_buffer(body, plain)
            .map_err(OpenError::Decompress)?;
        if found == stated {
            Ok(plain)
        } else {
            Err(OpenError::Length { stated, found })
        }
    }

    /// Seals a file that is not a pack: index, snapshot, lock; compressed from version 2.
    ///
    /// # Errors
    /// No randomness, or zstd failed.
    pub fn seal_file(&self, plaintext: &[u8]) -> Result<Vec<u8>, RepositoryError> {
        if self.version < 2 {
            return Ok(self.cipher.seal(plaintext)?);
        }
        let compressed = with_scratch(|scratch| {
            scratch.compress(plaintext, 3)?;
            let mut framed = Vec::with_capacity(1 + scratch.compressed.len());
            framed.push(ENCODING_ZSTD);
            framed.extend_from_slice(&scratch.compressed);
            Ok(framed)
        })?;
        let sealed = self.cipher.seal(&compressed)?;
        let again = self.open_file(sealed.clone());
        if again.ok().as_deref() == Some(plaintext) {
            Ok(sealed)
        } else {
            Err(RepositoryError::VerifyFailed {
                blob: BlobId::of(plaintext),
            })
        }
    }

    /// Opens a file that is not a pack.
    ///
    /// # Errors
    /// It is not authentic, or of no known encoding.
    pub fn open_file(&self, mut sealed: Vec<u8>) -> Result<Vec<u8>, OpenError> {
        let body = self.cipher.open_in_place(&mut sealed)?;
        match body.split_first() {
            None => Ok(Vec::new()),
            Some((b'[' | b'{', _)) => Ok(body.to_vec()),
            Some((&ENCODING_ZSTD, compressed)) => decompress_unsized(compressed),
            Some((other, _)) => Err(OpenError::UnknownEncoding(*other)),
        }
    }
}

/// The first byte of a compressed file that is not a pack.
const ENCODING_ZSTD: u8 = 2;

fn check_id(id: BlobId, plaintext: &[u8]) -> Result<(), OpenError> {
    let found = BlobId::of(plaintext);
    if found == id {
        Ok(())
    } else {
        Err(OpenError::Hash(found))
    }
}

/// Decompresses exactly `stated` bytes behind what `out` holds.
fn decompress_after(body: &[u8], stated: usize, out: &mut Vec<u8>) -> Result<(), OpenError> {
    let outcome = with_scratch(|scratch| {
        scratch.plain.clear();
        scratch.plain.reserve(stated);
        Ok(
            match scratch
                .decompressor
                .decompress_to_buffer(body, &mut scratch.plain)
            {
                Ok(found) if found == stated => {
                    out.extend_from_slice(&scratch.plain);
                    Ok(())
                }
                Ok(found) => Err(OpenError::Length { stated, found }),
                Err(error) => Err(OpenError::Decompress(error)),
            },
        )
    });
    outcome.unwrap_or_else(|error| Err(OpenError::Decompress(std::io::Error::other(error))))
}

/// Decompresses a frame that need not state its size, up to the limit.
fn decompress_unsized(compressed: &[u8]) -> Result<Vec<u8>, OpenError> {
    use std::io::Read as _;
    let mut plaintext = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(compressed).map_err(OpenError::Decompress)?;
    let mut limited = decoder.take(BLOB_BYTES_MAX as u64 + 1);
    let length = limited
        .read_to_end(&mut plaintext)
        .map_err(OpenError::Decompress)?;
    if length > BLOB_BYTES_MAX {
        return Err(OpenError::TooLarge(length as u64));
    }
    Ok(plaintext)
}

/// The sealed length of an uncompressed plaintext, in bytes.
#[must_use]
pub const fn sealed_length(plaintext: usize) -> usize {
    plaintext + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Key;

    fn codec(version: u32) -> Codec {
        Codec::new(Cipher::new(&Key::random().unwrap()).unwrap(), version)
    }

    #[test]
    fn blobs_come_back_compressed_only_where_it_helps() {
        let noise: Vec<u8> = (0..300_000_u32)
            .flat_map(|i| crate::id::sha256(&i.to_le_bytes()))
            .collect();
        let text = b"all work and no play makes jack a dull boy ".repeat(30_000);
        for (version, compression, plaintext, compressed) in [
            (2, Compression::Auto, &text, true),
            (2, Compression::Max, &text, true),
            (2, Compression::Off, &text, false),
            (1, Compression::Auto, &text, false),
            (2, Compression::Auto, &noise, false),
            (2, Compression::Auto, &Vec::new(), false),
        ] {
            let codec = codec(version);
            let id = BlobId::of(plaintext);
            let mut out = b"before".to_vec();
            let length = codec
                .seal_blob(id, plaintext, compression, &mut out)
                .unwrap();
            assert_eq!(length.sealed, out.len() - 6);
            assert_eq!(length.uncompressed.is_some(), compressed);
            let mut plain = b"x".to_vec();
            codec
                .open_blob(id, &mut out[6..], length.uncompressed, &mut plain)
                .unwrap();
            assert_eq!(&plain[1..], plaintext);
        }
    }

    #[test]
    fn a_blob_under_a_wrong_id_is_refused_before_upload_and_after_download() {
        let codec = codec(2);
        let mut out = Vec::new();
        let wrong = BlobId([1; 32]);
        let refused = codec.seal_blob(wrong, b"content", Compression::Auto, &mut out);
        assert!(matches!(refused, Err(RepositoryError::VerifyFailed { .. })));
        assert!(out.is_empty());
        let id = BlobId::of(b"content");
        let length = codec
            .seal_blob(id, b"content", Compression::Auto, &mut out)
            .unwrap();
        let mut plain = Vec::new();
        let refused = codec.open_blob(wrong, &mut out, length.uncompressed, &mut plain);
        assert!(matches!(refused, Err(OpenError::Hash(_))));
        assert!(plain.is_empty());
    }

    #[test]
    fn a_bomb_ends_at_the_stated_length() {
        let codec = codec(2);
        let zeros = vec![0; 64 << 20];
        let mut out = Vec::new();
        let length = codec
            .seal_blob(BlobId::of(&zeros), &zeros, Compression::Auto, &mut out)
            .unwrap();
        assert!(length.sealed < 10_000);
        let mut plain = Vec::new();
        let refused = codec.open_blob(BlobId::of(&zeros), &mut out.clone(), Some(1000), &mut plain);
        assert!(
            matches!(refused, Err(OpenError::Decompress(_))),
            "{refused:?}"
        );
        let refused = codec.open_blob(BlobId::of(&zeros), &mut out, Some(usize::MAX), &mut plain);
        assert!(
            matches!(refused, Err(OpenError::TooLarge(_))),
            "{refused:?}"
        );
        assert!(plain.capacity() < 2000);
    }

    #[test]
    fn files_come_back_in_both_versions() {
        for version in [1, 2] {
            let codec = codec(version);
            let sealed = codec.seal_file(br#"{"packs":[]}"#).unwrap();
            assert_eq!(codec.open_file(sealed).unwrap(), br#"{"packs":[]}"#);
        }
    }
}
