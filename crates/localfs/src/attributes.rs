//! What the file system knows of an entry: `stat` and extended attributes.
//!
//! Invariant: reading attributes never follows a symbolic link and never opens anything.

mod extended;

use refloat_model::entry::{EntryKind, Metadata, Xattr};
use refloat_model::time::Timestamp;
use rustix::fs::{FileType, Stat};

use crate::owners::Owners;

pub(crate) use extended::{ExtendedAttributes, InodeHandle, InodePath, XattrFailure, proc_path};

/// What makes an inode that inode, while it exists.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }

    pub(crate) const fn device(self) -> u64 {
        self.device
    }
}

pub(crate) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

pub(crate) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// The kind of an entry that has no target: everything but symbolic links, none for what the
/// kernel calls by no known type.
pub(crate) fn plain_kind(stat: &Stat) -> Option<EntryKind> {
    Some(match file_type(stat) {
        FileType::RegularFile => EntryKind::File { size: size(stat) },
        FileType::Directory => EntryKind::Directory,
        FileType::BlockDevice => EntryKind::BlockDevice {
            device: stat.st_rdev,
        },
        FileType::CharacterDevice => EntryKind::CharacterDevice {
            device: stat.st_rdev,
        },
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        FileType::Symlink | FileType::Unknown => return None,
    })
}

pub(crate) fn metadata(stat: &Stat, owners: &Owners, xattrs: Vec<Xattr>) -> Metadata {
    Metadata {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        user: owners.user(stat.st_uid),
        group: owners.group(stat.st_gid),
        modified: timestamp(stat.st_mtime, stat.st_mtime_nsec),
        accessed: timestamp(stat.st_atime, stat.st_atime_nsec),
        changed: timestamp(stat.st_ctime, stat.st_ctime_nsec),
        inode: stat.st_ino,
        device_id: stat.st_dev,
        links: stat.st_nlink,
        xattrs,
    }
}

fn timestamp(seconds: i64, nanoseconds: impl TryInto<u32>) -> Timestamp {
    Timestamp {
        seconds,
        nanoseconds: nanoseconds.try_into().unwrap_or(0),
    }
}
