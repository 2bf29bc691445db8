//! The names of one directory, packed.
//!
//! Invariant: `.` and `..` are never among them.

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;

/// One `getdents` call fills at most this much: about 1,000 names.
const DIRENT_BYTES: usize = 32 * 1024;

/// Names in one allocation, in order of inodes.
#[derive(Debug, Default)]
pub(crate) struct Names {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    inode: u64,
    start: usize,
    length: u16,
}

impl Names {
    pub(crate) fn push(&mut self, inode: u64, name: &[u8]) {
        // The kernel gives no name longer than 255 bytes; a longer one is cut and then not found.
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        self.slots.push(Slot {
            inode,
            start: self.bytes.len(),
            length,
        });
        self.bytes.extend_from_slice(name);
    }

    /// Sorted so that [`pop`](Self::pop) gives the smallest inode first.
    pub(crate) fn sort(&mut self) {
        self.slots
            .sort_unstable_by_key(|slot| std::cmp::Reverse((slot.inode, slot.start)));
    }

    pub(crate) fn pop(&mut self, into: &mut Vec<u8>) -> bool {
        let Some(slot) = self.slots.pop() else {
            return false;
        };
        let end = slot.start + usize::from(slot.length);
        into.clear();
        into.extend_from_slice(self.bytes.get(slot.start..end).unwrap_or_default());
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

/// What `getdents` told of a directory.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Entries of which it said that they are directories.
    pub(crate) directories: Names,
    /// All others, also those whose type it did not tell.
    pub(crate) others: Names,
    /// Whether a `CACHEDIR.TAG` is among them.
    pub(crate) has_cache_tag: bool,
    /// Set when the listing broke off: what was read so far is valid.
    pub(crate) broken: Option<Errno>,
}

/// The name that marks a cache.
pub(crate) const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";

/// Reads directories into a buffer that is reused.
#[derive(Debug)]
pub(crate) struct Lister {
    buffer: Vec<u8>,
}

impl Lister {
    pub(crate) fn new() -> Self {
        Self {
            buffer: Vec::with_capacity(DIRENT_BYTES),
        }
    }

    /// Lists an open directory from its start.
    ///
    /// # Errors
    /// Not even the first names could be read.
    pub(crate) fn list(&mut self, directory: &OwnedFd) -> Result<Listing, Errno> {
        let mut listing = Listing::default();
        let mut entries = RawDir::new(directory, self.buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                Err(errno) if listing.others.len() + listing.directories.len() == 0 => {
                    return Err(errno);
                }
                Err(errno) => {
                    listing.broken = Some(errno);
                    break;
                }
            };
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            listing.has_cache_tag |= name == CACHE_TAG;
            let names = match entry.file_type() {
                FileType::Directory => &mut listing.directories,
                _ => &mut listing.others,
            };
            names.push(entry.ino(), name);
        }
        listing.directories.sort();
        listing.others.sort();
        Ok(listing)
    }
}
