//! Several names of one inode, told by what is stored of each.
//!
//! A point holds trees of several machines and runs, whose numbers may meet by chance. So entries are
//! names of one inode only if all agrees that names of one share.
//!
//! Invariant: what is linked is as stored under each of its names.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Mutex;

use refloat_model::entry::Metadata;

use crate::format::tree::Node;
use crate::parallel::lock;

/// Device and inode number as stored.
pub type Inode = (u64, u64);

/// How many inodes are remembered for counting, 16 bytes each. Of more, each name counts.
const REMEMBERED_MAX: usize = 1 << 21;

/// The inode of an entry that has several names.
pub const fn inode(metadata: &Metadata) -> Option<Inode> {
    match metadata.links > 1 && metadata.inode != 0 {
        true => Some((metadata.device_id, metadata.inode)),
        false => None,
    }
}

/// Whether entries of the same inode may be one: its metadata is that of all its names.
pub fn may_be_one(first: &Metadata, other: &Metadata) -> bool {
    shared(first) == shared(other)
}

fn shared(metadata: &Metadata) -> impl PartialEq + std::hash::Hash + '_ {
    let Metadata {
        mode,
        uid,
        gid,
        modified,
        xattrs,
        ..
    } = metadata;
    let xattrs: Vec<_> = xattrs.iter().map(|x| (&x.name, &x.value)).collect();
    let modified = (modified.seconds, modified.nanoseconds);
    // Not how many names there are: that changes while a run looks at one after the other.
    (*mode, *uid, *gid, modified, xattrs)
}

/// Files that were counted, so that one with several names is counted once.
#[derive(Debug, Default)]
pub struct CountedFiles {
    hasher: RandomState,
    seen: Mutex<HashSet<u64>>,
}

impl CountedFiles {
    /// Whether a file has several names.
    pub const fn has_names(node: &Node) -> bool {
        inode(&node.entry.metadata).is_some()
    }

    /// Whether none of the file's names was counted yet.
    pub fn is_first(&self, node: &Node) -> bool {
        let metadata = &node.entry.metadata;
        let Some(inode) = inode(metadata) else {
            return true;
        };
        // Should two meet in one number, one is not counted: nothing is written by this.
        let file = (inode, &node.content, shared(metadata));
        let file = self.hasher.hash_one(file);
        let mut seen = lock(&self.seen);
        match seen.len() < REMEMBERED_MAX {
            true => seen.insert(file),
            false => !seen.contains(&file),
        }
    }
}
