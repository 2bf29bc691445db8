//! A recovery point in memory, captured from a real engine; parts of it can be spoilt.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use refloat_docker::{Address, DockerSource, Options};
use refloat_model::cancel::Cancel;
use refloat_model::entry::{Content, Entry, EntryKind, SinkError, TreeSink};
use refloat_model::id::{PointId, RunId};
use refloat_model::outcome::Outcome;
use refloat_model::point::{ItemRecord, PointRecord, RECORD_VERSION, SourceRecord};
use refloat_model::time::Timestamp;
use refloat_model::tree_path::TreePath;
use refloat_source::{Source, StoredError, StoredPoint, WrittenFolder};
use refloat_testkit::docker::Engine;

/// The name of the source in every test.
pub const SOURCE: &str = "web";

#[derive(Clone, Debug)]
pub struct Node {
    pub entry: Entry,
    pub content: Arc<[u8]>,
}

/// The double of an opened point.
#[derive(Clone, Debug)]
pub struct Point {
    pub record: PointRecord,
    pub items: Vec<ItemRecord>,
    pub nodes: BTreeMap<TreePath, Node>,
    /// Files whose content cannot be read to its end.
    pub damaged: Vec<TreePath>,
}

impl Point {
    /// Captures everything of an engine.
    pub fn capture(engine: &Engine) -> Self {
        Self::capture_with(engine, Options::default())
    }

    /// Captures what a policy wants of an engine.
    pub fn capture_with(engine: &Engine, options: Options) -> Self {
        let cancel = Cancel::default();
        let address: Address = engine.address().parse().unwrap();
        let source = DockerSource::connect(SOURCE, &address, options).unwrap();
        let inventory = source.discover(&cancel).unwrap();
        let mut point = Self::empty(1);
        for item in inventory.items {
            let mut record = ItemRecord {
                outcome: Outcome::Saved,
                consistency: None,
                files: 0,
                bytes: 0,
                item,
            };
            if let Some(skip) = &record.item.skip {
                record.outcome = skip.clone();
                point.items.push(record);
                continue;
            }
            let mut sink = Collect {
                at: record.item.path.parent().unwrap(),
                nodes: BTreeMap::new(),
                failures: Vec::new(),
            };
            let capture = source.capture(&record.item, &mut sink, &cancel).unwrap();
            assert_eq!(sink.failures, Vec::<String>::new(), "{}", record.item.title);
            record.consistency = Some(capture.consistency);
            record.files = sink.nodes.len() as u64;
            record.bytes = sink
                .nodes
                .values()
                .map(|node| node.content.len() as u64)
                .sum();
            point.nodes.extend(sink.nodes);
            point.items.push(record);
        }
        point
    }

    /// A point without anything; `seed` makes its id.
    pub fn empty(seed: u8) -> Self {
        let source = SourceRecord {
            kind: "docker".into(),
            address: String::new(),
            identity: String::new(),
            versions: BTreeMap::new(),
            errors: None,
        };
        let record = PointRecord {
            version: RECORD_VERSION,
            id: PointId::from_random([seed; 16]),
            policy: "default".into(),
            run: RunId::from_random([seed; 16]),
            started: Timestamp::EPOCH,
            finished: Timestamp::EPOCH,
            program: String::new(),
            sources: BTreeMap::from([(SOURCE.to_owned(), source)]),
            outcomes: BTreeMap::new(),
            closure: Vec::new(),
            findings: Vec::new(),
        };
        Self {
            record,
            items: Vec::new(),
            nodes: BTreeMap::new(),
            damaged: Vec::new(),
        }
    }

    /// Changes the text of a stored file.
    pub fn edit(&mut self, path: &str, change: impl FnOnce(String) -> String) {
        let node = self.nodes.get_mut(&TreePath::parse(path).unwrap()).unwrap();
        let text = change(String::from_utf8(node.content.to_vec()).unwrap());
        node.entry.kind = EntryKind::File {
            size: text.len() as u64,
        };
        node.content = text.into_bytes().into();
    }

    /// Forgets a stored file.
    pub fn forget(&mut self, matches: impl Fn(&str) -> bool) {
        let before = self.nodes.len();
        self.nodes.retain(|path, _| !matches(&path.to_string()));
        assert!(self.nodes.len() < before, "nothing was forgotten");
    }

