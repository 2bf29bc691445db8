//! AES-256-CTR with Poly1305-AES, as restic uses it, and the master key.
//!
//! A sealed message is `IV (16 bytes) ‖ ciphertext ‖ MAC (16 bytes)`. The MAC is Poly1305 over the
//! ciphertext with `r` from the key and `s = AES-128_k(IV)` (Bernstein, "The Poly1305-AES
//! message-authentication code", 2005). Source: restic's `doc/design.rst`, section "Keys,
//! Encryption and MAC".
//!
//! Bytes are encrypted or decrypted, and authenticated, piece by piece: what a piece needs is in the
//! processor's first cache, while a blob as a whole is not (in a check, tags took twice as long over it; ADR 0027).
//!
//! Invariant: nothing but [`Unproven`], which is for this crate, shows plaintext before its MAC was
//! compared, in constant time; an IV comes from the operating system's generator and is never chosen by a caller.

use aes::Aes128;
use aes::cipher::{Block, BlockCipherEncrypt, KeyInit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::ctr::{self, CtrKey};
use crate::mac::{MacKey, PartialTag};

/// Bytes of the initialisation vector in front of a ciphertext.
pub const IV_BYTES: usize = 16;
/// Bytes of the authentication tag behind it.
pub const MAC_BYTES: usize = 16;
/// What sealing adds to a plaintext.
pub const OVERHEAD_BYTES: usize = IV_BYTES + MAC_BYTES;

/// Why sealing or opening failed.
#[derive(Debug, thiserror::Error)]
pub enum CryptoError {
    /// The MAC differs: other key, or damaged bytes.
    #[error("authentication failed")]
    Unauthentic,
    /// The operating system has no randomness.
    #[error("no randomness from the operating system")]
    NoRandomness,
    /// The library refused a key or buffer; cannot happen with keys of the right length.
    #[error("the cipher refused its input")]
    Cipher,
}

/// Fills a new array with random bytes of the operating system.
///
/// # Errors
/// It has none.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], CryptoError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_no_more_to_tell| CryptoError::NoRandomness)?;
    Ok(bytes)
}

/// A key that seals and opens: the repository's master key, or one derived from a password.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Key {
    encrypt: [u8; 32],
    mac_k: [u8; 16],
    mac_r: [u8; 16],
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(***)")
    }
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct KeyJson {
    mac: MacJson,
    encrypt: String,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct MacJson {
    k: String,
    r: String,
}

impl Key {
    /// A new random master key.
    ///
    /// # Errors
    /// No randomness.
    pub fn random() -> Result<Self, CryptoError> {
        Ok(Self {
            encrypt: random_bytes()?,
            mac_k: random_bytes()?,
            mac_r: random_bytes()?,
        })
    }

    /// Takes a key derived by scrypt apart: 32 bytes encryption, 16 bytes `k`, 16 bytes `r`.
    #[must_use]
    pub fn from_derived(derived: &[u8; 64]) -> Self {
        let mut key = Self {
            encrypt: [0; 32],
            mac_k: [0; 16],
            mac_r: [0; 16],
        };
        let (encrypt, mac) = derived.split_at(32);
        let (k, r) = mac.split_at(16);
        key.encrypt.copy_from_slice(encrypt);
        key.mac_k.copy_from_slice(k);
        key.mac_r.copy_from_slice(r);
        key
    }

    /// The master key as a key file's payload holds it, with restic's field order.
    pub(crate) fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let part = |bytes: &[u8]| Zeroizing::new(BASE64.encode(bytes));
        let (k, r, encrypt) = (part(&self.mac_k), part(&self.mac_r), part(&self.encrypt));
        let json = Zeroizing::new(format!(
            r#"{{"mac":{{"k":"{}","r":"{}"}},"encrypt":"{}"}}"#,
            k.as_str(),
            r.as_str(),
            encrypt.as_str()
        ));
        Zeroizing::new(json.as_bytes().to_vec())
    }

    /// Reads what [`to_json`](Self::to_json) or restic wrote; none if it is something else.
    pub(crate) fn from_json(json: &[u8]) -> Option<Self> {
        let json: KeyJson = serde_json::from_slice(json).ok()?;
        let mut key = Self {
            encrypt: [0; 32],
            mac_k: [0; 16],
            mac_r: [0; 16],
        };
        for (text, target) in [
            (&json.encrypt, key.encrypt.as_mut_slice()),
            (&json.mac.k, key.mac_k.as_mut_slice()),
            (&json.mac.r, key.mac_r.as_mut_slice()),
        ] {
            let bytes = Zeroizing::new(BASE64.decode(text).ok()?);
            if bytes.len() != target.len() {
                return None;
            }
            target.copy_from_slice(&bytes);
        }
        Some(key)
    }
}

