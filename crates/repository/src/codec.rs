//! Sealing and opening of blobs and files: compression, encryption, and the proof that what is
//! about to be uploaded can be read back.
//!
//! Invariant: a blob leaves [`Codec::seal`] only after its sealed form was opened again and
//! hashed to its id.

mod files;
mod lanes;
mod scratch;

use crate::crypto::{Cipher, IV_BYTES, MAC_BYTES, OVERHEAD_BYTES};
use crate::error::RepositoryError;
use crate::flips::{self, Stage};
use crate::hash::Sha256;
use crate::id::BlobId;
pub use lanes::{LaneMemory, SealedBytes};
use scratch::{Scratch, make_room, with_scratch};

/// The largest plaintext of a blob that is read, in bytes. restic's chunks end at 8 MiB; trees may
/// be larger.
pub const BLOB_BYTES_MAX: usize = crate::format::tree::TREE_BYTES_MAX;

/// zstd's level where nothing else is asked for (ADR 0017).
const USUAL_LEVEL: i32 = 3;

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
            Self::Auto => Some(USUAL_LEVEL),
            Self::Fastest => Some(1),
            Self::Better => Some(11),
            Self::Max => Some(19),
        }
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

/// A blob that is to be sealed.
#[derive(Debug)]
pub struct Prepared<'p> {
    id: BlobId,
    body: Body<'p>,
    /// Bytes of plaintext if the body is compressed.
    uncompressed: Option<usize>,
}

#[derive(Debug)]
enum Body<'p> {
    /// The plaintext, or what another repository made of it.
    AsItIs(&'p [u8]),
    /// Compressed or decompressed here.
    Made(Vec<u8>),
}

impl Body<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::AsItIs(bytes) => bytes,
            Self::Made(bytes) => bytes,
        }
    }
}

impl Prepared<'_> {
    /// The id that its plaintext shall hash to.
    #[must_use]
    pub const fn id(&self) -> BlobId {
        self.id
    }

    /// How long its sealed form will be, in bytes.
    #[must_use]
    pub fn sealed_length(&self) -> usize {
        sealed_length(self.body.bytes().len())
    }
}

/// A sealed blob that is to be opened.
#[derive(Debug)]
pub struct SealedBlob<'b> {
    /// What its plaintext hashes to.
    pub id: BlobId,
    /// Its bytes, which opening may change.
    pub sealed: &'b mut [u8],
    /// Bytes of plaintext if it is compressed.
    pub uncompressed: Option<usize>,
    /// Memory for the plaintext if it is compressed; what it holds is dropped.
    pub plain: &'b mut Vec<u8>,
}

/// A blob of another repository, authenticated and decrypted. Whether it is what its id says shows when
/// it is sealed.
#[derive(Debug)]
pub struct Decrypted<'b> {
    id: BlobId,
    body: &'b [u8],
    /// Bytes of plaintext if the body is compressed, as the other repository states them.
    uncompressed: Option<usize>,
}

impl<'b> Decrypted<'b> {
    /// Of plaintext that hashes to this id.
    #[must_use]
    pub const fn proven(id: BlobId, plaintext: &'b [u8]) -> Self {
        Self {
            id,
            body: plaintext,
            uncompressed: None,
        }
    }

    /// What its plaintext shall hash to.
    #[must_use]
    pub const fn id(&self) -> BlobId {
        self.id
    }

    /// Bytes of plaintext, if it is what its id says.
    #[must_use]
    pub fn plaintext_bytes(&self) -> usize {
        self.uncompressed.unwrap_or(self.body.len())
    }
}

