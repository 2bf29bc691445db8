//! Vectors of 32 bytes, from memory and to memory.
//!
//! Invariant: only code that is compiled for AVX2 can call these safely.

use std::arch::x86_64::{__m256i, _mm256_loadu_si256, _mm256_set_epi64x, _mm256_storeu_si256};

/// Bytes of a vector.
pub const VECTOR_BYTES: usize = 32;

/// Four little-endian words.
#[inline]
#[target_feature(enable = "avx2")]
pub fn load(bytes: &[u8; VECTOR_BYTES]) -> __m256i {
    #[expect(
        unsafe_code,
        reason = "there is no safe way to read a vector, ADR 0027"
    )]
    // SAFETY: the array is as long as a vector, and need not be aligned.
    unsafe {
        _mm256_loadu_si256(bytes.as_ptr().cast())
    }
}

/// The first word in the lowest place.
#[inline]
#[target_feature(enable = "avx2")]
pub fn from_words(words: [u64; 4]) -> __m256i {
    let [a, b, c, d] = words;
    _mm256_set_epi64x(
        d.cast_signed(),
        c.cast_signed(),
        b.cast_signed(),
        a.cast_signed(),
    )
}

/// Writes what [`load`] reads.
#[inline]
#[target_feature(enable = "avx2")]
pub fn store(vector: __m256i, bytes: &mut [u8; VECTOR_BYTES]) {
    #[expect(
        unsafe_code,
        reason = "there is no safe way to write a vector, ADR 0027"
    )]
    // SAFETY: the array is as long as a vector, is borrowed for writing, and need not be aligned.
    unsafe {
        _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector);
    }
}
