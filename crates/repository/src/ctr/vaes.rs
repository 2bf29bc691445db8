//! Sixteen blocks at once, with the vector AES instructions (VAES on AVX-512).
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

use std::arch::x86_64::{
    __m128i, __m512i, _mm_aeskeygenassist_si128, _mm_cvtsi128_si64, _mm_set_epi64x,
    _mm_shuffle_epi32, _mm_slli_si128, _mm_unpackhi_epi64, _mm_xor_si128, _mm512_add_epi64,
    _mm512_aesenc_epi128, _mm512_aesenclast_epi128, _mm512_broadcast_i32x4, _mm512_setzero_si512,
    _mm512_shuffle_epi8, _mm512_xor_si512,
};

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::BLOCK_BYTES;
use crate::avx512::{self, VECTOR_BYTES};

/// Of AES-256: one before the first round, and one for each.
const ROUND_KEYS: usize = 15;
const VECTOR_BLOCKS: u64 = (VECTOR_BYTES / BLOCK_BYTES) as u64;
/// Vectors that go through the rounds together: a round waits longer for its vector than the next
/// three take to begin theirs.
const VECTORS: usize = 4;
const GROUP_BYTES: usize = VECTORS * VECTOR_BYTES;
const GROUP_BLOCKS: u64 = VECTORS as u64 * VECTOR_BLOCKS;

/// The round keys, each as its lower and its upper half.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct RoundKeys([[u64; 2]; ROUND_KEYS]);

impl RoundKeys {
    /// Computes them; none if this processor lacks the instructions.
    pub(super) fn new(key: &[u8; 32]) -> Option<Self> {
        let able = is_x86_feature_detected!("aes")
            && is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw");
        if !able {
            return None;
        }
        #[expect(
            unsafe_code,
            reason = "the instructions are there: see above, and ADR 0027"
        )]
        // SAFETY: the features that `expand` is compiled for were found.
        Some(unsafe { expand(key) })
    }

    /// As if memory had failed.
    #[cfg(test)]
    pub(super) fn flip_bit(&mut self) {
        self.0[7][0] ^= 1 << 20;
    }

    /// Adds the key stream that begins with this counter.
    pub(super) fn apply(&self, counter: u128, bytes: &mut [u8]) {
        // Vectors do not carry from the counter's lower half into its upper one.
        let same_half = (1 << 64) - u128::from(counter as u64);
        let fitting = usize::try_from(same_half * BLOCK_BYTES as u128).unwrap_or(usize::MAX);
        let (bytes, beyond) = bytes.split_at_mut(fitting.min(bytes.len()));
        #[expect(
            unsafe_code,
            reason = "the instructions are there: see above, and ADR 0027"
        )]
        // SAFETY: `RoundKeys::new` found the features that `add_stream` is compiled for.
        unsafe {
            add_stream(&self.0, counter, bytes);
            if !beyond.is_empty() {
                add_stream(&self.0, counter.wrapping_add(same_half), beyond);
            }
        }
    }
}

#[target_feature(enable = "aes")]
fn expand(key: &[u8; 32]) -> RoundKeys {
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
    RoundKeys(keys)
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

/// The lower half of the counter must not wrap before the last block.
#[target_feature(enable = "vaes,avx512f,avx512bw")]
fn add_stream(round_keys: &[[u64; 2]; ROUND_KEYS], counter: u128, bytes: &mut [u8]) {
    debug_assert!(
        bytes.len().div_ceil(BLOCK_BYTES) as u128 <= (1 << 64) - u128::from(counter as u64),
        "the lower half wraps"
    );
    let (groups, rest) = bytes.as_chunks_mut::<GROUP_BYTES>();
    // Before the round keys are in registers: a call between would put them on the stack, where they stay.
    let mut last = [0; GROUP_BYTES];
    last[..rest.len()].copy_from_slice(rest);
    let mut keys = [_mm512_setzero_si512(); ROUND_KEYS];
    for (key, [low, high]) in keys.iter_mut().zip(round_keys) {
        *key = everywhere(high.cast_signed(), low.cast_signed());
    }
    let mut counters = [_mm512_setzero_si512(); VECTORS];
    for (number, vector) in (0..).zip(&mut counters) {
        *vector = first_counters(counter, number * VECTOR_BLOCKS);
    }
    let step = everywhere(0, GROUP_BLOCKS.cast_signed());
    for group in groups {
        add_group(&keys, &counters, group);
        for vector in &mut counters {
            *vector = _mm512_add_epi64(*vector, step);
        }
    }
    if !rest.is_empty() {
        add_group(&keys, &counters, &mut last);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

#[inline]
#[target_feature(enable = "vaes,avx512f,avx512bw")]
fn add_group(
    keys: &[__m512i; ROUND_KEYS],
    counters: &[__m512i; VECTORS],
    group: &mut [u8; GROUP_BYTES],
) {
    let big_endian = everywhere(0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f);
    let mut stream = [_mm512_setzero_si512(); VECTORS];
    for (vector, counters) in stream.iter_mut().zip(counters) {
        *vector = _mm512_xor_si512(_mm512_shuffle_epi8(*counters, big_endian), keys[0]);
    }
    for key in &keys[1..ROUND_KEYS - 1] {
        for vector in &mut stream {
            *vector = _mm512_aesenc_epi128(*vector, *key);
        }
    }
    let (parts, _) = group.as_chunks_mut::<VECTOR_BYTES>();
    for (vector, part) in stream.into_iter().zip(parts) {
        let vector = _mm512_aesenclast_epi128(vector, keys[ROUND_KEYS - 1]);
        avx512::store(_mm512_xor_si512(vector, avx512::load(part)), part);
    }
}

/// Four counters from `offset` on, each a little-endian number.
#[inline]
#[target_feature(enable = "avx512f")]
fn first_counters(counter: u128, offset: u64) -> __m512i {
    let high = (counter >> 64) as u64;
    let first = (counter as u64).wrapping_add(offset);
    let [second, third, fourth] = [1, 2, 3].map(|more| first.wrapping_add(more));
    avx512::from_words([first, high, second, high, third, high, fourth, high])
}

/// The same block in all places.
#[inline]
#[target_feature(enable = "avx512f")]
fn everywhere(high: i64, low: i64) -> __m512i {
    _mm512_broadcast_i32x4(_mm_set_epi64x(high, low))
}
