//! Proof of many sealed blobs, two at a time.
//!
//! One hash leaves the processor's SHA units idle more than half of the time (ADR 0018), and blobs differ in length.
//! So there are two lanes: when the blob of one is through, that lane takes the next, and the other goes on.
//!
//! Invariant: all are proven to their last byte, or one of them is named as what it is not.

use super::scratch::{Scratch, with_scratch};
use super::{Codec, OpenError};
use crate::crypto::{PIECE_BYTES, Unproven};
use crate::format::pack::PackedBlob;
use crate::hash::Sha256;
use crate::id::BlobId;

/// Memory for a plaintext is kept up to this, in bytes: every chunk has room in it. What is given back is cleared by the
/// kernel page by page when it is taken again, which was a fifth of a check of a disk image.
const PLAINTEXT_BYTES_KEPT: usize = 8 << 20;

/// A sealed blob that is to be proven.
#[derive(Clone, Copy, Debug)]
pub struct SealedBytes<'b> {
    /// What its plaintext hashes to.
    pub id: BlobId,
    /// Its bytes.
    pub sealed: &'b [u8],
    /// Bytes of plaintext if it is compressed.
    pub uncompressed: Option<usize>,
}

impl<'b> SealedBytes<'b> {
    /// A blob of a pack.
    pub fn of(blob: &PackedBlob, sealed: &'b [u8]) -> Self {
        Self {
            id: blob.id,
            sealed,
            uncompressed: blob.uncompressed(),
        }
    }
}

/// Memory of two lanes, for one use after the other.
#[derive(Debug, Default)]
pub struct LaneMemory([Plaintext; 2]);

/// Plaintext of which the end is still to be hashed.
#[derive(Debug, Default)]
struct Plaintext {
    piece: Option<Box<[u8; PIECE_BYTES]>>,
    whole: Vec<u8>,
}

/// A blob that is being hashed.
struct Begun<'c, 'b> {
    id: BlobId,
    hash: Sha256,
    /// What follows, piece by piece; none of a blob that was decompressed, which is there as a whole.
    rest: Option<Unproven<'c, 'b>>,
}

struct Lane<'c, 'b, 'm> {
    codec: &'c Codec,
    memory: &'m mut Plaintext,
    begun: Option<Begun<'c, 'b>>,
    /// How much of what is in memory is hashed, and where it ends.
    hashed: usize,
    end: usize,
}

impl Codec {
    /// Proves that all of these open to their ids, in less time than one after the other.
    ///
    /// # Errors
    /// Of one that does not, or zstd failed.
    pub fn verify_all<'b>(
        &self,
        blobs: impl IntoIterator<Item = SealedBytes<'b>>,
        memory: &mut LaneMemory,
    ) -> Result<(), OpenError> {
        let mut blobs = blobs.into_iter();
        let [mut first, mut second] = memory.0.each_mut().map(|memory| Lane {
            codec: self,
            memory,
            begun: None,
            hashed: 0,
            end: 0,
        });
        while first.fill(&mut blobs)? {
            if second.fill(&mut blobs)? {
                Lane::hash_both(&mut first, &mut second);
            } else {
                first.hash_alone();
            }
        }
        while second.fill(&mut blobs)? {
            second.hash_alone();
        }
        Ok(())
    }
}

