//! What a run that ends early leaves to the next: contents that came whole, by their digests, in
//! a partial snapshot. It is written from time to time, and when the run is cancelled; so neither
//! a signal nor a crash makes the next run download everything again.
//!
//! Invariant: it holds only contents whose packs are stored and named by an index; that it cannot
//! be written never fails a run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use refloat_model::cancel::Cancel;
use refloat_model::entry::Entry;
use refloat_model::item::Item;
use refloat_model::outcome::Outcome;
use refloat_model::point::ItemRecord;
use refloat_model::time::Timestamp;
use refloat_model::tree_path::TreePath;
use refloat_repository::archive::{
    ArchiveOptions, Archiver, Checkpoint, ContentIndex, KnownContent,
};
use refloat_repository::{BlobKind, Node};

use super::capture::lock;
use super::contents;
use super::parents::Parents;
use super::partial::{self, Parts};
use super::plan::BackupPlan;
use super::publish;
use super::run::{BackupError, BackupRun};
use crate::chain;

/// How often a waiting thread looks whether the run has ended.
const TICK: Duration = Duration::from_millis(50);
/// The pause between two checkpoints grows twofold, up to so many times the first.
const PAUSE_GROWTH_MAX: u32 = 12;

/// See the module.
pub struct Keeper<'a> {
    /// The run.
    pub run: &'a BackupRun<'a>,
    /// What it does.
    pub plan: &'a BackupPlan,
    /// When it began.
    pub started: Timestamp,
    /// What earlier runs left.
    parents: &'a Parents,
    taken: Mutex<BTreeMap<TreePath, Taken>>,
    /// How many contents the last checkpoint holds.
    kept: Mutex<usize>,
}

/// What came of one item.
struct Taken {
    source: String,
    item: Item,
    /// The folder in which contents are looked for by their digests.
    folder: TreePath,
    digests: BTreeSet<[u8; 32]>,
}

impl<'a> Keeper<'a> {
    pub const fn new(
        run: &'a BackupRun<'a>,
        plan: &'a BackupPlan,
        started: Timestamp,
        parents: &'a Parents,
    ) -> Self {
        Self {
            run,
            plan,
            started,
            parents,
            taken: Mutex::new(BTreeMap::new()),
            kept: Mutex::new(0),
        }
    }

    /// Notes that an item has a content, which belongs into `folder`.
    pub fn took(&self, source: &str, item: &Item, folder: &TreePath, sha256: [u8; 32]) {
        let mut taken = lock(&self.taken);
        let of_item = taken.entry(item.path.clone()).or_insert_with(|| Taken {
            source: source.to_owned(),
            item: item.clone(),
            folder: folder.clone(),
            digests: BTreeSet::new(),
        });
        of_item.digests.insert(sha256);
    }

