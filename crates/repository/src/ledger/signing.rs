//! The key that signs ledgers.
//!
//! Invariant: it comes from the master key alone, so whoever can open the repository can verify, and
//! nobody else can sign.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use zeroize::Zeroizing;

use super::entry::LedgerError;
use crate::id::sha256;
use crate::repository::Repository;

/// What the seed is derived from, beside the master key.
const DOMAIN: &[u8] = b"refloat ledger v1";

/// Signs and verifies the ledger of one repository.
pub struct LedgerKey(Ed25519KeyPair);

impl std::fmt::Debug for LedgerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LedgerKey(***)")
    }
}

impl Repository {
    /// The key of this repository's ledger.
    ///
    /// # Errors
    /// The library refuses it.
    pub fn ledger_key(&self) -> Result<LedgerKey, LedgerError> {
        let mut material = Zeroizing::new(DOMAIN.to_vec());
        material.extend_from_slice(&self.master().to_json());
        let seed = Zeroizing::new(sha256(&material));
        Ed25519KeyPair::from_seed_unchecked(&*seed)
            .map(LedgerKey)
            .map_err(|_rejected| LedgerError::Sign)
    }
}

impl LedgerKey {
    /// The signature of a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }

    /// Whether a signature is of this key.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let public = UnparsedPublicKey::new(&ED25519, self.0.public_key().as_ref());
        public.verify(message, signature).is_ok()
    }
}
