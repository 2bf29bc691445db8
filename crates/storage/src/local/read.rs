//! Reading files and their sizes.
//!
//! Invariant: only plain files are read, and never more memory is taken than the file has bytes.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use super::folder::Root;
use crate::FileKey;

/// What a ranged read found.
pub(super) enum Range<B> {
    Complete(B),
    TooShort,
}

/// How much is compared at once.
const COMPARE_BYTES: usize = 128 * 1024;

pub(super) fn open_file(folder: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    // Without NONBLOCK, a FIFO under the name would stop the process for ever.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::openat(folder, name, flags, Mode::empty()))
}

fn open(root: &Path, key: &FileKey) -> Result<(OwnedFd, u64), Errno> {
    let folder = Root::open(root)?.folder_of(key)?;
    let file = open_file(&folder, &key.name())?;
    let size = plain_size(&rustix::fs::fstat(&file)?)?;
    Ok((file, size))
}

fn plain_size(stat: &Stat) -> Result<u64, Errno> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    u64::try_from(stat.st_size).map_err(|_negative| Errno::OVERFLOW)
}

pub(super) fn size(root: &Path, key: &FileKey) -> Result<u64, Errno> {
    let folder = Root::open(root)?.folder_of(key)?;
    plain_size(&rustix::fs::statat(
        &folder,
        key.name(),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

pub(super) fn whole(root: &Path, key: &FileKey) -> Result<Vec<u8>, Errno> {
    let (file, size) = open(root, key)?;
    let length = usize::try_from(size).map_err(|_too_big| Errno::FBIG)?;
    match read_at(&file, 0, length)? {
        Range::Complete(bytes) => Ok(bytes),
        // Files of a repository never shrink; somebody else is at work on this one.
        Range::TooShort => Err(Errno::AGAIN),
    }
}

pub(super) fn range(
    root: &Path,
    key: &FileKey,
    offset: u64,
    length: usize,
) -> Result<Range<Vec<u8>>, Errno> {
    let (file, size) = open(root, key)?;
    match offset.checked_add(length as u64) {
        Some(end) if end <= size => read_at(&file, offset, length),
        _ => Ok(Range::TooShort),
    }
}

pub(super) fn range_into(
    root: &Path,
    key: &FileKey,
    offset: u64,
    memory: &mut [u8],
) -> Result<Range<()>, Errno> {
    let (file, size) = open(root, key)?;
    match offset.checked_add(memory.len() as u64) {
        Some(end) if end <= size => {}
        _ => return Ok(Range::TooShort),
    }
    let mut have = 0;
    while have < memory.len() {
        let room = &mut memory[have..];
        match retry_on_intr(|| rustix::io::pread(&file, &mut *room, offset + have as u64))? {
            0 => return Ok(Range::TooShort),
            read => have += read,
        }
    }
    Ok(Range::Complete(()))
}

fn read_at(file: &OwnedFd, offset: u64, length: usize) -> Result<Range<Vec<u8>>, Errno> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let at = offset + bytes.len() as u64;
        if retry_on_intr(|| rustix::io::pread(file, spare_capacity(&mut bytes), at))? == 0 {
            return Ok(Range::TooShort);
        }
    }
    // The allocator may have given more room than was asked for, and the kernel filled it.
    bytes.truncate(length);
    Ok(Range::Complete(bytes))
}

/// Whether a plain file has exactly these bytes.
pub(super) fn equals(file: &OwnedFd, expected: &[u8]) -> Result<bool, Errno> {
    if plain_size(&rustix::fs::fstat(file)?)? != expected.len() as u64 {
        return Ok(false);
    }
    let mut offset = 0;
    for part in expected.chunks(COMPARE_BYTES) {
        match read_at(file, offset, part.len())? {
            Range::Complete(bytes) if bytes == part => offset += part.len() as u64,
            _ => return Ok(false),
        }
    }
    Ok(true)
}
