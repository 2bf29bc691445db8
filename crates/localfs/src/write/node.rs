//! Entries without content: symbolic links, devices, pipes, sockets; and hard links.
//!
//! Invariant: a hard link is made only to an inode that this writer restored or kept.

use std::os::fd::AsFd;

use refloat_model::entry::{EntryKind, Metadata};
use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, fstat, linkat, mknodat, openat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::error::{Context, not_new};
use super::pinned::Pinned;
use super::privileges::{Privileges, is_device};
use super::{FolderWriter, Restored, WriteError};
use crate::attributes::{Identity, file_type, proc_path};
use crate::path::RelativePath;

/// Devices and pipes are nobody's until their metadata is set.
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

impl FolderWriter {
    /// Makes a symbolic link, device, pipe or socket with its metadata, replacing what has its
    /// name. A link's target is stored as it is and never looked at.
    ///
    /// # Errors
    /// The system refuses (devices are for root), the kind is a file or directory, or it is a
    /// device and those are [left out](Privileges::LeftOut).
    pub fn create_node(
        &self,
        path: &RelativePath,
        kind: &EntryKind,
        metadata: &Metadata,
    ) -> Result<Restored, WriteError> {
        match self.create_new_node(path, kind, metadata) {
            Err(WriteError::Taken(_)) => {}
            result => return result,
        }
        let node = self.node(path, kind)?;
        let (parent, name) = self.place(path)?;
        let (temporary, ()) = self.with_temporary_name(path, |name| node.create(&parent, name))?;
        match self.complete(&parent, &temporary, &node, path, metadata) {
            Ok(restored) => {
                self.rename(&parent, &temporary, name, path)?;
                Ok(restored)
            }
            Err(error) => {
                // As above.
                let _leftover = unlinkat(&parent, temporary.as_slice(), AtFlags::empty());
                Err(error)
            }
        }
    }

    /// As [`create_node`](Self::create_node), in a directory that this restore made, where nothing has
    /// its name.
    ///
    /// # Errors
    /// As [`create_node`](Self::create_node). [`Taken`](WriteError::Taken) if something has the name.
    pub fn create_new_node(
        &self,
        path: &RelativePath,
        kind: &EntryKind,
        metadata: &Metadata,
    ) -> Result<Restored, WriteError> {
        let node = self.node(path, kind)?;
        let (parent, name) = self.place(path)?;
        let made = node.create(&parent, name);
        made.map_err(|errno| not_new("create", path, errno))?;
        let fd = self.complete(&parent, name, &node, path, metadata);
        if fd.is_err() {
            // Not as it should be, so it should not be: the error is what is reported.
            let _leftover = unlinkat(&parent, name, AtFlags::empty());
        }
        fd
    }

    fn node<'k>(&self, path: &RelativePath, kind: &'k EntryKind) -> Result<Node<'k>, WriteError> {
        let node = Node::of(kind).ok_or_else(|| WriteError::Kind {
            operation: "create",
            path: path.clone(),
        })?;
        match self.privileges == Privileges::LeftOut && is_device(kind) {
            true => Err(WriteError::Withheld(path.clone())),
            false => Ok(node),
        }
    }

    /// Sets the metadata of a node that was just made. Between making and opening it, somebody
    /// may have put something else there: if that has another name elsewhere, or is of another
    /// kind, it is refused; if not, it is as good as ours.
    fn complete(
        &self,
        parent: &OwnedFd,
        name: &[u8],
        node: &Node<'_>,
        path: &RelativePath,
        metadata: &Metadata,
    ) -> Result<Restored, WriteError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(parent, name, flags, Mode::empty()).context("open", path)?;
        let stat = fstat(&fd).context("stat", path)?;
        if file_type(&stat) != node.file_type() || stat.st_nlink != 1 {
            return Err(WriteError::Replaced(path.clone()));
        }
        self.apply(&Pinned::new(&fd, path), path, metadata)?;
        Ok(Restored {
            identity: Identity::of(&stat),
        })
    }

    /// Gives an entry that was restored before, under `from`, a second name `to`, replacing what
    /// has it.
    ///
    /// # Errors
    /// [`Replaced`](WriteError::Replaced) if `from` is not the entry that was restored: a file
    /// from outside may have been put there, and must not get another name. Otherwise the system
    /// refuses.
    pub fn hard_link(
        &self,
        restored: Restored,
        from: &RelativePath,
        to: &RelativePath,
    ) -> Result<(), WriteError> {
        let fd = self.open_restored(restored, from)?;
        let (parent, name) = self.place(to)?;
        if Self::is_at(&parent, name, restored.identity) {
            return Ok(());
        }
        self.link_to(&fd, &parent, name, to)
    }

    /// As [`hard_link`](Self::hard_link), into a directory that this restore made, where nothing has the
    /// name.
    ///
    /// # Errors
    /// As [`hard_link`](Self::hard_link). [`Taken`](WriteError::Taken) if something has the name.
    pub fn new_hard_link(
        &self,
        restored: Restored,
        from: &RelativePath,
        to: &RelativePath,
    ) -> Result<(), WriteError> {
        let fd = self.open_restored(restored, from)?;
        let (parent, name) = self.place(to)?;
        let inode = proc_path(fd.as_fd());
        let flags = AtFlags::SYMLINK_FOLLOW;
        let linked = linkat(CWD, inode.as_c_str(), &parent, name, flags);
        linked.map_err(|errno| not_new("create", to, errno))
    }

    fn open_restored(
        &self,
        restored: Restored,
        path: &RelativePath,
    ) -> Result<OwnedFd, WriteError> {
        let (parent, name) = self.place(path)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&parent, name, flags, Mode::empty()).context("open", path)?;
        match Identity::of(&fstat(&fd).context("stat", path)?) == restored.identity {
            true => Ok(fd),
            false => Err(WriteError::Replaced(path.clone())),
        }
    }
}

/// What `mknod` and `symlink` can make.
enum Node<'a> {
    Symlink(&'a [u8]),
    Special(FileType, u64),
}

impl<'a> Node<'a> {
    fn of(kind: &'a EntryKind) -> Option<Self> {
        Some(match kind {
            EntryKind::Symlink { target } => Self::Symlink(target),
            EntryKind::BlockDevice { device } => Self::Special(FileType::BlockDevice, *device),
            EntryKind::CharacterDevice { device } => {
                Self::Special(FileType::CharacterDevice, *device)
            }
            EntryKind::Fifo => Self::Special(FileType::Fifo, 0),
            EntryKind::Socket => Self::Special(FileType::Socket, 0),
            EntryKind::File { .. } | EntryKind::Directory => return None,
        })
    }

    fn file_type(&self) -> FileType {
        match self {
            Self::Symlink(_) => FileType::Symlink,
            Self::Special(file_type, _) => *file_type,
        }
    }

    fn create(&self, parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Symlink(target) => symlinkat(*target, parent, name),
            Self::Special(file_type, device) => mknodat(parent, name, *file_type, PRIVATE, *device),
        }
    }
}