/// A key made ready for many messages: key schedules are computed once.
pub struct Cipher {
    encrypt: CtrKey,
    /// Apart from the other: a bit that flips in round keys would cancel out if what was encrypted with
    /// them were proven with the same.
    decrypt: CtrKey,
    mac_k: Aes128,
    mac_r: MacKey,
}

#[cfg(test)]
impl Cipher {
    /// As if memory had failed; whether there was something to flip.
    pub(crate) fn flip_bit_of_round_keys(&mut self) -> bool {
        self.encrypt.flip_bit()
    }
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cipher(***)")
    }
}

impl Cipher {
    /// Prepares a key.
    ///
    /// # Errors
    /// The library refuses it.
    pub fn new(key: &Key) -> Result<Self, CryptoError> {
        let ctr = || CtrKey::new(&key.encrypt).map_err(|_unspecified| CryptoError::Cipher);
        Ok(Self {
            encrypt: ctr()?,
            decrypt: ctr()?,
            mac_k: Aes128::new(&key.mac_k.into()),
            mac_r: MacKey::new(&key.mac_r),
        })
    }

    /// What the MAC under this IV ends with.
    fn mac_s(&self, iv: &[u8; IV_BYTES]) -> [u8; MAC_BYTES] {
        let mut s: Block<Aes128> = (*iv).into();
        self.mac_k.encrypt_block(&mut s);
        s.into()
    }

