//! Rewriting snapshots without what is lost for good.
//!
//! A file of which any blob is lost goes as a whole, and so does a directory whose tree is lost:
//! half a file, or an empty directory where data was, would look like what was saved. The new
//! snapshot names the old one as its `original` and is tagged.
//!
//! Invariant: every path that the new snapshot lacks is in the plan, up to a bound that is told; the old
//! snapshot is deleted only when asked, and only after the new one is stored.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;

use crate::archive::{ArchiveOptions, Archiver};
use crate::catalogue::Catalogue;
use crate::check::lost::{self, Losses};
use crate::check::packs::PackCheck;
use crate::check::{LostPath, ReadData, load_snapshots};
use crate::error::RepositoryError;
use crate::forget::{ForgetOutcome, forget};
use crate::format::snapshot::SnapshotFile;
use crate::format::tree::Node;
use crate::id::{BlobId, SnapshotId};
use crate::lock::Lock;
use crate::parallel::threads;
use crate::repository::{IndexedRepository, Repository};
use crate::tree_walk::{BitSet, CatalogueTrees, TreeSource as _};
use refloat_storage::FileKind;

/// The tag of a snapshot that lacks something its original had.
pub const REPAIRED_TAG: &str = "repaired";

/// What happens to a snapshot that was rewritten.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OldSnapshots {
    /// It stays.
    #[default]
    Keep,
    /// It is deleted.
    Delete,
}

/// What repairing snapshots will do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SnapshotRepairPlan {
    /// Snapshots that are rewritten, with every path that is lost, as far as they are listed.
    pub rewrite: BTreeMap<SnapshotId, Vec<LostPath>>,
    /// Snapshots whose root is lost: there is nothing to rewrite.
    pub hopeless: Vec<SnapshotId>,
    /// Snapshot files that cannot be read.
    pub unreadable: Vec<SnapshotId>,
    /// Whether there are more lost paths than are listed.
    pub lost_is_cut: bool,
}

/// A snapshot that was rewritten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RepairedSnapshot {
    /// The one that lost something.
    pub old: SnapshotId,
    /// The one without what is lost.
    pub new: SnapshotId,
    /// What became of the old one; none if it was not to be deleted.
    pub deletion: Option<ForgetOutcome>,
}

/// A plan with what is needed to execute it.
pub struct PreparedSnapshotRepair {
    plan: SnapshotRepairPlan,
    snapshots: Vec<(SnapshotId, SnapshotFile)>,
    catalogue: Catalogue,
    bad: BitSet,
    losses: Losses,
}

impl std::fmt::Debug for PreparedSnapshotRepair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreparedSnapshotRepair")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

/// Finds out which snapshots lost what. Nothing is written.
///
/// Damage within packs is known only as far as data is read; after index and packs were repaired,
/// nothing needs to be.
///
/// # Errors
/// An index is damaged (repair it first), storage failed, or it refuses something: what nobody may read is not lost.
pub fn plan_snapshot_repair(
    repository: &Repository,
    read_data: ReadData,
    counters: &Counters,
    cancel: &Cancel,
) -> Result<PreparedSnapshotRepair, RepositoryError> {
    let threads = threads(repository.storage());
    let snapshots = load_snapshots(repository, threads)?;
    let mut catalogue = Catalogue::load(repository, threads)?;
    if let Some((_, error)) = catalogue.unreadable.pop() {
        return Err(error);
    }
    let bad = BitSet::new(catalogue.rows().len());
    let packs = PackCheck {
        repository,
        catalogue: &catalogue,
        bad: &bad,
        threads,
        counters,
        cancel,
    };
    let _findings = packs.run(&repository.storage().list(FileKind::Pack)?, read_data)?;
    let trees = CatalogueTrees::new(repository, &catalogue, &bad);
    let roots = snapshots.roots();
    let mut losses = lost::find(&trees, &roots, threads, counters, cancel)?;
    if let Some(error) = losses.take_obstacle() {
        return Err(error);
    }
    let located = lost::locate(&trees, &roots, &losses, cancel)?;
    let mut plan = SnapshotRepairPlan {
        unreadable: snapshots.unreadable.iter().map(|(id, _)| *id).collect(),
        lost_is_cut: located.is_cut,
        ..SnapshotRepairPlan::default()
    };
    for lost in located.paths {
        if lost.path.components().is_empty() {
            plan.hopeless.push(lost.snapshot);
        } else {
            plan.rewrite.entry(lost.snapshot).or_default().push(lost);
        }
    }
    if plan.lost_is_cut {
        for (snapshot, root) in lost::affected(&trees, &roots, &losses, cancel)? {
            if !losses.has_tree(&root) {
                plan.rewrite.entry(snapshot).or_default();
            } else if !plan.hopeless.contains(&snapshot) {
                plan.hopeless.push(snapshot);
            }
        }
    }
    Ok(PreparedSnapshotRepair {
        plan,
        snapshots: snapshots.readable,
        catalogue,
        bad,
        losses,
    })
}

