//! A point in memory: the sink of one capture and the parent of the next.
//!
//! Invariant: as in the repository, a file whose stream failed is not kept.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use refloat_model::cancel::Cancel;
use refloat_model::entry::{Content, Entry, SinkError, TreeSink};
use refloat_model::id::{PointId, RunId};
use refloat_model::item::{Capture, Inventory, Item};
use refloat_model::outcome::{Consistency, Outcome};
use refloat_model::point::{ItemRecord, PointRecord, SourceRecord};
use refloat_model::time::Timestamp;
use refloat_model::tree_path::TreePath;
use refloat_source::{Source, SourceError, StoredError, StoredPoint, WrittenFolder};

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Node {
    File(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, Node>),
}

impl Node {
    pub fn at(&self, path: &TreePath) -> Option<&Self> {
        path.components()
            .iter()
            .try_fold(self, |node, name| match node {
                Self::Directory(entries) => entries.get(name),
                Self::File(_) => None,
            })
    }

    pub fn entries(&mut self) -> &mut BTreeMap<Vec<u8>, Self> {
        match self {
            Self::Directory(entries) => entries,
            Self::File(_) => panic!("a file has no entries"),
        }
    }

    pub fn remove(&mut self, path: &TreePath) -> Option<Self> {
        let parent = path.parent()?;
        let names = parent.components().iter();
        let node = names.fold(self, |node, name| node.entries().get_mut(name).unwrap());
        node.entries().remove(path.name()?)
    }
}

/// What one capture did.
#[derive(Debug, Default)]
pub struct Figures {
    pub streamed: Vec<String>,
    pub reused: Vec<String>,
    pub failures: Vec<(String, String)>,
}

/// What a directory holds.
type Entries = BTreeMap<Vec<u8>, Node>;

struct Memory<'a> {
    levels: Vec<(Vec<u8>, Entries)>,
    parents: Vec<Option<&'a Node>>,
    figures: Figures,
}

impl Memory<'_> {
    fn put(&mut self, name: Vec<u8>, node: Node) {
        let old = self.levels.last_mut().unwrap().1.insert(name.clone(), node);
        assert!(
            old.is_none(),
            "{:?} came twice",
            String::from_utf8_lossy(&name)
        );
    }
}

impl TreeSink for Memory<'_> {
    fn enter(&mut self, directory: Entry) -> Result<(), SinkError> {
        let parent = match self.parents.last().unwrap() {
            Some(Node::Directory(entries)) => entries.get(&directory.name),
            _ => None,
        };
        self.parents.push(parent);
        self.levels.push((directory.name, BTreeMap::new()));
        Ok(())
    }

    fn leave(&mut self) -> Result<(), SinkError> {
        let (name, entries) = self.levels.pop().unwrap();
        self.parents.pop();
        self.put(name, Node::Directory(entries));
        Ok(())
    }

    fn file(&mut self, file: Entry, content: Box<dyn Content>) -> Result<(), SinkError> {
        let mut content = content.open().unwrap();
        self.stream(file, &mut content)
    }

    fn stream(&mut self, file: Entry, content: &mut dyn Read) -> Result<(), SinkError> {
        let name = String::from_utf8(file.name.clone()).unwrap();
        let mut bytes = Vec::new();
        match content.read_to_end(&mut bytes) {
            Ok(_) => {
                self.figures.streamed.push(name);
                self.put(file.name, Node::File(bytes));
            }
            Err(error) => self.figures.failures.push((name, error.to_string())),
        }
        Ok(())
    }

    fn node(&mut self, _: Entry) -> Result<(), SinkError> {
        panic!("registries have no special files")
    }

    fn reuse(&mut self, name: &[u8]) -> Result<bool, SinkError> {
        let Some(Some(Node::Directory(entries))) = self.parents.last() else {
            return Ok(false);
        };
        let Some(node) = entries.get(name).cloned() else {
            return Ok(false);
        };
        self.figures
            .reused
            .push(String::from_utf8_lossy(name).into_owned());
        self.put(name.to_vec(), node);
        Ok(true)
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
        let name = String::from_utf8_lossy(name).into_owned();
        self.figures.failures.push((name, reason));
    }
}