    /// Begins the MAC of a ciphertext.
    fn begin_mac(&self, iv: &[u8; IV_BYTES]) -> PartialTag<'_> {
        self.mac_r.begin(&self.mac_s(iv))
    }

    fn mac(&self, iv: &[u8; IV_BYTES], ciphertext: &[u8]) -> [u8; MAC_BYTES] {
        self.mac_r.tag(&self.mac_s(iv), ciphertext)
    }

    /// Appends the sealed form of `plaintext` to `out`.
    ///
    /// # Errors
    /// No randomness, or the library refuses. `out` is then as it was.
    pub fn seal_into(&self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), CryptoError> {
        let iv: [u8; IV_BYTES] = random_bytes()?;
        let before = out.len();
        // Exactly: what is sealed into a full pack would double its memory.
        out.reserve_exact(plaintext.len() + OVERHEAD_BYTES);
        out.extend_from_slice(&iv);
        let mut mac = self.begin_mac(&iv);
        for (number, piece) in plaintext.chunks(PIECE_BYTES).enumerate() {
            let start = out.len();
            out.extend_from_slice(piece);
            if let Err(refused) = apply(&self.encrypt, iv, number, &mut out[start..]) {
                // It is plaintext still.
                out[start..].zeroize();
                out.truncate(before);
                return Err(refused);
            }
            mac.absorb(&out[start..]);
        }
        out.extend_from_slice(&mac.finish());
        Ok(())
    }

    /// The sealed form of `plaintext`.
    ///
    /// # Errors
    /// No randomness.
    pub fn seal(&self, plaintext: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let mut out = Vec::new();
        self.seal_into(plaintext, &mut out)?;
        Ok(out)
    }

    /// Compares the MAC of a sealed message.
    ///
    /// # Errors
    /// It is too short or its MAC differs.
    pub fn authenticate(&self, message: &[u8]) -> Result<(), CryptoError> {
        let parts = Parts::of(message)?;
        compare(&self.mac(parts.iv, parts.ciphertext), parts.mac)
    }

    /// Begins to decrypt a message whose MAC is compared at the end.
    ///
    /// # Errors
    /// It is too short.
    pub(crate) fn begin_opening<'m>(
        &self,
        message: &'m [u8],
    ) -> Result<Unproven<'_, 'm>, CryptoError> {
        let Parts {
            iv,
            ciphertext,
            mac: expected,
        } = Parts::of(message)?;
        Ok(Unproven {
            cipher: self,
            iv: *iv,
            mac: self.begin_mac(iv),
            pieces: ciphertext.chunks(PIECE_BYTES).enumerate(),
            expected,
        })
    }

    /// Decrypts piece by piece and compares the MAC at the end: `take` gets each piece of the ciphertext
    /// and its plaintext, which may be anybody's until this has succeeded. So it may hash and collect,
    /// but neither interpret nor give away.
    ///
    /// # Errors
    /// The message is too short or its MAC differs, or the library refuses.
    pub(crate) fn decrypt_unproven(
        &self,
        message: &[u8],
        mut take: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), CryptoError> {
        let mut opening = self.begin_opening(message)?;
        let mut plaintext = [0; PIECE_BYTES];
        while let Some(piece) = opening.next_into(&mut plaintext)? {
            take(piece, &plaintext[..piece.len()]);
        }
        opening.finish()
    }

    /// Opens a sealed message where it lies and returns the plaintext within.
    ///
    /// # Errors
    /// It is too short or its MAC differs; the buffer is then unchanged. Or the library refuses, and the buffer is to be
    /// dropped.
    pub fn open_in_place<'m>(&self, message: &'m mut [u8]) -> Result<&'m mut [u8], CryptoError> {
        let Parts { iv, mac, .. } = Parts::of(message)?;
        let (iv, expected) = (*iv, *mac);
        let end = message.len() - MAC_BYTES;
        let body = &mut message[IV_BYTES..end];
        let mut mac = self.begin_mac(&iv);
        for (number, piece) in body.chunks_mut(PIECE_BYTES).enumerate() {
            mac.absorb(piece);
            apply(&self.decrypt, iv, number, piece)?;
        }
        if let Err(differs) = compare(&mac.finish(), &expected) {
            // Nobody is shown what is not proven: once more makes it the ciphertext again.
            apply(&self.decrypt, iv, 0, body)?;
            return Err(differs);
        }
        Ok(body)
    }

    /// Opens a sealed message into a new buffer.
    ///
    /// # Errors
    /// It is too short or its MAC differs.
    pub fn open(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let mut message = message.to_vec();
        let length = self.open_in_place(&mut message)?.len();
        message.truncate(IV_BYTES + length);
        message.drain(..IV_BYTES);
        Ok(message)
    }
}

/// Encrypts or decrypts the piece of this number.
fn apply(
    key: &CtrKey,
    iv: [u8; IV_BYTES],
    number: usize,
    piece: &mut [u8],
) -> Result<(), CryptoError> {
    key.apply(counter(iv, number), piece)
        .map_err(|_unspecified| CryptoError::Cipher)
}

/// A sealed message that is decrypted piece by piece. What it gives may be anybody's until [`finish`](Self::finish)
/// has succeeded: it may be hashed and collected, but neither interpreted nor given away.
pub(crate) struct Unproven<'c, 'm> {
    cipher: &'c Cipher,
    iv: [u8; IV_BYTES],
    mac: PartialTag<'c>,
    pieces: std::iter::Enumerate<std::slice::Chunks<'m, u8>>,
    expected: &'m [u8; MAC_BYTES],
}

