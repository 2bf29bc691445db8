//! Deleting files, where storage may refuse to.
//!
//! Invariant: a refusal is an outcome and not an error; whoever deletes knows what stayed.

use std::collections::BTreeSet;
use std::sync::Mutex;

use refloat_storage::{FileKey, StorageErrorKind};

use crate::error::RepositoryError;
use crate::parallel::{for_each, lock, threads};
use crate::repository::Repository;

/// Deletes files, in no order, and returns those that storage keeps.
///
/// # Errors
/// Storage failed otherwise; some files are deleted then.
pub fn delete_all(
    repository: &Repository,
    files: &[FileKey],
) -> Result<BTreeSet<FileKey>, RepositoryError> {
    let kept = Mutex::new(BTreeSet::new());
    for_each(
        files,
        threads(repository.storage()),
        |file| match repository.storage().delete(file) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == StorageErrorKind::Denied => {
                lock(&kept).insert(*file);
                Ok(())
            }
            Err(error) => Err(error.into()),
        },
    )?;
    Ok(std::mem::take(&mut *lock(&kept)))
}
