//! Tree blobs: the entries of one directory, byte for byte as restic encodes them.
//!
//! `{"nodes":[…]}` and a newline. Fields in restic's order, omitted where restic omits them; see
//! restic's `internal/data/node.go`. Times are written in UTC.
//!
//! Invariant: names within a tree are unique, sorted by bytes and single path components.

mod decode;
mod encode;
mod scan;

use std::sync::Arc;

use refloat_model::entry::Entry;

use crate::id::BlobId;

pub use decode::{TreeError, decode};
pub use encode::encode;

/// The largest tree that is read, in bytes of JSON: a directory of some millions of entries.
pub const TREE_BYTES_MAX: usize = 1 << 30;

/// Go's `os.FileMode` bits that restic stores (<https://pkg.go.dev/io/fs#FileMode>).
pub(crate) mod go_mode {
    pub const DIRECTORY: u32 = 1 << 31;
    pub const SYMLINK: u32 = 1 << 27;
    pub const DEVICE: u32 = 1 << 26;
    pub const FIFO: u32 = 1 << 25;
    pub const SOCKET: u32 = 1 << 24;
    pub const SET_UID: u32 = 1 << 23;
    pub const SET_GID: u32 = 1 << 22;
    pub const CHARACTER_DEVICE: u32 = 1 << 21;
    pub const STICKY: u32 = 1 << 20;
}

/// One entry of a tree.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// Name, kind and metadata.
    pub entry: Entry,
    /// The blobs of a regular file's content, in order.
    pub content: Arc<[BlobId]>,
    /// The tree of a directory.
    pub subtree: Option<BlobId>,
    /// What this program does not interpret, kept for re-encoding.
    pub foreign: Option<Box<Foreign>>,
}

/// Parts of a node that other programs wrote.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Foreign {
    /// `generic_attributes` as it stood: attributes of Windows files.
    pub generic_attributes: Option<Box<str>>,
    /// `error`: restic could not read everything of this entry.
    pub error: String,
    /// Time texts that are not what we would write (offsets): mtime, atime, ctime.
    pub times: Option<[Box<str>; 3]>,
    /// A `mode` whose bits are not what we would write.
    pub mode: Option<u32>,
    /// A `type` that this program does not know (`irregular`): the entry counts as a socket,
    /// that is, as something without content.
    pub kind: Option<Box<str>>,
    /// `size` of an entry that is no regular file.
    pub size: u64,
    /// `device` of an entry that is no device.
    pub device: u64,
    /// `linktarget` of an entry that is no link.
    pub link_target: Box<[u8]>,
}

impl Foreign {
    /// Whether there is nothing to keep.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        let Self {
            generic_attributes,
            error,
            times,
            mode,
            kind,
            size,
            device,
            link_target,
        } = self;
        let has_parts = generic_attributes.is_some() || times.is_some() || kind.is_some();
        let has_numbers = mode.is_some() || *size != 0 || *device != 0;
        !has_parts && !has_numbers && error.is_empty() && link_target.is_empty()
    }
}

impl Node {
    /// The name, raw.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.entry.name
    }

    /// Whether this is a directory.
    #[must_use]
    pub const fn is_directory(&self) -> bool {
        matches!(self.entry.kind, refloat_model::entry::EntryKind::Directory)
    }

    /// A file's length in bytes, 0 for anything else.
    #[must_use]
    pub const fn size(&self) -> u64 {
        match self.entry.kind {
            refloat_model::entry::EntryKind::File { size } => size,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests;
