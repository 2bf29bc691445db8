//! What a repository holds and which of it its snapshots need.
//!
//! Invariant: a survey exists only if every snapshot and every tree was read, every needed blob is
//! in an index that was read, and every pack of those is listed with its size.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_storage::{FileKind, Listed};

use super::RepositoryState;
use super::error::PruneError;
use super::execute::ids;
use crate::catalogue::Catalogue;
use crate::check::{Snapshots, load_snapshots};
use crate::error::RepositoryError;
use crate::format::pack::BlobKind;
use crate::format::tree::Node;
use crate::id::{BlobId, IndexId, PackId, SnapshotId, sha256};
use crate::parallel::{lock, threads};
use crate::repository::Repository;
use crate::tree_walk::{BitSet, CatalogueTrees, TreeSource, walk};

/// See the module.
pub struct Survey {
    pub snapshots: BTreeSet<SnapshotId>,
    /// All index files.
    pub indexes: BTreeSet<IndexId>,
    /// Those whose bytes are not what their names say: of an interrupted upload, or damaged.
    /// Everything needed was found without them, or there would be no survey.
    pub torn_indexes: BTreeSet<IndexId>,
    pub catalogue: Catalogue,
    pub packs: PackListing,
    /// By first row of a blob: whether a snapshot needs it.
    pub used: BitSet,
    /// By row: places of trees that turned out to be damaged; another place of the same tree is whole.
    pub bad: BitSet,
    /// The newest time that a listing showed: never later than the storage's clock.
    pub storage_now: Option<jiff::Timestamp>,
}

/// The packs that are there, with size in bytes and the time of their last change.
pub struct PackListing(BTreeMap<PackId, (u64, Option<jiff::Timestamp>)>);

/// Packs that no index names.
pub struct Unindexed {
    /// Beyond the grace period, with their size in bytes.
    pub old: Vec<(PackId, u64)>,
    /// How many are not, or nobody knows.
    pub young: u64,
}

impl Survey {
    pub fn of(
        repository: &Repository,
        counters: &Counters,
        cancel: &Cancel,
    ) -> Result<Self, PruneError> {
        // Snapshots before indexes before packs, as in a check.
        let mut snapshots = load_snapshots(repository, threads(repository.storage()))?;
        if let Some((snapshot, source)) = snapshots.unreadable.pop() {
            let source = Box::new(source);
            return Err(PruneError::UnreadableSnapshot { snapshot, source });
        }
        let index_files = repository.storage().list(FileKind::Index)?;
        let survey = Self::by(repository, snapshots, &index_files, counters, cancel);
        survey.or_else(|error| {
            // Another prune that ended meanwhile took away what these named.
            let now = ids(repository, FileKind::Index, IndexId)?;
            // What others add takes nothing away.
            Err(
                if !ids_of(&index_files).is_subset(&now) && error.may_be_of_a_change() {
                    PruneError::StateChanged
                } else {
                    error
                },
            )
        })
    }

    fn by(
        repository: &Repository,
        snapshots: Snapshots,
        index_files: &[Listed],
        counters: &Counters,
        cancel: &Cancel,
    ) -> Result<Self, PruneError> {
        let threads = threads(repository.storage());
        let catalogue = Catalogue::load_files(repository, index_files, threads)?;
        let pack_files = repository.storage().list(FileKind::Pack)?;
        let lock_files = repository.storage().list(FileKind::Lock)?;
        let newest = [index_files, &pack_files, &lock_files]
            .into_iter()
            .flatten()
            .filter_map(|file| file.modified)
            .max();
        let packs = PackListing::new(&pack_files);
        packs.require(&catalogue, 0..catalogue.packs().len())?;
        let used = BitSet::new(catalogue.rows().len());
        let bad = BitSet::new(catalogue.rows().len());
        let roots: Vec<BlobId> = snapshots
            .readable
            .iter()
            .filter_map(|(_, file)| file.tree)
            .collect();
        let need = Need {
            repository,
            known: &catalogue,
            used: &used,
            bad: &bad,
            added: None,
        };
        need.mark(roots, threads, counters, cancel)?;
        Ok(Self {
            snapshots: snapshots.readable.iter().map(|(id, _)| *id).collect(),
            indexes: ids_of(index_files),
            torn_indexes: catalogue.unreadable.iter().map(|(id, _)| *id).collect(),
            catalogue,
            packs,
            used,
            bad,
            storage_now: newest.map(|time| time.to_jiff()),
        })
    }

    /// What a plan is bound to.
    pub fn state(&self) -> RepositoryState {
        let mut bytes = Vec::new();
        let snapshots = self.snapshots.iter().map(|id| (b's', id.0));
        let indexes = self.indexes.iter().map(|id| (b'i', id.0));
        for (kind, id) in snapshots.chain(indexes) {
            bytes.push(kind);
            bytes.extend_from_slice(&id);
        }
        RepositoryState(BlobId(sha256(&bytes)).to_string())
    }

