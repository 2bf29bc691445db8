//! Finding entries by name or path in many recovery points.
//!
//! Invariant: a tree that several points share is searched once for names.

use std::collections::HashSet;

use refloat_model::cancel::Cancel;
use refloat_model::glob::Glob;
use refloat_model::tree_path::TreePath;
use refloat_repository::{BlobId, IndexedRepository, Node, RepositoryError, TreesAhead};

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Finder {
    patterns: Vec<Glob>,
    /// Trees without a match in them or below, if only names are looked at.
    barren: HashSet<BlobId>,
    names_only: bool,
}

/// An entry that fits.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// Where it lies in the point.
    pub path: TreePath,
    /// The entry.
    pub node: Node,
}

/// A directory on the way down.
struct Level {
    tree: BlobId,
    path: TreePath,
    nodes: std::vec::IntoIter<Node>,
    /// How many entries were found before it.
    found_before: usize,
}

impl Finder {
    /// A pattern with a slash is for whole paths, others are for names.
    #[must_use]
    pub fn new(patterns: Vec<Glob>) -> Self {
        Self {
            names_only: !patterns.iter().any(|p| p.pattern().contains('/')),
            patterns,
            barren: HashSet::new(),
        }
    }

    /// All entries below `root` that fit.
    ///
    /// # Errors
    /// A tree cannot be read, or the run was cancelled.
    pub fn find(
        &mut self,
        repository: &IndexedRepository,
        root: BlobId,
        cancel: &Cancel,
    ) -> Result<Vec<Found>, RepositoryError> {
        let mut found = Vec::new();
        let mut levels = Vec::new();
        let trees = TreesAhead::new(repository);
        levels.extend(self.enter(&trees, root, TreePath::root(), 0)?);
        while let Some(level) = levels.last_mut() {
            cancel.check()?;
            let Some(node) = level.nodes.next() else {
                if self.names_only && level.found_before == found.len() {
                    self.barren.insert(level.tree);
                }
                levels.pop();
                continue;
            };
            let Ok(path) = level.path.clone().join(node.name()) else {
                continue;
            };
            let below = node.subtree.map(|tree| (tree, path.clone()));
            if self.fits(&path, &node) {
                found.push(Found { path, node });
            }
            if let Some((tree, path)) = below {
                levels.extend(self.enter(&trees, tree, path, found.len())?);
            }
        }
        Ok(found)
    }

    fn enter(
        &self,
        trees: &TreesAhead,
        tree: BlobId,
        path: TreePath,
        found_before: usize,
    ) -> Result<Option<Level>, RepositoryError> {
        if self.barren.contains(&tree) {
            return Ok(None);
        }
        let nodes = trees.read_tree(tree)?;
        let below = nodes.iter().filter_map(|node| node.subtree);
        trees.expect(below.filter(|tree| !self.barren.contains(tree)));
        let nodes = nodes.into_iter();
        Ok(Some(Level {
            tree,
            path,
            nodes,
            found_before,
        }))
    }

    fn fits(&self, path: &TreePath, node: &Node) -> bool {
        self.patterns.iter().any(|pattern| {
            if pattern.pattern().contains('/') {
                pattern.matches(&path.to_string())
            } else {
                pattern.matches(&String::from_utf8_lossy(node.name()))
            }
        })
    }
}
