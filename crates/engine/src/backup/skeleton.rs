//! The directories of a recovery point above its items.
//!
//! Invariant: directories that have no real one behind them are equal in every point that holds
//! the same below them.

use std::collections::BTreeMap;

use refloat_model::entry::Entry;
use refloat_model::tree_path::TreePath;
use refloat_repository::archive::Archiver;
use refloat_repository::{BlobId, Node, RepositoryError};

/// A tree in memory, whose leaves are stored already.
#[derive(Debug, Default)]
pub struct Skeleton(BTreeMap<Vec<u8>, Branch>);

#[derive(Debug)]
enum Branch {
    Stored(Box<Node>),
    Directory(Skeleton),
}

impl Skeleton {
    /// Puts a stored entry at `path`. Paths that overlap are excluded by the plan; should two
    /// meet all the same, the first stays and the second is handed back.
    ///
    /// # Errors
    /// The place is taken.
    pub fn insert(&mut self, path: &TreePath, node: Node) -> Result<(), Box<Node>> {
        self.insert_below(path.components(), node)
    }

    fn insert_below(&mut self, names: &[Vec<u8>], node: Node) -> Result<(), Box<Node>> {
        match names {
            [] => Err(Box::new(node)),
            [name] if self.0.contains_key(name) => Err(Box::new(node)),
            [name] => {
                self.0.insert(name.clone(), Branch::Stored(Box::new(node)));
                Ok(())
            }
            [name, rest @ ..] => {
                let branch = self
                    .0
                    .entry(name.clone())
                    .or_insert_with(|| Branch::Directory(Self::default()));
                match branch {
                    Branch::Directory(below) => below.insert_below(rest, node),
                    Branch::Stored(_) => Err(Box::new(node)),
                }
            }
        }
    }

    /// Stores all directories and returns the root's tree.
    ///
    /// # Errors
    /// Storage failed.
    pub fn store(self, archiver: &Archiver) -> Result<BlobId, RepositoryError> {
        let nodes = self
            .0
            .into_iter()
            .map(|(name, branch)| match branch {
                Branch::Stored(node) => Ok(*node),
                Branch::Directory(below) => Ok(Node {
                    entry: Entry::synthetic_directory(name),
                    content: [].into(),
                    subtree: Some(below.store(archiver)?),
                    foreign: None,
                }),
            })
            .collect::<Result<_, RepositoryError>>()?;
        archiver.store_directory(nodes)
    }
}
