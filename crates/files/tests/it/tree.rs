//! A sink that remembers paths and content.

use std::collections::BTreeMap;
use std::io::Read;

use refloat_model::entry::{Content, Entry, SinkError, TreeSink};

#[derive(Default)]
pub struct Tree {
    pub entries: BTreeMap<String, String>,
    pub failures: Vec<String>,
    at: Vec<String>,
}

impl Tree {
    pub fn paths(&self) -> Vec<&str> {
        self.entries.keys().map(String::as_str).collect()
    }

    fn add(&mut self, entry: &Entry, what: String) {
        let path = self.path(&entry.name);
        let twice = self.entries.insert(path, what);
        assert_eq!(twice, None);
    }

    fn path(&self, name: &[u8]) -> String {
        let mut path = self.at.clone();
        path.push(name.escape_ascii().to_string());
        path.join("/")
    }
}

impl TreeSink for Tree {
    fn enter(&mut self, directory: Entry) -> Result<(), SinkError> {
        self.add(
            &directory,
            format!("directory {:o}", directory.metadata.mode),
        );
        self.at.push(directory.name.escape_ascii().to_string());
        Ok(())
    }

    fn leave(&mut self) -> Result<(), SinkError> {
        assert!(self.at.pop().is_some());
        Ok(())
    }

    fn file(&mut self, file: Entry, content: Box<dyn Content>) -> Result<(), SinkError> {
        let mut text = String::new();
        content.open().unwrap().read_to_string(&mut text).unwrap();
        self.add(&file, text);
        Ok(())
    }

    fn stream(&mut self, _: Entry, _: &mut dyn Read) -> Result<(), SinkError> {
        panic!("files are not streamed")
    }

    fn node(&mut self, entry: Entry) -> Result<(), SinkError> {
        self.add(&entry, format!("{:?}", entry.kind));
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
        let path = self.path(name);
        self.failures.push(format!("{path}: {reason}"));
    }
}
