//! A recovery point of files in memory, and a sink that makes one. Directories are not asked for
//! by this adapter: it holds none.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use refloat_model::cancel::Cancel;
use refloat_model::entry::{Content, Entry, SinkError, TreeSink};
use refloat_model::id::{PointId, RunId};
use refloat_model::item::Item;
use refloat_model::point::{ItemRecord, PointRecord, SourceRecord};
use refloat_model::time::Timestamp;
use refloat_model::tree_path::TreePath;
use refloat_source::{StoredError, StoredPoint, WrittenFolder};

/// Takes what a source pushes.
#[derive(Default)]
pub struct Files {
    pub files: BTreeMap<String, Vec<u8>>,
    /// What failed, and why.
    pub failures: Vec<String>,
    inside: Vec<String>,
}

impl Files {
    fn path(&self, name: &[u8]) -> String {
        let name = String::from_utf8_lossy(name).into_owned();
        [self.inside.as_slice(), &[name]].concat().join("/")
    }
}

impl TreeSink for Files {
    fn enter(&mut self, directory: Entry) -> Result<(), SinkError> {
        self.inside
            .push(String::from_utf8_lossy(&directory.name).into_owned());
        Ok(())
    }

    fn leave(&mut self) -> Result<(), SinkError> {
        self.inside.pop();
        Ok(())
    }

    fn file(&mut self, file: Entry, content: Box<dyn Content>) -> Result<(), SinkError> {
        self.stream(file, &mut content.open().unwrap())
    }

    fn stream(&mut self, file: Entry, content: &mut dyn Read) -> Result<(), SinkError> {
        let path = self.path(&file.name);
        let mut bytes = Vec::new();
        match content.read_to_end(&mut bytes) {
            Ok(_) => drop(self.files.insert(path, bytes)),
            Err(error) => self.failures.push(format!("{path}: {error}")),
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
        self.failures.push(format!("{}: {reason}", self.path(name)));
    }
}

/// A point of one etcd source, `prod`.
pub struct Point {
    record: PointRecord,
    pub files: BTreeMap<TreePath, Vec<u8>>,
}

impl Point {
    /// A point with `/etcd/prod/snapshot.db` and, if given, `cluster.json`.
    pub fn new(snapshot: &[u8], cluster: Option<&[u8]>) -> Self {
        let source = SourceRecord {
            kind: "etcd".to_owned(),
            address: String::new(),
            identity: String::new(),
            versions: BTreeMap::new(),
            errors: None,
        };
        let folder = TreePath::root().child("etcd").child("prod");
        let mut files = BTreeMap::from([(folder.child("snapshot.db"), snapshot.to_vec())]);
        files.extend(cluster.map(|json| (folder.child("cluster.json"), json.to_vec())));
        Self {
            record: PointRecord {
                version: 1,
                id: PointId::from_random([7; 16]),
                policy: "p".to_owned(),
                run: RunId::from_random([8; 16]),
                started: Timestamp::EPOCH,
                finished: Timestamp::EPOCH,
                program: String::new(),
                sources: BTreeMap::from([("prod".to_owned(), source)]),
                outcomes: BTreeMap::new(),
                closure: Vec::new(),
                findings: Vec::new(),
            },
            files,
        }
    }

    /// Puts one captured item where it belongs.
    pub fn add(&mut self, item: &Item, captured: Files) {
        assert_eq!(captured.failures, Vec::<String>::new());
        for (path, bytes) in captured.files {
            let parent = item.path.parent().unwrap();
            let path = TreePath::parse(format!("{parent}/{path}")).unwrap();
            self.files.insert(path, bytes);
        }
    }
}

impl StoredPoint for Point {
    fn record(&self) -> &PointRecord {
        &self.record
    }

    fn items(&self, _: &str) -> Result<Vec<ItemRecord>, StoredError> {
        Ok(Vec::new())
    }

    fn stat(&self, path: &TreePath) -> Result<Option<Entry>, StoredError> {
        let name = path.name().unwrap_or_default();
        let found = self.files.get(path);
        Ok(found.map(|bytes| Entry::synthetic_file(name, bytes.len() as u64)))
    }

    fn list(&self, _: &TreePath) -> Result<Vec<Entry>, StoredError> {
        Ok(Vec::new())
    }

    fn open(&self, path: &TreePath) -> Result<Box<dyn Read + Send>, StoredError> {
        Ok(Box::new(std::io::Cursor::new(self.files[path].clone())))
    }

    fn walk(&self, _: &TreePath, _: &mut dyn TreeSink, _: &Cancel) -> Result<(), StoredError> {
        Ok(())
    }

    fn write_folder(
        &self,
        _: &TreePath,
        _: &Path,
        _: &Cancel,
    ) -> Result<WrittenFolder, StoredError> {
        Ok(WrittenFolder::default())
    }
}