/// A point of one source.
pub struct Point {
    pub root: Node,
    record: PointRecord,
    items: BTreeMap<String, Vec<ItemRecord>>,
}

/// A point with what making it came to, by item.
pub struct Run {
    pub point: Point,
    pub inventory: Inventory,
    pub figures: BTreeMap<String, Figures>,
    pub errors: BTreeMap<String, String>,
}

impl Run {
    /// All failures of all items, as text.
    pub fn failures(&self) -> String {
        let items = self.figures.iter();
        let items = items.flat_map(|(title, figures)| {
            figures
                .failures
                .iter()
                .map(move |(name, reason)| format!("{title}/{name}: {reason}\n"))
        });
        let errors = self
            .errors
            .iter()
            .map(|(title, error)| format!("{title}: {error}\n"));
        items.chain(errors).collect()
    }
}

/// Captures everything a source holds, as the engine would.
pub fn back_up(source: &dyn Source, parent: Option<&Point>) -> Result<Run, SourceError> {
    let cancel = Cancel::default();
    let inventory = source.discover(&cancel)?;
    let description = source.description();
    let mut root = Node::Directory(BTreeMap::new());
    let (mut figures, mut errors, mut records) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for item in &inventory.items {
        let mut outcome = item.skip.clone().unwrap_or(Outcome::Saved);
        if item.skip.is_none() {
            match capture(source, item, parent.map(|p| &p.root), &cancel) {
                Ok((node, done, _)) => {
                    insert(&mut root, &item.path, node);
                    if !done.failures.is_empty() {
                        let missing = done.failures.iter().map(|(n, r)| format!("{n}: {r}"));
                        outcome = Outcome::Partial {
                            missing: missing.collect(),
                            missing_count: done.failures.len() as u64,
                        };
                    }
                    figures.insert(item.title.clone(), done);
                }
                Err(error) => {
                    let text = chain(&error);
                    errors.insert(item.title.clone(), text.clone());
                    outcome = Outcome::Failed { reason: text };
                }
            }
        }
        let consistency = Some(Consistency::Definition);
        records.push(ItemRecord {
            item: item.clone(),
            outcome,
            consistency,
            files: 0,
            bytes: 0,
        });
    }
    let record = record(&description, &inventory);
    let items = BTreeMap::from([(description.name, records)]);
    Ok(Run {
        point: Point {
            root,
            record,
            items,
        },
        inventory,
        figures,
        errors,
    })
}

pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

pub fn capture(
    source: &dyn Source,
    item: &Item,
    parent: Option<&Node>,
    cancel: &Cancel,
) -> Result<(Node, Figures, Capture), SourceError> {
    let folder = item.path.parent().unwrap();
    let mut sink = Memory {
        levels: vec![(Vec::new(), BTreeMap::new())],
        parents: vec![parent.and_then(|root| root.at(&folder))],
        figures: Figures::default(),
    };
    let captured = source.capture(item, &mut sink, cancel)?;
    let (_, mut entries) = sink.levels.pop().unwrap();
    assert!(
        sink.levels.is_empty(),
        "the source left fewer directories than it entered"
    );
    let node = entries.remove(item.path.name().unwrap()).unwrap();
    assert!(entries.is_empty(), "the source gave more than its item");
    Ok((node, sink.figures, captured))
}

fn insert(root: &mut Node, path: &TreePath, node: Node) {
    let (last, above) = path.components().split_last().unwrap();
    let folder = above.iter().fold(root, |folder, name| {
        folder
            .entries()
            .entry(name.clone())
            .or_insert_with(|| Node::Directory(BTreeMap::new()))
    });
    folder.entries().insert(last.clone(), node);
}

