//! The objects of a Git folder: an export, or what somebody wrote.
//!
//! Invariant: a document that is no object is named and compared with nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use refloat_engine::git_export::cluster_folder;
use refloat_git::GitRepository;
use refloat_kubernetes::drift::{Document, ObjectKey};
use refloat_model::finding::Finding;

use crate::command_error::{CommandError, one_line};

/// Documents are small; a larger file is none.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A Git folder, read once for all clusters that are compared with it.
#[derive(Default)]
pub struct GitFolder {
    /// By path.
    files: BTreeMap<PathBuf, File>,
}

/// What is in a file.
#[derive(Default)]
struct File {
    documents: Vec<Rc<Document>>,
    /// Documents that are none.
    findings: Vec<Finding>,
}

/// Objects by what they are.
#[derive(Default)]
pub struct GitSide {
    /// What somebody wrote.
    pub objects: BTreeMap<ObjectKey, Rc<Document>>,
    /// Objects without a namespace that were taken out, and the namespace they were taken for.
    taken: BTreeMap<ObjectKey, String>,
    /// Kinds that it has: group and kind.
    kinds: BTreeSet<(String, String)>,
    /// Whether every document was understood.
    pub is_complete: bool,
    /// Documents that are none.
    pub findings: Vec<Finding>,
}

impl GitFolder {
    /// Reads a Git repository without a work tree at its `HEAD`, or the files of a folder: those of
    /// these clusters, if it is their export, else all.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read<'a>(
        folder: &Path,
        clusters: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, CommandError> {
        let clusters: Vec<String> = clusters.into_iter().map(cluster_folder).collect();
        let is_bare = folder.join("HEAD").is_file() && folder.join("objects").is_dir();
        let mut this = Self::default();
        if is_bare {
            let repository = GitRepository::open(folder)?;
            let mut files = repository.files("HEAD")?;
            only_clusters(&mut files, &clusters, |(path, _)| Path::new(path));
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
        only_clusters(&mut files, &clusters, PathBuf::as_path);
        for path in files {
            let full = folder.join(&path);
            let length = fs::metadata(&full).map_err(|e| failed(&full, &e))?.len();
            if length > FILE_BYTES_MAX {
                let subject = path.display().to_string();
                let finding = Finding::warning(subject, "is too large to be a document");
                this.files.entry(path).or_default().findings.push(finding);
                continue;
            }
            let text = fs::read(&full).map_err(|e| failed(&full, &e))?;
            this.add(&path.display().to_string(), &text);
        }
        Ok(this)
    }

    fn add(&mut self, path: &str, text: &[u8]) {
        let file = self.files.entry(PathBuf::from(path)).or_default();
        for document in documents(text) {
            match Document::read(document) {
                Ok(documents) => file.documents.extend(documents.into_iter().map(Rc::new)),
                Err(error) => {
                    let why = format!("is not compared: {}", one_line(&error));
                    file.findings.push(Finding::warning(path, why));
                }
            }
        }
    }

    /// What is compared with one cluster: its own folder in an export of several, else everything.
    #[must_use]
    pub fn side(&self, cluster: &str) -> GitSide {
        let mut files: Vec<(&PathBuf, &File)> = self.files.iter().collect();
        let cluster = [cluster_folder(cluster)];
        only_clusters(&mut files, &cluster, |(path, _)| path.as_path());
        let mut side = GitSide {
            is_complete: files.iter().all(|(_, file)| file.findings.is_empty()),
            ..GitSide::default()
        };
        for (path, file) in files {
            side.findings.extend(file.findings.iter().cloned());
            for document in &file.documents {
                side.add(&path.display().to_string(), document);
            }
        }
        side
    }
}

impl GitSide {
    /// Takes out the object of this key, or one of that name that is for any namespace.
    pub fn take(&mut self, object: &ObjectKey) -> Option<Rc<Document>> {
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

    fn add(&mut self, path: &str, document: &Rc<Document>) {
        let Some(key) = document.key() else {
            return self.findings.push(Finding::note(path, "is no object"));
        };
        self.kinds.insert((key.group.clone(), key.kind.clone()));
        let before = self.objects.insert(key.clone(), Rc::clone(document));
        if before.is_some() {
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

/// Leaves the folders of these clusters, if each of them has one: then it is an export. A cluster
/// without a folder may be meant by any file.
fn only_clusters<T>(files: &mut Vec<T>, clusters: &[String], path: impl Fn(&T) -> &Path) {
    let is_of = |file: &T, cluster: &String| path(file).starts_with(cluster);
    let has_folder = |cluster: &String| files.iter().any(|file| is_of(file, cluster));
    if clusters.iter().all(has_folder) {
        files.retain(|file| clusters.iter().any(|cluster| is_of(file, cluster)));
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
    fn a_folder_is_read_once_and_each_cluster_has_its_own_part() {
        let config_map = |name: &str| {
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: n}}\n")
        };
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("prod/a.yaml", &config_map("a"));
        write("dev/b.yaml", &config_map("b"));
        write("dev/broken.yaml", "\t{");
        let names = |side: &GitSide| -> Vec<String> {
            side.objects.keys().map(|key| key.name.clone()).collect()
        };
        let git = GitFolder::read(folder.path(), ["prod", "dev", "other"]).unwrap();
        let (prod, dev) = (git.side("prod"), git.side("dev"));
        assert_eq!(
            (names(&prod), prod.is_complete),
            (vec!["a".to_owned()], true)
        );
        assert_eq!(
            (names(&dev), dev.is_complete),
            (vec!["b".to_owned()], false)
        );
        assert_eq!(dev.findings.len(), 1);
        // A cluster without a folder of its own is compared with everything.
        assert_eq!(names(&git.side("other")), ["a", "b"]);
    }

    #[test]
    fn one_clusters_folder_hides_no_files_from_another_cluster() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["prod/a", "apps/b"] {
            let path = folder.path().join(path);
            fs::create_dir_all(&path).unwrap();
            let name = path.file_name().unwrap().display();
            let text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
            fs::write(path.join("map.yaml"), text).unwrap();
        }
        let git = GitFolder::read(folder.path(), ["prod", "dev"]).unwrap();
        let names = |cluster: &str| -> Vec<String> {
            let side = git.side(cluster);
            side.objects.keys().map(|key| key.name.clone()).collect()
        };
        assert_eq!(names("prod"), ["a"]);
        assert_eq!(names("dev"), ["a", "b"]);
        // Alone, the cluster that has a folder is compared with nothing else.
        let git = GitFolder::read(folder.path(), ["prod"]).unwrap();
        assert_eq!(git.files.len(), 1);
    }

    #[test]
    fn documents_are_kept_apart() {
        let text = b"# head\n---\na: 1\n---\n\n---\nb: |\n  --- not one\n";
        let found = documents(text);
        assert_eq!(found, [b"a: 1\n".as_slice(), b"b: |\n  --- not one\n"]);
        assert_eq!(documents(b""), Vec::<&[u8]>::new());
    }
}
