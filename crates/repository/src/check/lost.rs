//! Which blobs that snapshots need are lost, and under which paths.
//!
//! Invariant: trees without a loss below them are read once; a tree with one is read again for
//! every path that leads to it, because each such path is a line of the report.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_model::tree_path::TreePath;

use super::finding::{BlobLoss, CheckFinding, chain};
use super::report::{LostEntry, LostPath};
use crate::error::RepositoryError;
use crate::format::pack::BlobKind;
use crate::format::tree::Node;
use crate::id::{BlobId, SnapshotId};
use crate::parallel::lock;
use crate::tree_walk::{CatalogueTrees, TreeSource, walk};

/// How many lost paths are listed.
const PATHS_LISTED_MAX: usize = 100_000;

/// Why a tree is lost.
enum TreeLoss {
    Blob(BlobLoss),
    Invalid(String),
}

/// What is lost.
#[derive(Default)]
pub struct Losses {
    data: BTreeMap<BlobId, BlobLoss>,
    trees: BTreeMap<BlobId, TreeLoss>,
    /// Trees that nobody can read now and that may be whole, and why. What is below them is unknown.
    withheld: BTreeMap<BlobId, RepositoryError>,
    pub trees_seen: u64,
}

/// Where losses show.
#[derive(Default)]
pub struct Located {
    pub paths: Vec<LostPath>,
    pub is_cut: bool,
    /// By blob: listed paths, and snapshots of those.
    counts: HashMap<BlobId, Need>,
}

#[derive(Default)]
struct Need {
    paths: u64,
    snapshots: u64,
    last: Option<SnapshotId>,
}

/// Visits every tree once and notes every blob that cannot be read.
pub fn find(
    trees: &CatalogueTrees<'_>,
    roots: &[(SnapshotId, BlobId)],
    threads: usize,
    counters: &Counters,
    cancel: &Cancel,
) -> Result<Losses, RepositoryError> {
    let losses = Mutex::new(Losses::default());
    let seen = AtomicU64::new(0);
    let roots = roots.iter().map(|(_, tree)| *tree);
    walk(trees, roots, threads, cancel, |tree, nodes| {
        seen.fetch_add(1, Ordering::Relaxed);
        Counters::add(&counters.entries_done, 1);
        match nodes {
            Ok(nodes) => {
                for blob in nodes.iter().flat_map(|node| node.content.iter()) {
                    if let Some(loss) = loss_of(trees, BlobKind::Data, blob) {
                        let _known = lock(&losses).data.insert(*blob, loss);
                    }
                }
                Ok(())
            }
            Err(error) => lock(&losses).add_tree(trees, tree, error),
        }
    })?;
    let mut losses = losses
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    losses.trees_seen = seen.into_inner();
    Ok(losses)
}

/// Why a blob cannot be read; none if it can, as far as packs were read.
fn loss_of(trees: &CatalogueTrees<'_>, kind: BlobKind, blob: &BlobId) -> Option<BlobLoss> {
    let mut copies = trees.catalogue.copies(kind, blob);
    if copies.is_empty() {
        return Some(BlobLoss::NotIndexed);
    }
    copies
        .all(|row| trees.bad.contains(row))
        .then_some(BlobLoss::Damaged)
}

impl Losses {
    fn add_tree(
        &mut self,
        trees: &CatalogueTrees<'_>,
        tree: BlobId,
        error: RepositoryError,
    ) -> Result<(), RepositoryError> {
        let loss = match &error {
            RepositoryError::InvalidTree { .. } => {
                TreeLoss::Invalid(std::error::Error::source(&error).map_or_else(String::new, chain))
            }
            RepositoryError::Storage(storage) if storage.is_of_the_storage() => {
                return Err(error);
            }
            error_of_one if !error_of_one.is_damage() => {
                let _known = self.withheld.insert(tree, error);
                return Ok(());
            }
            _ => TreeLoss::Blob(loss_of(trees, BlobKind::Tree, &tree).unwrap_or(BlobLoss::Damaged)),
        };
        let _known = self.trees.insert(tree, loss);
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.data.is_empty() && self.trees.is_empty()
    }

