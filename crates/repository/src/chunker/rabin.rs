//! Rabin fingerprints over a sliding window, exactly as restic's chunker cuts.
//!
//! Sources: Michael O. Rabin, "Fingerprinting by Random Polynomials", 1981; restic's
//! `doc/design.rst`, section "Backups and Deduplication". A window of 64 bytes, a boundary where
//! the lowest 20 bits of the fingerprint are zero, and chunks of 512 KiB to 8 MiB.
//!
//! Invariant: for one polynomial the boundaries equal restic's.

use serde::{Deserialize, Serialize};

use super::{CHUNK_BYTES_MIN, Search};
use crate::crypto::{CryptoError, random_bytes};

const WINDOW_BYTES: usize = 64;
/// A boundary is where these bits are zero: one position in 2^20.
const SPLIT_MASK: u64 = (1 << 20) - 1;
/// The degree of every polynomial that restic makes.
const DEGREE: u32 = 53;

/// An irreducible polynomial over GF(2), its coefficients as bits; in JSON as hexadecimal text.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Polynomial(u64);

impl std::fmt::Debug for Polynomial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Polynomial(***)")
    }
}

/// Text that is no chunker polynomial.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the chunker polynomial is not an irreducible polynomial of degree 53")]
pub struct InvalidPolynomial;

impl TryFrom<String> for Polynomial {
    type Error = InvalidPolynomial;
    fn try_from(text: String) -> Result<Self, InvalidPolynomial> {
        let bits = u64::from_str_radix(&text, 16).map_err(|_not_hex| InvalidPolynomial)?;
        if degree(bits) == Some(DEGREE) && is_irreducible(bits) {
            Ok(Self(bits))
        } else {
            Err(InvalidPolynomial)
        }
    }
}

impl From<Polynomial> for String {
    fn from(polynomial: Polynomial) -> Self {
        format!("{:x}", polynomial.0)
    }
}

impl Polynomial {
    /// A random irreducible polynomial of degree 53.
    ///
    /// # Errors
    /// No randomness.
    pub fn random() -> Result<Self, CryptoError> {
        loop {
            // About one candidate in 27 is irreducible: those with a constant term 1.
            let bits = u64::from_le_bytes(random_bytes()?);
            let candidate = bits & ((1 << DEGREE) - 1) | 1 << DEGREE | 1;
            if is_irreducible(candidate) {
                return Ok(Self(candidate));
            }
        }
    }
}

const fn degree(polynomial: u64) -> Option<u32> {
    if polynomial == 0 {
        None
    } else {
        Some(63 - polynomial.leading_zeros())
    }
}

/// The remainder of `value` (up to 127 bits) divided by `modulus`.
fn remainder(mut value: u128, modulus: u64) -> u64 {
    let Some(degree) = degree(modulus) else {
        return 0;
    };
    while value >> degree != 0 {
        let shift = 127 - value.leading_zeros() - degree;
        value ^= u128::from(modulus) << shift;
    }
    // The loop ends with fewer bits than the modulus has.
    u64::try_from(value).unwrap_or(0)
}

fn multiply(a: u64, b: u64, modulus: u64) -> u64 {
    let product = (0..64)
        .filter(|bit| b >> bit & 1 == 1)
        .fold(0_u128, |sum, bit| sum ^ u128::from(a) << bit);
    remainder(product, modulus)
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, remainder(a.into(), b));
    }
    a
}

/// Ben-Or's test: no factor of degree *i* divides x^(2^i) − x, up to half the degree.
fn is_irreducible(polynomial: u64) -> bool {
    let Some(degree) = degree(polynomial) else {
        return false;
    };
    let x = 0b10;
    let mut power = x;
    (1..=degree / 2).all(|_| {
        power = multiply(power, power, polynomial);
        greatest_common_divisor(polynomial, power ^ x) == 1
    })
}

/// Tables for one polynomial.
pub struct Rabin {
    /// What the byte that leaves the window contributes.
    out: Box<[u64; 256]>,
    /// The reduction of the top byte.
    modulo: Box<[u64; 256]>,
    /// Shift that brings a fingerprint's top byte down.
    shift: u32,
}

impl std::fmt::Debug for Rabin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rabin(***)")
    }
}

impl Rabin {
    /// Computes the tables.
    #[must_use]
    pub fn new(polynomial: Polynomial) -> Self {
        let Polynomial(modulus) = polynomial;
        let append =
            |hash: u64, byte: u8| remainder(u128::from(hash) << 8 | u128::from(byte), modulus);
        let mut out = Box::new([0; 256]);
        let mut modulo = Box::new([0; 256]);
        for byte in 0..=u8::MAX {
            let leaving = (1..WINDOW_BYTES).fold(append(0, byte), |hash, _| append(hash, 0));
            out[usize::from(byte)] = leaving;
            let top = u128::from(byte) << DEGREE;
            // The table also clears the top byte itself, so that one XOR does both.
            modulo[usize::from(byte)] = remainder(top, modulus) | u64::try_from(top).unwrap_or(0);
        }
        Self {
            out,
            modulo,
            shift: DEGREE - 8,
        }
    }

    /// See [`super::Chunker::find_end`].
    pub(super) fn find_end(&self, search: &mut Search, chunk: &[u8]) -> Option<usize> {
        let mut hash = search.hash;
        if search.position < CHUNK_BYTES_MIN {
            // restic starts each chunk's window with a 1 that has left it again by the time the
            // minimum is reached, so the last 64 bytes before the minimum are all that counts.
            let window = chunk.get(CHUNK_BYTES_MIN - WINDOW_BYTES..CHUNK_BYTES_MIN)?;
            hash = window.iter().fold(0, |hash, byte| self.append(hash, *byte));
            search.position = CHUNK_BYTES_MIN;
            if hash & SPLIT_MASK == 0 {
                return Some(CHUNK_BYTES_MIN);
            }
        }
        let entering = chunk.get(search.position..)?;
        let leaving = chunk.get(search.position - WINDOW_BYTES..)?;
        for (at, (byte, gone)) in entering.iter().zip(leaving).enumerate() {
            hash = self.append(hash ^ self.out[usize::from(*gone)], *byte);
            if hash & SPLIT_MASK == 0 {
                return Some(search.position + at + 1);
            }
        }
        search.hash = hash;
        search.position = chunk.len();
        None
    }

    #[inline]
    fn append(&self, hash: u64, byte: u8) -> u64 {
        let top = hash >> self.shift;
        (hash << 8 | u64::from(byte)) ^ self.modulo[usize::from(top as u8)]
    }
}