impl PreparedSnapshotRepair {
    /// The plan.
    #[must_use]
    pub const fn plan(&self) -> &SnapshotRepairPlan {
        &self.plan
    }

    /// Executes the plan. A shared lock is enough.
    ///
    /// Crash behaviour: new trees without a snapshot are waste; a repetition finds snapshots that
    /// were rewritten and does not write them twice.
    ///
    /// # Errors
    /// The lock is lost, or storage failed; what was rewritten until then stays.
    pub fn execute(
        self,
        repository: IndexedRepository,
        lock: &Lock,
        old: OldSnapshots,
        counters: &Arc<Counters>,
        cancel: &Cancel,
    ) -> Result<Vec<RepairedSnapshot>, RepositoryError> {
        let mut repaired = Vec::new();
        if self.plan.rewrite.is_empty() {
            return Ok(repaired);
        }
        let options = ArchiveOptions::default();
        let archiver = Archiver::start(
            repository.clone(),
            options,
            Arc::clone(counters),
            cancel.clone(),
        )?;
        let trees = CatalogueTrees::new(&repository, &self.catalogue, &self.bad);
        let mut rewriting = Rewriting {
            trees: &trees,
            losses: &self.losses,
            archiver: &archiver,
            cancel,
            done: HashMap::new(),
        };
        let mut rewritten = Vec::new();
        for (id, snapshot) in &self.snapshots {
            if let (true, Some(root)) = (self.plan.rewrite.contains_key(id), snapshot.tree) {
                rewritten.push((*id, without_losses(*id, snapshot, rewriting.rewrite(root)?)));
            }
        }
        let archived = archiver.finish()?;
        for (id, snapshot) in rewritten {
            let twin = self
                .snapshots
                .iter()
                .find(|(_, known)| is_twin(known, &snapshot));
            let new = match twin {
                Some((twin, _)) => *twin,
                None => archived.publish(lock, &snapshot)?,
            };
            repaired.push(RepairedSnapshot {
                old: id,
                new,
                deletion: None,
            });
        }
        if old == OldSnapshots::Delete {
            for snapshot in &mut repaired {
                let outcomes = forget(&repository, lock, &[snapshot.old])?;
                snapshot.deletion = outcomes.first().map(|(_, outcome)| *outcome);
            }
        }
        Ok(repaired)
    }
}

fn without_losses(id: SnapshotId, old: &SnapshotFile, tree: BlobId) -> SnapshotFile {
    let mut new = old.clone();
    new.tree = Some(tree);
    new.original = Some(old.original.unwrap_or(id));
    let tags = new.tags.get_or_insert_default();
    if !tags.iter().any(|tag| tag == REPAIRED_TAG) {
        tags.push(REPAIRED_TAG.to_owned());
    }
    new
}

/// Whether a snapshot is what another was rewritten to, in an earlier attempt.
fn is_twin(known: &SnapshotFile, rewritten: &SnapshotFile) -> bool {
    known.tree == rewritten.tree
        && known.original == rewritten.original
        && known.time == rewritten.time
        && known.tags == rewritten.tags
}

/// Rewrites trees, each once.
struct Rewriting<'a> {
    trees: &'a CatalogueTrees<'a>,
    losses: &'a Losses,
    archiver: &'a Archiver,
    cancel: &'a Cancel,
    done: HashMap<BlobId, BlobId>,
}

/// A directory whose subdirectories are being rewritten.
struct Level {
    tree: BlobId,
    nodes: Vec<Node>,
    next: usize,
    changed: bool,
}

impl Rewriting<'_> {
    /// The tree without what is lost; itself if nothing is.
    fn rewrite(&mut self, root: BlobId) -> Result<BlobId, RepositoryError> {
        let mut levels = vec![self.open(root)?];
        while let Some(level) = levels.last_mut() {
            let Some(node) = level.nodes.get_mut(level.next) else {
                let Some(level) = levels.pop() else { break };
                let tree = if level.changed {
                    self.archiver.store_directory(level.nodes)?
                } else {
                    level.tree
                };
                self.done.insert(level.tree, tree);
                continue;
            };
            let Some(subtree) = node.subtree else {
                level.next += 1;
                continue;
            };
            match self.done.get(&subtree) {
                Some(new) => {
                    level.changed |= *new != subtree;
                    node.subtree = Some(*new);
                    level.next += 1;
                }
                // It comes back here when that one is done.
                None => levels.push(self.open(subtree)?),
            }
        }
        Ok(self.done.get(&root).copied().unwrap_or(root))
    }

    fn open(&self, tree: BlobId) -> Result<Level, RepositoryError> {
        self.cancel.check()?;
        let mut nodes = self.trees.read(tree)?;
        let before = nodes.len();
        nodes.retain(|node| {
            let tree_is_lost = node.subtree.is_some_and(|tree| self.losses.has_tree(&tree));
            !tree_is_lost && self.losses.spares(node)
        });
        Ok(Level {
            tree,
            changed: nodes.len() != before,
            nodes,
            next: 0,
        })
    }
}
