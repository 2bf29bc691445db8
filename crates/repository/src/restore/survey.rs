//! Counting what a tree holds, for dry runs and checks of space.
//!
//! Invariant: every distinct tree is read once, however often it occurs. A file with several names is
//! counted once with its bytes, since it is written once.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use refloat_model::cancel::Cancel;
use refloat_model::entry::EntryKind;

use super::names::CountedFiles;
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
    /// Content bytes; of a file with several names once.
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

    /// What is in these entries, without what is below them; bytes of files that `counted` does not know.
    #[must_use]
    pub fn of(nodes: &[Node], counted: &CountedFiles) -> Self {
        let [mut survey, linked] = Self::apart(nodes, counted);
        survey.add(linked);
        survey
    }

    /// As [`of`](Self::of); second the bytes of files that have several names.
    fn apart(nodes: &[Node], counted: &CountedFiles) -> [Self; 2] {
        let (mut survey, mut linked) = (Self::default(), Self::default());
        for node in nodes {
            match node.entry.kind {
                EntryKind::Directory => survey.directories += 1,
                EntryKind::File { size } => {
                    survey.files += 1;
                    let into = match CountedFiles::has_names(node) {
                        true => &mut linked,
                        false => &mut survey,
                    };
                    if counted.is_first(node) {
                        into.bytes = into.bytes.saturating_add(size);
                        // A hostile tree may state any size beside its content.
                        let holes = hole_bytes(&node.content).min(size);
                        into.hole_bytes = into.hole_bytes.saturating_add(holes);
                    }
                }
                _ => survey.others += 1,
            }
        }
        [survey, linked]
    }
}

/// What some entries hold, and each tree below them: looked at once, asked about more often.
#[derive(Clone, Debug, Default)]
pub struct Surveys {
    total: Survey,
    trees: HashMap<BlobId, Counted>,
    /// Whether any file below them has several names.
    has_linked: bool,
}

impl Surveys {
    /// What all entries hold.
    #[must_use]
    pub const fn total(&self) -> Survey {
        self.total
    }

    /// What one of the entries, or one below them, holds: itself and all below it. Files with several
    /// names count with trees that are not among `met`, which these trees then are.
    #[must_use]
    pub fn of(&self, node: &Node, met: &mut HashSet<BlobId>) -> Survey {
        let mut survey = Survey::of(std::slice::from_ref(node), &CountedFiles::default());
        if let Some(below) = node.subtree.and_then(|tree| self.trees.get(&tree)) {
            survey.add(below.survey);
        }
        let mut open: Vec<BlobId> = match self.has_linked {
            true => node.subtree.into_iter().collect(),
            false => Vec::new(),
        };
        while let Some(tree) = open.pop() {
            if let Some(counted) = self.trees.get(&tree).filter(|_| met.insert(tree)) {
                survey.add(counted.linked);
                open.extend(&counted.below);
            }
        }
        survey
    }
}

/// A tree that was read: itself, and once that is summed up, with all below it.
#[derive(Clone, Debug)]
struct Counted {
    /// Without the bytes of files that have several names.
    survey: Survey,
    /// Those bytes, as far as they count here and not in another tree; never summed up, since copies
    /// made of hard links are one tree in many places.
    linked: Survey,
    below: Vec<BlobId>,
    is_summed: bool,
}

impl Counted {
    fn of(nodes: &[Node], files: &CountedFiles) -> Self {
        let [survey, linked] = Survey::apart(nodes, files);
        Self {
            survey,
            linked,
            below: subtrees(nodes),
            is_summed: false,
        }
    }

    fn unreadable() -> Self {
        let survey = Survey {
            unreadable: 1,
            ..Survey::default()
        };
        Self {
            survey,
            linked: Survey::default(),
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
    let files = CountedFiles::default();
    let mut total = Survey::of(nodes, &files);
    if roots.is_empty() {
        let trees = Surveys::default();
        return Ok(Surveys { total, ..trees });
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
                Ok(nodes) => Counted::of(nodes, &files),
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
    let mut linked = Survey::default();
    counted.values().for_each(|tree| linked.add(tree.linked));
    total.add(linked);
    Ok(Surveys {
        total,
        trees: counted,
        has_linked: linked.bytes > 0,
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
            (this.survey, this.below, this.is_summed) = (sum, below, true);
        }
    }
}
