//! Directories whose entries are still being worked on.
//!
//! A directory is complete when the builder has left it and every file in it is done; whoever
//! completes it encodes it and fills its place in the directory above.
//!
//! Invariant: each slot is filled exactly once.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Sender;
use refloat_model::entry::Entry;
use refloat_model::progress::Counters;

use super::Shared;
use super::contents::KnownContent;
use crate::error::RepositoryError;
use crate::failure::{FailureLog, chain};
use crate::format::tree::Node;
use crate::id::BlobId;

/// What a tree holds and how it compares with its parent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TreeStatistics {
    /// Files that the parent did not have.
    pub files_new: u64,
    /// Files that differ from the parent's.
    pub files_changed: u64,
    /// Files taken over unread.
    pub files_unmodified: u64,
    /// Files that were deleted after they were listed and before they were read; not there, no failure.
    pub files_vanished: u64,
    /// Directories that the parent did not have.
    pub directories_new: u64,
    /// Directories that differ from the parent's.
    pub directories_changed: u64,
    /// Directories equal to the parent's.
    pub directories_unmodified: u64,
    /// Entries that are neither file nor directory.
    pub others: u64,
    /// Content bytes of all files.
    pub bytes: u64,
    /// Changed files of which what is new does not compress at all, and what it took the place of did.
    pub files_randomised: u64,
    /// The bytes that it took the place of, no more than such a file has now.
    pub bytes_randomised: u64,
    /// Entries taken over with everything below them by [`reuse`]; not counted above.
    ///
    /// [`reuse`]: refloat_model::entry::TreeSink::reuse
    pub reused: u64,
}

#[derive(Default)]
pub struct TreeCounters {
    pub files_new: AtomicU64,
    pub files_changed: AtomicU64,
    pub files_unmodified: AtomicU64,
    pub files_vanished: AtomicU64,
    pub directories_new: AtomicU64,
    pub directories_changed: AtomicU64,
    pub directories_unmodified: AtomicU64,
    pub others: AtomicU64,
    pub bytes: AtomicU64,
    pub files_randomised: AtomicU64,
    pub bytes_randomised: AtomicU64,
    pub reused: AtomicU64,
}

impl TreeCounters {
    pub fn statistics(&self) -> TreeStatistics {
        TreeStatistics {
            files_new: Counters::get(&self.files_new),
            files_changed: Counters::get(&self.files_changed),
            files_unmodified: Counters::get(&self.files_unmodified),
            files_vanished: Counters::get(&self.files_vanished),
            directories_new: Counters::get(&self.directories_new),
            directories_changed: Counters::get(&self.directories_changed),
            directories_unmodified: Counters::get(&self.directories_unmodified),
            others: Counters::get(&self.others),
            bytes: Counters::get(&self.bytes),
            files_randomised: Counters::get(&self.files_randomised),
            bytes_randomised: Counters::get(&self.bytes_randomised),
            reused: Counters::get(&self.reused),
        }
    }
}

/// What all directories of one builder share.
#[derive(Default)]
pub struct TreeState {
    pub counters: TreeCounters,
    pub failures: FailureLog,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a finished directory goes.
enum Place {
    /// It is the builder's root: its nodes go to whoever finishes the builder.
    Root(Sender<Vec<Node>>),
    /// Into a slot of the directory above.
    Below(Box<Below>),
}

/// A place in the directory above.
struct Below {
    above: Arc<Directory>,
    slot: usize,
    entry: Entry,
    previous: Option<BlobId>,
}

struct Slots {
    nodes: Vec<Option<Node>>,
    /// Digests of contents that others may take over, by slot.
    digests: HashMap<usize, [u8; 32]>,
    /// Slots to be filled, and one more while the builder is inside.
    open: usize,
}

/// See the module.
pub struct Directory {
    place: Place,
    slots: Mutex<Slots>,
    pub tree: Arc<TreeState>,
}

impl Directory {
    pub fn root(tree: Arc<TreeState>, done: Sender<Vec<Node>>) -> Arc<Self> {
        Arc::new(Self {
            place: Place::Root(done),
            slots: new_slots(),
            tree,
        })
    }

    pub fn below(above: &Arc<Self>, entry: Entry, previous: Option<BlobId>) -> Arc<Self> {
        let slot = above.reserve();
        let place = Place::Below(Box::new(Below {
            above: Arc::clone(above),
            slot,
            entry,
            previous,
        }));
        Arc::new(Self {
            place,
            slots: new_slots(),
            tree: Arc::clone(&above.tree),
        })
    }

    /// A slot that somebody will fill.
    pub fn reserve(&self) -> usize {
        let mut slots = lock(&self.slots);
        slots.nodes.push(None);
        slots.open += 1;
        slots.nodes.len() - 1
    }

