//! The locks that are there, for people, and clearing them.
//!
//! Invariant: nothing is deleted here that a person did not see and name.

use std::sync::Mutex;

use refloat_storage::{FileKey, FileKind};

use crate::error::RepositoryError;
use crate::format::lock::LockFile;
use crate::id::LockId;
use crate::lock::store::LOCK_BYTES_MAX;
use crate::parallel::{for_each, lock, threads};
use crate::repository::Repository;

/// A file below `locks/`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockRecord {
    /// Its name.
    pub id: LockId,
    /// What it says; none if it is no lock of this repository, or cannot be read.
    pub lock: Option<LockFile>,
    /// When storage wrote it, by the storage's clock.
    pub stored: Option<jiff::Timestamp>,
    /// Whether it keeps writers out: as far as that can be told without looking at its age.
    pub keeps_writers_out: bool,
}

impl Repository {
    /// What lies below `locks/`, oldest first.
    ///
    /// # Errors
    /// The listing failed. What cannot be read is listed without its content.
    pub fn locks(&self) -> Result<Vec<LockRecord>, RepositoryError> {
        let listed = self.storage().list(FileKind::Lock)?;
        let records = Mutex::new(Vec::new());
        for_each(&listed, threads(self.storage()), |file| {
            // A thief's file may be of any size.
            let read = || self.read_json::<LockFile>(&file.key).ok();
            let found = (file.size <= LOCK_BYTES_MAX).then(read).flatten();
            let stored = file.modified.map(|at| at.to_jiff());
            let honoured =
                |found: &LockFile| found.exclusive && self.deleters().honours(found, stored);
            lock(&records).push(LockRecord {
                id: LockId(*file.key.id()),
                keeps_writers_out: found.as_ref().is_some_and(honoured),
                lock: found,
                stored,
            });
            Ok(())
        })?;
        let mut records = records.into_inner().unwrap_or_default();
        records.sort_by_key(|record| (record.stored, record.id));
        Ok(records)
    }

    /// Deletes locks. Whoever holds one publishes and deletes nothing any more, and ends with an
    /// error; restic's runs do not notice it.
    ///
    /// # Errors
    /// Storage failed; some may be gone.
    pub fn remove_locks(&self, locks: &[LockId]) -> Result<(), RepositoryError> {
        for_each(locks, threads(self.storage()), |id| {
            Ok(self.storage().delete(&FileKey::new(FileKind::Lock, id.0))?)
        })
    }
}
