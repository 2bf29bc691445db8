//! What becomes of Secrets in an export.
//!
//! Invariant: without recipients no Secret is read; with them none is written in plain text.

use refloat_engine::git_export::Secrets;
use refloat_git::Recipients;
use refloat_kubernetes::sops::{DATA_KEY_BYTES, Sealer};
use refloat_model::secret::Secret;

use crate::command_error::{CommandError, ErrorKind};
use crate::random;

/// What `Refloat-Secrets` says of commits without Secrets.
const EXCLUDED: &str = "excluded";

/// The user's choice.
pub enum Choice {
    Exclude,
    Encrypt {
        recipients: Recipients,
        /// Made when the first Secret comes: a run without any needs no age.
        sealer: Option<Sealer>,
    },
}

impl Choice {
    /// Encrypted for these recipients; excluded if there are none.
    pub fn new(recipients: Option<Recipients>) -> Self {
        match recipients {
            None => Self::Exclude,
            Some(recipients) => Self::Encrypt {
                recipients,
                sealer: None,
            },
        }
    }

    pub const fn secrets(&self) -> Secrets {
        match self {
            Self::Exclude => Secrets::Exclude,
            Self::Encrypt { .. } => Secrets::Encrypt,
        }
    }

    /// What tells this choice from others, for a commit's message.
    pub fn word(&self) -> String {
        match self {
            Self::Exclude => EXCLUDED.to_owned(),
            Self::Encrypt { recipients, .. } => format!("sops age {}", recipients.fingerprint()),
        }
    }

    /// Encrypts the document of a Secret.
    ///
    /// # Errors
    /// age cannot be run or refuses a key, or the document is none.
    pub fn seal(&mut self, document: &[u8], modified: &str) -> Result<Vec<u8>, CommandError> {
        let Self::Encrypt { recipients, sealer } = self else {
            return Err(CommandError::new(
                ErrorKind::Internal,
                "a Secret was to be exported without recipients",
            ));
        };
        let failed =
            |e: refloat_kubernetes::sops::SopsError| CommandError::of(ErrorKind::Damaged, &e);
        let sealer = match sealer {
            Some(sealer) => sealer,
            None => {
                let key = Secret::new(random::bytes::<DATA_KEY_BYTES>()?);
                let sealed = recipients.seal(&key)?;
                sealer.insert(Sealer::new(&key, sealed).map_err(failed)?)
            }
        };
        sealer.seal(document, modified).map_err(failed)
    }
}
