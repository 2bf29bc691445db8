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
mod ifma;
mod limbs;

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
    vectors: Option<ifma::Powers>,
}

impl MacKey {
    /// Prepares `r`; its bits that have to be zero are cleared.
    pub fn new(r: &[u8; BLOCK_BYTES]) -> Self {
        let multiplier = Multiplier::clamped(r);
        Self {
            r: *r,
            #[cfg(target_arch = "x86_64")]
            vectors: ifma::Powers::new(&multiplier),
            multiplier,
        }
    }

    /// The tag of a message; `s` is used for this one only.
    pub fn tag(&self, s: &[u8; BLOCK_BYTES], message: &[u8]) -> [u8; BLOCK_BYTES] {
        #[cfg(target_arch = "x86_64")]
        if let Some(vectors) = &self.vectors {
            let (groups, rest) = message.as_chunks();
            return self.finish(vectors.absorb(groups), s, rest);
        }
        if message.len() >= LONG_BYTES {
            return self.by_library(s, message);
        }
        self.finish(Accumulator::default(), s, message)
    }

    fn finish(
        &self,
        mut sum: Accumulator,
        s: &[u8; BLOCK_BYTES],
        rest: &[u8],
    ) -> [u8; BLOCK_BYTES] {
        let (blocks, end) = rest.as_chunks();
        for block in blocks {
            sum.absorb(&self.multiplier, block, 1);
        }
        if !end.is_empty() {
            let mut block = [0; BLOCK_BYTES];
            block[..end.len()].copy_from_slice(end);
            block[end.len()] = 1;
            sum.absorb(&self.multiplier, &block, 0);
        }
        sum.tag(s)
    }

    fn by_library(&self, s: &[u8; BLOCK_BYTES], message: &[u8]) -> [u8; BLOCK_BYTES] {
        let mut key = Zeroizing::new([0; 2 * BLOCK_BYTES]);
        key[..BLOCK_BYTES].copy_from_slice(&self.r);
        key[BLOCK_BYTES..].copy_from_slice(s);
        // Whole blocks go in by `update`, which takes four at a time; `compute_unpadded` does not.
        let (blocks, rest) = poly1305::Block::slice_as_chunks(message);
        let mut mac = poly1305::Poly1305::new((&*key).into());
        mac.update(blocks);
        mac.compute_unpadded(rest).into()
    }
}

#[cfg(test)]
mod tests;
