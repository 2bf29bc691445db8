//! What a copy has to do: which snapshots the other repository lacks, or lacks a part of.
//!
//! Invariant: a tree counts as whole there only if everything below it was looked up, and each blob
//! ends within its pack as the storage lists it. What is lost of one snapshot says nothing about
//! another.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use refloat_model::cancel::Cancel;
use refloat_storage::{FileKey, FileKind};

use crate::blobs::BlobReader as _;
use crate::error::RepositoryError;
use crate::format::pack::BlobKind;
use crate::format::snapshot::SnapshotFile;
use crate::format::tree::Node;
use crate::id::{BlobId, PackId, SnapshotId};
use crate::pack_reading::listed_packs;
use crate::parallel::{lock, threads};
use crate::repair::REPAIRED_TAG;
use crate::repository::IndexedRepository;
use crate::tree_walk::{TreeSource, walk};

/// What a copy has to do.
#[derive(Debug, Default)]
pub struct Survey {
    /// Snapshots that the other repository lacks, and what they would be there.
    pub wanted: Vec<(SnapshotId, SnapshotFile)>,
    /// Those that it has whole: their ids here and there.
    pub present: Vec<(SnapshotId, SnapshotId)>,
    /// Those that it has and that lack something there.
    pub broken: Vec<Broken>,
    /// Those that it has, of which it cannot be told whether they are whole there, and why.
    pub unknown: Vec<(SnapshotId, RepositoryError)>,
}

/// A snapshot of the other repository that lacks something.
#[derive(Debug)]
pub struct Broken {
    /// Its id here.
    pub here: SnapshotId,
    /// And there.
    pub there: SnapshotId,
    pub(super) snapshot: SnapshotFile,
}

/// Which snapshots the other repository lacks, or lacks a part of.
///
/// Every different tree of the snapshots that are there is read once, from the first repository,
/// which is the nearer one.
///
/// # Errors
/// A snapshot is not there or cannot be read; a storage failed as such, or the run was cancelled.
pub fn survey(
    from: &IndexedRepository,
    to: &IndexedRepository,
    snapshots: &[SnapshotId],
    cancel: &Cancel,
) -> Result<Survey, RepositoryError> {
    let known = to.snapshots()?.snapshots;
    let mut wholeness = Wholeness::new(to)?;
    let mut survey = Survey::default();
    let mut present = Vec::new();
    for id in snapshots {
        let file = FileKey::new(FileKind::Snapshot, id.0);
        let snapshot = copied(*id, from.read_json(&file)?);
        let find = |fits: fn(SnapshotId, &SnapshotFile, &SnapshotFile) -> bool| {
            let mut known = known.iter();
            known.find(|(there, known)| fits(*there, known, &snapshot))
        };
        if let Some((there, _)) = find(is_copy) {
            present.push(Broken {
                here: *id,
                there: *there,
                snapshot,
            });
            continue;
        }
        // Only there is the tree of the original. One that is not whole there either is no better
        // than what the repair left here.
        let original = find(is_better);
        let is_whole = original.map(|(_, known)| wholeness.of(to, known.tree, cancel));
        match (original, is_whole) {
            (Some((there, _)), Some(Ok(true))) => survey.present.push((*id, *there)),
            (_, Some(Err(error))) if !error.is_of_one_thing() => return Err(error),
            _ => survey.wanted.push((*id, snapshot)),
        }
    }
    // All at once, on all threads; one by one, what is amiss shows again, and of what.
    let all = present.iter().filter_map(|point| point.snapshot.tree);
    if let Err(error) = wholeness.of(from, all, cancel)
        && !error.is_of_one_thing()
    {
        return Err(error);
    }
    for point in present {
        match wholeness.of(from, point.snapshot.tree, cancel) {
            Ok(true) => survey.present.push((point.here, point.there)),
            Ok(false) => survey.broken.push(point),
            Err(error) if error.is_of_one_thing() => survey.unknown.push((point.here, error)),
            Err(error) => return Err(error),
        }
    }
    Ok(survey)
}

