//! What a folder holds, in full: the oracle that says whether a restore is equal to its source.
//!
//! Invariant: two folders with equal manifests cannot be told apart by an application, apart from
//! inode numbers, access times and change times.

mod difference;
mod record;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

pub use difference::{Aspect, Difference};
pub use record::{Content, Record};

/// Everything below a folder, by path relative to it; the folder itself is `.`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// The nodes.
    pub nodes: BTreeMap<PathBuf, Record>,
}

impl Manifest {
    /// Examines a folder and reads all of its files.
    ///
    /// # Panics
    /// Something cannot be read.
    #[must_use]
    pub fn of(root: &Path) -> Self {
        let mut walk = Walk {
            root,
            nodes: BTreeMap::new(),
            paths_of_inode: HashMap::new(),
        };
        walk.node(Path::new("."));
        for paths in walk.paths_of_inode.into_values() {
            if paths.len() > 1 {
                let first = paths.iter().min().unwrap().clone();
                for path in paths {
                    walk.nodes.get_mut(&path).unwrap().linked_with = Some(first.clone());
                }
            }
        }
        Self { nodes: walk.nodes }
    }

    /// Where another manifest differs from this one, which is the original.
    #[must_use]
    pub fn differences(&self, other: &Self, ignored: &[Aspect]) -> Vec<Difference> {
        difference::between(self, other, ignored)
    }

    /// Fails a test unless another folder is equal to this one, the original.
    ///
    /// # Panics
    /// It is not; the message shows the differences.
    pub fn assert_same(&self, other: &Self, ignored: &[Aspect]) {
        const SHOWN_MAX: usize = 40;
        let differences = self.differences(other, ignored);
        let shown: Vec<_> = differences
            .iter()
            .take(SHOWN_MAX)
            .map(|difference| format!("\n  {difference}"))
            .collect();
        assert!(
            differences.is_empty(),
            "{} differences:{}",
            differences.len(),
            shown.concat()
        );
    }
}

struct Walk<'root> {
    root: &'root Path,
    nodes: BTreeMap<PathBuf, Record>,
    paths_of_inode: HashMap<(u64, u64), Vec<PathBuf>>,
}

impl Walk<'_> {
    fn node(&mut self, path: &Path) {
        let full = self.root.join(path);
        let about = fs::symlink_metadata(&full)
            .unwrap_or_else(|error| panic!("{}: {error}", full.display()));
        if about.nlink() > 1 && !about.is_dir() {
            let paths = self.paths_of_inode.entry((about.dev(), about.ino()));
            paths.or_default().push(path.to_owned());
        }
        self.nodes
            .insert(path.to_owned(), Record::of(&full, &about));
        if about.is_dir() {
            let entries =
                fs::read_dir(&full).unwrap_or_else(|error| panic!("{}: {error}", full.display()));
            for entry in entries {
                let name = entry.unwrap().file_name();
                let child = if path == Path::new(".") {
                    PathBuf::from(name)
                } else {
                    path.join(name)
                };
                self.node(&child);
            }
        }
    }
}

#[cfg(test)]
mod tests;
