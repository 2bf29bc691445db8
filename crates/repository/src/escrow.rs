//! What is needed to open a repository whose keys or config were destroyed, kept elsewhere.
//!
//! An escrow holds the config and the keys as they are stored: sealed. Whoever finds it still needs
//! a password; whoever has a password and no key cannot open anything.
//!
//! Invariant: nothing is put back that was not proven to open with the password at hand, and no
//! sound file is replaced.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use refloat_model::secret::Secret;
use refloat_storage::{FileKey, FileKind, SharedStorage, StorageErrorKind};
use serde::{Deserialize, Serialize};

use crate::crypto::{Cipher, Key};
use crate::error::RepositoryError;
use crate::format::config::Config;
use crate::format::key::{KeyError, KeyFile};
use crate::id::{KeyId, sha256};
use crate::repository::Repository;

/// The version of the file.
const VERSION: u32 = 1;
/// How many keys are tried: each costs a key derivation.
const KEYS_MAX: usize = 64;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Escrow {
    version: u32,
    /// The repository's id.
    pub repository: String,
    /// The sealed config, in base64.
    config: String,
    /// The key files, in base64.
    keys: Vec<String>,
}

/// Why an escrow is of no use.
#[derive(Debug, thiserror::Error)]
pub enum EscrowError {
    /// It is no escrow.
    #[error("this is no key export, or it is damaged")]
    Invalid,
    /// It is of a version that this program does not know.
    #[error("the key export has version {0}, this program knows 1")]
    Version(u32),
    /// None of its keys opens with the password.
    #[error("the password opens no key of this export")]
    WrongPassword,
    /// The place holds another repository, which can be opened.
    #[error("there is another repository at {location}: it was not touched")]
    OtherRepository {
        /// Where.
        location: String,
    },
    /// Anything else.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl From<refloat_storage::StorageError> for EscrowError {
    fn from(error: refloat_storage::StorageError) -> Self {
        Self::Repository(error.into())
    }
}

/// What putting an escrow back came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Restored {
    /// Keys that were gone or damaged.
    pub keys: Vec<KeyId>,
    /// Whether the config was gone or damaged.
    pub config: bool,
}

impl Escrow {
    /// Takes the config and all sound keys of a repository.
    ///
    /// # Errors
    /// Storage failed.
    pub fn of(repository: &Repository) -> Result<Self, RepositoryError> {
        let storage = repository.storage();
        let mut keys = Vec::new();
        for listed in storage.list(FileKind::Key)? {
            let bytes = storage.read(&listed.key)?;
            if sha256(&bytes) == *listed.key.id() {
                keys.push(BASE64.encode(bytes));
            }
        }
        Ok(Self {
            version: VERSION,
            repository: repository.config().id.clone(),
            config: BASE64.encode(storage.read(&FileKey::CONFIG)?),
            keys,
        })
    }

    /// Reads an escrow.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &[u8]) -> Result<Self, EscrowError> {
        let escrow: Self = serde_json::from_slice(text).map_err(|_| EscrowError::Invalid)?;
        if escrow.version != VERSION {
            return Err(EscrowError::Version(escrow.version));
        }
        Ok(escrow)
    }

    /// How many keys it holds.
    #[must_use]
    pub const fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Puts back what is gone or damaged, after proving that the password opens it.
    ///
    /// Crash behaviour: can be repeated.
    ///
    /// # Errors
    /// The password opens nothing of it, another repository is there, or storage failed.
    pub fn put_back(
        &self,
        storage: &SharedStorage,
        password: &Secret,
    ) -> Result<Restored, EscrowError> {
        let decode = |text: &String| BASE64.decode(text).map_err(|_| EscrowError::Invalid);
        let config = decode(&self.config)?;
        let keys: Vec<Vec<u8>> = self.keys.iter().map(decode).collect::<Result<_, _>>()?;
        let cipher = prove(&config, &keys, password)?;
        let mut restored = Restored::default();
        match storage.read(&FileKey::CONFIG) {
            Ok(found) if found == config || cipher.open(&found).is_ok() => {}
            Ok(_other) if has_other_keys(storage, &keys)? => {
                let location = storage.location();
                return Err(EscrowError::OtherRepository { location });
            }
            Ok(_damaged) => {
                storage.delete(&FileKey::CONFIG)?;
                restored.config = true;
            }
            Err(error) if error.kind() == StorageErrorKind::NotFound => {
                storage.create()?;
                restored.config = true;
            }
            Err(error) => return Err(error.into()),
        }
        for bytes in &keys {
            let id = sha256(bytes);
            let file = FileKey::new(FileKind::Key, id);
            let found = match storage.read(&file) {
                Ok(found) => Some(found),
                Err(error) if error.kind() == StorageErrorKind::NotFound => None,
                Err(error) => return Err(error.into()),
            };
            if found.as_ref() == Some(bytes) {
                continue;
            }
            if found.is_some() {
                storage.delete(&file)?;
            }
            storage.write(&file, bytes)?;
            restored.keys.push(KeyId(id));
        }
        if restored.config {
            storage.write(&FileKey::CONFIG, &config)?;
        }
        // What counts is that it opens, from storage.
        let _opens = Repository::open(SharedStorage::clone(storage), password)?;
        Ok(restored)
    }
}

/// Whether there is a sound key that the escrow does not hold: then what looks damaged may be
/// somebody's repository, whose password we do not know.
fn has_other_keys(storage: &SharedStorage, keys: &[Vec<u8>]) -> Result<bool, RepositoryError> {
    for listed in storage.list(FileKind::Key)? {
        let bytes = storage.read(&listed.key)?;
        if sha256(&bytes) == *listed.key.id() && !keys.contains(&bytes) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A cipher of the key that the password opens and that opens the config.
fn prove(config: &[u8], keys: &[Vec<u8>], password: &Secret) -> Result<Cipher, EscrowError> {
    for bytes in keys.iter().take(KEYS_MAX) {
        let file: KeyFile = serde_json::from_slice(bytes).map_err(|_| EscrowError::Invalid)?;
        let master: Key = match file.open(password) {
            Ok(master) => master,
            Err(KeyError::WrongPassword) => continue,
            Err(_damaged) => return Err(EscrowError::Invalid),
        };
        let cipher = Cipher::new(&master).map_err(RepositoryError::from)?;
        let opened = cipher.open(config).map_err(|_| EscrowError::Invalid)?;
        let _config: Config = serde_json::from_slice(&opened).map_err(|_| EscrowError::Invalid)?;
        return Ok(cipher);
    }
    Err(EscrowError::WrongPassword)
}
