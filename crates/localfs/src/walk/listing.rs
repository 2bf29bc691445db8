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
    place: Place,
    length: u16,
    verdict: Verdict,
}

/// Where a name stands among those of its directory, in the order in which they are walked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    inode: u64,
    start: usize,
}

/// Whether rules leave an entry out, which they are asked once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Nobody asked yet.
    Open,
    Stays,
    LeftOut,
}

impl Names {
    pub(crate) fn push(&mut self, inode: u64, name: &[u8]) {
        // The kernel gives no name longer than 255 bytes; a longer one is cut and then not found.
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        let start = self.bytes.len();
        self.slots.push(Slot {
            place: Place { inode, start },
            length,
            verdict: Verdict::Open,
        });
        self.bytes.extend_from_slice(name);
    }

    /// Sorted so that [`pop`](Self::pop) gives the smallest inode first.
    pub(crate) fn sort(&mut self) {
        self.slots
            .sort_unstable_by_key(|slot| std::cmp::Reverse(slot.place));
    }

    pub(crate) fn pop(&mut self, into: &mut Vec<u8>) -> Option<(Place, Verdict)> {
        let slot = self.slots.pop()?;
        into.clear();
        into.extend_from_slice(slot.name(&self.bytes));
        Some((slot.place, slot.verdict))
    }

    /// The name that [`pop`](Self::pop) gives after so many others.
    pub(crate) fn nth(&self, index: usize) -> Option<&[u8]> {
        let slot = self.slots.iter().nth_back(index)?;
        Some(slot.name(&self.bytes))
    }

    /// The first names, in the order of [`pop`](Self::pop), and what is known of them.
    pub(crate) fn first(
        &mut self,
        count: usize,
    ) -> impl Iterator<Item = (Place, &[u8], &mut Verdict)> {
        let bytes = &self.bytes;
        let slots = self.slots.iter_mut().rev().take(count);
        slots.map(|slot| (slot.place, slot.name(bytes), &mut slot.verdict))
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

impl Slot {
    fn name<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let start = self.place.start;
        bytes
            .get(start..start + usize::from(self.length))
            .unwrap_or_default()
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
