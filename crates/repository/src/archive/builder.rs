//! One tree in the making: the sink that a source pushes into.
//!
//! Invariant: a file is taken over from the parent unread only if size, modification time, change
//! time and inode are those of a real file, it was settled when it was read, and all its blobs are in
//! the index.

use std::collections::HashSet;
use std::io::Read;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use refloat_model::entry::{Content, Entry, EntryKind, SinkError, TreeSink};
use refloat_model::progress::Counters;
use refloat_model::time::Timestamp;
use refloat_model::tree_path::is_valid_name;

use super::density::Earlier;
use super::directory::{Directory, TreeState, TreeStatistics};
use super::previous::{Known, ParentTree, Previous};
use super::worker::{FileJob, FilePlace, Job, read_stream};
use super::{ArchiveOptions, Shared};
use crate::blobs::BlobReader as _;
use crate::error::RepositoryError;
use crate::failure::EntryFailure;
use crate::format::pack::BlobKind;
use crate::format::tree::Node;
use crate::id::BlobId;

/// A tree that is complete.
#[derive(Clone, PartialEq, Debug)]
pub struct FinishedTree {
    /// The entries of its root directory, sorted by name.
    pub nodes: Vec<Node>,
    /// What it holds.
    pub statistics: TreeStatistics,
    /// Entries that could not be captured; the first 1,000.
    pub failures: Vec<EntryFailure>,
    /// How many could not be captured in all.
    pub failure_count: u64,
}

/// A directory the builder is inside of.
struct Level {
    directory: Arc<Directory>,
    previous: Previous,
}

/// See the module.
pub struct TreeBuilder {
    shared: Arc<Shared>,
    jobs: Option<Sender<Job>>,
    state: Arc<TreeState>,
    levels: Vec<Level>,
    done: Receiver<Vec<Node>>,
}

impl std::fmt::Debug for TreeBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeBuilder")
            .field("depth", &self.levels.len())
            .finish_non_exhaustive()
    }
}

impl TreeBuilder {
    pub(super) fn new(
        shared: Arc<Shared>,
        jobs: Option<Sender<Job>>,
        previous: Vec<ParentTree>,
    ) -> Self {
        let previous = Previous::new(&shared, previous, 0);
        let state = Arc::new(TreeState::default());
        let (sender, done) = bounded(1);
        let directory = Directory::root(Arc::clone(&state), sender);
        Self {
            shared,
            jobs,
            state,
            levels: vec![Level {
                directory,
                previous,
            }],
            done,
        }
    }

    /// Waits until every file is stored.
    ///
    /// # Errors
    /// The run failed or was cancelled. Directories that were not left count as left.
    pub fn finish(mut self) -> Result<FinishedTree, RepositoryError> {
        while let Some(level) = self.levels.pop() {
            self.close(&level.directory)
                .map_err(|error| self.shared.told(error))?;
        }
        // The channel breaks if the run stops before the root is complete.
        drop(self.jobs.take());
        let nodes = self.done.recv();
        self.shared
            .check()
            .map_err(|error| self.shared.told(error))?;
        let nodes = nodes.map_err(|_stopped| self.shared.told(RepositoryError::Stopped));
        let failures = self.state.failures.take();
        Ok(FinishedTree {
            nodes: nodes?,
            statistics: self.state.counters.statistics(),
            failures: failures.kept,
            failure_count: failures.count,
        })
    }

    fn level(&self) -> Result<&Level, RepositoryError> {
        self.levels.last().ok_or_else(|| {
            RepositoryError::encode("a tree", "its source left more directories than it entered")
        })
    }

    fn send(&self, job: Job) -> Result<(), RepositoryError> {
        let jobs = self.jobs.as_ref().ok_or(RepositoryError::Stopped)?;
        jobs.send(job)
            .map_err(|_all_workers_ended| RepositoryError::Stopped)
    }

    fn close(&self, directory: &Arc<Directory>) -> Result<(), RepositoryError> {
        if directory.close() {
            self.send(Job::Directory(Arc::clone(directory)))?;
        }
        Ok(())
    }

    /// The current directory, if an entry of this name may stand in it.
    fn accept(&self, entry: &Entry) -> Result<Option<&Level>, RepositoryError> {
        self.shared
            .check()
            .map_err(|error| self.shared.told(error))?;
        let level = self.level()?;
        Counters::add(&self.shared.counters.entries_done, 1);
        if is_valid_name(&entry.name) {
            return Ok(Some(level));
        }
        level.directory.record_failure(
            &entry.name,
            "its name cannot stand in a directory".to_owned(),
        );
        Ok(None)
    }

