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
use crate::keys::KeyRecord;
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

/// Which keys that are gone are put back. Nobody can tell whether one was destroyed or removed since the export.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum KeyChoice {
    /// The one that the password opens. So are others whose file is there and damaged: those were not removed.
    #[default]
    Opened,
    /// Every one.
    All,
}

/// What putting an escrow back came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Restored {
    /// Keys that were gone or damaged.
    pub keys: Vec<KeyId>,
    /// Whether the config was gone or damaged.
    pub config: bool,
    /// Keys that are gone and were not put back.
    pub left_out: Vec<KeyRecord>,
}

/// A key file that can be read as one.
struct StoredKey {
    id: KeyId,
    bytes: Vec<u8>,
    file: KeyFile,
}

impl StoredKey {
    /// None if these bytes are no key file.
    fn of(bytes: Vec<u8>) -> Option<Self> {
        let file = serde_json::from_slice(&bytes).ok()?;
        let id = KeyId(sha256(&bytes));
        Some(Self { id, bytes, file })
    }

    fn record(&self) -> KeyRecord {
        KeyRecord {
            id: self.id,
            origin: self.file.origin(),
            current: false,
        }
    }
}

impl Escrow {
    /// Takes the config and all sound keys of a repository; what else lies there is not taken.
    ///
    /// # Errors
    /// Storage failed.
    pub fn of(repository: &Repository) -> Result<Self, RepositoryError> {
        let storage = repository.storage();
        let keys = sound_keys(storage)?.into_iter();
        let keys = keys.map(|key| BASE64.encode(key.bytes)).collect();
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
        choice: KeyChoice,
    ) -> Result<Restored, EscrowError> {
        let decode = |text: &String| BASE64.decode(text).map_err(|_| EscrowError::Invalid);
        let config = decode(&self.config)?;
        let keys: Vec<Vec<u8>> = self.keys.iter().map(decode).collect::<Result<_, _>>()?;
        // Earlier exports took whatever lay among the keys.
        let keys: Vec<StoredKey> = keys.into_iter().filter_map(StoredKey::of).collect();
        let (opened, cipher) = prove(&config, &keys, password)?;
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
        for key in &keys {
            let is_wanted = choice == KeyChoice::All || key.id == opened;
            restored.take(storage, key, is_wanted)?;
        }
        if restored.config {
            storage.write(&FileKey::CONFIG, &config)?;
        }
        // What counts is that it opens, from storage.
        let _opens = Repository::open(SharedStorage::clone(storage), password)?;
        Ok(restored)
    }
}

impl Restored {
    /// Puts a key back if it is damaged, or gone and wanted.
    fn take(
        &mut self,
        storage: &SharedStorage,
        key: &StoredKey,
        is_wanted: bool,
    ) -> Result<(), EscrowError> {
        let file = FileKey::new(FileKind::Key, key.id.0);
        match storage.read(&file) {
            Ok(found) if found == key.bytes => return Ok(()),
            Ok(_damaged) => storage.delete(&file)?,
            Err(error) if error.kind() != StorageErrorKind::NotFound => return Err(error.into()),
            Err(_gone) if is_wanted => {}
            Err(_gone) => {
                self.left_out.push(key.record());
                return Ok(());
            }
        }
        storage.write(&file, &key.bytes)?;
        self.keys.push(key.id);
        Ok(())
    }
}

/// The sound keys that lie there; what else does is none.
fn sound_keys(storage: &SharedStorage) -> Result<Vec<StoredKey>, RepositoryError> {
    let mut keys = Vec::new();
    for listed in storage.list(FileKind::Key)? {
        let key = StoredKey::of(storage.read(&listed.key)?);
        keys.extend(key.filter(|key| key.id.0 == *listed.key.id()));
    }
    Ok(keys)
}

/// Whether there is a sound key that the escrow does not hold: then what looks damaged may be
/// somebody's repository, whose password we do not know.
fn has_other_keys(storage: &SharedStorage, keys: &[StoredKey]) -> Result<bool, RepositoryError> {
    let is_other = |there: &StoredKey| keys.iter().all(|key| key.id != there.id);
    Ok(sound_keys(storage)?.iter().any(is_other))
}

/// The key that the password opens and that opens the config, and its cipher. Others may be of an `init` that died,
/// or of somebody who may write.
fn prove(
    config: &[u8],
    keys: &[StoredKey],
    password: &Secret,
) -> Result<(KeyId, Cipher), EscrowError> {
    let (mut is_wrong, mut is_foreign) = (false, false);
    for key in keys.iter().take(KEYS_MAX) {
        let master: Key = match key.file.open(password) {
            Ok(master) => master,
            Err(error) => {
                is_wrong |= matches!(error, KeyError::WrongPassword);
                continue;
            }
        };
        let cipher = Cipher::new(&master).map_err(RepositoryError::from)?;
        let opened = cipher.open(config).ok();
        if opened.is_some_and(|json| serde_json::from_slice::<Config>(&json).is_ok()) {
            return Ok((key.id, cipher));
        }
        is_foreign = true;
    }
    Err(match is_wrong && !is_foreign {
        true => EscrowError::WrongPassword,
        false => EscrowError::Invalid,
    })
}
