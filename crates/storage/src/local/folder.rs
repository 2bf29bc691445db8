//! Opening, creating and synchronising the repository's folders.
//!
//! Invariant: every step below the root is taken relative to an open folder and never through a
//! symbolic link.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::{FileKey, FileKind};

/// Readable by the owner alone: keys and locks name users and hosts.
pub(super) const FOLDER_MODE: Mode = Mode::RWXU;

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// The open folder of a repository.
pub(super) struct Root(OwnedFd);

impl Root {
    pub(super) fn open(path: &Path) -> Result<Self, Errno> {
        retry_on_intr(|| rustix::fs::open(path, FOLDER, Mode::empty())).map(Self)
    }

    pub(super) const fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// The folder of a kind. One that is missing from a repository counts as absent only if the
    /// repository is there: copies by tools that pass over empty folders lack `locks`, but an
    /// empty mount point is not an empty repository.
    pub(super) fn kind(&self, kind: FileKind) -> Result<Option<OwnedFd>, Errno> {
        match open_below(&self.0, kind.folder()) {
            Err(Errno::NOENT) if self.holds_config()? => Ok(None),
            other => other.map(Some),
        }
    }

    /// The folder that a file is in.
    pub(super) fn folder_of(self, key: &FileKey) -> Result<OwnedFd, Errno> {
        match key.kind() {
            FileKind::Config => Ok(self.0),
            FileKind::Pack => {
                let data = open_below(&self.0, FileKind::Pack.folder())?;
                open_below(&data, shard(key).as_str())
            }
            kind => open_below(&self.0, kind.folder()),
        }
    }

    /// As [`folder_of`](Self::folder_of), but makes a folder that a copying tool left out.
    pub(super) fn folder_for_writing(self, key: &FileKey) -> Result<OwnedFd, Errno> {
        if key.kind() == FileKind::Config {
            return Ok(self.0);
        }
        let folder = match self.kind(key.kind())? {
            Some(folder) => folder,
            None => make_below(&self.0, key.kind().folder())?,
        };
        if key.kind() != FileKind::Pack {
            return Ok(folder);
        }
        let shard = shard(key);
        match open_below(&folder, shard.as_str()) {
            Err(Errno::NOENT) => make_below(&folder, shard.as_str()),
            other => other,
        }
    }

    fn holds_config(&self) -> Result<bool, Errno> {
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        if_there(rustix::fs::statat(&self.0, "config", flags)).map(|found| found.is_some())
    }
}

/// The folder below `data` of a pack.
fn shard(key: &FileKey) -> String {
    format!("{:02x}", key.id()[0])
}

/// Turns "there is none" into `None`.
pub(super) fn if_there<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Opens a folder inside a folder.
pub(super) fn open_below(folder: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = FOLDER.union(OFlags::NOFOLLOW);
    retry_on_intr(|| rustix::fs::openat(folder, name, flags, Mode::empty()))
}

fn make_below(folder: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    mkdir(folder, name)?;
    synchronise(folder)?;
    open_below(folder, name)
}

fn mkdir(folder: &OwnedFd, name: &str) -> Result<(), Errno> {
    match retry_on_intr(|| rustix::fs::mkdirat(folder, name, FOLDER_MODE)) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Makes the entries of a folder durable, where the file system can.
pub(super) fn synchronise(folder: &OwnedFd) -> Result<(), Errno> {
    match retry_on_intr(|| rustix::fs::fsync(folder)) {
        // What CIFS, FUSE and others answer for folders: there is nothing more to be had.
        Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => Ok(()),
        other => other,
    }
}

/// Creates the root, the folders of all kinds and the 256 folders of packs.
pub(super) fn create(root: &Path) -> Result<(), Errno> {
    create_root(root)?;
    let root = Root::open(root)?;
    for kind in FileKind::FOLDERS {
        mkdir(root.fd(), kind.folder())?;
    }
    let data = open_below(root.fd(), FileKind::Pack.folder())?;
    for shard in 0..=u8::MAX {
        mkdir(&data, &format!("{shard:02x}"))?;
    }
    synchronise(&data)?;
    synchronise(root.fd())
}

fn create_root(path: &Path) -> Result<(), Errno> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        // The root of the file system is always there.
        None => return Ok(()),
    };
    match retry_on_intr(|| rustix::fs::mkdir(path, FOLDER_MODE)) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(Errno::NOENT) => {
            create_root(parent)?;
            retry_on_intr(|| rustix::fs::mkdir(path, FOLDER_MODE))?;
        }
        Err(errno) => return Err(errno),
    }
    synchronise(Root::open(parent)?.fd())
}
