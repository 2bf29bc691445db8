//! A sink that restores what a walk finds, at once: walk → writer.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use refloat_localfs::{
    FolderWriter, Landing, RelativePath, Restored, WalkOptions, WalkSummary, walk_contents,
};
use refloat_model::cancel::Cancel;
use refloat_model::entry::{Content, Entry, EntryKind, Metadata, SinkError, TreeSink};

pub struct Copier<'a> {
    pub writer: &'a FolderWriter,
    pub failures: Vec<String>,
    pub landing: Landing,
    at: RelativePath,
    directories: Vec<(RelativePath, Metadata)>,
    linked: HashMap<(u64, u64), (Restored, RelativePath)>,
}

impl<'a> Copier<'a> {
    pub fn new(writer: &'a FolderWriter) -> Self {
        Self {
            writer,
            failures: Vec::new(),
            landing: Landing::Atomic,
            at: RelativePath::root(),
            directories: Vec::new(),
            linked: HashMap::new(),
        }
    }

    fn note<T, E: std::error::Error>(&mut self, name: &[u8], result: Result<T, E>) -> Option<T> {
        result
            .map_err(|error| {
                let source = error.source().map(|s| format!(": {s}")).unwrap_or_default();
                let name = name.escape_ascii();
                self.failures.push(format!("{name}: {error}{source}"));
            })
            .ok()
    }

    /// True if the entry is one more name of what was restored.
    fn link(&mut self, entry: &Entry) -> bool {
        let key = (entry.metadata.device_id, entry.metadata.inode);
        let Some((restored, first)) = self.linked.get(&key).cloned() else {
            return false;
        };
        let linked = self
            .at
            .join(&entry.name)
            .map_err(Into::into)
            .and_then(|to| self.writer.hard_link(restored, &first, &to));
        self.note(&entry.name, linked);
        true
    }

    fn restored(&mut self, entry: &Entry, restored: Option<Restored>) {
        if let Some(restored) = restored
            && entry.metadata.links > 1
        {
            let key = (entry.metadata.device_id, entry.metadata.inode);
            let path = self.at.join(&entry.name).unwrap();
            self.linked.insert(key, (restored, path));
        }
    }

    pub fn finish(mut self, root: &Metadata) -> Vec<String> {
        let mut directories = std::mem::take(&mut self.directories);
        directories.sort_by_key(|(path, _)| std::cmp::Reverse(path.components().count()));
        for (path, metadata) in directories {
            let set = self.writer.set_directory_metadata(&path, &metadata);
            self.note(path.as_bytes(), set);
        }
        let set = self
            .writer
            .set_directory_metadata(&RelativePath::root(), root);
        self.note(b".", set);
        self.failures
    }
}

pub fn write(
    writer: &FolderWriter,
    path: &RelativePath,
    entry: &Entry,
    content: &[u8],
    landing: Landing,
) -> Result<Restored, refloat_localfs::WriteError> {
    let file = writer.prepare_file(path, content.len() as u64, landing)?;
    // In pieces from the end, as a restore in order of packs might come by them.
    let piece = 300_000;
    for (number, bytes) in content.chunks(piece).enumerate().rev() {
        file.write_at((number * piece) as u64, bytes)?;
    }
    writer.finish_file(file, &entry.metadata)
}

impl TreeSink for Copier<'_> {
    fn enter(&mut self, directory: Entry) -> Result<(), SinkError> {
        let path = self.at.join(&directory.name).unwrap();
        let created = self.writer.create_directory(&path);
        self.note(&directory.name, created);
        self.at = path.clone();
        self.directories.push((path, directory.metadata));
        Ok(())
    }

    fn leave(&mut self) -> Result<(), SinkError> {
        self.at = self.at.parent().unwrap();
        Ok(())
    }

    fn file(&mut self, file: Entry, content: Box<dyn Content>) -> Result<(), SinkError> {
        if self.link(&file) {
            return Ok(());
        }
        let mut bytes = Vec::new();
        let read = content.open().and_then(|mut c| c.read_to_end(&mut bytes));
        if self.note(&file.name, read).is_some() {
            let path = self.at.join(&file.name).unwrap();
            let restored = write(self.writer, &path, &file, &bytes, self.landing);
            let restored = self.note(&file.name, restored);
            self.restored(&file, restored);
        }
        Ok(())
    }

    fn stream(&mut self, _file: Entry, _content: &mut dyn Read) -> Result<(), SinkError> {
        panic!("a walk does not stream")
    }

    fn node(&mut self, entry: Entry) -> Result<(), SinkError> {
        if self.link(&entry) {
            return Ok(());
        }
        let path = self.at.join(&entry.name).unwrap();
        let made = self.writer.create_node(&path, &entry.kind, &entry.metadata);
        let made = self.note(&entry.name, made);
        self.restored(&entry, made);
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
            .push(format!("{}: {reason}", name.escape_ascii()));
    }
}

/// Copies `from` into `to` and returns what went wrong.
pub fn copy(from: &Path, writer: &FolderWriter, landing: Landing) -> (WalkSummary, Vec<String>) {
    let mut root = crate::recorder::Recorder::default();
    let options = WalkOptions::default();
    refloat_localfs::walk_entry(from, b"root", &options, &mut root, &Cancel::default()).unwrap();
    let root = root.entry("root");
    assert_eq!(root.kind, EntryKind::Directory);
    let mut sink = Copier::new(writer);
    sink.landing = landing;
    let summary = walk_contents(from, &options, &mut sink, &Cancel::default()).unwrap();
    (summary, sink.finish(&root.metadata))
}
