//! A repository in a folder, laid out as restic does.
//!
//! Invariant: a name that is a [`FileKey`]'s path appears only by renaming a file that was written
//! and synchronised in full, so neither a dead process nor a power cut leaves half a file there.

mod direct;
mod errno;
mod file_system;
mod folder;
mod foreign;
mod listing;
mod publish;
mod read;
mod temporary;

use std::path::{Path, PathBuf};
use std::time::Duration;

use refloat_model::time::Timestamp;
use rustix::fs::AtFlags;
use rustix::io::Errno;

use crate::protection::unprotected;
use crate::temporaries::{StaleTemporaries, Temporaries};
use crate::{
    FileKey, FileKind, Listed, Protection, SETTLING, Storage, StorageError, StorageErrorKind,
};
use folder::Root;

/// The files of one repository below a folder.
///
/// Symbolic links inside the repository are not followed: whoever may write into it cannot point
/// this process at files elsewhere. One in the place of a file or a folder of packs is an error of
/// the listing. The folder itself may be reached through links.
///
/// Files get mode 0600 and folders 0700.
///
/// # Crash behaviour
/// `write` returns after the file and its folder entry were synchronised. A writer that dies
/// leaves at most a temporary file, which no listing shows and
/// [`remove_stale`](Temporaries::remove_stale) removes. Deleting a config, key,
/// snapshot or index is durable on return, since packs are deleted after it. Deleting a pack or a
/// lock is not: after a power cut it may be there again, which costs space only. File systems
/// that cannot synchronise (some network ones) are used without these guarantees.
#[derive(Debug)]
pub struct LocalStorage {
    root: PathBuf,
}

impl LocalStorage {
    /// The repository below this folder, which need not exist yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Paths below the folder that are no file of a repository, temporary ones left out: nobody reads
    /// them, and no prune takes them away. The first thousand.
    ///
    /// # Errors
    /// A folder cannot be listed.
    pub fn foreign(&self) -> Result<Vec<String>, StorageError> {
        foreign::foreign(&self.root)
            .map_err(|errno| self.failed_on("list", "what is no file of a repository", errno))
    }

    fn failed(&self, operation: &'static str, key: &FileKey, errno: Errno) -> StorageError {
        self.failed_on(operation, &key.path(), errno)
    }

    /// A disk of this machine that cannot read a sector was asked often enough by the kernel; it is that file's failure.
    /// On file systems of other machines it may pass.
    fn failed_to_read(&self, key: &FileKey, errno: Errno) -> StorageError {
        if errno == Errno::IO && self.settling().is_zero() {
            let kind = crate::StorageErrorKind::Failed;
            return StorageError::new(kind, "read", key, self.location(), Some(Box::new(errno)));
        }
        self.failed("read", key, errno)
    }

    fn short_read(&self, key: &FileKey) -> StorageError {
        let kind = StorageErrorKind::ShortRead;
        StorageError::new(kind, "read", key, self.location(), None)
    }

    fn failed_on(&self, operation: &'static str, subject: &str, errno: Errno) -> StorageError {
        StorageError::on(
            errno::kind(errno),
            operation,
            subject,
            self.location(),
            Some(Box::new(errno)),
        )
    }

    fn remove(&self, key: &FileKey) -> Result<(), Errno> {
        let Some(folder) = folder::if_there(Root::open(&self.root)?.folder_of(key))? else {
            return Ok(());
        };
        if folder::if_there(rustix::fs::unlinkat(&folder, key.name(), AtFlags::empty()))?.is_none()
        {
            return Ok(());
        }
        match key.kind() {
            FileKind::Pack | FileKind::Lock => Ok(()),
            FileKind::Config | FileKind::Key | FileKind::Snapshot | FileKind::Index => {
                folder::synchronise(&folder)
            }
        }
    }
}

/// Of ours and of restic's.
impl Temporaries for LocalStorage {
    fn remove_stale(&self, older_than: Duration) -> Result<StaleTemporaries, StorageError> {
        temporary::remove_stale(&self.root, older_than)
            .map_err(|errno| self.failed_on("remove", "temporary files", errno))
    }
}

impl Storage for LocalStorage {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn create(&self) -> Result<(), StorageError> {
        folder::create(&self.root).map_err(|errno| self.failed_on("create", "folders", errno))
    }

    fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), StorageError> {
        publish::write(&self.root, key, bytes).map_err(|errno| self.failed("write", key, errno))
    }

    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
        read::whole(&self.root, key).map_err(|errno| self.failed_to_read(key, errno))
    }

    fn read_range(
        &self,
        key: &FileKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        match read::range(&self.root, key, offset, length) {
            Ok(read::Range::Complete(bytes)) => Ok(bytes),
            Ok(read::Range::TooShort) => Err(self.short_read(key)),
            Err(errno) => Err(self.failed_to_read(key, errno)),
        }
    }

    fn read_range_into(
        &self,
        key: &FileKey,
        offset: u64,
        memory: &mut [u8],
    ) -> Result<(), StorageError> {
        match read::range_into(&self.root, key, offset, memory) {
            Ok(read::Range::Complete(())) => Ok(()),
            Ok(read::Range::TooShort) => Err(self.short_read(key)),
            Err(errno) => Err(self.failed_to_read(key, errno)),
        }
    }

    fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError> {
        folder::if_there(read::size(&self.root, key))
            .map_err(|errno| self.failed("find the size of", key, errno))
    }

    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError> {
        use listing::Unlisted;
        listing::list(&self.root, kind).map_err(|failure| match failure {
            Unlisted::Errno(errno) => self.failed_on("list", kind.folder(), errno),
            strange @ Unlisted::Strange { .. } => StorageError::on(
                StorageErrorKind::Failed,
                "list",
                kind.folder(),
                self.location(),
                Some(Box::new(strange)),
            ),
        })
    }

    fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        self.remove(key)
            .map_err(|errno| self.failed("delete", key, errno))
    }

    fn connections(&self) -> usize {
        2
    }

    fn settling(&self) -> Duration {
        // The folder of locks, which is what anybody waits for; somebody may have mounted it by itself.
        let locks = Root::open(&self.root).and_then(|root| root.kind(FileKind::Lock));
        let of_this_machine =
            locks.is_ok_and(|locks| locks.is_some_and(|it| file_system::is_of_this_machine(&it)));
        if of_this_machine {
            Duration::ZERO
        } else {
            SETTLING
        }
    }

    fn protection(&self) -> Option<Protection> {
        None
    }

    fn protected_until(&self, _key: &FileKey) -> Result<Option<Timestamp>, StorageError> {
        Ok(None)
    }

    fn protect_until(&self, key: &FileKey, _until: Timestamp) -> Result<(), StorageError> {
        Err(unprotected(key, self.location()))
    }
}

#[cfg(test)]
mod tests;
