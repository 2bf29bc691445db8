//! A recovery point in memory: what the engine and the repository do, without either.
//!
//! Invariant: a name given twice in a folder is a failed test.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;

use refloat_kubernetes::KubernetesSource;
use refloat_model::cancel::Cancel;
use refloat_model::entry::{Content, Entry, SinkError, TreeSink};
use refloat_model::id::{PointId, RunId};
use refloat_model::item::{Inventory, Item, ItemKind};
use refloat_model::outcome::Outcome;
use refloat_model::point::{ItemRecord, PointRecord, RECORD_VERSION, SourceRecord};
use refloat_model::time::Timestamp;
use refloat_model::tree_path::TreePath;
use refloat_source::{Source as _, StoredError, StoredPoint, WrittenFolder};

/// A directory's entries by name.
type Folder = BTreeMap<Vec<u8>, Node>;

/// A directory or file.
pub enum Node {
    Folder(Folder),
    File(Vec<u8>),
}

/// Collects a tree.
#[derive(Default)]
pub struct MemorySink {
    open: Vec<(Vec<u8>, Folder)>,
    pub done: Vec<(Vec<u8>, Node)>,
    pub failures: Vec<(String, String)>,
    pub files: u64,
}

impl MemorySink {
    fn put(&mut self, name: Vec<u8>, node: Node) {
        match self.open.last_mut() {
            Some((_, folder)) => {
                let name_text = String::from_utf8_lossy(&name).into_owned();
                assert!(folder.insert(name, node).is_none(), "{name_text} twice");
            }
            None => self.done.push((name, node)),
        }
    }
}

impl TreeSink for MemorySink {
    fn enter(&mut self, directory: Entry) -> Result<(), SinkError> {
        self.open.push((directory.name, BTreeMap::new()));
        Ok(())
    }

    fn leave(&mut self) -> Result<(), SinkError> {
        let (name, folder) = self.open.pop().unwrap();
        self.put(name, Node::Folder(folder));
        Ok(())
    }

    fn file(&mut self, file: Entry, content: Box<dyn Content>) -> Result<(), SinkError> {
        let mut reader = content.open().unwrap();
        self.stream(file, &mut reader)
    }

    fn stream(&mut self, file: Entry, content: &mut dyn Read) -> Result<(), SinkError> {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).unwrap();
        self.files += 1;
        self.put(file.name, Node::File(bytes));
        Ok(())
    }

    fn node(&mut self, _: Entry) -> Result<(), SinkError> {
        panic!("objects are files");
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
            .push((String::from_utf8_lossy(name).into_owned(), reason));
    }
}

/// A point with one source.
pub struct MemoryPoint {
    record: PointRecord,
    items: Vec<ItemRecord>,
    root: Node,
    /// What cannot be read.
    lost: Vec<TreePath>,
    pub inventory: Inventory,
}

impl MemoryPoint {
    /// Captures all that a source discovers, as a backup run does.
    pub fn capture(source: &KubernetesSource) -> Self {
        let cancel = Cancel::default();
        let inventory = source.discover(&cancel).unwrap();
        let mut root = Node::Folder(BTreeMap::new());
        let mut items = Vec::new();
        for item in &inventory.items {
            let (mut outcome, mut files) = (item.skip.clone(), 0);
            if outcome.is_none() {
                let mut sink = MemorySink::default();
                source.capture(item, &mut sink, &cancel).unwrap();
                assert!(
                    sink.open.is_empty() && sink.done.len() == 1,
                    "{}",
                    item.title
                );
                assert_eq!(sink.failures, [], "{}", item.title);
                let (name, node) = sink.done.pop().unwrap();
                assert_eq!(Some(name.as_slice()), item.path.name());
                insert(&mut root, item.path.components(), node);
                (outcome, files) = (Some(Outcome::Saved), sink.files);
            }
            items.push(ItemRecord {
                item: item.clone(),
                outcome: outcome.unwrap(),
                consistency: None,
                files,
                bytes: 0,
            });
        }
        let description = source.description();
        let record = SourceRecord {
            kind: description.kind.to_owned(),
            address: description.address,
            identity: inventory.identity.clone(),
            versions: inventory.versions.clone(),
            errors: None,
        };
        Self {
            record: point_record(&description.name, record),
            items,
            root,
            lost: Vec::new(),
            inventory,
        }
    }

    /// A point that holds the given files of the core group, as `secrets/many/a.yaml`.
    pub fn of_files(files: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut root = Node::Folder(BTreeMap::new());
        let mut folders: BTreeMap<TreePath, u64> = BTreeMap::new();
        for (path, text) in files {
            let path =
                TreePath::parse(format!("/kubernetes/prod/resources/core/v1/{path}")).unwrap();
            insert(&mut root, path.components(), Node::File(text.into_bytes()));
            *folders.entry(path.parent().unwrap()).or_default() += 1;
        }
        let items = folders.into_iter().map(|(path, files)| ItemRecord {
            item: Item {
                sensitive: true,
                ..Item::new(ItemKind::Object, path.to_string(), path)
            },
            outcome: Outcome::Saved,
            consistency: None,
            files,
            bytes: 0,
        });
        let source = SourceRecord {
            kind: "kubernetes".into(),
            address: String::new(),
            identity: String::new(),
            versions: BTreeMap::new(),
            errors: None,
        };
        Self {
            record: point_record("prod", source),
            items: items.collect(),
            root,
            lost: Vec::new(),
            inventory: Inventory::default(),
        }
    }

