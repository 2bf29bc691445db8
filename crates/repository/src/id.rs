//! Identities of a repository's files and blobs.
//!
//! Invariant: every id is a SHA-256 of what it names, except key and config ids, which name
//! encrypted bytes; the kinds do not mix.

use serde::{Deserialize, Serialize};

pub use crate::hash::sha256;
use crate::hash::sha256_of_two;

/// Text that is no id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not an id of 64 hexadecimal digits")]
pub struct InvalidId(pub String);

/// Without a branch for each digit: indexes and trees hold millions of ids.
pub(crate) fn parse_hex(text: &[u8]) -> Option<[u8; 32]> {
    let text: &[u8; 64] = text.try_into().ok()?;
    let mut digits = [0; 64];
    let mut valid = true;
    for (digit, byte) in digits.iter_mut().zip(text) {
        let (decimal, letter) = (byte.wrapping_sub(b'0'), byte.wrapping_sub(b'a'));
        let is_decimal = decimal < 10;
        *digit = if is_decimal {
            decimal
        } else {
            letter.wrapping_add(10)
        };
        valid &= is_decimal | (letter < 6);
    }
    let pairs = digits.as_chunks::<2>().0;
    valid.then(|| std::array::from_fn(|at| pairs[at][0] << 4 | pairs[at][1]))
}

/// An id as 64 hex digits; formatting byte by byte takes many times as long.
fn to_hex(id: &[u8; 32]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|at| {
        let byte = id[at / 2];
        let digit = if at % 2 == 0 { byte >> 4 } else { byte & 15 };
        DIGITS[usize::from(digit)]
    })
}

/// Does something with the text of an id.
fn with_hex<T>(id: &[u8; 32], show: impl FnOnce(&str) -> T) -> T {
    // Digits are text.
    show(std::str::from_utf8(&to_hex(id)).unwrap_or_default())
}

/// Bytes that serve as an id, as 64 hex digits.
pub(crate) fn id_text(id: &[u8; 32]) -> String {
    with_hex(id, str::to_owned)
}

/// Appends an id as 64 hex digits.
pub(crate) fn push_hex(out: &mut Vec<u8>, id: &[u8; 32]) {
    out.extend_from_slice(&to_hex(id));
}

/// Reads an id without copying its text: trees hold millions.
struct HexVisitor;

impl serde::de::Visitor<'_> for HexVisitor {
    type Value = [u8; 32];

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("64 hexadecimal digits")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<[u8; 32], E> {
        self.visit_bytes(text.as_bytes())
    }

    fn visit_bytes<E: serde::de::Error>(self, text: &[u8]) -> Result<[u8; 32], E> {
        let text_or_bytes = || match std::str::from_utf8(text) {
            Ok(text) => E::invalid_value(serde::de::Unexpected::Str(text), &self),
            Err(_) => E::invalid_value(serde::de::Unexpected::Bytes(text), &self),
        };
        parse_hex(text).ok_or_else(text_or_bytes)
    }
}

macro_rules! id_type {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub [u8; 32]);

        /// By bytes. The first eight, as a number, nearly always decide: indexes sort millions.
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                let first = prefix(&self.0).cmp(&prefix(&other.0));
                first.then_with(|| self.0.cmp(&other.0))
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl $name {
            /// The first eight hex digits, for people.
            #[must_use]
            pub fn short(&self) -> String {
                self.to_string()[..8].to_owned()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                with_hex(&self.0, |text| f.write_str(text))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_hex(text.as_bytes())
                    .map(Self)
                    .ok_or_else(|| InvalidId(text.to_owned()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                with_hex(&self.0, |text| serializer.serialize_str(text))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                // As bytes: what is no digit is refused, so nobody need look whether it is UTF-8. JSON
                // takes a text for that; other formats may not, and none of them holds ids.
                d.deserialize_bytes(HexVisitor).map(Self)
            }
        }
    };
}

id_type!(
    BlobId,
    "The SHA-256 of a blob's plaintext; trees are blobs too."
);
id_type!(PackId, "The SHA-256 of a pack file's bytes.");
id_type!(IndexId, "The SHA-256 of an index file's bytes.");
id_type!(SnapshotId, "The SHA-256 of a snapshot file's bytes.");
id_type!(KeyId, "The SHA-256 of a key file's bytes.");
id_type!(LockId, "The SHA-256 of a lock file's bytes.");

impl BlobId {
    /// The id of a plaintext.
    #[must_use]
    pub fn of(plaintext: &[u8]) -> Self {
        Self(sha256(plaintext))
    }

    /// The ids of two plaintexts, in little more time than one takes.
    #[must_use]
    pub fn of_two(first: &[u8], second: &[u8]) -> [Self; 2] {
        sha256_of_two(first, second).map(Self)
    }
}

/// The first eight bytes as a number: ids are in the order of these, where they differ.
pub(crate) fn prefix(id: &[u8; 32]) -> u64 {
    id.first_chunk::<8>()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_text_and_junk_is_refused() {
        let id = BlobId::of(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(id.to_string(), text);
        assert_eq!(text.parse(), Ok(id));
        let mut hex = Vec::new();
        push_hex(&mut hex, &id.0);
        assert_eq!(hex, text.as_bytes());
        assert!("BA".repeat(32).parse::<BlobId>().is_err());
        assert!("a".repeat(63).parse::<BlobId>().is_err());
    }

    #[test]
    fn every_byte_that_is_no_digit_is_refused_at_every_place() {
        for place in 0..64 {
            for byte in 0..=u8::MAX {
                let mut text = [b'7'; 64];
                text[place] = byte;
                let mut expected = [0x77; 32];
                let digit = (byte as char).to_digit(16).map(|digit| digit as u8);
                let digit = digit.filter(|_| !byte.is_ascii_uppercase());
                expected[place / 2] = match (digit, place % 2) {
                    (Some(digit), 0) => digit << 4 | 7,
                    (Some(digit), _) => 0x70 | digit,
                    (None, _) => 0,
                };
                let expected = digit.map(|_| expected);
                assert_eq!(parse_hex(&text), expected, "{byte} at {place}");
            }
        }
    }

    #[test]
    fn ids_in_json_may_be_escaped_and_must_be_text() {
        let read = |json: &str| serde_json::from_str::<BlobId>(json);
        let escaped = format!("\"{}\\u0061\"", "a".repeat(63));
        assert_eq!(read(&escaped).unwrap(), BlobId([0xaa; 32]));
        let value = serde_json::json!("a".repeat(64));
        assert_eq!(BlobId::deserialize(value).unwrap(), BlobId([0xaa; 32]));
        let error = read(&format!("\"{}\"", "x".repeat(64))).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("expected 64 hexadecimal digits"), "{said}");
        assert!(said.contains("xxxx"), "{said}");
        let bytes: Vec<String> = (0..64).map(|_| "97".to_owned()).collect();
        for wrong in [
            format!("[{}]", bytes.join(",")),
            "7".to_owned(),
            "null".to_owned(),
        ] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
        assert!(read(&format!("\"{}\\ud800\"", "a".repeat(63))).is_err());
    }
}