/// How long a sealed blob is.
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

    /// Compresses a blob where that helps.
    ///
    /// # Errors
    /// zstd failed.
    pub fn prepare<'p>(
        &self,
        id: BlobId,
        plaintext: &'p [u8],
        compression: Compression,
    ) -> Result<Prepared<'p>, RepositoryError> {
        let level = compression
            .level()
            .filter(|_| self.version >= 2 && !plaintext.is_empty());
        let compressed = match level {
            None => None,
            Some(level) => with_scratch(|scratch| {
                if !scratch.trial_shrinks(plaintext, level)? {
                    return Ok(None);
                }
                scratch.compress(plaintext, level)?;
                let helps = scratch.compressed.len() < plaintext.len();
                if helps {
                    flips::touch(Stage::Compressed, &mut scratch.compressed);
                }
                Ok(helps.then(|| std::mem::take(&mut scratch.compressed)))
            })?,
        };
        Ok(Prepared {
            id,
            uncompressed: compressed.as_ref().map(|_| plaintext.len()),
            body: compressed.map_or(Body::AsItIs(plaintext), Body::Made),
        })
    }

    /// As [`prepare`](Self::prepare), but what was compressed elsewhere stays as it is: to compress it again
    /// would take most of the time, and might give more than the other repository was told to take.
    ///
    /// # Errors
    /// zstd failed; or the blob is not what its id says, which may as well show only when it is sealed.
    pub fn prepare_decrypted<'p>(
        &self,
        blob: &Decrypted<'p>,
        compression: Compression,
    ) -> Result<Prepared<'p>, RepositoryError> {
        match blob.uncompressed {
            None => self.prepare(blob.id, blob.body, compression),
            Some(stated) if self.version >= 2 => Ok(Prepared {
                id: blob.id,
                body: Body::AsItIs(blob.body),
                uncompressed: Some(stated),
            }),
            // Version 1 has no compressed blobs.
            Some(stated) => {
                let mut plaintext = Vec::new();
                decompress_stated(blob.body, stated, &mut plaintext)
                    .map_err(|_not_what_it_says| RepositoryError::VerifyFailed { blob: blob.id })?;
                Ok(Prepared {
                    id: blob.id,
                    body: Body::Made(plaintext),
                    uncompressed: None,
                })
            }
        }
    }

    /// Appends the sealed form of a blob to `pack` and goes on with the hash of the pack, after
    /// proving that the sealed form opens to the blob's id again.
    ///
    /// # Errors
    /// It did not read back: memory or the library is faulty, or the blob was never what its id says. `pack` and
    /// `hash` are as they were.
    pub fn seal(
        &self,
        blob: Prepared<'_>,
        pack: &mut Vec<u8>,
        hash: &mut Sha256,
    ) -> Result<SealedLength, RepositoryError> {
        let start = pack.len();
        self.cipher.seal_into(blob.body.bytes(), pack)?;
        flips::touch(Stage::Sealed, &mut pack[start..]);
        let uncompressed = blob.uncompressed;
        if let Body::Made(memory) = blob.body {
            // To where it came from if it was compressed here; what is opened takes its place.
            let () = with_scratch(|scratch| {
                scratch.compressed = memory;
                Ok(())
            })?;
        }
        let verified = self.verify(blob.id, &pack[start..], uncompressed, hash);
        if verified.is_err() {
            pack.truncate(start);
            return Err(RepositoryError::VerifyFailed { blob: blob.id });
        }
        Ok(SealedLength {
            sealed: pack.len() - start,
            uncompressed,
        })
    }

    /// Proves that a sealed blob opens to its id, and goes on with the hash of its pack at the same
    /// time: one hash alone leaves the processor half idle.
    ///
    /// # Errors
    /// The bytes are not that blob. `pack` is then as it was.
    fn verify(
        &self,
        id: BlobId,
        sealed: &[u8],
        uncompressed: Option<usize>,
        pack: &mut Sha256,
    ) -> Result<(), OpenError> {
        let (mut plain, mut longer) = (Sha256::new(), pack.clone());
        match uncompressed {
            None => {
                // If it is shorter, that is refused below, and this hash dropped.
                longer.update(&sealed[..IV_BYTES.min(sealed.len())]);
                self.cipher
                    .decrypt_unproven(sealed, |ciphertext, plaintext| {
                        Sha256::update_two(&mut plain, plaintext, &mut longer, ciphertext);
                    })?;
                longer.update(&sealed[sealed.len() - MAC_BYTES..]);
            }
            Some(stated) => {
                let opened = with_scratch(|scratch| {
                    let Scratch {
                        compressed,
                        decompressor,
                        plain: out,
                        ..
                    } = scratch;
                    let bytes = (sealed, stated);
                    let opened = self.decompress_sealed(bytes, compressed, decompressor, out);
                    Ok(opened.map(|()| Sha256::update_two(&mut plain, out, &mut longer, sealed)))
                });
                opened.map_err(|e| OpenError::Decompress(std::io::Error::other(e)))??;
            }
        }
        let found = BlobId(plain.finish());
        if found != id {
            return Err(OpenError::Hash(found));
        }
        *pack = longer;
        Ok(())
    }

    /// Into `plain`, by way of `compressed`, in place of what they hold, if a blob may have so many bytes.
    fn decompress_sealed(
        &self,
        (sealed, stated): (&[u8], usize),
        compressed: &mut Vec<u8>,
        decompressor: &mut zstd::bulk::Decompressor<'static>,
        plain: &mut Vec<u8>,
    ) -> Result<(), OpenError> {
        if stated > BLOB_BYTES_MAX {
            return Err(OpenError::TooLarge(stated as u64));
        }
        make_room(compressed, sealed.len().saturating_sub(OVERHEAD_BYTES));
        self.cipher
            .decrypt_unproven(sealed, |_, piece| compressed.extend_from_slice(piece))?;
        decompress(decompressor, compressed, stated, plain)
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
        let start = out.len();
        let opened = decompress_stated(body, stated, out);
        let checked = opened.and_then(|()| check_id(id, &out[start..]));
        if checked.is_err() {
            out.truncate(start);
        }
        checked
    }

    /// Authenticates and decrypts a sealed blob where it lies, for a repository that proves it when it seals it.
    ///
    /// # Errors
    /// It is too short or its MAC differs.
    pub fn decrypt<'b>(
        &self,
        id: BlobId,
        sealed: &'b mut [u8],
        uncompressed: Option<usize>,
    ) -> Result<Decrypted<'b>, OpenError> {
        let body = self.cipher.open_in_place(sealed)?;
        Ok(Decrypted {
            id,
            body,
            uncompressed,
        })
    }

    /// Opens two sealed blobs, each verified against its id, in less time than one after the other:
    /// both are hashed at once. A blob that is not compressed is opened where it lies.
    ///
    /// # Errors
    /// The bytes are not that blob; the other one is not concerned.
    pub fn open_two<'b>(&self, blobs: [SealedBlob<'b>; 2]) -> [Result<&'b [u8], OpenError>; 2] {
        let ids = [blobs[0].id, blobs[1].id];
        match blobs.map(|blob| self.open_unproven(blob)) {
            [Ok(first), Ok(second)] => {
                let found = BlobId::of_two(first, second);
                [(first, ids[0], found[0]), (second, ids[1], found[1])].map(|(plain, id, found)| {
                    if found == id {
                        Ok(plain)
                    } else {
                        Err(OpenError::Hash(found))
                    }
                })
            }
            [first, second] => [(first, ids[0]), (second, ids[1])]
                .map(|(opened, id)| opened.and_then(|plain| check_id(id, plain).map(|()| plain))),
        }
    }

    /// Opens a blob whose plaintext may still be another one's.
    fn open_unproven<'b>(&self, blob: SealedBlob<'b>) -> Result<&'b [u8], OpenError> {
        let body = self.cipher.open_in_place(blob.sealed)?;
        match blob.uncompressed {
            None => Ok(body),
            Some(stated) => {
                blob.plain.clear();
                decompress_stated(body, stated, blob.plain)?;
                Ok(blob.plain)
            }
        }
    }
}