    /// Packs that no index names, by age.
    pub fn unindexed(&self, grace: jiff::SignedDuration, now: jiff::Timestamp) -> Unindexed {
        let mut unindexed = Unindexed {
            old: Vec::new(),
            young: 0,
        };
        for (pack, (bytes, modified)) in &self.packs.0 {
            if self.catalogue.packs().binary_search(pack).is_ok() {
                continue;
            }
            // Old by both clocks: neither a jump of ours nor one wrong time of the storage's
            // makes what a running backup wrote look old.
            let old = |now: jiff::Timestamp| {
                modified.is_some_and(|modified| now.duration_since(modified) >= grace)
            };
            if old(now) && self.storage_now.is_some_and(old) {
                unindexed.old.push((*pack, *bytes));
            } else {
                unindexed.young += 1;
            }
        }
        unindexed
    }
}

impl PackListing {
    pub fn new(files: &[Listed]) -> Self {
        let entries = files.iter().map(|file| {
            let modified = file.modified.map(|time| time.to_jiff());
            (PackId(*file.key.id()), (file.size, modified))
        });
        Self(entries.collect())
    }

    pub fn bytes(&self, pack: &PackId) -> Option<u64> {
        self.0.get(pack).map(|(bytes, _)| *bytes)
    }

    /// Proves that these packs of a catalogue are listed with their sizes.
    pub fn require(
        &self,
        catalogue: &Catalogue,
        packs: impl IntoIterator<Item = usize>,
    ) -> Result<(), PruneError> {
        let mut missing = Vec::new();
        for number in packs {
            let pack = catalogue.packs()[number];
            let expected = catalogue.pack_size(number);
            match self.bytes(&pack) {
                None => missing.push(pack),
                Some(found) if found != expected => {
                    return Err(PruneError::WrongSize {
                        pack,
                        expected,
                        found,
                    });
                }
                Some(_) => {}
            }
        }
        missing.first().map_or(Ok(()), |first| {
            Err(PruneError::MissingPacks {
                count: missing.len(),
                first: *first,
            })
        })
    }
}

fn ids_of(index_files: &[Listed]) -> BTreeSet<IndexId> {
    let ids = index_files.iter().map(|file| IndexId(*file.key.id()));
    ids.collect()
}

/// Marks what trees need.
pub struct Need<'a> {
    pub repository: &'a Repository,
    /// The catalogue whose rows are marked.
    pub known: &'a Catalogue,
    pub used: &'a BitSet,
    /// Places of it that are damaged are added.
    pub bad: &'a BitSet,
    /// What writers added since; nothing of it is up for deletion, so it is not marked.
    pub added: Option<&'a Catalogue>,
}

impl Need<'_> {
    /// Marks everything below these roots.
    pub fn mark(
        &self,
        roots: Vec<BlobId>,
        threads: usize,
        counters: &Counters,
        cancel: &Cancel,
    ) -> Result<(), PruneError> {
        let none_bad = BitSet::new(0);
        let trees = NeedTrees {
            used: self.used,
            known: CatalogueTrees::new(self.repository, self.known, self.bad),
            added: self
                .added
                .map(|added| CatalogueTrees::new(self.repository, added, &none_bad)),
        };
        let obstacle = Mutex::new(None);
        let walked = walk(&trees, roots, threads, cancel, |tree, nodes| {
            Counters::add(&counters.entries_done, 1);
            let found = match nodes {
                Ok(nodes) => self.mark_content(nodes),
                Err(error) => Err(PruneError::UnreadableTree {
                    tree,
                    source: Box::new(error),
                }),
            };
            found.map_err(|error| {
                lock(&obstacle).get_or_insert(error);
                RepositoryError::Stopped
            })
        });
        match std::mem::take(&mut *lock(&obstacle)) {
            Some(error) => Err(error),
            None => Ok(walked?),
        }
    }

    fn mark_content(&self, nodes: &[Node]) -> Result<(), PruneError> {
        for blob in nodes.iter().flat_map(|node| node.content.iter()) {
            let copies = self.known.copies(BlobKind::Data, blob);
            if !copies.is_empty() {
                let _newly = self.used.insert(copies.start);
                continue;
            }
            let added = self
                .added
                .is_some_and(|added| !added.copies(BlobKind::Data, blob).is_empty());
            if !added {
                return Err(PruneError::MissingBlob { blob: *blob });
            }
        }
        Ok(())
    }
}

/// Trees of a catalogue, where being used and being seen is the same; then those added since.
struct NeedTrees<'a> {
    used: &'a BitSet,
    known: CatalogueTrees<'a>,
    added: Option<CatalogueTrees<'a>>,
}

impl TreeSource for NeedTrees<'_> {
    fn is_new(&self, tree: BlobId) -> bool {
        let copies = self.known.catalogue.copies(BlobKind::Tree, &tree);
        if !copies.is_empty() {
            return self.used.insert(copies.start);
        }
        match &self.added {
            Some(added) => added.is_new(tree),
            None => self.known.is_new(tree),
        }
    }

    fn read(&self, tree: BlobId) -> Result<Vec<Node>, RepositoryError> {
        let known = !self
            .known
            .catalogue
            .copies(BlobKind::Tree, &tree)
            .is_empty();
        match &self.added {
            Some(added) if !known => added.read(tree),
            // Of several places one will be kept, and that must be whole.
            _ => self.known.read_all_copies(tree),
        }
    }
}
