//! Counting what a tree holds, for dry runs and checks of space.
//!
//! Invariant: every distinct tree is read once, however often it occurs.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use refloat_model::cancel::Cancel;

use crate::error::RepositoryError;
use crate::format::tree::Node;
use crate::id::BlobId;
use crate::parallel::{lock, threads};
use crate::repository::IndexedRepository;
use crate::tree_walk::{IndexedTrees, walk};
use crate::zeros::hole_bytes;

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
    /// Those of them that are known to be zeros and are restored as holes.
    pub hole_bytes: u64,
    /// Directories of which cannot be read what they hold: that is counted nowhere else.
    pub unreadable: u64,
}

impl Survey {
    fn add(&mut self, other: Self) {
        self.files = self.files.saturating_add(other.files);
        self.directories = self.directories.saturating_add(other.directories);
        self.others = self.others.saturating_add(other.others);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.hole_bytes = self.hole_bytes.saturating_add(other.hole_bytes);
        self.unreadable = self.unreadable.saturating_add(other.unreadable);
    }

    /// What is in these entries, without what is below them.
    #[must_use]
    pub fn of(nodes: &[Node]) -> Self {
        let mut survey = Self::default();
        for node in nodes {
            match node.entry.kind {
                refloat_model::entry::EntryKind::Directory => survey.directories += 1,
                refloat_model::entry::EntryKind::File { size } => {
                    survey.files += 1;
                    survey.bytes = survey.bytes.saturating_add(size);
                    // A hostile tree may state any size beside its content.
                    let holes = hole_bytes(&node.content).min(size);
                    survey.hole_bytes = survey.hole_bytes.saturating_add(holes);
                }
                _ => survey.others += 1,
            }
        }
        survey
    }
}

/// What some entries hold, and each tree below them: looked at once, asked about more often.
#[derive(Clone, Debug, Default)]
pub struct Surveys {
    total: Survey,
    trees: HashMap<BlobId, Counted>,
}

impl Surveys {
    /// What all entries hold.
    #[must_use]
    pub const fn total(&self) -> Survey {
        self.total
    }

    /// What one of the entries, or one below them, holds: itself and all below it.
    #[must_use]
    pub fn of(&self, node: &Node) -> Survey {
        let mut survey = Survey::of(std::slice::from_ref(node));
        if let Some(below) = node.subtree.and_then(|tree| self.trees.get(&tree)) {
            survey.add(below.survey);
        }
        survey
    }
}

/// A tree that was read: itself, and once that is summed up, with all below it.
#[derive(Clone, Debug)]
struct Counted {
    survey: Survey,
    below: Vec<BlobId>,
    is_summed: bool,
}

impl Counted {
    fn unreadable() -> Self {
        let survey = Survey {
            unreadable: 1,
            ..Survey::default()
        };
        Self {
            survey,
            below: Vec::new(),
            is_summed: true,
        }
    }
}

/// Counts what is in and below `nodes`, reading on all processors.
///
/// A hostile repository can state 2^40 paths in forty trees; since each tree is read once and
/// counts are summed, that costs nothing. A tree that is lost or damaged is
/// [counted](Survey::unreadable): all else can be restored.
///
/// # Errors
/// The storage as such cannot be read, or the run was cancelled.
pub fn survey(
    repository: &IndexedRepository,
    nodes: &[Node],
    cancel: &Cancel,
) -> Result<Surveys, RepositoryError> {
    let roots = subtrees(nodes);
    let mut total = Survey::of(nodes);
    if roots.is_empty() {
        let trees = HashMap::new();
        return Ok(Surveys { total, trees });
    }
    let counted = Mutex::new(HashMap::new());
    let trees = IndexedTrees::new(repository);
    let threads = threads(repository.storage());
    walk(
        &trees,
        roots.iter().copied(),
        threads,
        cancel,
        |tree, nodes| {
            let tree_counted = match nodes {
                Ok(nodes) => Counted {
                    survey: Survey::of(nodes),
                    below: subtrees(nodes),
                    is_summed: false,
                },
                Err(error) if error.is_of_one_thing() => Counted::unreadable(),
                Err(error) => return Err(error),
            };
            lock(&counted).insert(tree, tree_counted);
            Ok(())
        },
    )?;
    drop(trees);
    let mut counted = counted.into_inner().unwrap_or_else(PoisonError::into_inner);
    for root in roots {
        sum_up(root, &mut counted);
        total.add(
            counted
                .get(&root)
                .map(|tree| tree.survey)
                .unwrap_or_default(),
        );
    }
    Ok(Surveys {
        total,
        trees: counted,
    })
}

fn subtrees(nodes: &[Node]) -> Vec<BlobId> {
    nodes.iter().filter_map(|node| node.subtree).collect()
}

/// Sums up a tree and all trees below it, those first; a stack of our own, since trees may be deep.
fn sum_up(root: BlobId, counted: &mut HashMap<BlobId, Counted>) {
    let mut open = vec![(root, None)];
    while let Some((tree, below)) = open.pop() {
        let Some(this) = counted.get_mut(&tree).filter(|this| !this.is_summed) else {
            continue;
        };
        let Some(below) = below else {
            let below = std::mem::take(&mut this.below);
            let first = below.iter().map(|tree| (*tree, None)).collect::<Vec<_>>();
            open.push((tree, Some(below)));
            open.extend(first);
            continue;
        };
        let mut sum = this.survey;
        let parts = below.iter().filter_map(|tree| counted.get(tree));
        parts.for_each(|part| sum.add(part.survey));
        if let Some(this) = counted.get_mut(&tree) {
            (this.survey, this.is_summed) = (sum, true);
        }
    }
}