    /// Whether a file's content is whole.
    pub fn spares(&self, node: &Node) -> bool {
        !node.content.iter().any(|blob| self.data.contains_key(blob))
    }

    /// Whether a tree cannot be read.
    pub fn has_tree(&self, tree: &BlobId) -> bool {
        self.trees.contains_key(tree)
    }

    /// Whether nobody can tell now what is below a tree.
    fn withholds(&self, tree: &BlobId) -> bool {
        self.withheld.contains_key(tree)
    }

    /// Why nobody can tell now what all is lost; none if that is known.
    pub fn take_obstacle(&mut self) -> Option<RepositoryError> {
        self.withheld.pop_first().map(|(_, error)| error)
    }

    pub fn findings(self, located: &Located) -> Vec<CheckFinding> {
        let need = |blob: &BlobId| {
            let need = located.counts.get(blob);
            need.map_or((0, 0), |need| (need.paths, need.snapshots))
        };
        let missing = |kind, blob, loss| {
            let (paths, snapshots) = need(&blob);
            CheckFinding::MissingBlob {
                kind,
                blob,
                loss,
                paths,
                snapshots,
            }
        };
        let withheld = self.withheld.into_iter();
        let mut findings: Vec<CheckFinding> = withheld
            .map(|(tree, error)| CheckFinding::WithheldTree {
                tree,
                cause: chain(&error),
            })
            .collect();
        let data = self.data.into_iter();
        findings.extend(data.map(|(blob, loss)| missing(BlobKind::Data, blob, loss)));
        findings.extend(self.trees.into_iter().map(|(tree, loss)| match loss {
            TreeLoss::Blob(loss) => missing(BlobKind::Tree, tree, loss),
            TreeLoss::Invalid(cause) => {
                let (paths, snapshots) = need(&tree);
                CheckFinding::InvalidTree {
                    tree,
                    cause,
                    paths,
                    snapshots,
                }
            }
        }));
        findings
    }
}

/// A directory on the way down.
struct Frame {
    tree: BlobId,
    path: TreePath,
    subdirectories: Vec<(Vec<u8>, BlobId)>,
    has_loss: bool,
}

/// Lists every path that needs something lost, by snapshot.
pub fn locate(
    trees: &impl TreeSource,
    roots: &[(SnapshotId, BlobId)],
    losses: &Losses,
    cancel: &Cancel,
) -> Result<Located, RepositoryError> {
    let mut located = Located::default();
    if losses.is_empty() {
        return Ok(located);
    }
    let mut clean = HashSet::new();
    for (snapshot, root) in roots {
        located.walk(trees, *snapshot, *root, losses, &mut clean, cancel)?;
        if located.is_cut {
            break;
        }
    }
    located.paths.sort();
    Ok(located)
}

/// All snapshots, with their roots, that need something lost, also those whose paths were too many to list. Each tree is
/// read once.
pub fn affected(
    trees: &impl TreeSource,
    roots: &[(SnapshotId, BlobId)],
    losses: &Losses,
    cancel: &Cancel,
) -> Result<Vec<(SnapshotId, BlobId)>, RepositoryError> {
    let mut known = HashMap::new();
    let mut affected = Vec::new();
    for (snapshot, root) in roots {
        if lacks_something(trees, *root, losses, &mut known, cancel)? {
            affected.push((*snapshot, *root));
        }
    }
    Ok(affected)
}

