//! Key files: the master key sealed with a key derived from a password by scrypt.
//!
//! Invariant: parameters read from a file are bounded before any memory is taken for them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use refloat_model::secret::Secret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::crypto::{Cipher, CryptoError, Key, random_bytes};
use crate::format::snapshot::Time;

/// scrypt's cost for new keys: N = 2^15, r = 8, p = 1, that is 32 MiB and some tens of
/// milliseconds; restic calibrates to the same order and accepts it.
const LOG2_N_NEW: u8 = 15;
const R_NEW: u32 = 8;
const P_NEW: u32 = 1;

/// What scrypt may take when a file asks for it (a hostile key file could ask for terabytes).
const KDF_MEMORY_BYTES_MAX: u64 = 256 << 20;
/// Bound on p, which multiplies time.
const P_MAX: u32 = 16;

/// Random bytes of a new salt, as many as restic uses.
const SALT_BYTES: usize = 64;

/// Largest salt accepted, in bytes.
const SALT_BYTES_MAX: usize = 4096;

/// A key file, plain JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyFile {
    /// When it was made.
    pub created: Time,
    /// Who made it.
    #[serde(default)]
    pub username: String,
    /// On which host.
    #[serde(default)]
    pub hostname: String,
    /// Always `scrypt`.
    pub kdf: String,
    /// scrypt's cost, a power of two.
    #[serde(rename = "N")]
    pub n: u64,
    /// scrypt's block size.
    pub r: u32,
    /// scrypt's parallelism.
    pub p: u32,
    /// Base64.
    pub salt: String,
    /// The sealed master key, base64.
    pub data: String,
}

/// Who makes a key and when; injected, for records only.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyOrigin {
    /// When.
    pub created: jiff::Timestamp,
    /// User name.
    pub username: String,
    /// Host name.
    pub hostname: String,
}

/// Why a key file does not give the master key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The password is not this key's.
    #[error("the password does not open this key")]
    WrongPassword,
    /// The file asks for a derivation that is unknown or too costly.
    #[error("key derivation {0} is unknown or beyond the limit of 256 MiB")]
    Unacceptable(String),
    /// The file is not what a key file is.
    #[error("the key file is malformed")]
    Malformed,
    /// Sealing failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

impl KeyFile {
    /// Seals `master` with a password.
    ///
    /// # Errors
    /// No randomness.
    pub fn seal(master: &Key, password: &Secret, origin: KeyOrigin) -> Result<Self, KeyError> {
        let salt: [u8; SALT_BYTES] = random_bytes()?;
        let user_key = derive(password, &salt, LOG2_N_NEW, R_NEW, P_NEW)?;
        let data = Cipher::new(&user_key)?.seal(&master.to_json())?;
        Ok(Self {
            created: origin.created.into(),
            username: origin.username,
            hostname: origin.hostname,
            kdf: "scrypt".to_owned(),
            n: 1 << LOG2_N_NEW,
            r: R_NEW,
            p: P_NEW,
            salt: BASE64.encode(salt),
            data: BASE64.encode(data),
        })
    }

    /// Who made it, and when.
    pub fn origin(&self) -> KeyOrigin {
        KeyOrigin {
            created: self.created.instant(),
            username: self.username.clone(),
            hostname: self.hostname.clone(),
        }
    }

    /// Opens the master key with a password.
    ///
    /// # Errors
    /// Wrong password, or a file that is malformed or asks for too much.
    pub fn open(&self, password: &Secret) -> Result<Key, KeyError> {
        let log2_n = self.accepted_log2_n()?;
        let decode = |text: &str| {
            BASE64
                .decode(text)
                .map_err(|_undecodable| KeyError::Malformed)
        };
        let (salt, mut data) = (decode(&self.salt)?, decode(&self.data)?);
        if salt.len() > SALT_BYTES_MAX {
            return Err(KeyError::Malformed);
        }
        let user_key = derive(password, &salt, log2_n, self.r, self.p)?;
        match Cipher::new(&user_key)?.open_in_place(&mut data) {
            Ok(json) => Key::from_json(json).ok_or(KeyError::Malformed),
            Err(CryptoError::Unauthentic) => Err(KeyError::WrongPassword),
            Err(error) => Err(error.into()),
        }
    }

    fn accepted_log2_n(&self) -> Result<u8, KeyError> {
        let memory = self
            .n
            .checked_mul(128)
            .and_then(|n| n.checked_mul(self.r.into()));
        let acceptable = self.kdf == "scrypt"
            && self.n.is_power_of_two()
            && self.n > 1
            && (1..=P_MAX).contains(&self.p)
            && self.r > 0
            && memory.is_some_and(|bytes| bytes <= KDF_MEMORY_BYTES_MAX);
        if acceptable {
            // A power of two within 256 MiB has an exponent far below 256.
            Ok(u8::try_from(self.n.trailing_zeros()).unwrap_or(u8::MAX))
        } else {
            Err(KeyError::Unacceptable(format!(
                "{} N={} r={} p={}",
                self.kdf, self.n, self.r, self.p
            )))
        }
    }
}

fn derive(password: &Secret, salt: &[u8], log2_n: u8, r: u32, p: u32) -> Result<Key, KeyError> {
    let refused = |what: String| KeyError::Unacceptable(what);
    let params = scrypt::Params::new(log2_n, r, p).map_err(|e| refused(e.to_string()))?;
    let mut derived = Zeroizing::new([0; 64]);
    scrypt::scrypt(password.expose(), salt, &params, derived.as_mut_slice())
        .map_err(|e| refused(e.to_string()))?;
    Ok(Key::from_derived(&derived))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_opens_a_key() {
        let master = Key::random().unwrap();
        let file = KeyFile::seal(&master, &Secret::new("right"), KeyOrigin::default()).unwrap();
        assert_eq!(
            *file.open(&Secret::new("right")).unwrap().to_json(),
            *master.to_json()
        );
        assert!(matches!(
            file.open(&Secret::new("wrong")),
            Err(KeyError::WrongPassword)
        ));
    }

    #[test]
    fn costs_beyond_the_limit_are_refused_at_once() {
        let master = Key::random().unwrap();
        let file = KeyFile::seal(&master, &Secret::new("x"), KeyOrigin::default()).unwrap();
        for (n, r, p) in [
            (1 << 30, 8, 1),
            (1 << 15, 8, 1000),
            (3, 8, 1),
            (0, 8, 1),
            (1 << 40, 1, 1),
        ] {
            let hostile = KeyFile {
                n,
                r,
                p,
                ..file.clone()
            };
            assert!(matches!(
                hostile.open(&Secret::new("x")),
                Err(KeyError::Unacceptable(_))
            ));
        }
    }
}
