//! Four blocks at once, with the vector multiplication of 32 bits (AVX2).
//!
//! Lane `i` sums up the blocks `i`, `i + 4`, `i + 8`, …, each step times `r^4`; at the end each lane is multiplied with
//! its own power, and they are added. There are two such sums for groups of four in turns, each step times `r^8`, since
//! one would wait for itself. Limbs have 26 bits: products of five pairs fit into a lane of 64.
//!
//! As in [`super::ifma`], no vector goes through a closure that is given to the standard library.
//!
//! Invariants: [`Powers`] exists only where the processor has the instructions, so calling the function that uses them is
//! sound. Limbs of a product are less than 2^26 and a few, of two products and a block less than 2^28, those of a multiplier
//! less than 2^26 and wrapped ones five times that: none has more than the 32 bits that are multiplied, and a sum of five
//! products is less than 2^59.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi64, _mm256_and_si256, _mm256_extract_epi64, _mm256_mul_epu32,
    _mm256_or_si256, _mm256_set1_epi64x, _mm256_slli_epi64, _mm256_srli_epi64,
    _mm256_unpackhi_epi64, _mm256_unpacklo_epi64,
};
use std::hint::black_box;

use zeroize::Zeroize;

use crate::avx2::{self, VECTOR_BYTES};

use super::limbs::{Accumulator, Multiplier, carry};

const LANES: usize = 4;
/// What is absorbed at once, in bytes.
pub(super) const GROUP_BYTES: usize = LANES * 16;
const LIMBS: usize = 5;
const MASK_26: u64 = (1 << 26) - 1;

/// The power of `r` for each lane, in the order in which [`load`] fills them: for the blocks 0, 2, 1 and 3.
const POWERS: [usize; LANES] = [4, 2, 3, 1];

/// A multiplier's limbs for each lane, and five times the limbs but the lowest, for products that wrap.
#[derive(Zeroize)]
struct Factors {
    limbs: [[u64; LANES]; LIMBS],
    wrapped: [[u64; LANES]; LIMBS - 1],
}

impl Factors {
    fn of(powers: [&Multiplier; LANES]) -> Self {
        let mut this = Self {
            limbs: [[0; LANES]; LIMBS],
            wrapped: [[0; LANES]; LIMBS - 1],
        };
        for (lane, power) in powers.into_iter().enumerate() {
            for (number, limb) in narrow(power.limbs).into_iter().enumerate() {
                this.limbs[number][lane] = limb;
                if number > 0 {
                    this.wrapped[number - 1][lane] = 5 * limb;
                }
            }
        }
        this
    }
}

/// Multipliers for all lanes.
#[derive(Zeroize)]
pub(super) struct Powers {
    /// `r^4`, for one group of blocks.
    group: Factors,
    /// `r^8`, for two.
    pair: Factors,
    each: Factors,
}

