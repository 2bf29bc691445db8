//! A repository in memory, a source that is data, and a clock that a test moves.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use refloat_engine::backup::{
    self, BackupError, BackupOptions, BackupPolicy, BackupReport, BackupRun, Selection,
};
use refloat_engine::period::Period;
use refloat_engine::stored::StoredTree;
use refloat_model::cancel::Cancel;
use refloat_model::closure::Waiver;
use refloat_model::entry::{Entry, TreeSink};
use refloat_model::finding::Finding;
use refloat_model::glob::Glob;
use refloat_model::id::{PointId, RunId};
use refloat_model::item::{Capture, Inventory, Item, ItemKind, Workload};
use refloat_model::outcome::{Consistency, Outcome};
use refloat_model::progress::{Counters, Progress};
use refloat_model::secret::Secret;
use refloat_model::subject::{Subject, SubjectKind};
use refloat_model::time::Timestamp;
use refloat_model::tree_path::TreePath;
use refloat_repository::archive::ArchiveOptions;
use refloat_repository::lock::{Lock, LockMode, LockOwner};
use refloat_repository::{IndexedRepository, InitOptions, Repository};
use refloat_source::{Description, Quiesced, Source, SourceError};
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKind, SharedStorage};

/// The folder of contents that are found by their digests.
const BLOBS: &str = "blobs";

/// What happens when an item is captured.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// A directory with one file of this content.
    Holds(String),
    /// The item as a whole fails.
    Fails,
    /// One entry of it fails.
    FailsInPart,
    /// The test's cancel flag is raised, then the capture ends as cancelled.
    Cancels,
    /// The clock moves on by so many seconds, and the capture waits to be told to stop.
    Stalls(i64),
    /// The adapter panics.
    Panics,
    /// Files of one directory; with a number of seconds the clock moves on by so many after the
    /// first of them and the capture waits to be told to stop.
    Files(Vec<&'static str>, Option<i64>),
    /// Contents that are found by their digests; which of them come from the source is logged.
    Contents(Vec<u8>, Then),
}

/// What happens after the last content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// As for [`Behaviour::Cancels`].
    Cancels,
    /// The item is whole, once a checkpoint is written, for which the clock moves on.
    AwaitsCheckpoint,
}

/// A source that is data.
pub struct FakeSource {
    pub inventory: Inventory,
    pub behaviours: BTreeMap<String, Behaviour>,
    /// Whether quiescing fails.
    pub quiesce_fails: bool,
    /// `quiesce shop`, `capture db`, `resume shop`.
    pub log: Arc<Mutex<Vec<String>>>,
    pub cancel: Cancel,
    pub clock: Arc<AtomicI64>,
    pub storage: SharedStorage,
}

struct FakeHold(String, Arc<Mutex<Vec<String>>>, bool);

impl Quiesced for FakeHold {
    fn resume(mut self: Box<Self>) -> Vec<Finding> {
        self.2 = true;
        self.1.lock().unwrap().push(format!("resume {}", self.0));
        Vec::new()
    }
}

impl Drop for FakeHold {
    fn drop(&mut self) {
        if !self.2 {
            let mut log = self.1.lock().unwrap();
            log.push(format!("resume {} by dropping", self.0));
        }
    }
}

/// Cancels the run when it comes to a phase.
struct Phases {
    counters: Arc<Counters>,
    cancel_in: Option<&'static str>,
    cancel: Cancel,
}

impl Progress for Phases {
    fn phase(&self, what: &str) {
        if self.cancel_in == Some(what) {
            self.cancel.cancel();
        }
    }

    fn item(&self, _: &str, _: &Outcome) {}

    fn warn(&self, _: &str) {}

    fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

/// Bytes of a file that was opened. It is logged when it is closed: what a test waits for is then read to its end, and no
/// deadline can cut it off any more.
struct LoggedReader {
    rest: &'static [u8],
    line: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Read for LoggedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.rest.read(buffer)
    }
}

impl Drop for LoggedReader {
    fn drop(&mut self) {
        self.log.lock().unwrap().push(self.line.clone());
    }
}