    /// Notes the digest of the content that will fill a slot.
    pub fn expect_digest(&self, slot: usize, sha256: [u8; 32]) {
        lock(&self.slots).digests.insert(slot, sha256);
    }

    /// Adds an entry that is complete.
    pub fn push(&self, node: Node) {
        lock(&self.slots).nodes.push(Some(node));
    }

    /// The builder leaves; true if nothing is open any more, so that the caller must see to
    /// [`complete`](Self::complete).
    pub fn close(&self) -> bool {
        let mut slots = lock(&self.slots);
        slots.open -= 1;
        slots.open == 0
    }

    /// Fills a slot, or leaves it empty for an entry that failed, and completes whatever became
    /// complete by it.
    pub fn fill(
        self: &Arc<Self>,
        shared: &Shared,
        slot: usize,
        node: Option<Node>,
    ) -> Result<(), RepositoryError> {
        let sha256 = lock(&self.slots).digests.remove(&slot);
        if let (Some(sha256), Some(node)) = (sha256, &node) {
            let (content, size) = (Arc::clone(&node.content), node.size());
            shared
                .contents
                .insert(sha256, KnownContent { content, size });
        }
        if self.fill_slot(slot, node) {
            Arc::clone(self).complete(shared)
        } else {
            Ok(())
        }
    }

    fn fill_slot(&self, slot: usize, node: Option<Node>) -> bool {
        let mut slots = lock(&self.slots);
        if let Some(place) = slots.nodes.get_mut(slot) {
            *place = node;
        }
        slots.open -= 1;
        slots.open == 0
    }

    /// Records an entry that could not be captured.
    pub fn record_failure(&self, name: &[u8], reason: String) {
        self.tree.failures.record(|| self.path_of(name), reason);
    }

    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut parts = vec![name];
        let mut directory = self;
        while let Place::Below(below) = &directory.place {
            parts.push(&below.entry.name);
            directory = &below.above;
        }
        parts.reverse();
        parts.join(&b'/')
    }

    /// Stores a directory in which nothing is open, and every directory above that becomes
    /// complete by it. A loop and no recursion: trees may be thousands deep.
    pub fn complete(self: Arc<Self>, shared: &Shared) -> Result<(), RepositoryError> {
        let mut directory = self;
        loop {
            let nodes = directory.take_nodes();
            let (above, slot, node) = match &directory.place {
                Place::Root(done) => {
                    // Nobody waits for the nodes of a builder that was dropped.
                    drop(done.send(nodes));
                    return Ok(());
                }
                Place::Below(below) => {
                    let Below {
                        above,
                        slot,
                        entry,
                        previous,
                    } = &**below;
                    let node = match shared.store_tree(&nodes) {
                        Ok(subtree) => {
                            directory.count(*previous, subtree);
                            Some(directory_node(entry, subtree))
                        }
                        // All else can be stored without it.
                        Err(error @ RepositoryError::TreeTooLarge { .. }) => {
                            above.record_failure(&entry.name, chain(&error));
                            None
                        }
                        Err(error) => return Err(error),
                    };
                    (Arc::clone(above), *slot, node)
                }
            };
            if !above.fill_slot(slot, node) {
                return Ok(());
            }
            directory = above;
        }
    }

    /// The nodes, sorted; of entries with the same name the first stays and the others failed.
    fn take_nodes(&self) -> Vec<Node> {
        let slots = std::mem::take(&mut lock(&self.slots).nodes);
        let mut nodes: Vec<Node> = slots.into_iter().flatten().collect();
        nodes.sort_by(|a, b| a.name().cmp(b.name()));
        nodes.dedup_by(|later, first| {
            let twice = later.name() == first.name();
            if twice {
                self.record_failure(later.name(), "its directory has this name twice".to_owned());
            }
            twice
        });
        nodes
    }

    fn count(&self, previous: Option<BlobId>, subtree: BlobId) {
        let counters = &self.tree.counters;
        let counter = match previous {
            None => &counters.directories_new,
            Some(id) if id == subtree => &counters.directories_unmodified,
            Some(_) => &counters.directories_changed,
        };
        Counters::add(counter, 1);
    }
}

fn directory_node(entry: &Entry, subtree: BlobId) -> Node {
    Node {
        entry: entry.clone(),
        content: Arc::default(),
        subtree: Some(subtree),
        foreign: None,
    }
}

fn new_slots() -> Mutex<Slots> {
    Mutex::new(Slots {
        nodes: Vec::new(),
        digests: HashMap::new(),
        open: 1,
    })
}
