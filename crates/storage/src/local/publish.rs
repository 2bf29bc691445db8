//! Writing a file: temporary name, synchronise, rename, synchronise the folder.
//!
//! Invariant: the final name is touched only by the one rename.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};

use super::direct;
use super::folder::{self, Root};
use super::read;
use super::temporary::Temporary;
use crate::{FileKey, FileKind};

pub(super) fn write(root: &Path, key: &FileKey, bytes: &[u8]) -> Result<(), Errno> {
    let folder = Root::open(root)?.folder_for_writing(key)?;
    let name = key.name();
    if key.kind() != FileKind::Config && is_there_already(&folder, &name, bytes)? {
        return Ok(());
    }
    let temporary = Temporary::create(&folder)?;
    let is_pack = key.kind() == FileKind::Pack;
    if !(is_pack && direct::write(temporary.fd(), bytes)?) {
        write_all(temporary.fd(), bytes)?;
    }
    synchronise_file(temporary.fd())?;
    if key.kind() == FileKind::Config {
        publish_new(&folder, &temporary, &name)?;
    } else {
        publish(&folder, &temporary, &name)?;
    }
    folder::synchronise(&folder)
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let written = retry_on_intr(|| rustix::io::write(file, bytes))?;
        match bytes.get(written..) {
            Some(rest) if written > 0 => bytes = rest,
            _ => return Err(Errno::IO),
        }
    }
    Ok(())
}

fn synchronise_file(file: &OwnedFd) -> Result<(), Errno> {
    match retry_on_intr(|| rustix::fs::fsync(file)) {
        Err(Errno::NOTSUP | Errno::NOSYS) => Ok(()),
        other => other,
    }
}

/// Whether the same bytes are under the name; if so, they are durable afterwards.
///
/// Anything else under the name was damaged later, for names are hashes: it gets replaced. So a
/// file that cannot be read counts as different.
fn is_there_already(folder: &OwnedFd, name: &str, bytes: &[u8]) -> Result<bool, Errno> {
    let Ok(file) = read::open_file(folder, name) else {
        return Ok(false);
    };
    if !read::equals(&file, bytes).unwrap_or(false) {
        return Ok(false);
    }
    // The first writer may have died, or still be, between its rename and its synchronisation.
    synchronise_file(&file)?;
    folder::synchronise(folder)?;
    Ok(true)
}

fn publish(folder: &OwnedFd, temporary: &Temporary<'_>, name: &str) -> Result<(), Errno> {
    retry_on_intr(|| rustix::fs::renameat(folder, temporary.name(), folder, name))
        .map_err(gone_is_stale)?;
    temporary.keep();
    Ok(())
}

/// Publishes under a name that must not be taken.
///
/// Some network file systems know neither an exclusive rename nor hard links. There the check
/// and the rename are two steps, and two initialisations at the same moment are not told apart.
fn publish_new(folder: &OwnedFd, temporary: &Temporary<'_>, name: &str) -> Result<(), Errno> {
    let from = temporary.name();
    let exclusive = RenameFlags::NOREPLACE;
    match retry_on_intr(|| rustix::fs::renameat_with(folder, from, folder, name, exclusive)) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        Ok(()) => {
            temporary.keep();
            return Ok(());
        }
        Err(errno) => return Err(gone_is_stale(errno)),
    }
    match retry_on_intr(|| rustix::fs::linkat(folder, from, folder, name, AtFlags::empty())) {
        Err(Errno::PERM | Errno::NOSYS | Errno::NOTSUP | Errno::MLINK) => {}
        // The temporary name is the one to be removed now.
        other => return other.map_err(gone_is_stale),
    }
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    match folder::if_there(rustix::fs::statat(folder, name, flags))? {
        Some(_) => Err(Errno::EXIST),
        None => publish(folder, temporary, name),
    }
}

/// Somebody took our temporary file for a leftover: a new attempt may succeed.
fn gone_is_stale(errno: Errno) -> Errno {
    if errno == Errno::NOENT {
        Errno::STALE
    } else {
        errno
    }
}
