//! Giving an entry its name.
//!
//! Invariant: what had the name before is replaced in one step, and never followed.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, linkat, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::error::Context;
use super::{FolderWriter, REPLACED_MAX, WriteError};
use crate::attributes::{Identity, proc_path};
use crate::path::RelativePath;

impl FolderWriter {
    /// A name for an entry that is not complete. It is known what to think of one that a crash
    /// leaves behind: `.refloat-<process>-<number>`.
    pub(super) fn temporary_name(&self) -> Vec<u8> {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        format!(".refloat-{}-{number}", std::process::id()).into_bytes()
    }

    /// Calls `create` with fresh names until one is free: an earlier process may have left some.
    pub(super) fn with_temporary_name<T>(
        &self,
        path: &RelativePath,
        mut create: impl FnMut(&[u8]) -> Result<T, Errno>,
    ) -> Result<(Vec<u8>, T), WriteError> {
        for _ in 0..REPLACED_MAX {
            let name = self.temporary_name();
            match create(&name) {
                Ok(made) => return Ok((name, made)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(WriteError::new("create", path, errno)),
            }
        }
        Err(WriteError::new("create", path, Errno::EXIST))
    }

    /// Gives the inode that `fd` holds the name `name`, replacing what has it.
    pub(super) fn link_to(
        &self,
        fd: &OwnedFd,
        parent: &OwnedFd,
        name: &[u8],
        path: &RelativePath,
    ) -> Result<(), WriteError> {
        let inode = proc_path(fd.as_fd());
        let link =
            |name: &[u8]| linkat(CWD, inode.as_c_str(), parent, name, AtFlags::SYMLINK_FOLLOW);
        match link(name) {
            Err(Errno::EXIST) => {}
            result => return result.context("create", path),
        }
        let (temporary, ()) = self.with_temporary_name(path, link)?;
        self.rename(parent, &temporary, name, path)
    }

    /// Renames a complete entry to its name, replacing what has it: an empty directory too.
    /// If it cannot, the entry is removed.
    pub(super) fn rename(
        &self,
        parent: &OwnedFd,
        temporary: &[u8],
        name: &[u8],
        path: &RelativePath,
    ) -> Result<(), WriteError> {
        let renamed = self.rename_over(parent, temporary, name, path);
        if renamed.is_err() {
            // Nothing else can be done about a leftover; the error that is reported is the cause.
            let _leftover = unlinkat(parent, temporary, AtFlags::empty());
        }
        renamed
    }

    fn rename_over(
        &self,
        parent: &OwnedFd,
        temporary: &[u8],
        name: &[u8],
        path: &RelativePath,
    ) -> Result<(), WriteError> {
        for _ in 0..REPLACED_MAX {
            match renameat(parent, temporary, parent, name) {
                Ok(()) => return Ok(()),
                Err(Errno::ISDIR) => {}
                Err(errno) => return Err(WriteError::new("name", path, errno)),
            }
            match unlinkat(parent, name, AtFlags::REMOVEDIR) {
                Ok(()) => self.forget_directories(),
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST) => {
                    return Err(WriteError::Occupied(path.clone()));
                }
                Err(errno) => return Err(WriteError::new("replace", path, errno)),
            }
        }
        Err(WriteError::Replaced(path.clone()))
    }

    /// Whether the entry `name` is the inode `identity`.
    pub(super) fn is_at(parent: &OwnedFd, name: &[u8], identity: Identity) -> bool {
        statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| Identity::of(&stat) == identity)
    }
}
