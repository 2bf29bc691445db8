//! Counting what a tree holds, for dry runs and checks of space.
//!
//! Invariant: every distinct tree is read once, however often it occurs.

use std::collections::HashMap;

use refloat_model::cancel::Cancel;

use crate::blobs::BlobReader as _;
use crate::error::RepositoryError;
use crate::format::tree::Node;
use crate::id::BlobId;
use crate::repository::IndexedRepository;

/// What a tree holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Survey {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Links, devices, pipes, sockets.
    pub others: u64,
    /// Content bytes.
    pub bytes: u64,
}

impl Survey {
    fn add(&mut self, other: Self) {
        self.files = self.files.saturating_add(other.files);
        self.directories = self.directories.saturating_add(other.directories);
        self.others = self.others.saturating_add(other.others);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    fn of(nodes: &[Node]) -> Self {
        let mut survey = Self::default();
        for node in nodes {
            match node.entry.kind {
                refloat_model::entry::EntryKind::Directory => survey.directories += 1,
                refloat_model::entry::EntryKind::File { size } => {
                    survey.files += 1;
                    survey.bytes = survey.bytes.saturating_add(size);
                }
                _ => survey.others += 1,
            }
        }
        survey
    }
}

/// Counts what is in and below `nodes`.
///
/// A hostile repository can state 2^40 paths in forty trees; since each tree is read once and
/// counts are summed, that costs nothing.
///
/// # Errors
/// A tree cannot be read, trees contain each other, or the run was cancelled.
pub fn survey(
    repository: &IndexedRepository,
    nodes: &[Node],
    cancel: &Cancel,
) -> Result<Survey, RepositoryError> {
    let mut done: HashMap<BlobId, Survey> = HashMap::new();
    let mut total = Survey::of(nodes);
    let subtrees = |nodes: &[Node]| nodes.iter().filter_map(|n| n.subtree).collect::<Vec<_>>();
    for root in subtrees(nodes) {
        // Post-order without recursion: a tree is counted when all trees below it are.
        let mut open = vec![(root, None::<(Survey, Vec<BlobId>)>)];
        while let Some((tree, state)) = open.pop() {
            cancel.check()?;
            if done.contains_key(&tree) {
                continue;
            }
            if let Some((own, below)) = state {
                let mut sum = own;
                below
                    .iter()
                    .filter_map(|id| done.get(id))
                    .for_each(|survey| sum.add(*survey));
                done.insert(tree, sum);
                continue;
            }
            let nodes = repository.read_tree(tree)?;
            let below = subtrees(&nodes);
            open.push((tree, Some((Survey::of(&nodes), below.clone()))));
            open.extend(below.into_iter().map(|id| (id, None)));
        }
        total.add(done.get(&root).copied().unwrap_or_default());
    }
    Ok(total)
}
