//! What of a file is left when it is compressed: what tells text from noise.
//!
//! Invariant: measured from what is stored anyway; nothing is compressed for it.

use std::sync::Arc;

use crate::codec::sealed_length;
use crate::format::pack::PackedBlob;
use crate::id::BlobId;

/// With less there is nothing to win by compressing, whatever it is.
const PLAIN_BYTES_MIN: u64 = 512;

/// A part of a file's content, and what it takes when it is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Density {
    plain: u64,
    packed: u64,
}

impl Density {
    /// Of content of which nothing is left out.
    pub const fn new(plain: u64, packed: u64) -> Self {
        Self { plain, packed }
    }

    /// Together with another part.
    pub const fn add(&mut self, other: Self) {
        self.plain += other.plain;
        self.packed += other.packed;
    }

    /// Of a blob that is stored: `length` bytes sealed.
    pub fn of_sealed(plain: u64, length: u64) -> Self {
        let overhead = sealed_length(0) as u64;
        Self::new(plain, length.saturating_sub(overhead))
    }

    /// Of a blob that an index tells of.
    pub fn of_packed(blob: &PackedBlob) -> Self {
        Self::of_sealed(blob.plaintext_length(), blob.length.into())
    }

    /// Whether it compressed to nine tenths at most, as text, tables and programs do.
    const fn is_ordinary(self) -> bool {
        self.plain >= PLAIN_BYTES_MIN && self.packed * 10 <= self.plain * 9
    }

    /// Whether it does not compress at all, as what is encrypted.
    const fn is_random(self) -> bool {
        self.plain >= PLAIN_BYTES_MIN && self.packed * 100 >= self.plain * 99
    }

    /// Whether what took the place of this looks like noise, and this did not.
    pub const fn turned_random(self, new: Self) -> bool {
        self.is_ordinary() && new.is_random()
    }
}

/// What the parent has under a file's name.
#[derive(Clone, Debug, Default)]
pub struct Earlier {
    /// Whether there is anything.
    pub known: bool,
    /// What of its content is left when that is compressed.
    pub density: Density,
    /// Its content, if the file looks unchanged and is read only to be sure.
    pub unsettled: Option<Arc<[BlobId]>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_compressed_and_does_not_any_more_has_turned() {
        let (text, noise, media) = (
            Density::new(10_000, 3_000),
            Density::new(10_000, 10_000),
            Density::new(10_000, 9_700),
        );
        for (old, new, expected) in [
            (text, noise, true),
            (text, text, false),
            (text, media, false),
            (media, noise, false),
            (noise, noise, false),
            (noise, text, false),
            // Too little to tell.
            (text, Density::new(300, 300), false),
            (Density::new(300, 100), noise, false),
            // All of it was there already, or nothing was there before.
            (text, Density::default(), false),
            (Density::default(), noise, false),
        ] {
            assert_eq!(old.turned_random(new), expected, "{old:?} {new:?}");
        }
    }
}