fn check_id(id: BlobId, plaintext: &[u8]) -> Result<(), OpenError> {
    let found = BlobId::of(plaintext);
    if found == id {
        Ok(())
    } else {
        Err(OpenError::Hash(found))
    }
}

/// Decompresses exactly `stated` bytes into `out`, in place of what it holds.
fn decompress(
    decompressor: &mut zstd::bulk::Decompressor<'static>,
    body: &[u8],
    stated: usize,
    out: &mut Vec<u8>,
) -> Result<(), OpenError> {
    make_room(out, stated);
    let found = decompressor
        .decompress_to_buffer(body, out)
        .map_err(OpenError::Decompress)?;
    if found == stated {
        Ok(())
    } else {
        Err(OpenError::Length { stated, found })
    }
}

/// Decompresses exactly `stated` bytes, if a blob may have so many, behind what `out` holds.
fn decompress_stated(body: &[u8], stated: usize, out: &mut Vec<u8>) -> Result<(), OpenError> {
    if stated > BLOB_BYTES_MAX {
        return Err(OpenError::TooLarge(stated as u64));
    }
    let outcome = with_scratch(|scratch| {
        let Scratch {
            decompressor,
            plain,
            ..
        } = scratch;
        if out.is_empty() {
            return Ok(decompress(decompressor, body, stated, out));
        }
        let done = decompress(decompressor, body, stated, plain);
        Ok(done.map(|()| out.extend_from_slice(plain)))
    });
    outcome.unwrap_or_else(|error| Err(OpenError::Decompress(std::io::Error::other(error))))
}

/// The sealed length of an uncompressed plaintext, in bytes.
#[must_use]
pub const fn sealed_length(plaintext: usize) -> usize {
    plaintext + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests;