impl<'m> Unproven<'_, 'm> {
    /// Decrypts the next piece into the beginning of a buffer, and returns it as it was; none at the end.
    ///
    /// # Errors
    /// The library refuses.
    pub(crate) fn next_into(
        &mut self,
        buffer: &mut [u8; PIECE_BYTES],
    ) -> Result<Option<&'m [u8]>, CryptoError> {
        let Some((number, piece)) = self.pieces.next() else {
            return Ok(None);
        };
        let (plaintext, _) = buffer.split_at_mut(piece.len());
        plaintext.copy_from_slice(piece);
        self.mac.absorb(piece);
        apply(&self.cipher.decrypt, self.iv, number, plaintext)?;
        Ok(Some(piece))
    }

    /// Compares the MAC of the pieces that were taken.
    ///
    /// # Errors
    /// It differs, as it does if some were not.
    pub(crate) fn finish(self) -> Result<(), CryptoError> {
        compare(&self.mac.finish(), self.expected)
    }
}

/// What a sealed message consists of.
struct Parts<'m> {
    iv: &'m [u8; IV_BYTES],
    ciphertext: &'m [u8],
    mac: &'m [u8; MAC_BYTES],
}

impl<'m> Parts<'m> {
    fn of(message: &'m [u8]) -> Result<Self, CryptoError> {
        let (iv, rest) = message
            .split_first_chunk()
            .ok_or(CryptoError::Unauthentic)?;
        let (ciphertext, mac) = rest.split_last_chunk().ok_or(CryptoError::Unauthentic)?;
        Ok(Self {
            iv,
            ciphertext,
            mac,
        })
    }
}

fn compare(found: &[u8; MAC_BYTES], expected: &[u8; MAC_BYTES]) -> Result<(), CryptoError> {
    aws_lc_rs::constant_time::verify_slices_are_equal(found, expected)
        .map_err(|_differ| CryptoError::Unauthentic)
}

/// How much is encrypted or decrypted at once: a multiple of the cipher's block, and small enough
/// to stay in the first cache.
pub(crate) const PIECE_BYTES: usize = 16 << 10;
const _: () = assert!(PIECE_BYTES.is_multiple_of(ctr::BLOCK_BYTES));

