//! The objects of a Git folder: an export, or what somebody wrote.
//!
//! Invariant: a document that is no object is named and compared with nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use refloat_engine::git_export::cluster_folder;
use refloat_git::GitRepository;
use refloat_kubernetes::drift::{Document, ObjectKey};
use refloat_model::finding::Finding;

use crate::command_error::{CommandError, one_line};

/// Documents are small; a larger file is none.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Objects by what they are.
#[derive(Default)]
pub struct GitSide {
    /// What somebody wrote.
    pub objects: BTreeMap<ObjectKey, Document>,
    /// Objects without a namespace that were taken out, and the namespace they were taken for.
    taken: BTreeMap<ObjectKey, String>,
    /// Kinds that it has: group and kind.
    kinds: BTreeSet<(String, String)>,
    /// Whether every document was understood.
    pub is_complete: bool,
    /// Documents that are none.
    pub findings: Vec<Finding>,
}

impl GitSide {
    /// Reads a Git repository without a work tree at its `HEAD`, or the files of a folder. In the
    /// export of several clusters, only the folder of `cluster` counts.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(folder: &Path, cluster: &str) -> Result<Self, CommandError> {
        let cluster = &cluster_folder(cluster);
        let is_bare = folder.join("HEAD").is_file() && folder.join("objects").is_dir();
        let mut this = Self {
            is_complete: true,
            ..Self::default()
        };
        if is_bare {
            let repository = GitRepository::open(folder)?;
            let mut files = repository.files("HEAD")?;
            only_cluster(&mut files, cluster, |(path, _)| Path::new(path));
            let mut reader = repository.reader()?;
            for (path, object) in files
                .iter()
                .filter(|(path, _)| is_document(Path::new(path)))
            {
                let text = reader.read(object)?;
                this.add(path, &text);
            }
            return Ok(this);
        }
        let failed = |path: &Path, e: &io::Error| CommandError::io("read", path.display(), e);
        let mut files = Vec::new();
        let mut waiting = vec![folder.to_owned()];
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(&directory).map_err(|e| failed(&directory, &e))? {
                let entry = entry.map_err(|e| failed(&directory, &e))?;
                let kind = entry.file_type().map_err(|e| failed(&entry.path(), &e))?;
                // Links are not followed: they may lead anywhere.
                if kind.is_dir() && entry.file_name() != ".git" {
                    waiting.push(entry.path());
                } else if kind.is_file() && is_document(&entry.path()) {
                    let path = entry.path();
                    files.push(path.strip_prefix(folder).unwrap_or(&path).to_owned());
                }
            }
        }
        files.sort();
        only_cluster(&mut files, cluster, PathBuf::as_path);
        for path in files {
            let full = folder.join(&path);
            let length = fs::metadata(&full).map_err(|e| failed(&full, &e))?.len();
            if length > FILE_BYTES_MAX {
                let subject = path.display().to_string();
                this.findings
                    .push(Finding::warning(subject, "is too large to be a document"));
                this.is_complete = false;
                continue;
            }
            let text = fs::read(&full).map_err(|e| failed(&full, &e))?;
            this.add(&path.display().to_string(), &text);
        }
        Ok(this)
    }

    /// Takes out the object of this key, or one of that name that is for any namespace.
    pub fn take(&mut self, object: &ObjectKey) -> Option<Document> {
        let found = self.objects.remove(object);
        found.or_else(|| {
            let anywhere = anywhere(object);
            let found = self.objects.remove(&anywhere)?;
            self.taken.insert(anywhere, object.namespace.clone());
            Some(found)
        })
    }

    /// The other namespace whose object was compared with one that is for any namespace, and could
    /// be meant for this one as well.
    pub fn matched(&self, object: &ObjectKey) -> Option<String> {
        if self.objects.contains_key(object) {
            return None;
        }
        self.taken.get(&anywhere(object)).cloned()
    }

    /// Whether it has objects of this one's kind.
    pub fn has_kind(&self, object: &ObjectKey) -> bool {
        let kind = (object.group.clone(), object.kind.clone());
        self.kinds.contains(&kind)
    }

    fn add(&mut self, path: &str, text: &[u8]) {
        for document in documents(text) {
            match Document::read(document) {
                Ok(documents) => documents.into_iter().for_each(|d| self.add_one(path, d)),
                Err(error) => {
                    let why = format!("is not compared: {}", one_line(&error));
                    self.findings.push(Finding::warning(path, why));
                    self.is_complete = false;
                }
            }
        }
    }

    fn add_one(&mut self, path: &str, document: Document) {
        let Some(key) = document.key() else {
            return self.findings.push(Finding::note(path, "is no object"));
        };
        self.kinds.insert((key.group.clone(), key.kind.clone()));
        if self.objects.insert(key.clone(), document).is_some() {
            let why = format!("has {key} a second time: the last one counts");
            self.findings.push(Finding::warning(path, why));
        }
    }
}

fn anywhere(object: &ObjectKey) -> ObjectKey {
    ObjectKey {
        namespace: String::new(),
        ..object.clone()
    }
}

fn only_cluster<T>(files: &mut Vec<T>, cluster: &str, path: impl Fn(&T) -> &Path) {
    if files.iter().any(|file| path(file).starts_with(cluster)) {
        files.retain(|file| path(file).starts_with(cluster));
    }
}

fn is_document(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    matches!(extension, Some("yaml" | "yml" | "json"))
}

/// The documents of a file, which lines of `---` keep apart.
fn documents(text: &[u8]) -> Vec<&[u8]> {
    let mut documents = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive(|b| *b == b'\n') {
        if line.trim_ascii_end() == b"---" {
            documents.push(text.get(start..at).unwrap_or_default());
            start = at + line.len();
        }
        at += line.len();
    }
    documents.push(text.get(start..).unwrap_or_default());
    let has_content = |document: &&[u8]| {
        document
            .split(|b| *b == b'\n')
            .map(<[u8]>::trim_ascii)
            .any(|line| !line.is_empty() && !line.starts_with(b"#"))
    };
    documents.into_iter().filter(has_content).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_kept_apart() {
        let text = b"# head\n---\na: 1\n---\n\n---\nb: |\n  --- not one\n";
        let found = documents(text);
        assert_eq!(found, [b"a: 1\n".as_slice(), b"b: |\n  --- not one\n"]);
        assert_eq!(documents(b""), Vec::<&[u8]>::new());
    }
}
