//! What is in the folder already.
//!
//! Invariant: an existing file is changed only if it has no other name: the other one may lie
//! outside the folder.

use std::borrow::Cow;
use std::os::fd::AsFd;

use refloat_model::entry::{Entry, EntryKind, Metadata};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::error::Context;
use super::file::read_fully;
use super::pinned::Pinned;
use super::privileges::{Privileges, without};
use super::{FolderWriter, Place, Restored, WriteError, split};
use crate::attributes::{
    ExtendedAttributes, Identity, InodeHandle, InodePath, file_type, metadata, plain_kind, size,
};
use crate::owners::Owners;
use crate::path::RelativePath;

/// An existing regular file, open for comparing.
#[derive(Debug)]
pub struct ExistingFile {
    fd: OwnedFd,
    path: RelativePath,
    identity: Identity,
    size: u64,
}

impl FolderWriter {
    /// What is at `path` now, with its extended attributes and without names of owners; none if
    /// nothing is, or if something that is no directory lies on the way.
    ///
    /// # Errors
    /// The system refuses.
    pub fn existing(&self, path: &RelativePath) -> Result<Option<Entry>, WriteError> {
        let Some((parent, name)) = self.existing_place(path)? else {
            return Ok(None);
        };
        let stat = match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            result => result.context("stat", path)?,
        };
        let kind = match plain_kind(&stat) {
            Some(kind) => kind,
            None => EntryKind::Symlink {
                target: readlinkat(&parent, name, Vec::new())
                    .context("read the link", path)?
                    .into_bytes(),
            },
        };
        let mut inode_path = InodePath::in_directory(parent.as_fd());
        let inode = InodeHandle::Entry(inode_path.entry(name));
        // Attributes that cannot be read differ from what is wanted, which is all that counts.
        let (xattrs, _unread) = ExtendedAttributes::new().read(inode);
        Ok(Some(Entry {
            name: name.to_vec(),
            kind,
            metadata: metadata(&stat, &Owners::unnamed(), xattrs),
        }))
    }

    /// Whether `path` is a directory that holds something.
    ///
    /// # Errors
    /// The system refuses.
    pub fn is_filled_directory(&self, path: &RelativePath) -> Result<bool, WriteError> {
        let (parent, name) = match split(path) {
            None => (self.directory(path).context("open", path)?, &b"."[..]),
            Some(_) => match self.existing_place(path)? {
                Some(place) => place,
                None => return Ok(false),
            },
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match openat(&parent, name, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
            result => result.context("open", path)?,
        };
        let entries = Dir::new(directory).context("list", path)?;
        let is_entry = |name: &std::ffi::CStr| !matches!(name.to_bytes(), b"." | b"..");
        for entry in entries {
            if is_entry(entry.context("list", path)?.file_name()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Opens an existing regular file to compare its content; none if there is none.
    ///
    /// # Errors
    /// It may not be read.
    pub fn open_existing(&self, path: &RelativePath) -> Result<Option<ExistingFile>, WriteError> {
        let Some((parent, name)) = self.existing_place(path)? else {
            return Ok(None);
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match openat(&parent, name, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
            result => result.context("open", path)?,
        };
        let stat = fstat(&fd).context("stat", path)?;
        let is_file = file_type(&stat) == FileType::RegularFile;
        Ok(is_file.then(|| ExistingFile {
            fd,
            path: path.clone(),
            identity: Identity::of(&stat),
            size: size(&stat),
        }))
    }

    /// Keeps a file whose content was found to be right, and sets its metadata if it differs.
    ///
    /// # Errors
    /// [`Shared`](WriteError::Shared) if the metadata differs and the file has other hard links:
    /// it has to be written anew. [`Replaced`](WriteError::Replaced) if the name has since been
    /// given to something else.
    pub fn keep_file(
        &self,
        file: &ExistingFile,
        metadata: &Metadata,
    ) -> Result<Restored, WriteError> {
        let path = &file.path;
        let (parent, name) = self.place(path)?;
        if !Self::is_at(&parent, name, file.identity) {
            return Err(WriteError::Replaced(path.clone()));
        }
        let restored = Restored {
            identity: file.identity,
        };
        let (plain, _) = match self.privileges {
            Privileges::Restored => (Cow::Borrowed(metadata), None),
            Privileges::LeftOut => without(metadata, false),
        };
        let is_equal = Pinned::open(&file.fd, path)
            .has(&plain)
            .map_err(|fatal| WriteError::new(fatal.operation, path, fatal.errno))?;
        if is_equal {
            // Named again: it is left out again.
            drop(self.plain(path, metadata, false));
            return Ok(restored);
        }
        if fstat(&file.fd).context("stat", path)?.st_nlink != 1 {
            return Err(WriteError::Shared(path.clone()));
        }
        let device = file.identity.device();
        let noted = self.devices.note_file(&file.fd, device, path);
        noted.context("open", path)?;
        self.apply(&Pinned::open(&file.fd, path), path, metadata)?;
        Ok(restored)
    }

    fn existing_place<'a>(&self, path: &'a RelativePath) -> Result<Option<Place<'a>>, WriteError> {
        let Some((parent, name)) = split(path) else {
            return Ok(None);
        };
        match self.directory(&parent) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            result => Ok(Some((result.context("open the directory of", path)?, name))),
        }
    }
}

impl ExistingFile {
    /// Its length when it was opened.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads what it holds; fewer bytes than asked for only at its end.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, WriteError> {
        read_fully(&self.fd, offset, buffer).context("read", &self.path)
    }
}
