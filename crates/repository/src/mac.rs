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

use zeroize::{ZeroizeOnDrop, Zeroizing};

use limbs::{Accumulator, Multiplier};

const BLOCK_BYTES: usize = 16;

/// `r` of Poly1305, made ready.
#[derive(ZeroizeOnDrop)]
pub struct MacKey {
    multiplier: Multiplier,
    #[cfg(target_arch = "x86_64")]
    vectors: Option<vectors::Powers>,
}

impl MacKey {
    /// Prepares `r`; its bits that have to be zero are cleared.
    pub fn new(r: &[u8; BLOCK_BYTES]) -> Self {
        let multiplier = Multiplier::clamped(r);
        Self {
            #[cfg(target_arch = "x86_64")]
            vectors: vectors::Powers::new(&multiplier),
            multiplier,
        }
    }

    /// The tag of a message; `s` is used for this one only.
    pub fn tag(&self, s: &[u8; BLOCK_BYTES], message: &[u8]) -> [u8; BLOCK_BYTES] {
        let mut tag = self.begin(s);
        tag.absorb(message);
        tag.finish()
    }

    /// Begins the tag of a message that comes in pieces; `s` is used for this one only.
    pub fn begin(&self, s: &[u8; BLOCK_BYTES]) -> PartialTag<'_> {
        PartialTag {
            key: self,
            s: Zeroizing::new(*s),
            sum: Accumulator::default(),
            end: Zeroizing::new([0; BLOCK_BYTES]),
            end_bytes: 0,
        }
    }
}

/// The tag of a message of which some bytes are still to come.
pub struct PartialTag<'k> {
    key: &'k MacKey,
    s: Zeroizing<[u8; BLOCK_BYTES]>,
    sum: Accumulator,
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
        #[cfg(target_arch = "x86_64")]
        let blocks = match &self.key.vectors {
            None => blocks,
            Some(vectors) => vectors.absorb(&mut self.sum, blocks),
        };
        for block in blocks.as_chunks().0 {
            self.sum.absorb(&self.key.multiplier, block, 1);
        }
    }

    /// The tag of all that came.
    pub fn finish(mut self) -> [u8; BLOCK_BYTES] {
        if self.end_bytes > 0 {
            let mut block = self.end.clone();
            block[self.end_bytes] = 1;
            self.sum.absorb(&self.key.multiplier, &block, 0);
        }
        self.sum.tag(&self.s)
    }
}

#[cfg(test)]
mod tests;
