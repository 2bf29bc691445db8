//! Vectors of 64 bytes, from memory and to memory.
//!
//! Invariant: only code that is compiled for AVX-512 can call these safely.

use std::arch::x86_64::{__m512i, _mm512_loadu_si512, _mm512_set_epi64, _mm512_storeu_si512};

/// Bytes of a vector.
pub const VECTOR_BYTES: usize = 64;

/// Eight little-endian words.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn load(bytes: &[u8; VECTOR_BYTES]) -> __m512i {
    // Put together from words, which is safe, it becomes one load only where the compiler sees it.
    #[expect(
        unsafe_code,
        reason = "there is no safe way to read a vector, ADR 0027"
    )]
    // SAFETY: the array is as long as a vector, and need not be aligned.
    unsafe {
        _mm512_loadu_si512(bytes.as_ptr().cast())
    }
}

/// The first word in the lowest place.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn from_words(words: [u64; 8]) -> __m512i {
    let [a, b, c, d, e, f, g, h] = words.map(u64::cast_signed);
    _mm512_set_epi64(h, g, f, e, d, c, b, a)
}

/// Writes what [`load`] reads.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn store(vector: __m512i, bytes: &mut [u8; VECTOR_BYTES]) {
    #[expect(
        unsafe_code,
        reason = "there is no safe way to write a vector, ADR 0027"
    )]
    // SAFETY: the array is as long as a vector, is borrowed for writing, and need not be aligned.
    unsafe {
        _mm512_storeu_si512(bytes.as_mut_ptr().cast(), vector);
    }
}
