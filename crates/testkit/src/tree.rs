//! Nasty source trees on disk, from a seed.
//!
//! Invariant: equal specifications give trees with equal manifests, apart from what the machine
//! or its rights do not allow, which is named in [`Tree::left_out`].

mod changes;
mod content;
mod metadata;
mod names;
mod nodes;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use changes::change;
pub use content::giant;

use crate::random::Random;

/// What a tree holds besides one of each nasty thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TreeSpec {
    /// Chooses contents, names and times.
    pub seed: u64,
    /// Ordinary files of up to 64 KiB in ordinary folders.
    pub plain_files: usize,
    /// Files as big as chunks.
    pub bulk: Bulk,
}

/// Files as big as chunks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bulk {
    /// None: the tree takes about 2 MB.
    None,
    /// Sizes around the borders of chunks, about 60 MB: 512 KiB, 1 MiB and 8 MiB, a byte less and
    /// a byte more, contents that never match a border, and repetitions.
    ChunkBorders,
}

impl TreeSpec {
    /// Every kind of node, few bytes: for tests that run often.
    #[must_use]
    pub const fn small(seed: u64) -> Self {
        Self {
            seed,
            plain_files: 40,
            bulk: Bulk::None,
        }
    }

    /// Everything there is.
    #[must_use]
    pub const fn full(seed: u64) -> Self {
        Self {
            seed,
            plain_files: 500,
            bulk: Bulk::ChunkBorders,
        }
    }
}

/// A tree that was built.
#[derive(Debug)]
pub struct Tree {
    /// Its folder.
    pub root: PathBuf,
    /// What this machine or this user could not make.
    pub left_out: Vec<String>,
}

impl Tree {
    /// Makes something that needs rights or a capable file system.
    fn privileged(&mut self, what: &str, make: impl FnOnce() -> io::Result<()>) {
        if let Err(error) = make() {
            let is_refused = matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied
                    | io::ErrorKind::Unsupported
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::InvalidFilename
            );
            assert!(is_refused, "{what}: {error}");
            self.left_out.push(format!("{what}: {error}"));
        }
    }
}

/// Builds a tree in a new folder.
///
/// # Panics
/// The folder is there already, or something fails for another reason than missing rights.
#[must_use]
pub fn build(root: &Path, spec: &TreeSpec) -> Tree {
    fs::create_dir(root).unwrap();
    let mut tree = Tree {
        root: root.to_owned(),
        left_out: Vec::new(),
    };
    let mut random = Random::new(spec.seed);
    content::plain(&tree.folder("plain"), spec.plain_files, &mut random);
    content::sizes(&tree.folder("sizes"), spec.bulk, &mut random);
    content::sparse(&tree.folder("sparse"), &mut random);
    names::all(&mut tree, &mut random);
    nodes::symbolic_links(&tree.folder("symlinks"));
    nodes::hard_links(&tree.folder("hardlinks"));
    nodes::special(&mut tree);
    nodes::folders(&tree.folder("folders"));
    metadata::attributes(&mut tree, &mut random);
    metadata::modes_and_owners(&mut tree);
    // Last, for everything above changes times of folders.
    metadata::times(root, &mut random);
    tree
}

impl Tree {
    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.root.join(name);
        fs::create_dir(&folder).unwrap();
        folder
    }
}