/// Whether anything below a tree is lost.
fn lacks_something(
    trees: &impl TreeSource,
    root: BlobId,
    losses: &Losses,
    known: &mut HashMap<BlobId, bool>,
    cancel: &Cancel,
) -> Result<bool, RepositoryError> {
    let mut levels = vec![(root, None::<Vec<BlobId>>, false)];
    while let Some((tree, below, lacks)) = levels.last_mut() {
        cancel.check()?;
        let below = match below {
            Some(below) => below,
            None if losses.has_tree(tree) => {
                *lacks = true;
                below.insert(Vec::new())
            }
            None if losses.withholds(tree) => below.insert(Vec::new()),
            None => {
                let nodes = trees.read(*tree)?;
                *lacks = nodes.iter().any(|node| !losses.spares(node));
                below.insert(nodes.iter().filter_map(|node| node.subtree).collect())
            }
        };
        match below.pop() {
            Some(next) => match known.get(&next) {
                Some(found) => *lacks |= *found,
                None => levels.push((next, None, false)),
            },
            None => {
                let (tree, lacks) = (*tree, *lacks);
                known.insert(tree, lacks);
                levels.pop();
                if let Some((_, _, above)) = levels.last_mut() {
                    *above |= lacks;
                }
            }
        }
    }
    Ok(known.get(&root).copied().unwrap_or(false))
}

impl Located {
    fn walk(
        &mut self,
        trees: &impl TreeSource,
        snapshot: SnapshotId,
        root: BlobId,
        losses: &Losses,
        clean: &mut HashSet<BlobId>,
        cancel: &Cancel,
    ) -> Result<(), RepositoryError> {
        if losses.withholds(&root) {
            return Ok(());
        }
        if losses.has_tree(&root) {
            self.add(snapshot, TreePath::root(), LostEntry::Directory, [root]);
            return Ok(());
        }
        let mut frames = vec![self.open(trees, snapshot, root, TreePath::root(), losses)?];
        while let Some(frame) = frames.last_mut() {
            cancel.check()?;
            if self.is_cut {
                return Ok(());
            }
            if let Some((name, tree)) = frame.subdirectories.pop() {
                if clean.contains(&tree) || losses.withholds(&tree) {
                    continue;
                }
                let path = below(&frame.path, &name);
                if losses.has_tree(&tree) {
                    frame.has_loss = true;
                    self.add(snapshot, path, LostEntry::Directory, [tree]);
                    continue;
                }
                frames.push(self.open(trees, snapshot, tree, path, losses)?);
            } else if let Some(done) = frames.pop() {
                if !done.has_loss {
                    clean.insert(done.tree);
                } else if let Some(above) = frames.last_mut() {
                    above.has_loss = true;
                }
            }
        }
        Ok(())
    }

    /// Reads a directory and lists the files in it that are lost.
    fn open(
        &mut self,
        trees: &impl TreeSource,
        snapshot: SnapshotId,
        tree: BlobId,
        path: TreePath,
        losses: &Losses,
    ) -> Result<Frame, RepositoryError> {
        let mut frame = Frame {
            tree,
            path,
            subdirectories: Vec::new(),
            has_loss: false,
        };
        for node in trees.read(tree)? {
            if let Some(subtree) = node.subtree {
                frame.subdirectories.push((node.entry.name, subtree));
            } else if !losses.spares(&node) {
                frame.has_loss = true;
                let blobs: HashSet<BlobId> = node.content.iter().copied().collect();
                let lost = blobs
                    .into_iter()
                    .filter(|blob| losses.data.contains_key(blob));
                let path = below(&frame.path, node.name());
                self.add(snapshot, path, LostEntry::File, lost);
            }
        }
        Ok(frame)
    }

    fn add(
        &mut self,
        snapshot: SnapshotId,
        path: TreePath,
        entry: LostEntry,
        blobs: impl IntoIterator<Item = BlobId>,
    ) {
        if self.paths.len() >= PATHS_LISTED_MAX {
            self.is_cut = true;
            return;
        }
        for blob in blobs {
            let need = self.counts.entry(blob).or_default();
            need.paths += 1;
            if need.last != Some(snapshot) {
                need.snapshots += 1;
                need.last = Some(snapshot);
            }
        }
        self.paths.push(LostPath {
            snapshot,
            path,
            entry,
        });
    }
}

/// The path of an entry; decoded trees hold no name that could not stand in one.
fn below(path: &TreePath, name: &[u8]) -> TreePath {
    let joined = path.clone().join(name);
    joined.unwrap_or_else(|_invalid| path.child(&String::from_utf8_lossy(name)))
}