    fn error(path: &TreePath, why: &str) -> StoredError {
        StoredError {
            operation: "read",
            path: path.clone(),
            cause: why.into(),
        }
    }

    fn children(&self, path: &TreePath) -> impl Iterator<Item = (&TreePath, &Node)> {
        let depth = path.components().len() + 1;
        let below = self
            .nodes
            .iter()
            .filter(move |(p, _)| p.components().len() == depth);
        below.filter(move |(p, _)| p.starts_with(path))
    }

    fn content(&self, path: &TreePath) -> Box<dyn Read + Send> {
        let content = Arc::clone(&self.nodes[path].content);
        match self.damaged.contains(path) {
            false => Box::new(Cursor::new(content)),
            true => {
                let half = content[..content.len() / 2].to_vec();
                Box::new(Cursor::new(half).chain(Broken))
            }
        }
    }

    fn write(
        &self,
        path: &TreePath,
        place: &Path,
        links: &mut HashMap<(u64, u64), PathBuf>,
        written: &mut WrittenFolder,
    ) {
        for (path, node) in self.children(path) {
            let place = place.join(OsStr::from_bytes(&node.entry.name));
            let result = match &node.entry.kind {
                EntryKind::Directory => {
                    let made = fs::create_dir(&place);
                    self.write(path, &place, links, written);
                    made.or_else(|e| match e.kind() {
                        io::ErrorKind::AlreadyExists => Ok(()),
                        _ => Err(e),
                    })
                }
                _ => self.write_leaf(path, node, &place, links),
            };
            match result.and_then(|()| dress(&place, &node.entry)) {
                Ok(()) => {
                    written.entries += 1;
                    written.bytes_verified += node.content.len() as u64;
                }
                Err(error) => written.failures.push(format!("{path}: {error}")),
            }
        }
    }

    fn write_leaf(
        &self,
        path: &TreePath,
        node: &Node,
        place: &Path,
        links: &mut HashMap<(u64, u64), PathBuf>,
    ) -> io::Result<()> {
        drop(fs::remove_file(place));
        let metadata = &node.entry.metadata;
        let key = (metadata.device_id, metadata.inode);
        if metadata.links > 1
            && let Some(first) = links.get(&key)
        {
            return fs::hard_link(first, place);
        }
        links.insert(key, place.to_owned());
        match &node.entry.kind {
            EntryKind::File { .. } => {
                let mut file = File::create(place)?;
                io::copy(&mut self.content(path), &mut file).map(drop)
            }
            EntryKind::Symlink { target } => symlink(OsStr::from_bytes(target), place),
            EntryKind::Fifo => {
                let made = std::process::Command::new("mkfifo").arg(place).status()?;
                if made.success() {
                    Ok(())
                } else {
                    Err(io::Error::other("mkfifo"))
                }
            }
            other => Err(io::Error::other(format!(
                "{other:?} is not for this double"
            ))),
        }
    }
}

fn dress(place: &Path, entry: &Entry) -> io::Result<()> {
    let metadata = &entry.metadata;
    lchown(place, Some(metadata.uid), Some(metadata.gid))?;
    if !matches!(entry.kind, EntryKind::Symlink { .. }) {
        for xattr in &metadata.xattrs {
            xattr::set(place, OsStr::from_bytes(&xattr.name), &xattr.value)?;
        }
        fs::set_permissions(place, fs::Permissions::from_mode(metadata.mode))?;
    }
    let time = rustix::fs::Timespec {
        tv_sec: metadata.modified.seconds,
        tv_nsec: metadata.modified.nanoseconds.into(),
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    let nofollow = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::utimensat(
        rustix::fs::CWD,
        place,
        &times,
        nofollow,
    )?)
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("a blob is damaged"))
    }
}

impl StoredPoint for Point {
    fn record(&self) -> &PointRecord {
        &self.record
    }

    fn items(&self, source: &str) -> Result<Vec<ItemRecord>, StoredError> {
        assert_eq!(source, SOURCE);
        Ok(self.items.clone())
    }

