//! Visiting every tree below some roots once, on several threads.
//!
//! Invariant: a tree is read at most once however many paths lead to it; memory is bounded by the
//! number of different trees, never by paths or depth.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use refloat_model::cancel::Cancel;

use crate::blobs::BlobReader as _;
use crate::catalogue::Catalogue;
use crate::error::RepositoryError;
use crate::failure::chain;
use crate::format::pack::BlobKind;
use crate::format::tree::{Node, decode};
use crate::id::{BlobId, PackId};
use crate::pack_reading::pack_file;
use crate::parallel::{lock, on_threads};
use crate::repository::{IndexedRepository, Repository};
use crate::tree_blocks::TreeBlocks;

/// Where trees come from, and which were seen.
pub trait TreeSource: Sync {
    /// Whether this is the first time that the tree is met.
    fn is_new(&self, tree: BlobId) -> bool;
    /// The entries of a tree.
    fn read(&self, tree: BlobId) -> Result<Vec<Node>, RepositoryError>;
}

struct Pending {
    stack: Vec<BlobId>,
    /// Threads that read a tree and may find more.
    busy: usize,
}

/// Visits all trees below the roots.
///
/// `visit` gets every tree, or why it cannot be read; an error of its own ends the walk.
pub fn walk(
    source: &impl TreeSource,
    roots: impl IntoIterator<Item = BlobId>,
    threads: usize,
    cancel: &Cancel,
    visit: impl Fn(BlobId, Result<&[Node], RepositoryError>) -> Result<(), RepositoryError> + Sync,
) -> Result<(), RepositoryError> {
    let stack = roots.into_iter().filter(|root| source.is_new(*root));
    let pending = Mutex::new(Pending {
        stack: stack.collect(),
        busy: 0,
    });
    let changed = Condvar::new();
    on_threads(threads, |team| {
        while let Some(tree) = take(&pending, &changed, || team.is_stopped()) {
            let busy = Busy(&pending, &changed);
            let outcome = cancel
                .check()
                .map_err(RepositoryError::from)
                .and_then(|()| visit_one(source, tree, &visit));
            let mut pending = lock(&pending);
            let ended = match outcome {
                Ok(subtrees) => {
                    pending.stack.extend(subtrees);
                    Ok(())
                }
                Err(error) => {
                    pending.stack.clear();
                    Err(error)
                }
            };
            drop(pending);
            drop(busy);
            ended?;
        }
        Ok(())
    })
}

/// A thread that reads a tree. It is over when this is dropped, as a panic does too: otherwise all
/// others would wait for it.
struct Busy<'a>(&'a Mutex<Pending>, &'a Condvar);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        lock(self.0).busy -= 1;
        self.1.notify_all();
    }
}

