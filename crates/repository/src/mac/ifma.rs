//! Eight blocks at once, with the instructions that multiply 52 bits (AVX-512 IFMA).
//!
//! Lane `i` sums up the blocks `i`, `i + 8`, `i + 16`, …, each step times `r^8`; at the end each
//! lane is multiplied with its own power, and they are added. There are two such sums for groups of
//! eight in turns, each step times `r^16`, since one would wait for itself.
//!
//! No vector goes through a closure that is given to the standard library (`map`, `from_fn`): its functions are
//! compiled without the instructions, and what has them is not inlined into them, so each would be a call
//! that hands vectors over in memory (tags took four times as long).
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, `VPMADD52LUQ` and
//! `VPMADD52HUQ`: the lower and the upper 52 bits of a product are added to a lane of 64.
//!
//! Invariants: [`Powers`] exists only where the processor has the instructions, so calling the
//! function that uses them is sound. Limbs of a sum are less than 2^46, those of a multiplier less than 2^49 with the
//! wrapped ones, and what is above the highest limb of a product is less than 2^39: all factors fit into 52 bits,
//! and so does the last times five times 2^10.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_madd52hi_epu64, _mm512_madd52lo_epu64,
    _mm512_or_si512, _mm512_reduce_add_epi64, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_slli_epi64, _mm512_srli_epi64, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

use zeroize::Zeroize;

use crate::avx512;

use super::limbs::{Accumulator, MASK_42, MASK_44, Multiplier, carry};

const LANES: usize = 8;
/// What is absorbed at once, in bytes.
pub(super) const GROUP_BYTES: usize = LANES * 16;

/// The power of `r` for each lane, in the order in which [`load`] fills them: for the blocks
/// 0, 4, 1, 5, 2, 6, 3 and 7.
const POWERS: [usize; LANES] = [8, 4, 7, 3, 6, 2, 5, 1];

/// Multipliers for all lanes; limbs and wrapped limbs as [`Multiplier`] has them.
#[derive(Zeroize)]
pub(super) struct Powers {
    /// `r^8`, for one group of blocks.
    group: Multiplier,
    /// `r^16`, for two.
    pair: Multiplier,
    each: [[u64; LANES]; 5],
}

impl Powers {
    /// The powers of a multiplier; none if this processor lacks the instructions.
    pub(super) fn new(r: &Multiplier) -> Option<Self> {
        if !is_x86_feature_detected!("avx512f") || !is_x86_feature_detected!("avx512ifma") {
            return None;
        }
        let mut powers: [Multiplier; LANES] = std::array::from_fn(|_| r.clone());
        for power in 1..LANES {
            powers[power] = Multiplier::new(r.times(powers[power - 1].limbs));
        }
        let mut each = [[0; LANES]; 5];
        for (lane, power) in POWERS.into_iter().enumerate() {
            let Multiplier {
                limbs: [low, middle, high],
                wrapped: [second, third],
            } = powers[power - 1];
            for (row, limb) in [low, middle, high, second, third].into_iter().enumerate() {
                each[row][lane] = limb;
            }
        }
        let group = powers[LANES - 1].clone();
        let pair = Multiplier::new(group.times(group.limbs));
        powers.zeroize();
        Some(Self { group, pair, each })
    }

    /// Goes on from a sum with these groups of blocks.
    pub(super) fn absorb(&self, sum: Accumulator, groups: &[[u8; GROUP_BYTES]]) -> Accumulator {
        #[expect(
            unsafe_code,
            reason = "the instructions are there: see above, and ADR 0023"
        )]
        // SAFETY: `Powers::new` found the features that `absorb` is compiled for.
        unsafe {
            absorb(self, sum, groups)
        }
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn absorb(powers: &Powers, so_far: Accumulator, groups: &[[u8; GROUP_BYTES]]) -> Accumulator {
    let Some((first, others)) = groups.split_first() else {
        return so_far;
    };
    let by_group = factors(&powers.group);
    // The first block of the first group is in the lowest lane.
    let [low, middle, high] = so_far.0;
    let mut sum = add(
        load(first),
        [in_lowest(low), in_lowest(middle), in_lowest(high)],
    );
    let (pairs, rest) = others.as_chunks::<2>();
    if let Some(([even, odd], others)) = pairs.split_first() {
        let by_pair = factors(&powers.pair);
        sum = add(times(sum, by_group), load(even));
        let mut other = load(odd);
        for [even, odd] in others {
            sum = add(times(sum, by_pair), load(even));
            other = add(times(other, by_pair), load(odd));
        }
        sum = add(times(sum, by_group), other);
    }
    for group in rest {
        sum = add(times(sum, by_group), load(group));
    }
    let [low, middle, high, second, third] = &powers.each;
    let each = [
        avx512::from_words(*low),
        avx512::from_words(*middle),
        avx512::from_words(*high),
        avx512::from_words(*second),
        avx512::from_words(*third),
    ];
    let [low, middle, high] = times(sum, each);
    let sums = [
        _mm512_reduce_add_epi64(low).cast_unsigned(),
        _mm512_reduce_add_epi64(middle).cast_unsigned(),
        _mm512_reduce_add_epi64(high).cast_unsigned(),
    ];
    Accumulator(carry(sums))
}

