//! AES-256 in counter mode, for one key and many messages.
//!
//! Source: NIST SP 800-38A, section 6.5, with the whole block as a big-endian counter.
//!
//! Invariant: the result does not depend on the way it was computed; no branch and no index depends on
//! the key or on the message's bytes.

#[cfg(target_arch = "x86_64")]
mod vaes;

use aws_lc_rs::cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;

/// Bytes of a block of the cipher.
pub const BLOCK_BYTES: usize = 16;

/// More than a group of vectors, and no whole number of blocks.
const TRIED_BYTES: usize = 300;

/// A key made ready.
pub struct CtrKey {
    library: EncryptingKey,
    #[cfg(target_arch = "x86_64")]
    vectors: Option<vaes::RoundKeys>,
}

impl CtrKey {
    /// Computes the round keys.
    ///
    /// # Errors
    /// The library refuses the key.
    pub fn new(key: &[u8; 32]) -> Result<Self, Unspecified> {
        Self::untried(key)?.tried()
    }

    fn untried(key: &[u8; 32]) -> Result<Self, Unspecified> {
        Ok(Self {
            library: EncryptingKey::ctr(UnboundCipherKey::new(&AES_256, key)?)?,
            #[cfg(target_arch = "x86_64")]
            vectors: vaes::RoundKeys::widest(key),
        })
    }

    /// Leaves it to the library if the vectors give something else: both directions take the same way, so
    /// what it does wrong would cancel out in every proof.
    fn tried(self) -> Result<Self, Unspecified> {
        let (mut found, mut expected) = ([0; TRIED_BYTES], [0; TRIED_BYTES]);
        self.apply(u128::from(u64::MAX), &mut found)?;
        self.by_library(u128::from(u64::MAX), &mut expected)?;
        match found == expected {
            true => Ok(self),
            false => Ok(self.without_vectors()),
        }
    }

    /// Leaves it to the library.
    pub fn without_vectors(self) -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            vectors: None,
            ..self
        }
    }

    /// As if memory had failed; whether there was something to flip.
    #[cfg(test)]
    pub fn flip_bit(&mut self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if let Some(vectors) = &mut self.vectors {
            vectors.flip_bit();
            return true;
        }
        false
    }

    /// Adds the key stream that begins with this counter: encrypts a plaintext, decrypts a ciphertext.
    ///
    /// # Errors
    /// The library refuses.
    pub fn apply(&self, counter: u128, bytes: &mut [u8]) -> Result<(), Unspecified> {
        #[cfg(target_arch = "x86_64")]
        if let Some(vectors) = &self.vectors {
            vectors.apply(counter, bytes);
            return Ok(());
        }
        self.by_library(counter, bytes)
    }

    fn by_library(&self, counter: u128, bytes: &mut [u8]) -> Result<(), Unspecified> {
        let context = EncryptionContext::Iv128(FixedLength::from(counter.to_be_bytes()));
        self.library.less_safe_encrypt(bytes, context).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let pairs = text.as_bytes().chunks(2);
        pairs
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// The key for each width of vectors that this processor has, and for none. Untried: what is tried and wrong would be
    /// the library once more.
    fn ways(key: &[u8; 32]) -> Vec<CtrKey> {
        let untried = || CtrKey::untried(key).unwrap();
        let mut ways = vec![untried(), untried().without_vectors()];
        #[cfg(target_arch = "x86_64")]
        if let Some(narrow) = vaes::RoundKeys::new(key, vaes::Width::Bits256) {
            let mut way = untried();
            way.vectors = Some(narrow);
            ways.push(way);
        }
        ways
    }

    /// NIST SP 800-38A, F.5.5.
    #[test]
    fn published_vector() {
        let key = hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        let counter = u128::from_str_radix("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", 16).unwrap();
        let plaintext = hex(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51\
             30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
        );
        let ciphertext = hex(
            "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5\
             2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6",
        );
        let key = key.try_into().unwrap();
        for key in ways(&key) {
            let mut bytes = plaintext.clone();
            key.apply(counter, &mut bytes).unwrap();
            assert_eq!(bytes, ciphertext);
            key.apply(counter, &mut bytes).unwrap();
            assert_eq!(bytes, plaintext);
        }
    }

    #[test]
    fn vectors_are_used_if_and_only_if_they_are_right() {
        let mut key = CtrKey::untried(&[7; 32]).unwrap();
        let has_vectors = key.flip_bit();
        assert!(
            !key.tried().unwrap().flip_bit(),
            "wrong ones are left alone"
        );
        let mut key = CtrKey::new(&[7; 32]).unwrap();
        assert_eq!(key.flip_bit(), has_vectors, "right ones are kept");
    }

    /// Every length around a vector and a group of them, around the places where the counter carries.
    #[test]
    fn the_vectors_give_what_the_library_gives() {
        let noise: Vec<u8> = (0..20_000_u64)
            .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
            .collect();
        let counters = [
            0,
            1 << 127,
            u128::from(u64::MAX),
            u128::from(u64::MAX) - 5,
            u128::from(u64::MAX) - 1023,
            u128::from(u32::MAX) - 3,
            u128::MAX,
            u128::MAX - 17,
        ];
        let lengths = (0..600).chain([1023, 1024, 1025, 16_384, 19_999]);
        for (number, length) in lengths.enumerate() {
            let key: [u8; 32] = noise[number..number + 32].try_into().unwrap();
            let ways = ways(&key);
            for counter in counters {
                let mut expected = noise[..length].to_vec();
                ways[0].by_library(counter, &mut expected).unwrap();
                for (way, key) in ways.iter().enumerate() {
                    let mut found = noise[..length].to_vec();
                    key.apply(counter, &mut found).unwrap();
                    assert_eq!(
                        found, expected,
                        "way {way}, {length} bytes from {counter:x}"
                    );
                }
            }
        }
    }
}
