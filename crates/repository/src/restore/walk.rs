//! The walk: trees to directories, special entries and batches of files.
//!
//! Invariant: a directory's metadata is set after everything in it was written, deepest first.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use refloat_localfs::write::DirectoryState;
use refloat_localfs::{RelativePath, Restored, WriteError};
use refloat_model::entry::{Entry, EntryKind, Metadata};
use refloat_model::progress::Counters;

use super::batch::{Batch, FileTask, LinkTask};
use super::execute::Links;
use super::names::{self, Inode, may_be_one};
use super::turns::Turns;
use super::{Job, execute};
use crate::failure::chain;
use crate::format::tree::Node;
use crate::id::BlobId;
use crate::trees_ahead::TreesAhead;

/// A directory the walk is inside of.
struct Level {
    path: RelativePath,
    /// None for the folder that is restored into, where the caller gave none.
    metadata: Option<Metadata>,
    nodes: std::vec::IntoIter<Node>,
    /// Whether it was there before, so that its entries may be as well.
    existing: bool,
}

/// Batches that are executed at once: while the last reads of one are at work, processors would
/// be idle.
const BATCHES_AT_ONCE: usize = 2;
/// After so many files or bytes what was written is sent to the disk: more often costs more commits of
/// the file system's journal, more seldom leaves more to wait for at the end.
const WRITE_OUT_FILES: u64 = 16_384;
const WRITE_OUT_BYTES: u64 = 512 << 20;
/// How often that is looked at.
const WRITE_OUT_TICK: Duration = Duration::from_millis(50);

/// Walks and executes at the same time.
pub fn run(job: &Job<'_>, nodes: Vec<Node>, folder_metadata: Option<Metadata>) {
    let (batches, queue) = bounded::<(u64, Batch)>(0);
    let (at_work, ended) = bounded::<()>(0);
    let turns = Turns::default();
    let links = Links::default();
    std::thread::scope(|scope| {
        let executors: Vec<_> = (0..BATCHES_AT_ONCE)
            .map(|_| {
                let (queue, at_work) = (queue.clone(), at_work.clone());
                let (turns, links) = (&turns, &links);
                scope.spawn(move || {
                    let _until_the_end = at_work;
                    execute_all(job, queue, turns, links);
                })
            })
            .collect();
        drop((queue, at_work));
        scope.spawn(move || write_out(job, &ended));
        let mut walk = Walk {
            job,
            batches,
            sent: 0,
            batch: Batch::default(),
            links: HashMap::new(),
            special_links: HashMap::new(),
            trees: TreesAhead::new(job.repository),
        };
        walk.run(nodes, folder_metadata);
        drop(walk);
        for executor in executors {
            if executor.join().is_err() {
                job.fail(crate::error::RepositoryError::Stopped);
            }
        }
    });
}

fn execute_all(job: &Job<'_>, queue: Receiver<(u64, Batch)>, turns: &Turns, links: &Links) {
    for (number, batch) in queue {
        let turn = turns.take(number);
        if !job.is_stopped() {
            execute::run(job, batch, &turn, links);
        }
    }
}

/// Has the system write to the disk what was written so far while more is, until all executors have
/// ended. The last synchronisation, which is for all, then has little left to wait for.
fn write_out(job: &Job<'_>, ended: &Receiver<()>) {
    let (mut files, mut bytes) = (0, 0);
    while ended.recv_timeout(WRITE_OUT_TICK) == Err(RecvTimeoutError::Timeout) {
        let files_now = Counters::get(&job.entries);
        let bytes_now = Counters::get(&job.bytes_written);
        let is_due = files_now - files >= WRITE_OUT_FILES || bytes_now - bytes >= WRITE_OUT_BYTES;
        if !is_due || job.is_stopped() {
            continue;
        }
        (files, bytes) = (files_now, bytes_now);
        // What one call was told of is not told again.
        if let Err(error) = job.writer.sync() {
            job.fail(error.into());
        }
    }
}

/// The first name of a regular file.
struct FirstName {
    path: RelativePath,
    content: Arc<[BlobId]>,
    metadata: Metadata,
}

/// The first name of another entry.
struct FirstSpecial {
    path: RelativePath,
    kind: EntryKind,
    metadata: Metadata,
    restored: Restored,
}

/// Gives what was restored another name, which nothing may have unless its directory was there.
pub fn link(
    job: &Job<'_>,
    (restored, first): (Restored, &RelativePath),
    path: &RelativePath,
    existing: bool,
) -> Result<(), WriteError> {
    match existing {
        true => job.writer.hard_link(restored, first, path),
        false => job.writer.new_hard_link(restored, first, path),
    }
}

struct Walk<'j, 'r> {
    job: &'j Job<'r>,
    batches: Sender<(u64, Batch)>,
    sent: u64,
    batch: Batch,
    /// The first path of each regular file that has several names.
    links: HashMap<Inode, FirstName>,
    /// The same of links, devices, pipes and sockets, which are made at once.
    special_links: HashMap<Inode, FirstSpecial>,
    trees: TreesAhead,
}