    /// Makes what lies at a path and below unreadable.
    pub fn lose(&mut self, path: &str) {
        self.lost.push(TreePath::parse(path).unwrap());
    }

    fn read(&self, path: &TreePath) -> Option<&Node> {
        let is_below = |lost: &TreePath| path.starts_with(lost);
        self.find(path).filter(|_| !self.lost.iter().any(is_below))
    }

    fn find(&self, path: &TreePath) -> Option<&Node> {
        path.components()
            .iter()
            .try_fold(&self.root, |node, name| match node {
                Node::Folder(folder) => folder.get(name),
                Node::File(_) => None,
            })
    }

    /// The text of a file; a panic if there is none.
    pub fn text(&self, path: &str) -> String {
        match self.find(&TreePath::parse(path).unwrap()) {
            Some(Node::File(bytes)) => String::from_utf8(bytes.clone()).unwrap(),
            _ => panic!("no file {path}"),
        }
    }

    /// All files below a path, with their own paths.
    pub fn files(&self, path: &str) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        if let Some(node) = self.find(&TreePath::parse(path).unwrap()) {
            collect(node, path, &mut found);
        }
        found
    }
}

fn collect(node: &Node, path: &str, found: &mut BTreeMap<String, String>) {
    match node {
        Node::File(bytes) => {
            found.insert(path.to_owned(), String::from_utf8_lossy(bytes).into_owned());
        }
        Node::Folder(folder) => {
            for (name, inner) in folder {
                collect(
                    inner,
                    &format!("{path}/{}", String::from_utf8_lossy(name)),
                    found,
                );
            }
        }
    }
}

fn insert(node: &mut Node, path: &[Vec<u8>], new: Node) {
    let Node::Folder(folder) = node else {
        panic!("a file is in the way");
    };
    match path {
        [name] => assert!(folder.insert(name.clone(), new).is_none(), "an item twice"),
        [name, rest @ ..] => {
            let inner = folder.entry(name.clone());
            insert(
                inner.or_insert_with(|| Node::Folder(BTreeMap::new())),
                rest,
                new,
            );
        }
        [] => panic!("an item at the root"),
    }
}

fn point_record(name: &str, source: SourceRecord) -> PointRecord {
    PointRecord {
        version: RECORD_VERSION,
        id: PointId::from_random([1; 16]),
        policy: "test".into(),
        run: RunId::from_random([2; 16]),
        started: Timestamp::EPOCH,
        finished: Timestamp::EPOCH,
        program: "test".into(),
        sources: [(name.to_owned(), source)].into(),
        outcomes: BTreeMap::new(),
        closure: Vec::new(),
        findings: Vec::new(),
    }
}

fn missing(path: &TreePath) -> StoredError {
    StoredError {
        operation: "read",
        path: path.clone(),
        cause: "not there".into(),
    }
}

impl StoredPoint for MemoryPoint {
    fn record(&self) -> &PointRecord {
        &self.record
    }

    fn items(&self, _: &str) -> Result<Vec<ItemRecord>, StoredError> {
        Ok(self.items.clone())
    }

    fn stat(&self, path: &TreePath) -> Result<Option<Entry>, StoredError> {
        let name = path.name().unwrap_or_default();
        Ok(self.find(path).map(|node| entry(name, node)))
    }

    fn list(&self, path: &TreePath) -> Result<Vec<Entry>, StoredError> {
        match self.read(path) {
            Some(Node::Folder(folder)) => Ok(folder
                .iter()
                .map(|(name, node)| entry(name, node))
                .collect()),
            _ => Err(missing(path)),
        }
    }

    fn open(&self, path: &TreePath) -> Result<Box<dyn Read + Send>, StoredError> {
        match self.read(path) {
            Some(Node::File(bytes)) => Ok(Box::new(Cursor::new(bytes.clone()))),
            _ => Err(missing(path)),
        }
    }

    fn walk(&self, path: &TreePath, _: &mut dyn TreeSink, _: &Cancel) -> Result<(), StoredError> {
        Err(missing(path))
    }

    fn write_folder(
        &self,
        path: &TreePath,
        _: &Path,
        _: &Cancel,
    ) -> Result<WrittenFolder, StoredError> {
        Err(missing(path))
    }
}

fn entry(name: &[u8], node: &Node) -> Entry {
    match node {
        Node::Folder(_) => Entry::synthetic_directory(name),
        Node::File(bytes) => Entry::synthetic_file(name, bytes.len() as u64),
    }
}