fn record(description: &refloat_source::Description, inventory: &Inventory) -> PointRecord {
    let source = SourceRecord {
        kind: description.kind.to_owned(),
        address: description.address.clone(),
        identity: inventory.identity.clone(),
        versions: inventory.versions.clone(),
        errors: None,
    };
    PointRecord {
        version: 1,
        id: PointId::from_random([1; 16]),
        policy: "test".to_owned(),
        run: RunId::from_random([2; 16]),
        started: Timestamp::EPOCH,
        finished: Timestamp::EPOCH,
        program: "test".to_owned(),
        sources: BTreeMap::from([(description.name.clone(), source)]),
        outcomes: BTreeMap::new(),
        closure: Vec::new(),
        findings: Vec::new(),
    }
}

impl Point {
    /// A point of nothing yet.
    pub fn empty(description: &refloat_source::Description) -> Self {
        Self {
            root: Node::Directory(BTreeMap::new()),
            record: record(description, &Inventory::default()),
            items: BTreeMap::new(),
        }
    }

    /// Adds an item with its files, as a source of that kind would have it.
    pub fn add(&mut self, (source, kind): (&str, &str), item: Item, files: &[(&str, Vec<u8>)]) {
        for (name, bytes) in files {
            let path = name
                .split('/')
                .fold(item.path.clone(), |p, name| p.child(name));
            insert(&mut self.root, &path, Node::File(bytes.clone()));
        }
        let source_record = SourceRecord {
            kind: kind.to_owned(),
            ..self.record.sources.values().next().unwrap().clone()
        };
        self.record.sources.insert(source.to_owned(), source_record);
        let records = self.items.entry(source.to_owned()).or_default();
        records.push(ItemRecord {
            item,
            outcome: Outcome::Saved,
            consistency: Some(Consistency::Definition),
            files: 0,
            bytes: 0,
        });
    }

    fn get(&self, operation: &'static str, path: &TreePath) -> Result<&Node, StoredError> {
        self.root.at(path).ok_or_else(|| missing(operation, path))
    }
}

fn missing(operation: &'static str, path: &TreePath) -> StoredError {
    StoredError {
        operation,
        path: path.clone(),
        cause: "it is not there".into(),
    }
}

fn entry(name: &[u8], node: &Node) -> Entry {
    match node {
        Node::File(bytes) => Entry::synthetic_file(name, bytes.len() as u64),
        Node::Directory(_) => Entry::synthetic_directory(name),
    }
}

impl StoredPoint for Point {
    fn record(&self) -> &PointRecord {
        &self.record
    }

    fn items(&self, source: &str) -> Result<Vec<ItemRecord>, StoredError> {
        Ok(self.items.get(source).cloned().unwrap_or_default())
    }

    fn stat(&self, path: &TreePath) -> Result<Option<Entry>, StoredError> {
        Ok(self
            .root
            .at(path)
            .map(|node| entry(path.name().unwrap_or(b"/"), node)))
    }

    fn list(&self, path: &TreePath) -> Result<Vec<Entry>, StoredError> {
        match self.get("list", path)? {
            Node::Directory(entries) => Ok(entries
                .iter()
                .map(|(name, node)| entry(name, node))
                .collect()),
            Node::File(_) => Err(missing("list", path)),
        }
    }

    fn open(&self, path: &TreePath) -> Result<Box<dyn Read + Send>, StoredError> {
        match self.get("read", path)? {
            Node::File(bytes) => Ok(Box::new(std::io::Cursor::new(bytes.clone()))),
            Node::Directory(_) => Err(missing("read", path)),
        }
    }

    fn walk(&self, _: &TreePath, _: &mut dyn TreeSink, _: &Cancel) -> Result<(), StoredError> {
        panic!("registries do not walk")
    }

    fn write_folder(
        &self,
        _: &TreePath,
        _: &Path,
        _: &Cancel,
    ) -> Result<WrittenFolder, StoredError> {
        panic!("registries write layouts themselves")
    }
}

/// Bytes of all files below a node.
pub fn content_bytes(node: &Node) -> usize {
    match node {
        Node::File(bytes) => bytes.len(),
        Node::Directory(entries) => entries.values().map(content_bytes).sum(),
    }
}
