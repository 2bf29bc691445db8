//! What a directory held in the parent point, or in several.
//!
//! The trees of its subdirectories are read ahead by the workers, in the order in which a walk
//! will come to them: in an unchanged backup the walk is the only thread with much to do, and
//! reading trees is a large part of it.
//!
//! Invariant: only ever a help. A tree that was not read ahead is read when it is needed, and one
//! that cannot be read costs reading its files again.

use std::collections::HashMap;

use crossbeam_channel::{Receiver, Sender, bounded};
use refloat_model::time::Timestamp;

use super::Shared;
use crate::blobs::BlobReader as _;
use crate::format::tree::Node;
use crate::id::BlobId;

/// What a directory held in an earlier point.
#[derive(Clone, PartialEq, Debug)]
pub struct ParentTree {
    /// Its entries.
    pub nodes: Vec<Node>,
    /// When the run that read it began, by the clock of the machine that it ran on.
    pub begun: Timestamp,
}

/// A file that was changed less than so many seconds before the run that read it began, or after that,
/// may hold something else since than what was read, and tell nothing of it: a second change within
/// the clock's granularity (2 s at worst, where times are kept coarsely) leaves all times as they are,
/// and so does one of a mapped page that is to be written out, for which the kernel takes up to 35 s
/// (`vm.dirty_expire_centisecs` and `dirty_writeback_centisecs`). The rest is for clocks of file servers
/// that are a little behind; of one that is ahead, what lies in the future is no older than this.
const SETTLED_SECONDS_MIN: i64 = 60;

/// An entry of an earlier point.
pub struct Known {
    pub node: Node,
    begun: Timestamp,
}

impl Known {
    /// Whether its times would tell of any change after it was read (git's rule for entries that are
    /// "racily clean").
    pub const fn is_settled(&self) -> bool {
        let changed = self.node.entry.metadata.changed.seconds;
        self.begun.seconds.saturating_sub(changed) >= SETTLED_SECONDS_MIN
    }
}

/// Trees of one directory that are read ahead: one is in use while the next are decoded.
const AHEAD_MAX: usize = 4;
/// Deeper directories read nothing ahead, so that memory does not grow with depth.
const AHEAD_LEVELS_MAX: usize = 32;

/// A tree that somebody wants soon.
pub struct TreeJob {
    tree: BlobId,
    reply: Sender<Vec<Node>>,
}

impl TreeJob {
    /// Reads the tree.
    pub fn run(self, shared: &Shared) {
        shared.guard(|| {
            if let Ok(nodes) = shared.repository.read_tree(self.tree) {
                // Whoever wanted it may have ended.
                drop(self.reply.try_send(nodes));
            }
            Ok(())
        });
    }
}

/// See the module; the default is that it held nothing.
#[derive(Default)]
pub struct Previous {
    /// Sorted by name; of the same name, as the parents were given.
    known: Vec<Known>,
    /// Subtrees still to be asked for, the next at the end.
    later: Vec<BlobId>,
    asked: HashMap<BlobId, Receiver<Vec<Node>>>,
}

impl Previous {
    /// Of a directory at this depth, in its parents.
    pub fn new(shared: &Shared, parents: Vec<ParentTree>, depth: usize) -> Self {
        let known = parents.into_iter().flat_map(|ParentTree { nodes, begun }| {
            let known = move |node| Known { node, begun };
            nodes.into_iter().map(known)
        });
        let mut known: Vec<Known> = known.collect();
        known.sort_by(|a, b| a.node.name().cmp(b.node.name()));
        let mut previous = Self {
            known,
            ..Self::default()
        };
        // Storage that takes one call at a time has nothing to win by more of them.
        if depth < AHEAD_LEVELS_MAX && shared.repository.storage().connections() > 1 {
            let mut subtrees: Vec<(u64, BlobId)> = previous
                .known
                .iter()
                .filter_map(|known| Some((known.node.entry.metadata.inode, known.node.subtree?)))
                .collect();
            // A walk comes to subdirectories in the order of their inodes.
            subtrees.sort_unstable_by_key(|(inode, _)| std::cmp::Reverse(*inode));
            previous.later = subtrees.into_iter().map(|(_, tree)| tree).collect();
            previous.read_ahead(shared);
        }
        previous
    }

    fn read_ahead(&mut self, shared: &Shared) {
        while self.asked.len() < AHEAD_MAX
            && let Some(tree) = self.later.pop()
        {
            let (reply, answer) = bounded(1);
            if shared.trees.0.try_send(TreeJob { tree, reply }).is_err() {
                // The workers are behind: reading trees is not what this run waits for.
                return;
            }
            self.asked.insert(tree, answer);
        }
    }

    /// Everything of a name: more than one where a directory has several parents, the best first.
    pub fn find(&self, name: &[u8]) -> &[Known] {
        let start = self.known.partition_point(|known| known.node.name() < name);
        let rest = self.known.get(start..).unwrap_or_default();
        let count = rest.partition_point(|known| known.node.name() == name);
        rest.get(..count).unwrap_or_default()
    }

    /// The tree of a subdirectory in the best parent, and what it holds in all of them.
    pub fn enter(&mut self, shared: &Shared, name: &[u8]) -> (Option<BlobId>, Vec<ParentTree>) {
        let found = self.find(name).iter();
        let mut trees: Vec<(BlobId, Timestamp)> = found
            .filter_map(|known| Some((known.node.subtree?, known.begun)))
            .collect();
        // Of the same tree in two parents the better one counts; at worst files are read once more.
        trees.dedup_by_key(|(tree, _)| *tree);
        let mut all = Vec::new();
        for (tree, begun) in &trees {
            let nodes = match self.asked.remove(tree) {
                Some(answer) => wait(shared, &answer),
                None => None,
            };
            self.later.retain(|later| later != tree);
            self.read_ahead(shared);
            let nodes = nodes.or_else(|| shared.repository.read_tree(*tree).ok());
            let (nodes, begun) = (nodes.unwrap_or_default(), *begun);
            all.push(ParentTree { nodes, begun });
        }
        (trees.first().map(|(tree, _)| *tree), all)
    }
}

/// Waits for an answer, and meanwhile does what the workers have not come to.
fn wait(shared: &Shared, answer: &Receiver<Vec<Node>>) -> Option<Vec<Node>> {
    loop {
        if let Ok(nodes) = answer.try_recv() {
            return Some(nodes);
        }
        match shared.trees.1.try_recv() {
            Ok(job) => job.run(shared),
            // A worker has it; without an answer, it could not be read.
            Err(_none_waits) => return answer.recv().ok(),
        }
    }
}

/// The queue between those who want trees and the workers.
pub fn queue() -> (Sender<TreeJob>, Receiver<TreeJob>) {
    bounded(2 * AHEAD_MAX)
}