impl Walk<'_, '_> {
    fn run(&mut self, nodes: Vec<Node>, metadata: Option<Metadata>) {
        let root = RelativePath::root();
        self.expect(&nodes);
        let nodes = nodes.into_iter();
        let mut levels = vec![Level {
            path: root,
            metadata,
            nodes,
            existing: self.job.options.folder == DirectoryState::Existing,
        }];
        while let Some(level) = levels.last_mut() {
            if self.job.is_stopped() {
                return;
            }
            match level.nodes.next() {
                Some(node) => {
                    let entered = self.node(level, node);
                    levels.extend(entered);
                }
                None => {
                    if let Some(Level {
                        path,
                        metadata: Some(metadata),
                        ..
                    }) = levels.pop()
                    {
                        self.batch.directories.push((path, metadata));
                    }
                }
            }
            if self.batch.is_full() {
                self.send();
            }
        }
        self.send();
    }

    fn send(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if self.batches.send((self.sent, batch)).is_err() {
            // All executors ended early: by a panic, if not because the job has stopped.
            self.job.fail(crate::error::RepositoryError::Stopped);
        }
        self.sent += 1;
    }

    /// Handles one node; a directory becomes the next level.
    fn node(&mut self, level: &Level, node: Node) -> Option<Level> {
        let path = match level.path.join(node.name()) {
            Ok(path) => path,
            Err(error) => {
                let path = || [level.path.as_bytes(), b"/", node.name()].concat();
                self.job.failures.record(path, chain(&error));
                return None;
            }
        };
        if node
            .foreign
            .as_ref()
            .is_some_and(|foreign| foreign.kind.is_some())
        {
            self.fail(&path, "its type is unknown to this program".to_owned());
            return None;
        }
        match &node.entry.kind {
            EntryKind::Directory => return self.directory(path, node, level.existing),
            EntryKind::File { .. } => self.file(path, node, level.existing),
            _ => self.special(&path, node, level.existing),
        }
        None
    }

    fn directory(&mut self, path: RelativePath, node: Node, existing: bool) -> Option<Level> {
        let writer = self.job.writer;
        let state = match existing {
            true => writer.create_directory(&path),
            false => writer
                .create_new_directory(&path)
                .map(|()| DirectoryState::Created),
        };
        let state = match state {
            Ok(state) => state,
            Err(error) => {
                self.write_failed(&path, error);
                return None;
            }
        };
        self.job.entry_done();
        let nodes = node.subtree.map(|tree| self.trees.read_tree(tree));
        let nodes = match nodes {
            Some(Ok(nodes)) => nodes,
            Some(Err(error)) => {
                self.fail(&path, format!("what it holds is lost: {}", chain(&error)));
                Vec::new()
            }
            None => Vec::new(),
        };
        self.expect(&nodes);
        let existing = state == DirectoryState::Existing;
        let metadata = Some(node.entry.metadata);
        Some(Level {
            path,
            metadata,
            nodes: nodes.into_iter(),
            existing,
        })
    }

    fn expect(&self, nodes: &[Node]) {
        self.trees
            .expect(nodes.iter().filter_map(|node| node.subtree));
    }

    fn file(&mut self, path: RelativePath, node: Node, existing: bool) {
        let (metadata, size) = (&node.entry.metadata, node.size());
        let mut first_name = false;
        if let Some(inode) = names::inode(metadata) {
            match self.links.get(&inode) {
                Some(first)
                    if first.content == node.content && may_be_one(&first.metadata, metadata) =>
                {
                    let first = first.path.clone();
                    self.batch.links.push(LinkTask {
                        first,
                        path,
                        existing,
                    });
                    return;
                }
                Some(_) => {}
                None => {
                    let first = FirstName {
                        path: path.clone(),
                        content: Arc::clone(&node.content),
                        metadata: metadata.clone(),
                    };
                    self.links.insert(inode, first);
                    first_name = true;
                }
            }
        }
        let (content, metadata) = (node.content, node.entry.metadata);
        self.batch.push(FileTask {
            path,
            metadata,
            content,
            size,
            existing,
            first_name,
        });
    }

    fn special(&mut self, path: &RelativePath, node: Node, existing: bool) {
        let Entry { kind, metadata, .. } = node.entry;
        let inode = names::inode(&metadata);
        let first = inode.and_then(|inode| self.special_links.get(&inode));
        let same =
            |first: &&FirstSpecial| first.kind == kind && may_be_one(&first.metadata, &metadata);
        let made = match first.filter(same) {
            Some(first) => link(self.job, (first.restored, &first.path), path, existing),
            None => {
                let made = match existing {
                    true => self.job.writer.create_node(path, &kind, &metadata),
                    false => self.job.writer.create_new_node(path, &kind, &metadata),
                };
                made.map(|restored| {
                    if let Some(inode) = inode {
                        let first = FirstSpecial {
                            path: path.clone(),
                            kind,
                            metadata,
                            restored,
                        };
                        self.special_links.entry(inode).or_insert(first);
                    }
                })
            }
        };
        match made {
            Ok(()) => self.job.entry_done(),
            Err(error) => self.write_failed(path, error),
        }
    }

    fn fail(&self, path: &RelativePath, reason: String) {
        self.job
            .failures
            .record(|| path.as_bytes().to_vec(), reason);
    }

    fn write_failed(&self, path: &RelativePath, error: WriteError) {
        if error.is_out_of_space() {
            self.job.fail(error.into());
        } else {
            self.fail(path, chain(&error));
        }
    }
}
