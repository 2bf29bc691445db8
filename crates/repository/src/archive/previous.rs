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

use super::Shared;
use crate::blobs::BlobReader as _;
use crate::format::tree::Node;
use crate::id::BlobId;

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
    nodes: Vec<Node>,
    /// Subtrees still to be asked for, the next at the end.
    later: Vec<BlobId>,
    asked: HashMap<BlobId, Receiver<Vec<Node>>>,
}

impl Previous {
    /// Of a directory at this depth.
    pub fn new(shared: &Shared, mut nodes: Vec<Node>, depth: usize) -> Self {
        nodes.sort_by(|a, b| a.name().cmp(b.name()));
        let mut previous = Self {
            nodes,
            ..Self::default()
        };
        // Storage that takes one call at a time has nothing to win by more of them.
        if depth < AHEAD_LEVELS_MAX && shared.repository.storage().connections() > 1 {
            let mut subtrees: Vec<(u64, BlobId)> = previous
                .nodes
                .iter()
                .filter_map(|node| Some((node.entry.metadata.inode, node.subtree?)))
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
    pub fn find(&self, name: &[u8]) -> &[Node] {
        let start = self.nodes.partition_point(|node| node.name() < name);
        let rest = self.nodes.get(start..).unwrap_or_default();
        let count = rest.partition_point(|node| node.name() == name);
        rest.get(..count).unwrap_or_default()
    }

    /// The tree of a subdirectory in the best parent, and what it holds in all of them.
    pub fn enter(&mut self, shared: &Shared, name: &[u8]) -> (Option<BlobId>, Vec<Node>) {
        let found = self.find(name).iter();
        let mut trees: Vec<BlobId> = found.filter_map(|node| node.subtree).collect();
        trees.dedup();
        let mut all = Vec::new();
        for tree in &trees {
            let nodes = match self.asked.remove(tree) {
                Some(answer) => wait(shared, &answer),
                None => None,
            };
            self.later.retain(|later| later != tree);
            self.read_ahead(shared);
            let nodes = nodes.or_else(|| shared.repository.read_tree(*tree).ok());
            match all.is_empty() {
                true => all = nodes.unwrap_or_default(),
                false => all.extend(nodes.unwrap_or_default()),
            }
        }
        (trees.first().copied(), all)
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
