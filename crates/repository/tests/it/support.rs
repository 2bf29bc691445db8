//! Repositories and trees for tests.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::process::Command;
use std::sync::Arc;

use refloat_model::cancel::Cancel;
use refloat_model::entry::{Entry, EntryKind, Metadata, SinkError, TreeSink};
use refloat_model::progress::Counters;
use refloat_model::secret::Secret;
use refloat_model::time::Timestamp;
use refloat_repository::archive::{
    ArchiveOptions, Archiver, FinishedTree, ParentTree, TreeBuilder,
};
use refloat_repository::format::snapshot::SnapshotFile;
use refloat_repository::lock::{Clock, Lock, LockMode, LockOwner, Repetition, Timekeeper, Work};
use refloat_repository::{
    BlobKind, BlobReader as _, ChunkerChoice, IndexedRepository, InitOptions, Node, Repository,
    SnapshotId,
};
use refloat_storage::SharedStorage;

pub const PASSWORD: &str = "correct horse";

pub fn init(storage: &SharedStorage, chunker: ChunkerChoice) -> Repository {
    let options = InitOptions {
        chunker,
        ..InitOptions::default()
    };
    Repository::init(Arc::clone(storage), &Secret::new(PASSWORD), options).unwrap()
}

pub fn open(storage: &SharedStorage) -> Repository {
    Repository::open(Arc::clone(storage), &Secret::new(PASSWORD)).unwrap()
}

pub fn owner(name: &str) -> LockOwner {
    LockOwner {
        host: format!("refloat-{name}"),
        user: "test".to_owned(),
        process: 1,
    }
}

pub fn clock() -> Clock {
    Arc::new(jiff::Timestamp::now)
}

/// A clock that somebody moves: nobody waits by it, and nothing is refreshed behind one's back.
#[derive(Clone)]
pub struct Hands(Arc<std::sync::Mutex<jiff::Timestamp>>);

impl Hands {
    pub fn at(now: jiff::Timestamp) -> Self {
        Self(Arc::new(std::sync::Mutex::new(now)))
    }

    pub fn clock(&self) -> Clock {
        Arc::new(self.clone())
    }
}

impl Hands {
    pub fn pass_minutes(&self, minutes: i64) {
        *self.0.lock().unwrap() += jiff::SignedDuration::from_mins(minutes);
    }
}

struct Never;
impl Repetition for Never {}

impl Timekeeper for Hands {
    fn now(&self) -> jiff::Timestamp {
        *self.0.lock().unwrap()
    }

    fn sleep(&self, _duration: std::time::Duration) {}

    fn every(
        &self,
        _period: std::time::Duration,
        _work: Work,
    ) -> std::io::Result<Box<dyn Repetition>> {
        Ok(Box::new(Never))
    }
}

pub fn shared_lock(repository: &Repository) -> Lock {
    repository
        .lock(LockMode::Shared, owner("backup"), clock())
        .unwrap()
}

/// Files by path with the time of their last change; content as given.
pub type Files = BTreeMap<String, (i64, Vec<u8>)>;

/// Bytes that do not compress, the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

pub fn real_file(name: &str, time: i64, size: usize) -> Entry {
    let kind = EntryKind::File { size: size as u64 };
    let at = Timestamp {
        seconds: time,
        nanoseconds: 5,
    };
    let inode = 1 + name
        .bytes()
        .fold(7_u64, |hash, b| hash.wrapping_mul(31) + u64::from(b))
        % 1_000_000;
    let metadata = Metadata {
        modified: at,
        changed: at,
        inode,
        links: 1,
        ..Metadata::synthetic(&kind)
    };
    Entry {
        name: name.into(),
        kind,
        metadata,
    }
}

/// Pushes files; directories come from the slashes in their paths. Content that is read although
/// it is unchanged counts in `reads`.
pub fn push(sink: &mut dyn TreeSink, files: &Files, reads: &Arc<std::sync::atomic::AtomicUsize>) {
    try_push(sink, files, reads).unwrap();
}

/// As [`push`], into a sink that may refuse.
pub fn try_push(
    sink: &mut dyn TreeSink,
    files: &Files,
    reads: &Arc<std::sync::atomic::AtomicUsize>,
) -> Result<(), SinkError> {
    let mut open: Vec<String> = Vec::new();
    for (path, (time, content)) in files {
        let mut parts: Vec<&str> = path.split('/').collect();
        let name = parts.pop().unwrap();
        let common = open.iter().zip(&parts).take_while(|(a, b)| a == b).count();
        while open.len() > common {
            sink.leave()?;
            open.pop();
        }
        for part in &parts[common..] {
            sink.enter(Entry::synthetic_directory(*part))?;
            open.push((*part).to_owned());
        }
        let (bytes, reads) = (content.clone(), Arc::clone(reads));
        let open_content = move || {
            reads.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok::<_, io::Error>(io::Cursor::new(bytes))
        };
        sink.file(
            real_file(name, *time, content.len()),
            Box::new(open_content),
        )?;
    }
    for _ in open {
        sink.leave()?;
    }
    Ok(())
}

