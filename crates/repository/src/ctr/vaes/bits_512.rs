//! Four blocks a vector (AVX-512), four vectors at once: with the round keys they fit into the registers.

use std::arch::x86_64::{
    __m512i, _mm_set_epi64x, _mm512_add_epi64, _mm512_aesenc_epi128, _mm512_aesenclast_epi128,
    _mm512_broadcast_i32x4, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_xor_si512,
};

use super::{BLOCK_BYTES, GROUP_BLOCKS, GROUP_BYTES, Keys, ROUND_KEYS};
use crate::avx512::{self, VECTOR_BYTES};

const VECTOR_BLOCKS: u64 = (VECTOR_BYTES / BLOCK_BYTES) as u64;
const VECTORS: usize = GROUP_BYTES / VECTOR_BYTES;

/// See [`super::RoundKeys`].
#[target_feature(enable = "vaes,avx512f,avx512bw")]
pub(super) fn add_stream(round_keys: &Keys, counter: u128, bytes: &mut [u8]) {
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
