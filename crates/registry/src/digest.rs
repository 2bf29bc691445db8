//! Digests: the names of blobs and manifests.
//!
//! Invariant: a [`Digest`] is a complete SHA-256; text that is anything else never becomes a path,
//! a URL or a comparison.

use aws_lc_rs::digest;

/// Length of the hexadecimal form.
const HEX_DIGITS: usize = 64;
/// How much of refused text is shown.
const SHOWN_CHARS_MAX: usize = 80;

/// A SHA-256 digest, `sha256:<64 hexadecimal digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Text that is no digest this program can verify.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDigest {
    /// Another algorithm: content could not be verified.
    #[error("digests of the algorithm {0:?} are not supported")]
    Algorithm(String),
    /// No digest at all.
    #[error("{0:?} is no digest")]
    Malformed(String),
}

impl Digest {
    /// Reads `sha256:<hex>` with lower-case digits, the one canonical form.
    ///
    /// # Errors
    /// The text is anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidDigest> {
        let shown = || text.chars().take(SHOWN_CHARS_MAX).collect::<String>();
        match text.split_once(':') {
            Some(("sha256", hex)) => {
                Self::from_hex(hex).ok_or_else(|| InvalidDigest::Malformed(shown()))
            }
            Some((algorithm @ ("sha384" | "sha512" | "blake3"), _)) => {
                Err(InvalidDigest::Algorithm(algorithm.to_owned()))
            }
            _ => Err(InvalidDigest::Malformed(shown())),
        }
    }

    /// Reads 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Self> {
        if hex.len() != HEX_DIGITS {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Some(Self(bytes))
    }

    /// The digest of bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hexadecimal digits alone: a blob's file name.
    #[must_use]
    pub fn hex(&self) -> String {
        use std::fmt::Write as _;
        self.0
            .iter()
            .fold(String::with_capacity(HEX_DIGITS), |mut text, byte| {
                // Writing to a String cannot fail.
                let _infallible = write!(text, "{byte:02x}");
                text
            })
    }
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        Self::parse(text)
    }
}

/// Computes a digest while bytes flow.
pub(crate) struct Hasher(digest::Context);

impl Default for Hasher {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        let mut bytes = [0; 32];
        // SHA-256 gives 32 bytes; zip cannot cut anything off.
        for (to, from) in bytes.iter_mut().zip(self.0.finish().as_ref()) {
            *to = *from;
        }
        Digest(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_a_digest() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::parse(empty), Ok(Digest::of(b"")));
        assert_eq!(Digest::of(b"").to_string(), empty);
        for text in [
            "",
            "sha256",
            "sha256:",
            "sha256:../../../etc/passwd",
            &empty.to_uppercase(),
            &empty[..70],
            &format!("{empty}0"),
            &empty.replace("sha256", "md5"),
        ] {
            assert!(
                matches!(Digest::parse(text), Err(InvalidDigest::Malformed(_))),
                "{text}"
            );
        }
        assert_eq!(
            Digest::parse("sha512:00"),
            Err(InvalidDigest::Algorithm("sha512".to_owned()))
        );
    }
}
