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
use crate::zeros::is_zero_blob;

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
        known.map_or_else(Self::default, |known| Self {
            known: true,
            content: Arc::clone(&known.node.content),
            unsettled: false,
        })
    }

    /// How many bytes noise took the place of, if they could be compressed; none if what is new is no noise, or they could
    /// not. `now` is the file's content, and `stored` what this run stored of it: the rest is in the index, as what an
    /// interrupted run stored.
    pub fn randomised(&self, now: &[BlobId], stored: Density, index: &Index) -> Option<u64> {
        if self.content.is_empty() {
            return None;
        }
        let mut new = only_in(now, &self.content, index);
        new.add(stored);
        if !new.is_random() {
            return None;
        }
        // Not all that the file held: of a disk image, noise may take the place of noise alone.
        let replaced = only_in(&self.content, now, index);
        replaced.is_ordinary().then_some(replaced.plain)
    }
}

/// Of the blobs in `some` that are not in `others`. Zeros do not count: they are free space, which anything may take.
fn only_in(some: &[BlobId], others: &[BlobId], index: &Index) -> Density {
    let others: HashSet<&BlobId> = others.iter().collect();
    let mut density = Density::default();
    for blob in some.iter().filter(|blob| !others.contains(blob)) {
        if let Some(stored) = index.get(BlobKind::Data, blob)
            && !is_zero_blob(blob, stored.blob.plaintext_length())
        {
            density.add(Density::of_packed(&stored.blob));
        }
    }
    density
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PackId;
    use crate::index::IndexBuilder;
    use crate::zeros::zero_blob;

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

    /// What was there, what is now, what this run stored of it, and what counts.
    type Case<'c> = (&'c [BlobId], &'c [BlobId], Density, Option<u64>);

    #[test]
    fn what_noise_took_the_place_of_counts_if_it_could_be_compressed() {
        let [text, more_text, noise, more_noise, absent] =
            [1, 2, 3, 4, 5].map(|number| BlobId([number; 32]));
        let zeros = zero_blob(1 << 16).unwrap();
        let packed = |id, plain: u32, packed: u32| PackedBlob {
            id,
            kind: BlobKind::Data,
            offset: 0,
            length: packed + 32,
            uncompressed_length: Some(plain),
        };
        let mut builder = IndexBuilder::default();
        let blobs = [
            packed(text, 10_000, 3_000),
            packed(more_text, 20_000, 6_000),
            packed(noise, 10_000, 10_000),
            packed(more_noise, 10_000, 10_000),
            packed(zeros, 1 << 16, 20),
        ];
        builder.add_pack(PackId([0; 32]), blobs);
        let index = builder.build();
        let (nothing, new_noise) = (Density::default(), Density::new(10_000, 10_000));
        let new_text = Density::new(10_000, 3_000);
        let cases: [Case<'_>; 14] = [
            (&[text], &[absent], new_noise, Some(10_000)),
            (&[text, more_text], &[absent], new_noise, Some(30_000)),
            // An interrupted run stored it.
            (&[text], &[noise], nothing, Some(10_000)),
            (&[text, more_text], &[text, noise], nothing, Some(20_000)),
            (&[text, noise], &[text, absent], new_noise, None),
            (&[text, noise], &[text, more_noise], nothing, None),
            (&[text], &[text, absent], new_noise, None),
            (&[text], &[absent], new_text, None),
            (&[text], &[noise, absent], new_text, None),
            (&[zeros, text], &[absent, text], new_noise, None),
            (&[text], &[text], nothing, None),
            (&[absent], &[noise], nothing, None),
            (&[], &[absent], new_noise, None),
            (&[text], &[], nothing, None),
        ];
        for (number, (before, now, stored, expected)) in cases.into_iter().enumerate() {
            let earlier = Earlier {
                content: before.into(),
                ..Earlier::default()
            };
            let found = earlier.randomised(now, stored, &index);
            assert_eq!(found, expected, "case {number}");
        }
    }
}