/// Tells whether trees are whole in the other repository.
struct Wholeness<'a> {
    to: &'a IndexedRepository,
    /// The packs that it lists, and their sizes.
    packs: HashMap<PackId, u64>,
    /// Trees that are whole there, with all below them: looked at once for all snapshots.
    whole: HashSet<BlobId>,
}

impl<'a> Wholeness<'a> {
    fn new(to: &'a IndexedRepository) -> Result<Self, RepositoryError> {
        Ok(Self {
            to,
            packs: listed_packs(to.storage())?,
            whole: HashSet::new(),
        })
    }

    /// Whether everything below these roots is there; the trees are read from `trees`.
    fn of(
        &mut self,
        trees: &IndexedRepository,
        roots: impl IntoIterator<Item = BlobId>,
        cancel: &Cancel,
    ) -> Result<bool, RepositoryError> {
        let lacks = AtomicBool::new(false);
        let unproven = Unproven {
            trees,
            whole: &self.whole,
            seen: Mutex::default(),
        };
        let threads = threads(trees.storage());
        let walked = walk(&unproven, roots, threads, cancel, |tree, nodes| {
            let content = nodes?.iter().flat_map(|node| node.content.iter());
            let blobs = content.map(|blob| (BlobKind::Data, *blob));
            let mut blobs = blobs.chain([(BlobKind::Tree, tree)]);
            // The walk goes on, so that what is read depends on no race of its threads.
            if !blobs.all(|(kind, blob)| self.holds(kind, &blob)) {
                lacks.store(true, Ordering::Relaxed);
            }
            Ok(())
        });
        let seen = std::mem::take(&mut *lock(&unproven.seen));
        walked?;
        let is_whole = !lacks.into_inner();
        if is_whole {
            self.whole.extend(seen);
        }
        Ok(is_whole)
    }

    fn holds(&self, kind: BlobKind, blob: &BlobId) -> bool {
        let found = self.to.index().get(kind, blob);
        found.is_some_and(|location| {
            let size = self.packs.get(&location.pack);
            size.is_some_and(|size| location.blob.end() <= *size)
        })
    }
}

/// Trees that are not known to be whole.
struct Unproven<'a> {
    trees: &'a IndexedRepository,
    whole: &'a HashSet<BlobId>,
    seen: Mutex<HashSet<BlobId>>,
}

impl TreeSource for Unproven<'_> {
    fn is_new(&self, tree: BlobId) -> bool {
        !self.whole.contains(&tree) && lock(&self.seen).insert(tree)
    }

    fn read(&self, tree: BlobId) -> Result<Vec<Node>, RepositoryError> {
        self.trees.read_tree(tree)
    }
}

/// What a snapshot is in another repository, where its parent need not be.
fn copied(id: SnapshotId, snapshot: SnapshotFile) -> SnapshotFile {
    SnapshotFile {
        parent: None,
        original: Some(snapshot.original.unwrap_or(id)),
        ..snapshot
    }
}

/// Whether a snapshot is the same as one that is to be copied: both are copies of one, or one is
/// the other's original that went there first.
fn is_copy(id: SnapshotId, known: &SnapshotFile, copied: &SnapshotFile) -> bool {
    Some(known.original.unwrap_or(id)) == copied.original
        && known.tree == copied.tree
        && known.time.instant() == copied.time.instant()
}

/// Whether the other repository has the original of a point of which a repair left only a part here.
fn is_better(id: SnapshotId, known: &SnapshotFile, copied: &SnapshotFile) -> bool {
    let is_repaired = |snapshot: &SnapshotFile| snapshot.tags().iter().any(|t| t == REPAIRED_TAG);
    is_repaired(copied)
        && !is_repaired(known)
        && Some(known.original.unwrap_or(id)) == copied.original
        && known.time.instant() == copied.time.instant()
}
