//! A sink that remembers what it was given.

use std::collections::BTreeMap;
use std::io::Read;

use refloat_model::entry::{Content, Entry, EntryKind, SinkError, TreeSink};

/// Entries by path, with content where it was read.
#[derive(Default)]
pub struct Recorder {
    pub entries: BTreeMap<String, Entry>,
    pub contents: BTreeMap<String, Vec<u8>>,
    pub failures: Vec<String>,
    pub order: Vec<String>,
    path: Vec<String>,
    pub keep_content: bool,
    /// Under attack an entry may turn up under both names of a directory's listing.
    pub may_repeat: bool,
}

impl Recorder {
    pub fn new() -> Self {
        Self {
            keep_content: true,
            ..Self::default()
        }
    }

    pub fn paths(&self) -> Vec<&str> {
        self.entries.keys().map(String::as_str).collect()
    }

    pub fn entry(&self, path: &str) -> &Entry {
        self.entries
            .get(path)
            .unwrap_or_else(|| panic!("no {path}"))
    }

    pub fn depth(&self) -> usize {
        self.path.len()
    }

    fn below(&self, name: &[u8]) -> String {
        let mut path = self.path.clone();
        path.push(name.escape_ascii().to_string());
        path.join("/")
    }

    fn add(&mut self, entry: Entry) -> String {
        let path = self.below(&entry.name);
        self.order.push(path.clone());
        let twice = self.entries.insert(path.clone(), entry);
        assert!(self.may_repeat || twice.is_none(), "{path} came twice");
        path
    }
}

impl TreeSink for Recorder {
    fn enter(&mut self, directory: Entry) -> Result<(), SinkError> {
        assert_eq!(directory.kind, EntryKind::Directory);
        let name = directory.name.escape_ascii().to_string();
        self.add(directory);
        self.path.push(name);
        Ok(())
    }

    fn leave(&mut self) -> Result<(), SinkError> {
        assert!(self.path.pop().is_some(), "left more than was entered");
        Ok(())
    }

    fn file(&mut self, file: Entry, content: Box<dyn Content>) -> Result<(), SinkError> {
        let path = self.add(file);
        if !self.keep_content {
            return Ok(());
        }
        let mut bytes = Vec::new();
        match content.open().and_then(|mut c| c.read_to_end(&mut bytes)) {
            Ok(_) => drop(self.contents.insert(path, bytes)),
            Err(error) => self.failures.push(format!("{path}: {error}")),
        }
        Ok(())
    }

    fn stream(&mut self, _file: Entry, _content: &mut dyn Read) -> Result<(), SinkError> {
        panic!("a walk does not stream")
    }

    fn node(&mut self, entry: Entry) -> Result<(), SinkError> {
        self.add(entry);
        Ok(())
    }

    fn reuse(&mut self, _name: &[u8]) -> Result<bool, SinkError> {
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
            .push(format!("{}: {reason}", self.below(name)));
    }
}