    fn read(
        &self,
        mut file: Entry,
        sha256: Option<[u8; 32]>,
        content: &mut dyn Read,
    ) -> Result<(), SinkError> {
        normalise(&self.shared.options, &mut file);
        let Some(level) = self.accept(&file)? else {
            return Ok(());
        };
        let earlier = Earlier::of(level.previous.find(&file.name).first());
        let directory = Arc::clone(&level.directory);
        let slot = directory.reserve();
        if let Some(sha256) = sha256 {
            directory.expect_digest(slot, sha256);
        }
        let place = FilePlace {
            directory,
            slot,
            entry: file,
            earlier,
        };
        let read = read_stream(&self.shared, place, content);
        Ok(read.map_err(|error| self.shared.told(error))?)
    }

    /// Whether a file has the size, times and inode that it had.
    fn looks_unchanged(&self, entry: &Entry, previous: &Node) -> bool {
        let (new, old) = (&entry.metadata, &previous.entry.metadata);
        let real = new.inode != 0 && new.changed != Timestamp::EPOCH;
        real && !self.shared.options.read_unchanged
            && previous.entry.kind == entry.kind
            && old.modified == new.modified
            && old.changed == new.changed
            && old.inode == new.inode
            && previous
                .foreign
                .as_ref()
                .is_none_or(|foreign| foreign.error.is_empty())
            && self.has_content(previous)
    }

    /// Whether everything below an entry is there: what is taken over unread must not have lost
    /// anything since.
    fn is_whole(&self, node: &Node) -> bool {
        let mut seen: HashSet<BlobId> = HashSet::new();
        let mut trees: Vec<BlobId> = node.subtree.into_iter().collect();
        if !self.has_content(node) {
            return false;
        }
        while let Some(tree) = trees.pop() {
            if !seen.insert(tree) {
                continue;
            }
            if !self.shared.has_blob(BlobKind::Tree, &tree) {
                return false;
            }
            let Ok(nodes) = self.shared.repository.read_tree(tree) else {
                return false;
            };
            if !nodes.iter().all(|node| self.has_content(node)) {
                return false;
            }
            trees.extend(nodes.iter().filter_map(|node| node.subtree));
        }
        true
    }

    fn has_content(&self, node: &Node) -> bool {
        node.content
            .iter()
            .all(|blob| self.shared.has_blob(BlobKind::Data, blob))
    }
}

/// Brings metadata into the form that restic's trees have.
pub fn normalise(options: &ArchiveOptions, entry: &mut Entry) {
    let metadata = &mut entry.metadata;
    if !options.access_times {
        metadata.accessed = metadata.modified;
    }
    // As restic since 0.17: device ids change between boots and matter only for hard links.
    if metadata.links < 2 || entry.kind == EntryKind::Directory {
        metadata.device_id = 0;
    }
    // restic records no link count for these; ours is recorded only where it matters, so that
    // the usual trees stay equal.
    let uncounted = match entry.kind {
        EntryKind::Directory => true,
        EntryKind::Fifo | EntryKind::Socket => metadata.links < 2,
        _ => false,
    };
    if uncounted {
        metadata.links = 0;
    }
}

impl TreeSink for TreeBuilder {
    fn enter(&mut self, mut directory: Entry) -> Result<(), SinkError> {
        normalise(&self.shared.options, &mut directory);
        let Some(level) = self.accept(&directory)? else {
            // Its entries still come; they go nowhere.
            let (nobody, _) = bounded(1);
            let nowhere = Directory::root(Arc::clone(&self.state), nobody);
            self.levels.push(Level {
                directory: nowhere,
                previous: Previous::default(),
            });
            return Ok(());
        };
        let above = Arc::clone(&level.directory);
        let depth = self.levels.len();
        let shared = &self.shared;
        let entered = self
            .levels
            .last_mut()
            .map(|level| level.previous.enter(shared, &directory.name));
        let (tree, nodes) = entered.unwrap_or_default();
        self.levels.push(Level {
            directory: Directory::below(&above, directory, tree),
            previous: Previous::new(&self.shared, nodes, depth),
        });
        Ok(())
    }

    fn leave(&mut self) -> Result<(), SinkError> {
        if self.levels.len() < 2 {
            return Err(RepositoryError::encode(
                "a tree",
                "its source left more directories than it entered",
            )
            .into());
        }
        match self.levels.pop() {
            Some(level) => Ok(self
                .close(&level.directory)
                .map_err(|e| self.shared.told(e))?),
            None => Ok(()),
        }
    }