impl<'b> Lane<'_, 'b, '_> {
    /// Takes what is next, of its blob or of the blobs that are left; whether there is anything to hash.
    fn fill(
        &mut self,
        blobs: &mut impl Iterator<Item = SealedBytes<'b>>,
    ) -> Result<bool, OpenError> {
        while self.hashed == self.end && !self.go_on()? {
            match blobs.next() {
                Some(blob) => self.begin(&blob)?,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Decrypts the next piece of its blob; at the end proves the blob, and drops it.
    fn go_on(&mut self) -> Result<bool, OpenError> {
        let Some(begun) = &mut self.begun else {
            return Ok(false);
        };
        if let Some(rest) = &mut begun.rest {
            let buffer = (self.memory.piece).get_or_insert_with(|| Box::new([0; PIECE_BYTES]));
            if let Some(piece) = rest.next_into(buffer)? {
                (self.hashed, self.end) = (0, piece.len());
                return Ok(true);
            }
        }
        if let Some(begun) = self.begun.take() {
            if let Some(rest) = begun.rest {
                rest.finish()?;
            }
            if self.memory.whole.capacity() > PLAINTEXT_BYTES_KEPT {
                self.memory.whole = Vec::new();
            }
            let found = BlobId(begun.hash.finish());
            if found != begun.id {
                return Err(OpenError::Hash(found));
            }
        }
        Ok(false)
    }

    fn begin(&mut self, blob: &SealedBytes<'b>) -> Result<(), OpenError> {
        (self.hashed, self.end) = (0, 0);
        let rest = match blob.uncompressed {
            None => Some(self.codec.cipher.begin_opening(blob.sealed)?),
            Some(stated) => {
                let whole = &mut self.memory.whole;
                let opened = with_scratch(|scratch| {
                    let Scratch {
                        compressed,
                        decompressor,
                        ..
                    } = scratch;
                    let bytes = (blob.sealed, stated);
                    Ok((self.codec).decompress_sealed(bytes, compressed, decompressor, whole))
                });
                opened.map_err(|e| OpenError::Decompress(std::io::Error::other(e)))??;
                self.end = whole.len();
                None
            }
        };
        self.begun = Some(Begun {
            id: blob.id,
            hash: Sha256::new(),
            rest,
        });
        Ok(())
    }

    /// The hash of its blob, and so many bytes that are next.
    fn next(&mut self, bytes: usize) -> Option<(&mut Sha256, &[u8])> {
        let begun = self.begun.as_mut()?;
        let plaintext = match (&begun.rest, &self.memory.piece) {
            (Some(_), Some(piece)) => piece.as_slice(),
            _ => &self.memory.whole,
        };
        let start = self.hashed;
        self.hashed += bytes;
        Some((&mut begun.hash, plaintext.get(start..self.hashed)?))
    }

    fn hash_alone(&mut self) {
        let rest = self.end - self.hashed;
        if let Some((hash, bytes)) = self.next(rest) {
            hash.update(bytes);
        }
    }

    /// Hashes so much of both as the shorter rest is long.
    fn hash_both(first: &mut Self, second: &mut Self) {
        let both = (first.end - first.hashed).min(second.end - second.hashed);
        if let (Some((one, bytes)), Some((other, others))) = (first.next(both), second.next(both)) {
            Sha256::update_two(one, bytes, other, others);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::codec;

    #[test]
    fn memory_of_long_plaintexts_is_given_back_and_damage_changes_nothing_about_that() {
        let codec = codec(2);
        let plaintext = vec![7; 2 * PLAINTEXT_BYTES_KEPT];
        let compressed = zstd::bulk::compress(&plaintext, 1).unwrap();
        let sealed = codec.cipher().seal(&compressed).unwrap();
        let mut memory = LaneMemory::default();
        let id = BlobId::of(&plaintext);
        for (id, is_right) in [(id, true), (BlobId([7; 32]), false)] {
            let blobs = [(); 3].map(|()| SealedBytes {
                id,
                sealed: &sealed,
                uncompressed: Some(plaintext.len()),
            });
            assert_eq!(codec.verify_all(blobs, &mut memory).is_ok(), is_right);
        }
        // The first that is wrong ends it, and the other lane has not come to its end.
        let held = memory
            .0
            .iter()
            .filter(|lane| lane.whole.capacity() > PLAINTEXT_BYTES_KEPT);
        assert!(held.count() <= 1);
    }

    #[test]
    fn nothing_compressed_is_proven_as_well() {
        let codec = codec(2);
        let sealed = codec.cipher().seal(&zstd::bulk::compress(b"", 1).unwrap());
        let sealed = sealed.unwrap();
        let proven = |id| {
            let blob = SealedBytes {
                id,
                sealed: &sealed,
                uncompressed: Some(0),
            };
            codec.verify_all([blob], &mut LaneMemory::default())
        };
        proven(BlobId::of(b"")).unwrap();
        assert!(matches!(proven(BlobId([7; 32])), Err(OpenError::Hash(_))));
    }
}
