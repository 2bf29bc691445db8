//! Poly1305, made ready for one key and many messages.
//!
//! Source: Bernstein, "The Poly1305-AES message-authentication code", 2005; RFC 8439 for vectors.
//!
//! Most messages of a repository are a few kilobytes, where a library that is told the key anew
//! each time spends more on beginning and ending than on the message (ADR 0023).
//!
//! Invariants: the tag does not depend on the way it was computed; no branch and no index depends
//! on the key or the message's bytes.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod ifma;
mod limbs;
#[cfg(target_arch = "x86_64")]
mod vectors;

use poly1305::universal_hash::{KeyInit as _, UniversalHash as _};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use limbs::{Accumulator, Multiplier};

const BLOCK_BYTES: usize = 16;
/// From here on a library's vectors are faster than one block after the other.
const LONG_BYTES: usize = 4 << 10;

/// `r` of Poly1305, made ready.
#[derive(ZeroizeOnDrop)]
pub struct MacKey {
    r: [u8; BLOCK_BYTES],
    multiplier: Multiplier,
    #[cfg(target_arch = "x86_64")]
    vectors: Option<vectors::Powers>,
}

impl MacKey {
    /// Prepares `r`; its bits that have to be zero are cleared.
    pub fn new(r: &[u8; BLOCK_BYTES]) -> Self {
        let multiplier = Multiplier::clamped(r);
        Self {
            r: *r,
            #[cfg(target_arch = "x86_64")]
            vectors: vectors::Powers::new(&multiplier),
            multiplier,
        }
    }

    /// The tag of a message; `s` is used for this one only.
    pub fn tag(&self, s: &[u8; BLOCK_BYTES], message: &[u8]) -> [u8; BLOCK_BYTES] {
        let mut tag = self.begin(s, message.len());
        tag.absorb(message);
        tag.finish()
    }

    /// Begins the tag of a message that comes in pieces, about so many bytes (which only chooses the way); `s` is
    /// used for this one only.
    pub fn begin(&self, s: &[u8; BLOCK_BYTES], bytes: usize) -> PartialTag<'_> {
        match self.has_vectors() || bytes < LONG_BYTES {
            true => self.begin_with(s, Sum::Ours(Accumulator::default())),
            false => self.begin_with(s, self.library(s)),
        }
    }

    fn begin_with(&self, s: &[u8; BLOCK_BYTES], sum: Sum) -> PartialTag<'_> {
        PartialTag {
            key: self,
            s: Zeroizing::new(*s),
            sum,
            end: Zeroizing::new([0; BLOCK_BYTES]),
            end_bytes: 0,
        }
    }

    fn library(&self, s: &[u8; BLOCK_BYTES]) -> Sum {
        let mut key = Zeroizing::new([0; 2 * BLOCK_BYTES]);
        key[..BLOCK_BYTES].copy_from_slice(&self.r);
        key[BLOCK_BYTES..].copy_from_slice(s);
        Sum::OfLibrary(Box::new(poly1305::Poly1305::new((&*key).into())))
    }

    const fn has_vectors(&self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            self.vectors.is_some()
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            false
        }
    }
}

enum Sum {
    Ours(Accumulator),
    OfLibrary(Box<poly1305::Poly1305>),
}

/// The tag of a message of which some bytes are still to come.
pub struct PartialTag<'k> {
    key: &'k MacKey,
    s: Zeroizing<[u8; BLOCK_BYTES]>,
    sum: Sum,
    /// What came last, if it was no whole block.
    end: Zeroizing<[u8; BLOCK_BYTES]>,
    end_bytes: usize,
}

impl PartialTag<'_> {
    /// Goes on with more bytes: whole blocks, unless they are the last.
    pub fn absorb(&mut self, piece: &[u8]) {
        // Bytes that no tag covers would be the worst that can happen here.
        assert_eq!(self.end_bytes, 0, "only the last piece has an odd end");
        let (blocks, end) = piece.split_at(piece.len() - piece.len() % BLOCK_BYTES);
        self.end[..end.len()].copy_from_slice(end);
        self.end_bytes = end.len();
        match &mut self.sum {
            Sum::Ours(sum) => {
                #[cfg(target_arch = "x86_64")]
                let blocks = match &self.key.vectors {
                    None => blocks,
                    Some(vectors) => vectors.absorb(sum, blocks),
                };
                for block in blocks.as_chunks().0 {
                    sum.absorb(&self.key.multiplier, block, 1);
                }
            }
            // Whole blocks go in by `update`, which takes four at a time.
            Sum::OfLibrary(library) => library.update(poly1305::Block::slice_as_chunks(blocks).0),
        }
    }

    /// The tag of all that came.
    pub fn finish(self) -> [u8; BLOCK_BYTES] {
        match self.sum {
            Sum::Ours(mut sum) => {
                if self.end_bytes > 0 {
                    let mut block = self.end.clone();
                    block[self.end_bytes] = 1;
                    sum.absorb(&self.key.multiplier, &block, 0);
                }
                sum.tag(&self.s)
            }
            Sum::OfLibrary(library) => {
                let end = &self.end[..self.end_bytes];
                // A copy, so that what is in the box is wiped and not moved out of it.
                (*library).clone().compute_unpadded(end).into()
            }
        }
    }
}

#[cfg(test)]
mod tests;