    fn file(&mut self, mut file: Entry, content: Box<dyn Content>) -> Result<(), SinkError> {
        normalise(&self.shared.options, &mut file);
        let Some(level) = self.accept(&file)? else {
            return Ok(());
        };
        let counters = &self.state.counters;
        let previous = level.previous.find(&file.name);
        let mut equal = previous
            .iter()
            .filter(|known| self.looks_unchanged(&file, &known.node));
        let first = equal.next();
        let settled = first.into_iter().chain(equal).find(|k| k.is_settled());
        if let Some(Known { node, .. }) = settled {
            Counters::add(&counters.files_unmodified, 1);
            Counters::add(&counters.bytes, node.size());
            Counters::add(&self.shared.counters.bytes_done, node.size());
            let content = Arc::clone(&node.content);
            level.directory.push(Node {
                entry: file,
                content,
                subtree: None,
                foreign: None,
            });
            return Ok(());
        }
        let earlier = Earlier {
            unsettled: first.is_some(),
            ..Earlier::of(first.or(previous.first()))
        };
        let slot = level.directory.reserve();
        let place = FilePlace {
            directory: Arc::clone(&level.directory),
            slot,
            entry: file,
            earlier,
        };
        let job = FileJob { place, content };
        Ok(self
            .send(Job::File(Box::new(job)))
            .map_err(|error| self.shared.told(error))?)
    }

    fn stream(&mut self, file: Entry, content: &mut dyn Read) -> Result<(), SinkError> {
        self.read(file, None, content)
    }

    fn stream_by_digest(
        &mut self,
        file: Entry,
        sha256: &[u8; 32],
        content: &mut dyn Read,
    ) -> Result<bool, SinkError> {
        self.read(file, Some(*sha256), content).map(|()| true)
    }

    fn reuse_content(&mut self, file: &Entry, sha256: &[u8; 32]) -> Result<bool, SinkError> {
        let Some(known) = self.shared.contents.find(sha256) else {
            return Ok(false);
        };
        // In this run's packs, or in one that is there.
        let held = known.content.iter().all(|blob| {
            self.shared.has_blob(BlobKind::Data, blob) || self.shared.packer.is_claimed(blob)
        });
        if !held {
            return Ok(false);
        }
        let mut entry = file.clone();
        normalise(&self.shared.options, &mut entry);
        let Some(level) = self.accept(&entry)? else {
            return Ok(true);
        };
        self.shared.contents.insert(*sha256, known.clone());
        entry.kind = EntryKind::File { size: known.size };
        let counters = &self.state.counters;
        Counters::add(&counters.files_unmodified, 1);
        Counters::add(&counters.bytes, known.size);
        Counters::add(&self.shared.counters.bytes_done, known.size);
        level.directory.push(Node {
            entry,
            content: known.content,
            subtree: None,
            foreign: None,
        });
        Ok(true)
    }

    fn node(&mut self, mut entry: Entry) -> Result<(), SinkError> {
        normalise(&self.shared.options, &mut entry);
        let Some(level) = self.accept(&entry)? else {
            return Ok(());
        };
        if matches!(entry.kind, EntryKind::File { .. } | EntryKind::Directory) {
            let reason = "a file or directory came without content".to_owned();
            level.directory.record_failure(&entry.name, reason);
            return Ok(());
        }
        Counters::add(&self.state.counters.others, 1);
        let node = Node {
            entry,
            content: Arc::default(),
            subtree: None,
            foreign: None,
        };
        level.directory.push(node);
        Ok(())
    }

    fn reuse(&mut self, name: &[u8]) -> Result<bool, SinkError> {
        self.shared
            .check()
            .map_err(|error| self.shared.told(error))?;
        let level = self.level()?;
        let found = level.previous.find(name).iter();
        let usable = found.map(|known| &known.node);
        let usable = usable.into_iter().find(|node| self.is_whole(node));
        let Some(node) = usable else { return Ok(false) };
        Counters::add(&self.state.counters.reused, 1);
        Counters::add(&self.state.counters.bytes, node.size());
        level.directory.push(node.clone());
        Ok(true)
    }

    fn fail(&mut self, name: &[u8], reason: String) {
        if let Some(level) = self.levels.last() {
            level.directory.record_failure(name, reason);
        }
    }
}