/// The counter with which a piece begins: the IV as a big-endian number, plus the blocks before.
const fn counter(iv: [u8; IV_BYTES], piece: usize) -> u128 {
    let blocks = piece as u128 * (PIECE_BYTES / ctr::BLOCK_BYTES) as u128;
    u128::from_be_bytes(iv).wrapping_add(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first vector of appendix B in Bernstein's paper: a two-byte message.
    #[test]
    fn the_mac_is_poly1305_aes_as_published() {
        let hex = |text: &str| -> [u8; 16] {
            let mut out = [0; 16];
            for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks(2)) {
                *byte = u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            }
            out
        };
        let key = Key {
            encrypt: [0; 32],
            mac_k: hex("ec074c835580741701425b623235add6"),
            mac_r: hex("851fc40c3467ac0be05cc20404f3f700"),
        };
        let cipher = Cipher::new(&key).unwrap();
        let mac = cipher.mac(&hex("fb447350c4e868c52ac3275cf9d4327e"), &[0xf3, 0xf6]);
        assert_eq!(mac, hex("f4c633c3044fc145f84f335cb81953de"));
    }

    fn every_way_refuses(cipher: &Cipher, message: &[u8]) -> bool {
        let ways = [
            cipher.open(message).map(|_| ()),
            cipher.authenticate(message),
            cipher.decrypt_unproven(message, |_, _| ()),
        ];
        ways.into_iter()
            .all(|way| matches!(way, Err(CryptoError::Unauthentic)))
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let cipher = Cipher::new(&Key::random().unwrap()).unwrap();
        let sealed = cipher
            .seal(b"forty-two bytes of something worth keeping")
            .unwrap();
        assert_eq!(
            cipher.open(&sealed).unwrap(),
            b"forty-two bytes of something worth keeping"
        );
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(every_way_refuses(&cipher, &damaged), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(
                every_way_refuses(&cipher, &sealed[..length]),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn what_is_refused_stays_as_it_was() {
        let cipher = Cipher::new(&Key::random().unwrap()).unwrap();
        for length in [1, 16_384, 40_000] {
            let mut sealed = cipher.seal(&vec![7; length]).unwrap();
            sealed[IV_BYTES] ^= 1;
            let mut opened = sealed.clone();
            assert!(cipher.open_in_place(&mut opened).is_err());
            assert_eq!(opened, sealed, "{length}");
        }
    }

    #[test]
    fn a_message_that_was_not_taken_to_its_end_is_not_proven() {
        let cipher = Cipher::new(&Key::random().unwrap()).unwrap();
        let sealed = cipher.seal(&[7; 40_000]).unwrap();
        let mut opening = cipher.begin_opening(&sealed).unwrap();
        let mut buffer = [0; PIECE_BYTES];
        assert!(opening.next_into(&mut buffer).unwrap().is_some());
        assert_eq!(buffer, [7; PIECE_BYTES]);
        assert!(matches!(opening.finish(), Err(CryptoError::Unauthentic)));
    }

    #[test]
    fn pieces_make_the_same_message_as_the_whole() {
        let cipher = Cipher::new(&Key::random().unwrap()).unwrap();
        for length in [0, 1, 16, 16_383, 16_384, 16_385, 50_000] {
            let plaintext: Vec<u8> = (0..length).map(|i: u32| (i % 251) as u8).collect();
            let sealed = cipher.seal(&plaintext).unwrap();
            // `open` decrypts the whole at once.
            assert_eq!(cipher.open(&sealed).unwrap(), plaintext);
            let (mut ciphertext, mut opened) = (Vec::new(), Vec::new());
            cipher.authenticate(&sealed).unwrap();
            cipher
                .decrypt_unproven(&sealed, |piece, plain| {
                    ciphertext.extend_from_slice(piece);
                    opened.extend_from_slice(plain);
                })
                .unwrap();
            assert_eq!(opened, plaintext);
            assert_eq!(ciphertext, sealed[IV_BYTES..sealed.len() - MAC_BYTES]);
        }
        assert_eq!(counter([0xff; IV_BYTES], 1), 1023);
        for length in [1, 16_384, 40_000] {
            let mut damaged = cipher.seal(&vec![7; length]).unwrap();
            let last = damaged.len() - MAC_BYTES - 1;
            damaged[last] ^= 1;
            assert!(every_way_refuses(&cipher, &damaged), "{length}");
        }
    }

    #[test]
    fn what_vectors_seal_the_library_opens() {
        let key = Key::random().unwrap();
        let cipher = Cipher::new(&key).unwrap();
        let mut library = Cipher::new(&key).unwrap();
        library.encrypt = library.encrypt.without_vectors();
        library.decrypt = library.decrypt.without_vectors();
        let plaintext: Vec<u8> = (0..50_001).map(|i: u32| (i % 241) as u8).collect();
        let sealed = cipher.seal(&plaintext).unwrap();
        assert_eq!(library.open(&sealed).unwrap(), plaintext);
        let sealed = library.seal(&plaintext).unwrap();
        assert_eq!(cipher.open(&sealed).unwrap(), plaintext);
    }

    #[test]
    fn keys_survive_json_and_do_not_print() {
        let key = Key::random().unwrap();
        let again = Key::from_json(&key.to_json()).unwrap();
        let sealed = Cipher::new(&key).unwrap().seal(b"x").unwrap();
        assert_eq!(Cipher::new(&again).unwrap().open(&sealed).unwrap(), b"x");
        assert_eq!(format!("{key:?}"), "Key(***)");
        assert!(Key::from_json(br#"{"mac":{"k":"AA==","r":"AA=="},"encrypt":"AA=="}"#).is_none());
    }
}
