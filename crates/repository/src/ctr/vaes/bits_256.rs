//! Two blocks a vector (AVX2), eight vectors at once: half of the registers, so that each round key is read for each group.

use std::arch::x86_64::{
    __m256i, _mm_set_epi64x, _mm256_add_epi64, _mm256_aesenc_epi128, _mm256_aesenclast_epi128,
    _mm256_broadcastsi128_si256, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_xor_si256,
};

use super::{BLOCK_BYTES, GROUP_BLOCKS, GROUP_BYTES, Keys, ROUND_KEYS};
use crate::avx2::{self, VECTOR_BYTES};

const VECTOR_BLOCKS: u64 = (VECTOR_BYTES / BLOCK_BYTES) as u64;
const VECTORS: usize = GROUP_BYTES / VECTOR_BYTES;

/// See [`super::RoundKeys`].
#[target_feature(enable = "vaes,avx2")]
pub(super) fn add_stream(keys: &Keys, mut counter: u128, bytes: &mut [u8]) {
    let (groups, rest) = bytes.as_chunks_mut::<GROUP_BYTES>();
    for group in groups {
        add_group(keys, counter, group);
        counter = counter.wrapping_add(u128::from(GROUP_BLOCKS));
    }
    if !rest.is_empty() {
        let mut last = [0; GROUP_BYTES];
        last[..rest.len()].copy_from_slice(rest);
        add_group(keys, counter, &mut last);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// Apart from its caller, or the compiler keeps all round keys at hand for the next group: on the stack, where they stay.
#[inline(never)]
#[target_feature(enable = "vaes,avx2")]
fn add_group(keys: &Keys, counter: u128, group: &mut [u8; GROUP_BYTES]) {
    let big_endian = everywhere([0x0809_0a0b_0c0d_0e0f, 0x0001_0203_0405_0607]);
    let step = everywhere([VECTOR_BLOCKS, 0]);
    let mut counters = first_counters(counter);
    let first = everywhere(keys[0]);
    let mut stream = [_mm256_setzero_si256(); VECTORS];
    for vector in &mut stream {
        *vector = _mm256_xor_si256(_mm256_shuffle_epi8(counters, big_endian), first);
        counters = _mm256_add_epi64(counters, step);
    }
    for key in &keys[1..ROUND_KEYS - 1] {
        let key = everywhere(*key);
        for vector in &mut stream {
            *vector = _mm256_aesenc_epi128(*vector, key);
        }
    }
    let last = everywhere(keys[ROUND_KEYS - 1]);
    let (parts, _) = group.as_chunks_mut::<VECTOR_BYTES>();
    for (vector, part) in stream.into_iter().zip(parts) {
        let vector = _mm256_aesenclast_epi128(vector, last);
        avx2::store(_mm256_xor_si256(vector, avx2::load(part)), part);
    }
}

/// Two counters, each a little-endian number.
#[inline]
#[target_feature(enable = "avx2")]
fn first_counters(counter: u128) -> __m256i {
    let (first, high) = (counter as u64, (counter >> 64) as u64);
    avx2::from_words([first, high, first.wrapping_add(1), high])
}

/// The same block in both places.
#[inline]
#[target_feature(enable = "avx2")]
fn everywhere([low, high]: [u64; 2]) -> __m256i {
    _mm256_broadcastsi128_si256(_mm_set_epi64x(high.cast_signed(), low.cast_signed()))
}