    fn stat(&self, path: &TreePath) -> Result<Option<Entry>, StoredError> {
        Ok(self.nodes.get(path).map(|node| node.entry.clone()))
    }

    fn list(&self, path: &TreePath) -> Result<Vec<Entry>, StoredError> {
        Ok(self
            .children(path)
            .map(|(_, node)| node.entry.clone())
            .collect())
    }

    fn open(&self, path: &TreePath) -> Result<Box<dyn Read + Send>, StoredError> {
        match self.nodes.contains_key(path) {
            true => Ok(self.content(path)),
            false => Err(Self::error(path, "it is not there")),
        }
    }

    fn walk(
        &self,
        path: &TreePath,
        sink: &mut dyn TreeSink,
        cancel: &Cancel,
    ) -> Result<(), StoredError> {
        cancel
            .check()
            .map_err(|_| Self::error(path, "interrupted"))?;
        let failed = |error: SinkError| Self::error(path, &error.to_string());
        for (path, node) in self.children(path) {
            let entry = node.entry.clone();
            match &entry.kind {
                EntryKind::Directory => {
                    sink.enter(entry).map_err(failed)?;
                    self.walk(path, sink, cancel)?;
                    sink.leave().map_err(failed)?;
                }
                EntryKind::File { .. } => {
                    let content = self.content(path);
                    sink.file(entry, Box::new(move || Ok(content)))
                        .map_err(failed)?;
                }
                _ => sink.node(entry).map_err(failed)?,
            }
        }
        Ok(())
    }

    fn write_folder(
        &self,
        path: &TreePath,
        destination: &Path,
        _: &Cancel,
    ) -> Result<WrittenFolder, StoredError> {
        let mut written = WrittenFolder::default();
        self.write(path, destination, &mut HashMap::new(), &mut written);
        if let Some(node) = self.nodes.get(path)
            && let Err(error) = dress(destination, &node.entry)
        {
            written.failures.push(error.to_string());
        }
        Ok(written)
    }
}

/// Keeps what is captured.
struct Collect {
    at: TreePath,
    nodes: BTreeMap<TreePath, Node>,
    failures: Vec<String>,
}

impl Collect {
    fn add(&mut self, mut entry: Entry, content: Vec<u8>) {
        let path = self.at.clone().join(&entry.name).unwrap();
        if let EntryKind::File { size } = &mut entry.kind {
            *size = content.len() as u64;
        }
        let node = Node {
            entry,
            content: content.into(),
        };
        assert!(self.nodes.insert(path, node).is_none(), "given twice");
    }
}

impl TreeSink for Collect {
    fn enter(&mut self, directory: Entry) -> Result<(), SinkError> {
        let path = self.at.clone().join(&directory.name).unwrap();
        self.add(directory, Vec::new());
        self.at = path;
        Ok(())
    }

    fn leave(&mut self) -> Result<(), SinkError> {
        self.at = self.at.parent().unwrap();
        Ok(())
    }

    fn file(&mut self, file: Entry, content: Box<dyn Content>) -> Result<(), SinkError> {
        let mut reader = content.open().unwrap();
        self.stream(file, &mut reader)
    }

    fn stream(&mut self, file: Entry, content: &mut dyn Read) -> Result<(), SinkError> {
        let mut bytes = Vec::new();
        match content.read_to_end(&mut bytes) {
            Ok(_) => self.add(file, bytes),
            Err(error) => self.fail(&file.name, error.to_string()),
        }
        Ok(())
    }

    fn node(&mut self, entry: Entry) -> Result<(), SinkError> {
        self.add(entry, Vec::new());
        Ok(())
    }

    fn reuse(&mut self, _: &[u8]) -> Result<bool, SinkError> {
        Ok(false)
    }

    fn reuse_content(&mut self, _: &Entry, _: &[u8; 32]) -> Result<bool, SinkError> {
        Ok(false)
    }

    fn stream_by_digest(
        &mut self,
        file: Entry,
        _: &[u8; 32],
        content: &mut dyn Read,
    ) -> Result<bool, SinkError> {
        self.stream(file, content).map(|()| false)
    }

    fn fail(&mut self, name: &[u8], reason: String) {
        self.failures
            .push(format!("{}: {reason}", String::from_utf8_lossy(name)));
    }
}
