//! The keys of a repository: add, list, remove, change the password.
//!
//! Invariant: at least one key that is proven to open the repository remains, always.

use refloat_model::secret::Secret;
use refloat_storage::{FileKey, FileKind, SharedStorage, StorageErrorKind};

use crate::crypto::Key;
use crate::error::{Cause, RepositoryError};
use crate::format::key::{KeyError, KeyFile, KeyOrigin};
use crate::id::{KeyId, sha256};
use crate::lock::Lock;
use crate::repository::Repository;

/// How many keys are tried with a password: each costs a key derivation.
const KEYS_TRIED_MAX: usize = 64;

/// A key as it is listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRecord {
    /// Its id.
    pub id: KeyId,
    /// Who made it, and when.
    pub origin: KeyOrigin,
    /// Whether this run was opened with it.
    pub current: bool,
}

/// Writes a key file after proving that the password opens it.
pub fn write(
    storage: &SharedStorage,
    master: &Key,
    password: &Secret,
    origin: KeyOrigin,
) -> Result<KeyId, RepositoryError> {
    let encode = |cause: Cause| RepositoryError::encode("a key", cause);
    let file = KeyFile::seal(master, password, origin).map_err(|e| encode(e.into()))?;
    let json = serde_json::to_vec(&file).map_err(|e| encode(e.into()))?;
    let id = sha256(&json);
    let key = FileKey::new(FileKind::Key, id);
    let read_again: KeyFile = serde_json::from_slice(&json).map_err(|e| encode(e.into()))?;
    let _opens: Key = read_again.open(password).map_err(|e| encode(e.into()))?;
    storage.write(&key, &json)?;
    Ok(KeyId(id))
}

/// Finds a key that the password opens and that is the repository's: an `init` that died or lost
/// a race leaves a key of its own, which `is_ours` refuses.
pub fn open_any(
    storage: &SharedStorage,
    password: &Secret,
    is_ours: impl Fn(&Key) -> bool,
) -> Result<(KeyId, Key), RepositoryError> {
    let mut refusal = None;
    for listed in storage
        .list(FileKind::Key)?
        .into_iter()
        .take(KEYS_TRIED_MAX)
    {
        let opened = read(storage, &listed.key).and_then(|file| {
            file.open(password).map_err(|e| match e {
                KeyError::WrongPassword => RepositoryError::WrongPassword {
                    location: storage.location(),
                },
                other => RepositoryError::damaged(listed.key, other),
            })
        });
        match opened {
            Ok(key) if is_ours(&key) => return Ok((KeyId(*listed.key.id()), key)),
            Ok(_foreign) => {
                let cause = "the key that the password opens does not open it";
                refusal = Some(RepositoryError::damaged(FileKey::CONFIG, cause));
            }
            Err(RepositoryError::WrongPassword { .. }) => {}
            // A damaged key must not keep the others from opening; it is told if none does.
            Err(error) => refusal = Some(error),
        }
    }
    Err(refusal.unwrap_or_else(|| RepositoryError::WrongPassword {
        location: storage.location(),
    }))
}

/// Whether there is no sound key that the password does not open.
pub fn opens_each_sound(
    storage: &SharedStorage,
    password: &Secret,
) -> Result<bool, RepositoryError> {
    let keys = storage.list(FileKind::Key)?;
    if keys.len() > KEYS_TRIED_MAX {
        return Ok(false);
    }
    for listed in keys {
        match read(storage, &listed.key) {
            Ok(file) if file.open(password).is_ok() => {}
            Ok(_others) => return Ok(false),
            Err(RepositoryError::DamagedFile { .. }) => {}
            Err(RepositoryError::Storage(e)) if e.kind() == StorageErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn read(storage: &SharedStorage, key: &FileKey) -> Result<KeyFile, RepositoryError> {
    let json = storage.read(key)?;
    if sha256(&json) != *key.id() {
        return Err(RepositoryError::damaged(
            *key,
            "its bytes do not hash to its name",
        ));
    }
    serde_json::from_slice(&json).map_err(|e| RepositoryError::damaged(*key, e))
}

impl Repository {
    /// Lists the keys.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn keys(&self) -> Result<Vec<KeyRecord>, RepositoryError> {
        let mut records = Vec::new();
        for listed in self.storage().list(FileKind::Key)? {
            let file = read(self.storage(), &listed.key)?;
            let id = KeyId(*listed.key.id());
            records.push(KeyRecord {
                id,
                origin: file.origin(),
                current: id == self.key_id(),
            });
        }
        records.sort_by(|a, b| {
            a.origin
                .created
                .cmp(&b.origin.created)
                .then(a.id.cmp(&b.id))
        });
        Ok(records)
    }

    /// Adds a key with a new password; the others stay.
    ///
    /// # Errors
    /// It cannot be sealed or stored.
    pub fn add_key(&self, password: &Secret, origin: KeyOrigin) -> Result<KeyId, RepositoryError> {
        write(self.storage(), self.master(), password, origin)
    }

    /// Removes a key. That does not revoke what its owner knows already: the master key stays.
    ///
    /// Needs an exclusive lock: two runs that remove each other's key at once would leave none.
    ///
    /// # Errors
    /// It is the one in use, or the only one that is known to open; the lock is lost; or storage
    /// refuses.
    pub fn remove_key(&self, id: KeyId, lock: &Lock) -> Result<(), RepositoryError> {
        if id == self.key_id() {
            return Err(RepositoryError::KeyInUse(id));
        }
        lock.prove_exclusive()?;
        let keys = self.storage().list(FileKind::Key)?;
        let key = FileKey::new(FileKind::Key, id.0);
        if !keys.iter().any(|listed| listed.key == key) {
            return Err(RepositoryError::NotFound {
                what: "key",
                id: id.to_string(),
            });
        }
        // The one that is known to open the repository must be there as it was, or the last may go.
        match read(
            self.storage(),
            &FileKey::new(FileKind::Key, self.key_id().0),
        ) {
            Ok(_own) => Ok(self.storage().delete(&key)?),
            Err(RepositoryError::Storage(e)) if e.kind() != StorageErrorKind::NotFound => {
                Err(e.into())
            }
            Err(_gone_or_damaged) => Err(RepositoryError::OnlyKey(id)),
        }
    }

    /// Changes the password of the key in use: adds a key with the new one, proves that it opens
    /// the stored repository, and only then removes the old. Needs an exclusive lock.
    ///
    /// Crash behaviour: at every step at least one of the two passwords opens the repository.
    ///
    /// # Errors
    /// The new key cannot be stored or does not open; the old one then stays.
    pub fn change_password(
        &self,
        password: &Secret,
        origin: KeyOrigin,
        lock: &Lock,
    ) -> Result<Self, RepositoryError> {
        lock.prove_exclusive()?;
        let new = self.add_key(password, origin)?;
        let stored = read(self.storage(), &FileKey::new(FileKind::Key, new.0))?;
        let _opens: Key = stored
            .open(password)
            .map_err(|e| RepositoryError::damaged(FileKey::new(FileKind::Key, new.0), e))?;
        let reopened = Self::open(std::sync::Arc::clone(self.storage()), password)?;
        if reopened.key_id() != self.key_id() {
            match reopened.remove_key(self.key_id(), lock) {
                // Somebody else removed it, which is what was wanted.
                Ok(()) | Err(RepositoryError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(reopened)
    }
}
