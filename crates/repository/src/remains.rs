//! A place without a config: nothing yet, or a repository that lost it.
//!
//! Invariant: no new master key is written over what a lost config would still open.

use refloat_model::secret::Secret;
use refloat_storage::{FileKind, SharedStorage, StorageError, StorageErrorKind};

use crate::error::RepositoryError;
use crate::keys;

/// What tells a repository, in the order in which it is looked for: packs, which may be many, only
/// where nothing else is.
const TELLING: [FileKind; 4] = [
    FileKind::Snapshot,
    FileKind::Index,
    FileKind::Pack,
    FileKind::Key,
];

impl RepositoryError {
    /// Why a place that has no config cannot be opened.
    #[must_use]
    pub fn without_config(storage: &SharedStorage) -> Self {
        let location = storage.location();
        match remains(storage) {
            Ok(Some(holds)) => Self::LostConfig { location, holds },
            // What cannot be listed says no more than the missing config does.
            Ok(None) | Err(_) => Self::NoRepository { location },
        }
    }
}

/// Refuses a place without a config that a new repository would spoil. An `init` that died leaves a
/// key and nothing else, whole or half, and may be repeated with its password.
pub fn refuse_remains(storage: &SharedStorage, password: &Secret) -> Result<(), RepositoryError> {
    match remains(storage)? {
        None => Ok(()),
        Some(FileKind::Key) if keys::opens_each_sound(storage, password)? => Ok(()),
        Some(holds) => Err(RepositoryError::LostConfig {
            location: storage.location(),
            holds,
        }),
    }
}

fn remains(storage: &SharedStorage) -> Result<Option<FileKind>, StorageError> {
    for kind in TELLING {
        match storage.list(kind) {
            Ok(files) if files.is_empty() => {}
            Ok(_files) => return Ok(Some(kind)),
            // The place, or the folder of this kind, is not made yet.
            Err(error)
                if matches!(
                    error.kind(),
                    StorageErrorKind::NotFound | StorageErrorKind::NoPlace
                ) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
