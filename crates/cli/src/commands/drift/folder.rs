//! The objects of one kind and namespace, as a source pushes them or a point holds them.
//!
//! Invariant: what could not be read is named, so that nothing looks missing that is not.

use std::collections::BTreeMap;
use std::io::Read;

use refloat_engine::stored::{BlobStream, StoredTree};
use refloat_kubernetes::drift::server_line;
use refloat_model::entry::{Content, Entry, SinkError, TreeSink};
use refloat_repository::{BlobId, BlobReader as _};
use serde_json::Value;

use crate::command_error::CommandError;

const DOCUMENT: &str = ".yaml";
const SERVER: &[u8] = b"_server.jsonl";
/// Parts of long folders lie one level below; nothing lies deeper.
const DEPTH_MAX: usize = 3;

/// Objects of one kind and namespace.
#[derive(Default)]
pub struct Folder {
    /// YAML, by the file's name: an object's, escaped.
    pub documents: BTreeMap<String, Vec<u8>>,
    /// Who wrote the fields of each object, by its name.
    pub writers: BTreeMap<String, Vec<Value>>,
    /// What could not be read, and why.
    pub failures: Vec<String>,
}

impl Folder {
    /// Reads a folder of a point.
    ///
    /// # Errors
    /// The repository failed.
    pub fn stored(tree: &StoredTree, folder: BlobId) -> Result<Self, CommandError> {
        let mut this = Self::default();
        let mut waiting = vec![(folder, 0)];
        while let Some((folder, depth)) = waiting.pop() {
            for node in tree.repository().read_tree(folder)? {
                if let Some(part) = node.subtree.filter(|_| depth < DEPTH_MAX) {
                    waiting.push((part, depth + 1));
                    continue;
                }
                let mut content = BlobStream::new(tree.repository().clone(), node.content.clone());
                let mut bytes = Vec::new();
                let name = String::from_utf8_lossy(node.name()).into_owned();
                content
                    .read_to_end(&mut bytes)
                    .map_err(|e| CommandError::io("read", &name, &e))?;
                this.add(node.name(), bytes);
            }
        }
        Ok(this)
    }

    fn add(&mut self, file: &[u8], bytes: Vec<u8>) {
        if file == SERVER {
            let lines = bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty());
            self.writers.extend(lines.filter_map(server_line));
            return;
        }
        let name = String::from_utf8_lossy(file);
        if let Some(name) = name.strip_suffix(DOCUMENT) {
            self.documents.insert(name.to_owned(), bytes);
        }
    }
}

impl TreeSink for Folder {
    fn enter(&mut self, _: Entry) -> Result<(), SinkError> {
        Ok(())
    }

    fn leave(&mut self) -> Result<(), SinkError> {
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
            Ok(_) => self.add(&file.name, bytes),
            Err(error) => self.fail(&file.name, error.to_string()),
        }
        Ok(())
    }

    fn node(&mut self, _: Entry) -> Result<(), SinkError> {
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
        let name = String::from_utf8_lossy(name);
        self.failures.push(format!("{name}: {reason}"));
    }
}