pub fn archiver(repository: &IndexedRepository) -> Archiver {
    archiver_of_packs(repository, 1 << 20)
}

pub fn archiver_of_packs(repository: &IndexedRepository, pack_bytes_min: usize) -> Archiver {
    let options = ArchiveOptions {
        pack_bytes_min,
        // The same packs every time: what tests damage and count must not depend on chance.
        placement_seed: Some(0x9e37_79b9_7f4a_7c15),
        workers: 1,
        ..ArchiveOptions::default()
    };
    Archiver::start(
        repository.clone(),
        options,
        Arc::new(Counters::default()),
        Cancel::default(),
    )
    .unwrap()
}

pub struct Backup {
    pub id: SnapshotId,
    pub tree: FinishedTree,
    pub reads: usize,
    pub added: refloat_repository::archive::Added,
}

/// Backs files up, with the newest snapshot as parent.
pub fn backup(storage: &SharedStorage, files: &Files) -> Backup {
    let reads = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut backup = backup_with(storage, |builder| push(builder, files, &reads));
    backup.reads = reads.load(std::sync::atomic::Ordering::SeqCst);
    backup
}

/// Entries of an earlier point that is so much later than their files that their times tell all.
pub fn settled(nodes: Vec<Node>) -> Vec<ParentTree> {
    let begun = Timestamp {
        seconds: i64::MAX,
        nanoseconds: 0,
    };
    vec![ParentTree { nodes, begun }]
}

pub fn backup_with(storage: &SharedStorage, fill: impl FnOnce(&mut TreeBuilder)) -> Backup {
    backup_into_packs(storage, 1 << 20, fill)
}

pub fn backup_into_packs(
    storage: &SharedStorage,
    pack_bytes_min: usize,
    fill: impl FnOnce(&mut TreeBuilder),
) -> Backup {
    let repository = open(storage);
    let lock = shared_lock(&repository);
    let parent = repository.snapshots().unwrap().snapshots.pop();
    let repository = repository.into_indexed().unwrap();
    let previous = parent
        .and_then(|(_, snapshot)| repository.read_tree(snapshot.tree.unwrap()).ok())
        .unwrap_or_default();
    let archiver = archiver_of_packs(&repository, pack_bytes_min);
    let mut builder = archiver.tree(settled(previous));
    fill(&mut builder);
    let tree = builder.finish().unwrap();
    let root = archiver.store_directory(tree.nodes.clone()).unwrap();
    let archived = archiver.finish().unwrap();
    let id = archived.publish(&lock, &snapshot(root)).unwrap();
    Backup {
        id,
        tree,
        reads: 0,
        added: archived.added(),
    }
}

pub fn snapshot(tree: refloat_repository::BlobId) -> SnapshotFile {
    let json = serde_json::json!({
        "time": jiff::Timestamp::now().to_string(), "tree": tree, "paths": ["/test"], "hostname": "h",
    });
    serde_json::from_value(json).unwrap()
}

/// All files below a tree with their content, read blob by blob.
pub fn read_files(
    repository: &IndexedRepository,
    tree: refloat_repository::BlobId,
) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![(String::new(), tree)];
    while let Some((prefix, tree)) = open.pop() {
        for node in repository.read_tree(tree).unwrap() {
            let path = format!("{prefix}{}", String::from_utf8_lossy(node.name()));
            match node.subtree {
                Some(subtree) => open.push((format!("{path}/"), subtree)),
                None => drop(files.insert(path, read_content(repository, &node))),
            }
        }
    }
    files
}

fn read_content(repository: &IndexedRepository, node: &Node) -> Vec<u8> {
    let blobs = node
        .content
        .iter()
        .map(|blob| repository.read_blob(BlobKind::Data, *blob).unwrap());
    blobs.flatten().collect()
}

pub fn contents(files: &Files) -> BTreeMap<String, Vec<u8>> {
    files
        .iter()
        .map(|(path, (_, content))| (path.clone(), content.clone()))
        .collect()
}

pub fn newest_tree(repository: &Repository) -> refloat_repository::BlobId {
    repository
        .snapshots()
        .unwrap()
        .snapshots
        .pop()
        .unwrap()
        .1
        .tree
        .unwrap()
}

/// Runs restic with the tests' password; its output if it succeeded.
pub fn restic(folder: &std::path::Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new("restic")
        .args(["--no-cache", "-r"])
        .arg(folder)
        .args(args)
        .env("RESTIC_PASSWORD", PASSWORD)
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if output.status.success() {
        Ok(text)
    } else {
        Err(text)
    }
}

pub fn has_restic() -> bool {
    let found = Command::new("restic").arg("version").output().is_ok();
    if !found {
        refloat_testkit::skip("restic is not installed");
    }
    found
}

/// A reader that fails after some bytes.
pub struct Torn(pub usize);

impl Read for Torn {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::Error::other("torn on purpose"));
        }
        let length = buffer.len().min(self.0);
        buffer[..length].fill(7);
        self.0 -= length;
        Ok(length)
    }
}
