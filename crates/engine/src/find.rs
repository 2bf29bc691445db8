//! Finding entries by name or path in many recovery points.
//!
//! Invariant: a tree that several points share is searched once for names; what could not be
//! searched is told, for each point anew.

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

/// How many lost directories are kept for each search: enough to see what is wrong.
const LOST_KEPT_MAX: usize = 100;

/// What a search came to.
#[derive(Debug, Default)]
pub struct Search {
    /// What fits.
    pub found: Vec<Found>,
    /// Directories that could not be searched, and why; the first 100.
    pub lost: Vec<(TreePath, RepositoryError)>,
    /// How many there are in all.
    pub lost_count: usize,
}

impl Search {
    /// How much there is to tell of what was searched.
    fn told(&self) -> usize {
        self.found.len() + self.lost_count
    }

    fn lose(&mut self, path: TreePath, error: RepositoryError) {
        self.lost_count += 1;
        if self.lost.len() < LOST_KEPT_MAX {
            self.lost.push((path, error));
        }
    }
}

/// A directory on the way down.
struct Level {
    tree: BlobId,
    path: TreePath,
    nodes: std::vec::IntoIter<Node>,
    /// What was told before it.
    told_before: usize,
}

impl Finder {
    /// A pattern with a slash is for whole paths, others are for names.
    #[must_use]
    pub fn new(patterns: Vec<Glob>) -> Self {
        Self {
            names_only: !patterns.iter().any(is_of_path),
            patterns,
            barren: HashSet::new(),
        }
    }

    /// All entries below `root` that fit. Directories that are lost are named, and all else is searched.
    ///
    /// # Errors
    /// The root or the storage as such cannot be read, or the run was cancelled.
    pub fn find(
        &mut self,
        repository: &IndexedRepository,
        root: BlobId,
        cancel: &Cancel,
    ) -> Result<Search, RepositoryError> {
        let mut search = Search::default();
        let mut levels = Vec::new();
        let trees = TreesAhead::new(repository);
        levels.extend(self.enter(&trees, root, TreePath::root(), 0)?);
        while let Some(level) = levels.last_mut() {
            cancel.check()?;
            let Some(node) = level.nodes.next() else {
                if self.names_only && level.told_before == search.told() {
                    self.barren.insert(level.tree);
                }
                levels.pop();
                continue;
            };
            let has_name = self.fits_name(&node);
            // A path is several allocations, and most entries need none.
            if self.names_only && !has_name && node.subtree.is_none() {
                continue;
            }
            let Ok(path) = level.path.clone().join(node.name()) else {
                continue;
            };
            let below = node.subtree.map(|tree| (tree, path.clone()));
            if has_name || self.fits_path(&path) {
                search.found.push(Found { path, node });
            }
            if let Some((tree, path)) = below {
                match self.enter(&trees, tree, path.clone(), search.told()) {
                    Ok(level) => levels.extend(level),
                    Err(error) if error.is_of_one_thing() => search.lose(path, error),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(search)
    }

    fn enter(
        &self,
        trees: &TreesAhead,
        tree: BlobId,
        path: TreePath,
        told_before: usize,
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
            told_before,
        }))
    }

    fn fits_name(&self, node: &Node) -> bool {
        let name = String::from_utf8_lossy(node.name());
        let mut names = self.patterns.iter().filter(|p| !is_of_path(p));
        names.any(|pattern| pattern.matches(&name))
    }

    fn fits_path(&self, path: &TreePath) -> bool {
        if self.names_only {
            return false;
        }
        let path = path.to_string();
        let mut paths = self.patterns.iter().filter(|p| is_of_path(p));
        paths.any(|pattern| pattern.matches(&path))
    }
}

fn is_of_path(pattern: &Glob) -> bool {
    pattern.pattern().contains('/')
}