impl Powers {
    /// The powers of a multiplier; none if this processor lacks the instructions.
    pub(super) fn new(r: &Multiplier) -> Option<Self> {
        if !is_x86_feature_detected!("avx2") {
            return None;
        }
        let mut powers: [Multiplier; 2 * LANES] = std::array::from_fn(|_| r.clone());
        for power in 1..powers.len() {
            powers[power] = Multiplier::new(r.times(powers[power - 1].limbs));
        }
        let power = |number: usize| &powers[number - 1];
        let this = Self {
            group: Factors::of([power(LANES); LANES]),
            pair: Factors::of([power(2 * LANES); LANES]),
            each: Factors::of(POWERS.map(power)),
        };
        powers.zeroize();
        Some(this)
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

#[target_feature(enable = "avx2")]
fn absorb(powers: &Powers, so_far: Accumulator, groups: &[[u8; GROUP_BYTES]]) -> Accumulator {
    // The compiler must not know this number, nor that what goes round is small: it leaves the mask of a multiplication's
    // operand away then, forgets why at the loop's edge, and multiplies all 64 bits. So what goes round is added to
    // before it is multiplied, too.
    let mask = everywhere(black_box(MASK_26));
    // The first block of the first group is in the lowest lane.
    let [a, b, c, d, e] = narrow(so_far.0);
    let mut even = [
        in_lowest(a),
        in_lowest(b),
        in_lowest(c),
        in_lowest(d),
        in_lowest(e),
    ];
    let (single, pairs) = groups.as_rchunks::<2>();
    let sum = match (single, pairs) {
        ([], []) => return so_far,
        ([group, ..], []) => add(even, load(group, mask)),
        (single, [others @ .., [last_even, last_odd]]) => {
            for group in single {
                even = times(add(even, load(group, mask)), &powers.group, mask);
            }
            let mut odd = [everywhere(0); LIMBS];
            for [group, other] in others {
                even = times(add(even, load(group, mask)), &powers.pair, mask);
                odd = times(add(odd, load(other, mask)), &powers.pair, mask);
            }
            even = times(add(even, load(last_even, mask)), &powers.group, mask);
            add(even, add(odd, load(last_odd, mask)))
        }
    };
    let [a, b, c, d, e] = times(sum, &powers.each, mask);
    Accumulator(wide([
        over_lanes(a),
        over_lanes(b),
        over_lanes(c),
        over_lanes(d),
        over_lanes(e),
    ]))
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(sum: [__m256i; LIMBS], other: [__m256i; LIMBS]) -> [__m256i; LIMBS] {
    [
        _mm256_add_epi64(sum[0], other[0]),
        _mm256_add_epi64(sum[1], other[1]),
        _mm256_add_epi64(sum[2], other[2]),
        _mm256_add_epi64(sum[3], other[3]),
        _mm256_add_epi64(sum[4], other[4]),
    ]
}

/// The limbs of four blocks, each with the bit above its highest byte.
#[inline]
#[target_feature(enable = "avx2")]
fn load(group: &[u8; GROUP_BYTES], mask: __m256i) -> [__m256i; LIMBS] {
    let (halves, _) = group.as_chunks::<VECTOR_BYTES>();
    let (front, back) = (avx2::load(&halves[0]), avx2::load(&halves[1]));
    let low = _mm256_unpacklo_epi64(front, back);
    let high = _mm256_unpackhi_epi64(front, back);
    let across = _mm256_or_si256(_mm256_srli_epi64::<52>(low), _mm256_slli_epi64::<12>(high));
    [
        _mm256_and_si256(low, mask),
        _mm256_and_si256(_mm256_srli_epi64::<26>(low), mask),
        _mm256_and_si256(across, mask),
        _mm256_and_si256(_mm256_srli_epi64::<14>(high), mask),
        _mm256_or_si256(_mm256_srli_epi64::<40>(high), everywhere(1 << 24)),
    ]
}

/// The product in each lane, carried once.
#[inline]
#[target_feature(enable = "avx2")]
fn times(sum: [__m256i; LIMBS], by: &Factors, mask: __m256i) -> [__m256i; LIMBS] {
    let [r0, r1, r2, r3, r4] = &by.limbs;
    let [s1, s2, s3, s4] = &by.wrapped;
    carried(
        [
            products(sum, [r0, s4, s3, s2, s1]),
            products(sum, [r1, r0, s4, s3, s2]),
            products(sum, [r2, r1, r0, s4, s3]),
            products(sum, [r3, r2, r1, r0, s4]),
            products(sum, [r4, r3, r2, r1, r0]),
        ],
        mask,
    )
}

#[inline]
#[target_feature(enable = "avx2")]
fn products(sum: [__m256i; LIMBS], by: [&[u64; LANES]; LIMBS]) -> __m256i {
    let [a, b, c, d, e] = sum;
    let ab = _mm256_add_epi64(product(a, by[0]), product(b, by[1]));
    let cd = _mm256_add_epi64(product(c, by[2]), product(d, by[3]));
    _mm256_add_epi64(_mm256_add_epi64(ab, cd), product(e, by[4]))
}

#[inline]
#[target_feature(enable = "avx2")]
fn product(limb: __m256i, factor: &[u64; LANES]) -> __m256i {
    _mm256_mul_epu32(limb, avx2::from_words(*factor))
}

/// Brings what limbs have too much into the next ones, in two chains at the same time.
#[inline]
#[target_feature(enable = "avx2")]
fn carried(limbs: [__m256i; LIMBS], mask: __m256i) -> [__m256i; LIMBS] {
    let [mut a, mut b, mut c, mut d, mut e] = limbs;
    (a, b) = into_next(a, b, mask);
    (d, e) = into_next(d, e, mask);
    (b, c) = into_next(b, c, mask);
    let over = _mm256_srli_epi64::<26>(e);
    e = _mm256_and_si256(e, mask);
    a = _mm256_add_epi64(a, _mm256_add_epi64(over, _mm256_slli_epi64::<2>(over)));
    (c, d) = into_next(c, d, mask);
    (a, b) = into_next(a, b, mask);
    (d, e) = into_next(d, e, mask);
    [a, b, c, d, e]
}

#[inline]
#[target_feature(enable = "avx2")]
fn into_next(limb: __m256i, next: __m256i, mask: __m256i) -> (__m256i, __m256i) {
    let over = _mm256_srli_epi64::<26>(limb);
    (_mm256_and_si256(limb, mask), _mm256_add_epi64(next, over))
}

#[inline]
#[target_feature(enable = "avx2")]
fn over_lanes(limbs: __m256i) -> u64 {
    let lanes = [
        _mm256_extract_epi64::<0>(limbs),
        _mm256_extract_epi64::<1>(limbs),
        _mm256_extract_epi64::<2>(limbs),
        _mm256_extract_epi64::<3>(limbs),
    ];
    lanes.into_iter().sum::<i64>().cast_unsigned()
}

#[inline]
#[target_feature(enable = "avx2")]
fn in_lowest(limb: u64) -> __m256i {
    avx2::from_words([limb, 0, 0, 0])
}

#[inline]
#[target_feature(enable = "avx2")]
fn everywhere(limb: u64) -> __m256i {
    _mm256_set1_epi64x(limb.cast_signed())
}

/// Limbs of 44, 44 and 42 bits as limbs of 26, each less than 2^26.
fn narrow(limbs: [u64; 3]) -> [u64; LIMBS] {
    let [low, middle, high] = carry(carry(limbs));
    [
        low & MASK_26,
        (low >> 26) + ((middle & 0xff) << 18),
        (middle >> 8) & MASK_26,
        (middle >> 34) + ((high & 0xffff) << 10),
        high >> 16,
    ]
}

/// Limbs of 26 bits, which may have more, as limbs of 44, 44 and 42.
fn wide(limbs: [u64; LIMBS]) -> [u64; 3] {
    let [a, b, c, d, e] = limbs;
    let low = a + ((b & 0x3_ffff) << 26);
    let middle = (b >> 18) + (c << 8) + ((d & 0x3ff) << 34);
    let high = (d >> 10) + (e << 16);
    carry([low, middle, high])
}