/// The next tree; none when all are done.
fn take(
    pending: &Mutex<Pending>,
    changed: &Condvar,
    is_stopped: impl Fn() -> bool,
) -> Option<BlobId> {
    let mut guard = lock(pending);
    loop {
        if is_stopped() {
            return None;
        }
        if let Some(tree) = guard.stack.pop() {
            guard.busy += 1;
            return Some(tree);
        }
        if guard.busy == 0 {
            return None;
        }
        guard = changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
}

fn visit_one(
    source: &impl TreeSource,
    tree: BlobId,
    visit: &impl Fn(BlobId, Result<&[Node], RepositoryError>) -> Result<(), RepositoryError>,
) -> Result<Vec<BlobId>, RepositoryError> {
    match source.read(tree) {
        Ok(nodes) => {
            visit(tree, Ok(&nodes))?;
            let subtrees = nodes.iter().filter_map(|node| node.subtree);
            Ok(subtrees.filter(|tree| source.is_new(*tree)).collect())
        }
        Err(error @ RepositoryError::Cancelled(_)) => Err(error),
        Err(error) => {
            visit(tree, Err(error))?;
            Ok(Vec::new())
        }
    }
}

/// A set of numbers below a bound that many threads add to: one bit each.
pub struct BitSet(Vec<AtomicU64>);

impl BitSet {
    pub fn new(bound: usize) -> Self {
        Self((0..bound.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Whether the number was not there yet.
    pub fn insert(&self, number: usize) -> bool {
        let bit = 1 << (number % 64);
        self.0
            .get(number / 64)
            .is_some_and(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }

    pub fn contains(&self, number: usize) -> bool {
        let bit = 1 << (number % 64);
        self.0
            .get(number / 64)
            .is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0)
    }
}

/// Why a copy of a tree could not be read.
pub struct CopyFailure {
    /// Its bytes are not that tree; otherwise they are gone.
    pub is_of_its_bytes: bool,
    pub tree: BlobId,
    pub cause: String,
}

/// Trees through a catalogue: every copy of a tree is tried before it counts as lost.
///
/// A copy whose bytes are gone or are not that tree is added to what is bad, and noted.
pub struct CatalogueTrees<'a> {
    pub repository: &'a Repository,
    pub catalogue: &'a Catalogue,
    /// Rows that are known to be lost.
    pub bad: &'a BitSet,
    /// Copies that could not be read, by row, and why: whether or not another copy could.
    failures: Mutex<BTreeMap<usize, CopyFailure>>,
    blocks: TreeBlocks,
    seen: BitSet,
    unknown: Mutex<HashSet<BlobId>>,
}

impl CopyFailure {
    fn of(tree: BlobId, error: &RepositoryError) -> Self {
        let (is_of_its_bytes, cause) = match error {
            RepositoryError::DamagedBlob { cause, .. } => (true, chain(cause.as_ref())),
            other => (false, chain(other)),
        };
        Self {
            is_of_its_bytes,
            tree,
            cause,
        }
    }
}

impl<'a> CatalogueTrees<'a> {
    pub fn new(repository: &'a Repository, catalogue: &'a Catalogue, bad: &'a BitSet) -> Self {
        Self {
            repository,
            catalogue,
            bad,
            failures: Mutex::default(),
            blocks: TreeBlocks::default(),
            seen: BitSet::new(catalogue.rows().len()),
            unknown: Mutex::default(),
        }
    }

    /// Each copy that could not be read, with its pack, and why.
    pub fn into_failures(self) -> impl Iterator<Item = (PackId, CopyFailure)> + use<'a> {
        let failures = self.failures.into_inner();
        let failures = failures.unwrap_or_else(PoisonError::into_inner);
        let catalogue = self.catalogue;
        failures
            .into_iter()
            .map(move |(row, failure)| (catalogue.pack_of(&catalogue.rows()[row]), failure))
    }

    /// Reads a tree, and each further copy of it, for whoever chooses among them. One that cannot be read is not to be
    /// chosen, whyever.
    pub fn read_all_copies(&self, tree: BlobId) -> Result<Vec<Node>, RepositoryError> {
        let (taken, nodes) = self.read_one(tree)?;
        for number in self.catalogue.copies(BlobKind::Tree, &tree) {
            if number != taken && !self.bad.contains(number) && self.read_copy(number).is_err() {
                let _newly = self.bad.insert(number);
            }
        }
        Ok(nodes)
    }

    /// The entries of a tree, and the row of the copy that gave them.
    fn read_one(&self, tree: BlobId) -> Result<(usize, Vec<Node>), RepositoryError> {
        // A copy that nobody may read just now outweighs all that are lost: the tree may be there.
        let (mut unknown, mut damage) = (None, None);
        for number in self.catalogue.copies(BlobKind::Tree, &tree) {
            if self.bad.contains(number) {
                continue;
            }
            match self.read_copy(number) {
                Ok(json) => {
                    let nodes = decode(&json).map_err(|cause| RepositoryError::InvalidTree {
                        tree,
                        cause: cause.into(),
                    });
                    return Ok((number, nodes?));
                }
                Err(error) if error.is_damage() => {
                    let _newly = self.bad.insert(number);
                    lock(&self.failures).insert(number, CopyFailure::of(tree, &error));
                    damage = Some(error);
                }
                Err(error) => unknown = Some(error),
            }
        }
        Err(unknown.or(damage).unwrap_or(RepositoryError::MissingBlob {
            kind: BlobKind::Tree.word(),
            blob: tree,
        }))
    }

    /// Reads one copy; once more before it counts as damaged: the transfer may have been.
    fn read_copy(&self, number: usize) -> Result<Vec<u8>, RepositoryError> {
        let row = &self.catalogue.rows()[number];
        let file = pack_file(self.catalogue.pack_of(row));
        let end = self.catalogue.end_of_blobs(row.pack());
        let first = self.blocks.read(self.repository, &file, &row.blob(), end);
        first.or_else(|error| match error {
            RepositoryError::Storage(error) if error.is_of_the_storage() => Err(error.into()),
            _ => self.repository.read_place(&file, &row.blob()),
        })
    }
}

impl TreeSource for CatalogueTrees<'_> {
    fn is_new(&self, tree: BlobId) -> bool {
        let copies = self.catalogue.copies(BlobKind::Tree, &tree);
        if copies.is_empty() {
            lock(&self.unknown).insert(tree)
        } else {
            self.seen.insert(copies.start)
        }
    }

    fn read(&self, tree: BlobId) -> Result<Vec<Node>, RepositoryError> {
        self.read_one(tree).map(|(_taken, nodes)| nodes)
    }
}

/// Trees of a repository with its index.
pub struct IndexedTrees<'a> {
    repository: &'a IndexedRepository,
    seen: Mutex<HashSet<BlobId>>,
}

impl<'a> IndexedTrees<'a> {
    pub fn new(repository: &'a IndexedRepository) -> Self {
        Self {
            repository,
            seen: Mutex::default(),
        }
    }
}

impl TreeSource for IndexedTrees<'_> {
    fn is_new(&self, tree: BlobId) -> bool {
        lock(&self.seen).insert(tree)
    }

    fn read(&self, tree: BlobId) -> Result<Vec<Node>, RepositoryError> {
        self.repository.read_tree(tree)
    }
}
