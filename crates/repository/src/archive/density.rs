//! What of a file is left when it is compressed: what tells text from noise.
//!
//! Invariant: measured from what is stored anyway; nothing is compressed for it.

use std::collections::HashSet;
use std::sync::Arc;

use super::previous::Known;
use crate::codec::sealed_length;
use crate::format::pack::{BlobKind, PackedBlob};
use crate::id::BlobId;
use crate::index::Index;

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
    pub const fn is_ordinary(self) -> bool {
        self.plain >= PLAIN_BYTES_MIN && self.packed * 10 <= self.plain * 9
    }

    /// How long it is when nothing is left out.
    pub const fn plain_bytes(self) -> u64 {
        self.plain
    }

    /// Whether it does not compress at all, as what is encrypted.
    pub const fn is_random(self) -> bool {
        self.plain >= PLAIN_BYTES_MIN && self.packed * 100 >= self.plain * 99
    }
}

/// What the parent has under a file's name.
#[derive(Clone, Debug, Default)]
pub struct Earlier {
    /// Whether there is anything.
    pub known: bool,
    /// Its content.
    pub content: Arc<[BlobId]>,
    /// Whether the file looks unchanged and is read only to be sure.
    pub unsettled: bool,
}

impl Earlier {
    /// Of the entry that the parent has, if it has one.
    pub fn of(known: Option<&Known>) -> Self {
        Self {
            known: known.is_some(),
            content: known
                .map(|known| Arc::clone(&known.node.content))
                .unwrap_or_default(),
            unsettled: false,
        }
    }

    /// What is no longer in the file, of what it held.
    pub fn replaced(&self, now: &[BlobId], index: &Index) -> Density {
        let now: HashSet<&BlobId> = now.iter().collect();
        let mut replaced = Density::default();
        for blob in self.content.iter().filter(|blob| !now.contains(blob)) {
            if let Some(stored) = index.get(BlobKind::Data, blob) {
                replaced.add(Density::of_packed(&stored.blob));
            }
        }
        replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_ordinary_noise_is_random_and_media_are_neither() {
        for (plain, packed, is_ordinary, is_random) in [
            (10_000, 3_000, true, false),
            (10_000, 9_000, true, false),
            (10_000, 9_001, false, false),
            (10_000, 9_899, false, false),
            (10_000, 9_900, false, true),
            (10_000, 10_000, false, true),
            // Too little to tell, and nothing.
            (511, 100, false, false),
            (511, 511, false, false),
            (0, 0, false, false),
        ] {
            let density = Density::new(plain, packed);
            let found = (density.is_ordinary(), density.is_random());
            assert_eq!(found, (is_ordinary, is_random), "{density:?}");
        }
    }
}