/// The same multiplier for all lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn factors(by: &Multiplier) -> [__m512i; 5] {
    let [low, middle, high] = by.limbs;
    let [second, third] = by.wrapped;
    [
        everywhere(low),
        everywhere(middle),
        everywhere(high),
        everywhere(second),
        everywhere(third),
    ]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add(sum: [__m512i; 3], other: [__m512i; 3]) -> [__m512i; 3] {
    [
        _mm512_add_epi64(sum[0], other[0]),
        _mm512_add_epi64(sum[1], other[1]),
        _mm512_add_epi64(sum[2], other[2]),
    ]
}

/// The limbs of eight blocks, each with the bit above its highest byte.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(group: &[u8; GROUP_BYTES]) -> [__m512i; 3] {
    let (halves, _) = group.as_chunks::<{ GROUP_BYTES / 2 }>();
    let (front, back) = (avx512::load(&halves[0]), avx512::load(&halves[1]));
    let low = _mm512_unpacklo_epi64(front, back);
    let high = _mm512_unpackhi_epi64(front, back);
    let mask = everywhere(MASK_44);
    let across = _mm512_or_si512(_mm512_srli_epi64::<44>(low), _mm512_slli_epi64::<20>(high));
    [
        _mm512_and_si512(low, mask),
        _mm512_and_si512(across, mask),
        _mm512_or_si512(_mm512_srli_epi64::<24>(high), everywhere(1 << 40)),
    ]
}

/// The product in each lane, carried once.
///
/// The upper halves of products weigh 2^52: 2^8 of the next limb, and above the highest limb five
/// times 2^10 of the lowest.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn times(sum: [__m512i; 3], by: [__m512i; 5]) -> [__m512i; 3] {
    let [a, b, c] = sum;
    let [low, middle, high, second, third] = by;
    let (low_0, low_1) = multiplied([(a, low), (b, third), (c, second)]);
    let (middle_0, middle_1) = multiplied([(a, middle), (b, low), (c, third)]);
    let (high_0, high_1) = multiplied([(a, high), (b, middle), (c, low)]);

    let low = _mm512_madd52lo_epu64(low_0, high_1, everywhere(5 << 10));
    let middle = _mm512_add_epi64(middle_0, _mm512_slli_epi64::<8>(low_1));
    let high = _mm512_add_epi64(high_0, _mm512_slli_epi64::<8>(middle_1));

    let (mask_44, mask_42) = (everywhere(MASK_44), everywhere(MASK_42));
    let middle = _mm512_add_epi64(middle, _mm512_srli_epi64::<44>(low));
    let high = _mm512_add_epi64(high, _mm512_srli_epi64::<44>(middle));
    let over = _mm512_srli_epi64::<42>(high);
    [
        _mm512_madd52lo_epu64(_mm512_and_si512(low, mask_44), over, everywhere(5)),
        _mm512_and_si512(middle, mask_44),
        _mm512_and_si512(high, mask_42),
    ]
}

/// The lower and the upper halves of three products, each added up.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn multiplied(factors: [(__m512i, __m512i); 3]) -> (__m512i, __m512i) {
    let mut sums = (_mm512_setzero_si512(), _mm512_setzero_si512());
    for (a, b) in factors {
        sums = (
            _mm512_madd52lo_epu64(sums.0, a, b),
            _mm512_madd52hi_epu64(sums.1, a, b),
        );
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f")]
fn in_lowest(limb: u64) -> __m512i {
    avx512::from_words([limb, 0, 0, 0, 0, 0, 0, 0])
}

#[inline]
#[target_feature(enable = "avx512f")]
fn everywhere(limb: u64) -> __m512i {
    _mm512_set1_epi64(limb.cast_signed())
}
