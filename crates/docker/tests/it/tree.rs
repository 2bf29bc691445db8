//! A sink that keeps a tree in memory, and the parent it may take things over from.

use std::collections::BTreeMap;
use std::io::Read;

use refloat_model::entry::{Content, Entry, EntryKind, Metadata, SinkError, TreeSink};

/// One captured entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    pub kind: EntryKind,
    pub metadata: Metadata,
    pub content: Vec<u8>,
}

/// A tree by path, and what went wrong in it.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    pub nodes: BTreeMap<String, Node>,
    pub failures: Vec<(String, String)>,
    /// Paths taken over from the parent.
    pub reused: Vec<String>,
    parent: BTreeMap<String, Node>,
    open: Vec<String>,
}

impl Tree {
    pub fn with_parent(parent: &Self) -> Self {
        Self {
            parent: parent.nodes.clone(),
            ..Self::default()
        }
    }

    pub fn paths(&self) -> Vec<&str> {
        self.nodes.keys().map(String::as_str).collect()
    }

    pub fn node(&self, path: &str) -> &Node {
        let found = self.nodes.get(path);
        found.unwrap_or_else(|| panic!("no {path} in {:?}; {:?}", self.paths(), self.failures))
    }

    pub fn text(&self, path: &str) -> String {
        String::from_utf8(self.node(path).content.clone()).unwrap()
    }

    /// All is closed and nothing failed.
    pub fn assert_whole(&self) {
        assert!(self.open.is_empty(), "still open: {:?}", self.open);
        assert!(self.failures.is_empty(), "{:?}", self.failures);
    }

    fn path(&self, name: &[u8]) -> String {
        let mut path = self.open.clone();
        path.push(String::from_utf8_lossy(name).into_owned());
        path.join("/")
    }

    fn insert(&mut self, entry: Entry, content: Vec<u8>) {
        let path = self.path(&entry.name);
        if self.nodes.contains_key(&path) {
            self.failures.push((path, "given twice".to_owned()));
            return;
        }
        let node = Node {
            kind: entry.kind,
            metadata: entry.metadata,
            content,
        };
        self.nodes.insert(path, node);
    }
}

impl TreeSink for Tree {
    fn enter(&mut self, directory: Entry) -> Result<(), SinkError> {
        let name = String::from_utf8_lossy(&directory.name).into_owned();
        self.insert(directory, Vec::new());
        self.open.push(name);
        Ok(())
    }

    fn leave(&mut self) -> Result<(), SinkError> {
        self.open.pop().expect("a directory to leave");
        Ok(())
    }

    fn file(&mut self, file: Entry, content: Box<dyn Content>) -> Result<(), SinkError> {
        match content.open() {
            Ok(mut content) => self.stream(file, &mut content),
            Err(error) => {
                self.fail(&file.name, error.to_string());
                Ok(())
            }
        }
    }

    fn stream(&mut self, file: Entry, content: &mut dyn Read) -> Result<(), SinkError> {
        let mut bytes = Vec::new();
        match content.read_to_end(&mut bytes) {
            Ok(_) => self.insert(file, bytes),
            Err(error) => self.fail(&file.name, error.to_string()),
        }
        Ok(())
    }

    fn node(&mut self, entry: Entry) -> Result<(), SinkError> {
        self.insert(entry, Vec::new());
        Ok(())
    }

    fn reuse(&mut self, name: &[u8]) -> Result<bool, SinkError> {
        let path = self.path(name);
        let below = format!("{path}/");
        let found: Vec<_> = self
            .parent
            .iter()
            .filter(|(other, _)| **other == path || other.starts_with(&below))
            .map(|(path, node)| (path.clone(), node.clone()))
            .collect();
        let any = !found.is_empty();
        self.nodes.extend(found);
        if any {
            self.reused.push(path);
        }
        Ok(any)
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
        self.failures.push((self.path(name), reason));
    }
}
