//! What differs between two stored trees.
//!
//! Invariant: equal trees are told apart from others by their ids alone, without reading them.

use std::cmp::Ordering;

use refloat_model::cancel::Cancel;
use refloat_model::tree_path::TreePath;
use refloat_repository::{BlobId, IndexedRepository, Node, RepositoryError, TreesAhead};
use serde::Serialize;

/// How an entry differs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Only the second tree has it.
    Added,
    /// Only the first tree has it.
    Removed,
    /// It is of another kind: a link became a file.
    Kind,
    /// Its content differs, or where a link points.
    Content,
    /// Its owner, mode, times or attributes differ.
    Metadata,
}

/// One entry that differs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    /// Where, below the roots that are compared.
    pub path: TreePath,
    /// How.
    pub change: Change,
    /// Bytes in the first tree; none if it is no file there.
    pub bytes_before: Option<u64>,
    /// Bytes in the second tree; none if it is no file there.
    pub bytes_after: Option<u64>,
}

/// Compares two directories, the first with what it became. Differences come in the order of
/// paths within each directory, directories before what they hold.
///
/// # Errors
/// A tree that differs cannot be read, or the run was cancelled.
pub fn diff(
    repository: &IndexedRepository,
    before: BlobId,
    after: BlobId,
    cancel: &Cancel,
) -> Result<Vec<Difference>, RepositoryError> {
    let mut differences = Vec::new();
    let mut waiting = vec![(TreePath::root(), Some(before), Some(after))];
    let trees = TreesAhead::new(repository);
    while let Some((path, before, after)) = waiting.pop() {
        cancel.check()?;
        if before == after {
            continue;
        }
        let read = |tree: Option<BlobId>| {
            tree.map_or_else(|| Ok(Vec::new()), |tree| trees.read_tree(tree))
        };
        let mut below = Vec::new();
        for (old, new) in pairs(read(before)?, read(after)?) {
            let Some(node) = new.as_ref().or(old.as_ref()) else {
                continue;
            };
            let Ok(path) = path.clone().join(node.name()) else {
                continue;
            };
            differences.extend(compare(&path, old.as_ref(), new.as_ref()));
            let tree = |node: Option<&Node>| node.and_then(|n| n.subtree);
            below.push((path, tree(old.as_ref()), tree(new.as_ref())));
        }
        let differ = below.iter().filter(|(_, old, new)| old != new);
        trees.expect(differ.flat_map(|(_, old, new)| [*old, *new]).flatten());
        waiting.extend(below.into_iter().rev());
    }
    Ok(differences)
}

/// Merges two directories, both sorted by name.
pub(crate) fn pairs(before: Vec<Node>, after: Vec<Node>) -> Vec<(Option<Node>, Option<Node>)> {
    let mut pairs = Vec::with_capacity(before.len().max(after.len()));
    let (mut before, mut after) = (before.into_iter().peekable(), after.into_iter().peekable());
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return pairs,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.name().cmp(new.name()),
        };
        pairs.push(match order {
            Ordering::Less => (before.next(), None),
            Ordering::Greater => (None, after.next()),
            Ordering::Equal => (before.next(), after.next()),
        });
    }
}

fn compare(path: &TreePath, before: Option<&Node>, after: Option<&Node>) -> Option<Difference> {
    let change = match (before, after) {
        (None, _) => Change::Added,
        (_, None) => Change::Removed,
        (Some(old), Some(new)) => change(old, new)?,
    };
    let bytes = |node: Option<&Node>| {
        node.filter(|n| matches!(n.entry.kind, refloat_model::entry::EntryKind::File { .. }))
            .map(Node::size)
    };
    Some(Difference {
        path: path.clone(),
        change,
        bytes_before: bytes(before),
        bytes_after: bytes(after),
    })
}

fn change(old: &Node, new: &Node) -> Option<Change> {
    if std::mem::discriminant(&old.entry.kind) != std::mem::discriminant(&new.entry.kind) {
        return Some(Change::Kind);
    }
    if old.entry.kind != new.entry.kind || old.content != new.content {
        return Some(Change::Content);
    }
    // The change time of the inode and its number cannot be restored and tell nothing.
    let (old, new) = (&old.entry.metadata, &new.entry.metadata);
    let same = old.mode == new.mode
        && (old.uid, old.gid) == (new.uid, new.gid)
        && old.modified == new.modified
        && old.xattrs == new.xattrs;
    (!same).then_some(Change::Metadata)
}
