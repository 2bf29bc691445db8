//! Arithmetic modulo 2^130 - 5 with limbs of 44, 44 and 42 bits, one block at a time.
//!
//! Invariant: limbs of an [`Accumulator`] are less than 2^45 between blocks, so that no product
//! overflows.

use zeroize::Zeroize;

/// Of the two lower limbs.
pub(super) const MASK_44: u64 = (1 << 44) - 1;
/// Of the highest limb.
pub(super) const MASK_42: u64 = (1 << 42) - 1;
/// A product of limbs beyond 2^132 comes back as so many times itself: four times five.
const WRAP: u64 = 20;

/// What is multiplied with.
#[derive(Clone, Zeroize)]
pub(super) struct Multiplier {
    pub(super) limbs: [u64; 3],
    /// The two higher limbs, for products that wrap.
    pub(super) wrapped: [u64; 2],
}

impl Multiplier {
    /// `r` of a key, of which 22 bits have to be zero.
    pub(super) fn clamped(r: &[u8; 16]) -> Self {
        let r = u128::from_le_bytes(*r) & 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff;
        Self::new(split(r))
    }

    pub(super) fn new(limbs: [u64; 3]) -> Self {
        let [_, middle, high] = limbs;
        Self {
            limbs,
            wrapped: [middle * WRAP, high * WRAP],
        }
    }

    /// The product with `sum`, carried once.
    pub(super) fn times(&self, sum: [u64; 3]) -> [u64; 3] {
        let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
        let ([a, b, c], [x, y, z]) = (sum, self.limbs);
        let [yy, zz] = self.wrapped;
        let low = product(a, x) + product(b, zz) + product(c, yy);
        let middle = product(a, y) + product(b, x) + product(c, zz) + (low >> 44);
        let high = product(a, z) + product(b, y) + product(c, x) + (middle >> 44);
        // Less than 2^48: the factors of `high` have at most 46 bits each.
        let over = (high >> 42) as u64;
        let low = (low as u64 & MASK_44) + over * 5;
        let middle = (middle as u64 & MASK_44) + (low >> 44);
        [low & MASK_44, middle, high as u64 & MASK_42]
    }
}

/// The sum over the blocks so far.
#[derive(Clone, Copy, Default)]
pub(super) struct Accumulator(pub(super) [u64; 3]);

impl Accumulator {
    /// Adds a block, with `bit` above its highest byte, and multiplies.
    pub(super) fn absorb(&mut self, multiplier: &Multiplier, block: &[u8; 16], bit: u64) {
        let [low, middle, high] = split(u128::from_le_bytes(*block));
        let [a, b, c] = self.0;
        self.0 = multiplier.times([a + low, b + middle, c + high + (bit << 40)]);
    }

    /// Reduced, plus `s`, modulo 2^128.
    pub(super) fn tag(self, s: &[u8; 16]) -> [u8; 16] {
        let [low, middle, high] = carry(carry(self.0));
        // Minus 2^130 - 5: taken if that is not negative.
        let a = low + 5;
        let b = middle + (a >> 44);
        let c = (high + (b >> 44)).wrapping_sub(1 << 42);
        let keep = (c >> 63).wrapping_neg();
        let choose = |kept: u64, reduced: u64| (kept & keep) | (reduced & !keep);
        let low = choose(low, a & MASK_44);
        let middle = choose(middle, b & MASK_44);
        let high = choose(high, c & MASK_42);
        let sum = u128::from(low) | u128::from(middle) << 44 | u128::from(high) << 88;
        sum.wrapping_add(u128::from_le_bytes(*s)).to_le_bytes()
    }
}

/// Brings what a limb has too much into the next one.
pub(super) fn carry([low, middle, high]: [u64; 3]) -> [u64; 3] {
    let middle = middle + (low >> 44);
    let high = high + (middle >> 44);
    let low = (low & MASK_44) + (high >> 42) * 5;
    [
        low & MASK_44,
        (middle & MASK_44) + (low >> 44),
        high & MASK_42,
    ]
}

/// The limbs of a number below 2^128.
fn split(number: u128) -> [u64; 3] {
    [
        number as u64 & MASK_44,
        (number >> 44) as u64 & MASK_44,
        (number >> 88) as u64,
    ]
}