impl FakeSource {
    /// Real files, as far as a parent can tell; which of them are read is logged.
    fn files(
        &self,
        directory: Entry,
        names: &[&'static str],
        stall: Option<i64>,
        sink: &mut dyn TreeSink,
        cancel: &Cancel,
    ) -> Result<Capture, SourceError> {
        sink.enter(directory)?;
        for (number, name) in names.iter().copied().enumerate() {
            let mut entry = Entry::synthetic_file(name, 4);
            entry.metadata.inode = 100 + number as u64;
            entry.metadata.changed.seconds = 5;
            let log = Arc::clone(&self.log);
            let open = move || {
                Ok(LoggedReader {
                    rest: b"data",
                    line: format!("read {name}"),
                    log,
                })
            };
            sink.file(entry, Box::new(open))?;
            if let Some(seconds) = stall.filter(|_| number == 0) {
                while !self.log.lock().unwrap().contains(&format!("read {name}")) {
                    std::thread::yield_now();
                }
                self.clock.fetch_add(seconds, Ordering::SeqCst);
                while !cancel.is_cancelled() {
                    std::thread::yield_now();
                }
            }
        }
        cancel.check().map_err(|_| SourceError::Cancelled)?;
        sink.leave()?;
        Ok(Capture {
            consistency: Consistency::Quiesced,
            findings: Vec::new(),
        })
    }
}

impl FakeSource {
    /// As an image's layers: taken over if they are known, downloaded otherwise.
    fn contents(
        &self,
        directory: Entry,
        numbers: &[u8],
        then: Then,
        sink: &mut dyn TreeSink,
    ) -> Result<Capture, SourceError> {
        let before = self.snapshots();
        sink.enter(directory)?;
        sink.enter(Entry::synthetic_directory(BLOBS))?;
        for number in numbers {
            let digest = [*number; 32];
            let entry = Entry::synthetic_file(format!("{number:02x}").repeat(32), 1);
            if sink.reuse_content(&entry, &digest)? {
                continue;
            }
            let mut log = self.log.lock().unwrap();
            log.push(format!("download {number}"));
            drop(log);
            sink.stream_by_digest(entry, &digest, &mut &[*number][..])?;
            // What came whole is known at once.
            let copy = Entry::synthetic_file(format!("copy {number}"), 1);
            while !sink.reuse_content(&copy, &digest)? {
                std::thread::yield_now();
            }
        }
        match then {
            Then::Cancels => {
                self.cancel.cancel();
                return Err(SourceError::Cancelled);
            }
            Then::AwaitsCheckpoint => {
                while self.snapshots() == before {
                    self.clock.fetch_add(60, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
        sink.leave()?;
        sink.leave()?;
        Ok(Capture {
            consistency: Consistency::Quiesced,
            findings: Vec::new(),
        })
    }

    fn snapshots(&self) -> usize {
        self.storage.list(FileKind::Snapshot).unwrap().len()
    }
}

impl Source for FakeSource {
    fn description(&self) -> Description {
        Description {
            name: "web".into(),
            kind: "fake",
            address: "nowhere".into(),
        }
    }

    fn discover(&self, _: &Cancel) -> Result<Inventory, SourceError> {
        Ok(self.inventory.clone())
    }

    fn content_folders(&self, item: &Item) -> Vec<TreePath> {
        match item.kind {
            ItemKind::Image => vec![item.path.child(BLOBS)],
            _ => Vec::new(),
        }
    }

    fn quiesce(&self, workload: &Workload, _: &Cancel) -> Result<Box<dyn Quiesced>, SourceError> {
        let mut log = self.log.lock().unwrap();
        log.push(format!("quiesce {}", workload.name));
        if self.quiesce_fails {
            return Err(SourceError::Item {
                operation: "quiesce",
                subject: workload.name.clone(),
                cause: "its command failed".into(),
            });
        }
        Ok(Box::new(FakeHold(
            workload.name.clone(),
            Arc::clone(&self.log),
            false,
        )))
    }

    fn capture(
        &self,
        item: &Item,
        sink: &mut dyn TreeSink,
        cancel: &Cancel,
    ) -> Result<Capture, SourceError> {
        self.log
            .lock()
            .unwrap()
            .push(format!("capture {}", item.title));
        let directory = Entry::synthetic_directory(item.path.name().unwrap());
        let mut in_part = false;
        let content = match &self.behaviours[&item.title] {
            Behaviour::Holds(content) => content.as_bytes(),
            Behaviour::FailsInPart => {
                in_part = true;
                b"rest"
            }
            Behaviour::Fails => {
                return Err(SourceError::Item {
                    operation: "read",
                    subject: item.title.clone(),
                    cause: "it is gone".into(),
                });
            }
            Behaviour::Cancels => {
                self.cancel.cancel();
                return Err(SourceError::Cancelled);
            }
            Behaviour::Stalls(seconds) => {
                self.clock.fetch_add(*seconds, Ordering::SeqCst);
                while !cancel.is_cancelled() {
                    std::thread::yield_now();
                }
                return Err(SourceError::Cancelled);
            }
            Behaviour::Panics => panic!("the adapter has a defect"),
            Behaviour::Files(names, stall) => {
                return self.files(directory, names, *stall, sink, cancel);
            }
            Behaviour::Contents(numbers, then) => {
                return self.contents(directory, numbers, *then, sink);
            }
        };
        sink.enter(directory)?;
        if item.kind == ItemKind::Volume {
            // As every volume has one: no data.
            sink.stream(Entry::synthetic_file("volume.json", 2), &mut &b"{}"[..])?;
        }
        if !content.is_empty() {
            sink.stream(Entry::synthetic_file("file", 0), &mut &*content)?;
        }
        if in_part {
            sink.fail(b"secret", "permission denied".into());
        }
        sink.leave()?;
        Ok(Capture {
            consistency: Consistency::Quiesced,
            findings: Vec::new(),
        })
    }
}

/// A volume of the workload `shop`.
pub fn volume(name: &str) -> Item {
    item(ItemKind::Volume, name, Some("shop"))
}

/// An item at `/fake/web/<kind>/<name>` that provides the subject of its name.
pub fn item(kind: ItemKind, name: &str, workload: Option<&str>) -> Item {
    Item {
        workload: workload.map(str::to_owned),
        provides: vec![subject(name)],
        ..Item::new(
            kind,
            name,
            TreePath::root()
                .child("fake")
                .child("web")
                .child(kind.word())
                .child(name),
        )
    }
}

pub fn subject(name: &str) -> Subject {
    Subject::new("web", SubjectKind::Volume, name)
}

/// One repository and what runs against it.
pub struct Playground {
    pub repository: IndexedRepository,
    pub log: Arc<Mutex<Vec<String>>>,
    pub cancel: Cancel,
    pub clock: Arc<AtomicI64>,
    pub deadline: Option<Period>,
    pub checkpoint_every: Option<Period>,
    pub quiesce_fails: bool,
    pub waivers: Vec<Waiver>,
    pub identity: String,
    pub policy: String,
    pub host: String,
    /// Which workloads it selects; empty means all.
    pub workloads: Vec<Glob>,
    /// What discovery finds worth telling.
    pub findings: Vec<Finding>,
    /// When the run is cancelled.
    pub cancel_in_phase: Option<&'static str>,
    runs: u8,
}

impl Playground {
    pub fn new() -> Self {
        Self::over(|storage| storage)
    }

    /// One whose storage is seen through something else.
    pub fn over(through: impl FnOnce(SharedStorage) -> SharedStorage) -> Self {
        let storage = through(Arc::new(MemoryStorage::default()));
        let password = Secret::new("x");
        let made = Repository::init(storage, &password, InitOptions::default()).unwrap();
        Self {
            repository: made.into_indexed().unwrap(),
            log: Arc::default(),
            cancel: Cancel::default(),
            clock: Arc::new(AtomicI64::new(1_790_000_000)),
            deadline: None,
            checkpoint_every: None,
            quiesce_fails: false,
            waivers: Vec::new(),
            identity: "machine-1".into(),
            policy: "hourly".into(),
            host: "host".into(),
            workloads: Vec::new(),
            findings: Vec::new(),
            cancel_in_phase: None,
            runs: 0,
        }
    }

    /// Runs a backup of the workload `shop`, which requires `requires`.
    pub fn back_up(
        &mut self,
        items: &[(Item, Behaviour)],
        requires: &[&str],
    ) -> Result<BackupReport, BackupError> {
        self.runs += 1;
        self.clock.fetch_add(3600, Ordering::SeqCst);
        self.repository = self.repository.reload().unwrap();
        let source: Arc<dyn Source> = Arc::new(FakeSource {
            inventory: Inventory {
                identity: self.identity.clone(),
                workloads: vec![Workload {
                    name: "shop".into(),
                    kind: "project".into(),
                    requires: requires.iter().map(|r| subject(r)).collect(),
                }],
                items: items.iter().map(|(item, _)| item.clone()).collect(),
                findings: self.findings.clone(),
                ..Inventory::default()
            },
            behaviours: items
                .iter()
                .map(|(i, b)| (i.title.clone(), b.clone()))
                .collect(),
            quiesce_fails: self.quiesce_fails,
            log: Arc::clone(&self.log),
            cancel: self.cancel.clone(),
            clock: Arc::clone(&self.clock),
            storage: Arc::clone(self.repository.storage()),
        });
        self.execute(&[source])
    }

    fn execute(&self, sources: &[Arc<dyn Source>]) -> Result<BackupReport, BackupError> {
        let policy = BackupPolicy {
            name: self.policy.clone(),
            select: vec![Selection {
                source: "web".into(),
                workloads: self.workloads.clone(),
            }],
            waivers: self.waivers.clone(),
        };
        let options = BackupOptions {
            point: PointId::from_random([self.runs; 16]),
            run: RunId::from_random([self.runs; 16]),
            host: self.host.clone(),
            program: "refloat test".into(),
            tags: Vec::new(),
            deadline: self.deadline.clone(),
            began: None,
            checkpoint_every: self.checkpoint_every.clone(),
            captures_at_once: 1,
            archive: ArchiveOptions::default(),
        };
        let lock = self.lock();
        let clock = Arc::clone(&self.clock);
        let now = move || Timestamp {
            seconds: clock.load(Ordering::SeqCst),
            nanoseconds: 0,
        };
        let run = BackupRun {
            repository: &self.repository,
            lock: &lock,
            sources,
            policy: &policy,
            options: &options,
            now: &now,
            progress: &Phases {
                counters: Arc::default(),
                cancel_in: self.cancel_in_phase,
                cancel: self.cancel.clone(),
            },
            cancel: &self.cancel,
        };
        let discovery = backup::discover(sources, &[], &self.cancel);
        let plan = backup::plan(&policy, discovery.found);
        backup::execute(&run, &plan, Vec::new())
    }

    fn lock(&self) -> Lock {
        let owner = LockOwner {
            host: format!("refloat-{}", self.runs),
            user: "test".into(),
            process: 1,
        };
        self.repository
            .lock(LockMode::Shared, owner, Arc::new(jiff::Timestamp::now))
            .unwrap()
    }

    /// What `forget` and `prune` work under.
    pub fn exclusive_lock(&self) -> Lock {
        let owner = LockOwner {
            host: "refloat-forget".into(),
            user: "test".into(),
            process: 1,
        };
        self.repository
            .lock(LockMode::Exclusive, owner, Arc::new(jiff::Timestamp::now))
            .unwrap()
    }

    /// The newest point's tree.
    pub fn newest(&self) -> StoredTree {
        let repository = self.repository.reload().unwrap();
        let root = repository
            .snapshots()
            .unwrap()
            .snapshots
            .last()
            .unwrap()
            .1
            .tree
            .unwrap();
        StoredTree::new(repository, root)
    }

    pub fn points(&self) -> usize {
        self.repository.snapshots().unwrap().snapshots.len()
    }

    pub fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}