    /// Writes checkpoints until the captures have ended, which is when nobody can send any more.
    pub fn watch(&self, archiver: &Archiver, ended: &Receiver<()>) {
        let Some(first) = &self.run.options.checkpoint_every else {
            return;
        };
        let mut pause = first.duration_from(self.started);
        let longest = pause.saturating_mul(PAUSE_GROWTH_MAX);
        let mut last = (self.run.now)();
        while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            if self.run.cancel.is_cancelled() {
                return;
            }
            let now = (self.run.now)();
            let since = now.to_jiff().duration_since(last.to_jiff());
            // A clock that was set back tells nothing: then one is due.
            if Duration::try_from(since).unwrap_or(Duration::MAX) < pause {
                continue;
            }
            // The run goes on without; if storage is gone it will say so itself.
            let written = archiver.checkpoint().map_err(BackupError::from);
            self.tell(written.and_then(|checkpoint| self.write(&checkpoint)));
            last = (self.run.now)();
            pause = pause.saturating_mul(2).min(longest);
        }
    }

    /// Keeps what a cancelled run has.
    pub fn keep(&self, archiver: Archiver) {
        self.run.progress.phase("keeping what was read so far");
        let kept = archiver.keep().map_err(BackupError::from);
        self.tell(kept.and_then(|checkpoint| self.write(&checkpoint)));
    }

    fn tell(&self, result: Result<(), BackupError>) {
        if let Err(error) = result {
            let message = format!("no checkpoint was written: {}", chain(&error));
            self.run.progress.warn(&message);
        }
    }

    /// What of the items is among these contents.
    fn found(&self, contents: &ContentIndex) -> Vec<Part> {
        let taken = lock(&self.taken);
        let parts = taken.values().map(|taken| taken.part(contents));
        parts.filter(|part| !part.files.is_empty()).collect()
    }

    /// Adds what runs that broke off before left of the item and this one has not come to: of an
    /// item only the newest part counts, and `forget` drops the older ones.
    fn carry(&self, part: &mut Part, archiver: &Archiver) {
        let path = &part.record.item.path;
        let left = self.parents.parts.get(path);
        let left = left.and_then(|part| part.node.subtree);
        let way = part.folder.components().get(path.components().len()..);
        let (Some(left), Some(way)) = (left, way) else {
            return;
        };
        let way: Vec<Vec<u8>> = way.iter().map(|name| name.to_vec()).collect();
        let there: BTreeSet<Vec<u8>> = part.files.iter().map(|n| n.name().to_vec()).collect();
        let is_held = |node: &Node| {
            let mut blobs = node.content.iter();
            blobs.all(|id| archiver.holds(BlobKind::Data, id))
        };
        let files = contents::files(self.run.repository, left, &way).into_iter();
        let files = files.map(|(_, node)| node);
        part.files
            .extend(files.filter(|node| !there.contains(node.name()) && is_held(node)));
    }

    /// Writes a partial snapshot, unless the last one has it all.
    fn write(&self, checkpoint: &Checkpoint) -> Result<(), BackupError> {
        let mut kept = lock(&self.kept);
        let found = self.found(checkpoint.contents());
        let count = found.iter().map(|part| part.files.len()).sum();
        if count <= *kept {
            return Ok(());
        }
        let archiver = Archiver::start(
            self.run.repository.clone(),
            ArchiveOptions {
                workers: 1,
                ..self.run.options.archive
            },
            Arc::default(),
            Cancel::default(),
        )?;
        let mut parts = Vec::new();
        for mut part in found {
            self.carry(&mut part, &archiver);
            let (source, record) = (part.source.clone(), part.record.clone());
            parts.push((source, record, part.store(&archiver)?));
        }
        let now = (self.run.now)();
        let record = publish::record(
            self.run,
            self.plan,
            &BTreeMap::new(),
            Vec::new(),
            self.started,
        );
        let root = Parts::of(parts).store(self.plan, &record, &archiver)?;
        if let Some(root) = root {
            let archived = archiver.finish()?.relying_on(checkpoint);
            let snapshot = partial::snapshot(self.run, self.plan, root, now);
            archived.publish(self.run.lock, &snapshot)?;
            *kept = count;
        }
        Ok(())
    }
}

/// What is stored of one item.
struct Part {
    source: String,
    record: ItemRecord,
    folder: TreePath,
    files: Vec<Node>,
}

impl Part {
    /// The item's entry, with the files in their folder.
    fn store(self, archiver: &Archiver) -> Result<Node, BackupError> {
        let depth = self.record.item.path.components().len().saturating_sub(1);
        let way = self.folder.components().get(depth..).unwrap_or_default();
        let mut nodes = self.files;
        for name in way.iter().rev() {
            nodes = vec![Node {
                entry: Entry::synthetic_directory(name.clone()),
                content: Arc::default(),
                subtree: Some(archiver.store_directory(nodes)?),
                foreign: None,
            }];
        }
        nodes.pop().ok_or(BackupError::Panicked)
    }
}

impl Taken {
    fn part(&self, contents: &ContentIndex) -> Part {
        let known = self.digests.iter().filter_map(|sha256| {
            let KnownContent { content, size } = contents.get(sha256)?;
            Some(Node {
                entry: Entry::synthetic_file(hex(sha256), *size),
                content: Arc::clone(content),
                subtree: None,
                foreign: None,
            })
        });
        Part {
            source: self.source.clone(),
            record: self.record(),
            folder: self.folder.clone(),
            files: known.collect(),
        }
    }

    fn record(&self) -> ItemRecord {
        ItemRecord {
            item: self.item.clone(),
            outcome: Outcome::Failed {
                reason: "the run had not finished".to_owned(),
            },
            consistency: None,
            files: 0,
            bytes: 0,
        }
    }
}

/// Lower-case digits, as names of contents have them.
fn hex(sha256: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    for byte in sha256 {
        // Writing into memory cannot fail.
        let _written = write!(text, "{byte:02x}");
    }
    text
}
