//! Sixteen blocks at once, with the vector AES instructions (VAES), on vectors of 512 or of 256 bits.
//!
//! Source: FIPS 197 for the cipher; Intel, "Intel Advanced Encryption Standard (AES) New
//! Instructions Set", 2010, for the use of `AESKEYGENASSIST` for the round keys of 256-bit keys.
//!
//! No vector goes through a closure that is given to the standard library (`map`, `from_fn`): its functions are
//! compiled without the instructions, and what has them is not inlined into them, so each would be a call
//! that hands vectors over in memory.
//!
//! Invariant: [`RoundKeys`] exists only where the processor has the instructions, so calling the
//! functions that use them is sound.

mod bits_256;
mod bits_512;

use std::arch::x86_64::{
    __m128i, _mm_aeskeygenassist_si128, _mm_cvtsi128_si64, _mm_set_epi64x, _mm_shuffle_epi32,
    _mm_slli_si128, _mm_unpackhi_epi64, _mm_xor_si128,
};

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::BLOCK_BYTES;

/// Of AES-256: one before the first round, and one for each.
const ROUND_KEYS: usize = 15;
/// What goes through the rounds together, as several vectors: a round waits longer for its vector than the next few take
/// to begin theirs.
const GROUP_BYTES: usize = 256;
const GROUP_BLOCKS: u64 = (GROUP_BYTES / BLOCK_BYTES) as u64;

/// The round keys, each as its lower and its upper half.
type Keys = [[u64; 2]; ROUND_KEYS];

/// The round keys, and what to do with them.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct RoundKeys {
    keys: Keys,
    #[zeroize(skip)]
    width: Width,
}

/// Of the vectors.
#[derive(Clone, Copy)]
pub(super) enum Width {
    /// Two blocks.
    Bits256,
    /// Four blocks.
    Bits512,
}

impl Width {
    fn is_there(self) -> bool {
        let has_aes = is_x86_feature_detected!("aes") && is_x86_feature_detected!("vaes");
        has_aes
            && match self {
                Self::Bits256 => is_x86_feature_detected!("avx2"),
                Self::Bits512 => {
                    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
                }
            }
    }
}

impl RoundKeys {
    /// Computes them, for the widest vectors that there are; none if there are none.
    pub(super) fn widest(key: &[u8; 32]) -> Option<Self> {
        Self::new(key, Width::Bits512).or_else(|| Self::new(key, Width::Bits256))
    }

    /// Computes them, for vectors of this width; none if this processor lacks the instructions.
    pub(super) fn new(key: &[u8; 32], width: Width) -> Option<Self> {
        if !width.is_there() {
            return None;
        }
        #[expect(
            unsafe_code,
            reason = "the instructions are there: see above, and ADR 0027"
        )]
        // SAFETY: the features that `expand` is compiled for were found.
        let keys = unsafe { expand(key) };
        Some(Self { keys, width })
    }

    /// As if memory had failed.
    #[cfg(test)]
    pub(super) fn flip_bit(&mut self) {
        self.keys[7][0] ^= 1 << 20;
    }

    /// Adds the key stream that begins with this counter.
    pub(super) fn apply(&self, counter: u128, bytes: &mut [u8]) {
        // Vectors do not carry from the counter's lower half into its upper one.
        let same_half = (1 << 64) - u128::from(counter as u64);
        let fitting = usize::try_from(same_half * BLOCK_BYTES as u128).unwrap_or(usize::MAX);
        let (bytes, beyond) = bytes.split_at_mut(fitting.min(bytes.len()));
        self.add_stream(counter, bytes);
        if !beyond.is_empty() {
            self.add_stream(counter.wrapping_add(same_half), beyond);
        }
    }

    /// The lower half of the counter must not wrap before the last block.
    fn add_stream(&self, counter: u128, bytes: &mut [u8]) {
        debug_assert!(
            bytes.len().div_ceil(BLOCK_BYTES) as u128 <= (1 << 64) - u128::from(counter as u64),
            "the lower half wraps"
        );
        #[expect(
            unsafe_code,
            reason = "the instructions are there: see above, and ADR 0027"
        )]
        // SAFETY: `RoundKeys::new` found the features of this width, for which the functions are compiled.
        unsafe {
            match self.width {
                Width::Bits256 => bits_256::add_stream(&self.keys, counter, bytes),
                Width::Bits512 => bits_512::add_stream(&self.keys, counter, bytes),
            }
        }
    }
}

#[target_feature(enable = "aes")]
fn expand(key: &[u8; 32]) -> Keys {
    let (words, _) = key.as_chunks::<8>();
    let half = |number: usize| i64::from_le_bytes(words[number]);
    let mut even = _mm_set_epi64x(half(1), half(0));
    let mut odd = _mm_set_epi64x(half(3), half(2));
    let mut keys = [[0; 2]; ROUND_KEYS];
    (keys[0], keys[1]) = (halves(even), halves(odd));
    // Written out, since the round's constant is part of the instruction.
    macro_rules! even {
        ($at:literal, $constant:literal) => {
            let word = _mm_shuffle_epi32::<0xff>(_mm_aeskeygenassist_si128::<$constant>(odd));
            even = _mm_xor_si128(prefix_sums(even), word);
            keys[$at] = halves(even);
        };
    }
    macro_rules! pair {
        ($at:literal, $constant:literal) => {
            even!($at, $constant);
            let word = _mm_shuffle_epi32::<0xaa>(_mm_aeskeygenassist_si128::<0>(even));
            odd = _mm_xor_si128(prefix_sums(odd), word);
            keys[$at + 1] = halves(odd);
        };
    }
    pair!(2, 0x01);
    pair!(4, 0x02);
    pair!(6, 0x04);
    pair!(8, 0x08);
    pair!(10, 0x10);
    pair!(12, 0x20);
    even!(14, 0x40);
    keys
}

/// Each word added (xor) to all words behind it.
#[inline]
#[target_feature(enable = "sse2")]
fn prefix_sums(words: __m128i) -> __m128i {
    let pairs = _mm_xor_si128(words, _mm_slli_si128::<4>(words));
    _mm_xor_si128(pairs, _mm_slli_si128::<8>(pairs))
}

#[inline]
#[target_feature(enable = "sse2")]
fn halves(key: __m128i) -> [u64; 2] {
    let high = _mm_unpackhi_epi64(key, key);
    [
        _mm_cvtsi128_si64(key).cast_unsigned(),
        _mm_cvtsi128_si64(high).cast_unsigned(),
    ]
}
