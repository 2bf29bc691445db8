//! Finding entries of a snapshot's tree by path, and reading small files whole.
//!
//! Invariant: symbolic links are never followed: a path names what is stored under it.

use refloat_model::tree_path::TreePath;
use refloat_repository::{
    BlobId, BlobKind, BlobReader as _, IndexedRepository, Node, RepositoryError,
};

/// The largest file that is read whole: manifests of some hundred thousand items.
const WHOLE_FILE_BYTES_MAX: u64 = 1 << 30;

/// A snapshot's tree with the repository that holds it.
#[derive(Clone, Debug)]
pub struct StoredTree {
    repository: IndexedRepository,
    root: BlobId,
}

/// Why a path of a stored tree could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TreePathError {
    /// There is nothing of this name.
    #[error("there is no {0}")]
    NotFound(TreePath),
    /// It is something else.
    #[error("{path} is no {expected}")]
    WrongKind {
        /// Where.
        path: TreePath,
        /// `directory`, `regular file`.
        expected: &'static str,
    },
    /// It is larger than anything this program writes there.
    #[error("{path} has {bytes} bytes, more than can be read at once")]
    TooLarge {
        /// Where.
        path: TreePath,
        /// Its size.
        bytes: u64,
    },
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl StoredTree {
    /// The tree below `root`.
    #[must_use]
    pub const fn new(repository: IndexedRepository, root: BlobId) -> Self {
        Self { repository, root }
    }

    /// The repository that holds it.
    #[must_use]
    pub const fn repository(&self) -> &IndexedRepository {
        &self.repository
    }

    /// The tree of the root directory.
    #[must_use]
    pub const fn root(&self) -> BlobId {
        self.root
    }

    /// The entry at `path`; none if there is none, or for the root, which has no entry.
    ///
    /// # Errors
    /// A directory above it cannot be read.
    pub fn node(&self, path: &TreePath) -> Result<Option<Node>, RepositoryError> {
        let mut tree = Some(self.root);
        let mut found = None;
        for name in path.components() {
            let Some(directory) = tree else {
                return Ok(None);
            };
            let nodes = self.repository.read_tree(directory)?;
            found = nodes
                .into_iter()
                .find(|node| node.name() == name.as_slice());
            tree = found.as_ref().and_then(|node| node.subtree);
            if found.is_none() {
                return Ok(None);
            }
        }
        Ok(found)
    }

    /// The tree of the directory at `path`.
    ///
    /// # Errors
    /// There is none, it is no directory, or the repository failed.
    pub fn directory(&self, path: &TreePath) -> Result<BlobId, TreePathError> {
        if path.components().is_empty() {
            return Ok(self.root);
        }
        let node = self
            .node(path)?
            .ok_or_else(|| TreePathError::NotFound(path.clone()))?;
        node.subtree.ok_or_else(|| TreePathError::WrongKind {
            path: path.clone(),
            expected: "directory",
        })
    }

    /// The regular file at `path`.
    ///
    /// # Errors
    /// There is none, it is no file, or the repository failed.
    pub fn file(&self, path: &TreePath) -> Result<Node, TreePathError> {
        let node = self
            .node(path)?
            .ok_or_else(|| TreePathError::NotFound(path.clone()))?;
        if matches!(
            node.entry.kind,
            refloat_model::entry::EntryKind::File { .. }
        ) {
            return Ok(node);
        }
        Err(TreePathError::WrongKind {
            path: path.clone(),
            expected: "regular file",
        })
    }

    /// The content of a small file.
    ///
    /// # Errors
    /// There is none, it is no file or too large, or the repository failed.
    pub fn read_whole(&self, path: &TreePath) -> Result<Vec<u8>, TreePathError> {
        let node = self.file(path)?;
        if node.size() > WHOLE_FILE_BYTES_MAX {
            return Err(TreePathError::TooLarge {
                path: path.clone(),
                bytes: node.size(),
            });
        }
        let mut content = Vec::new();
        for blob in node.content.iter() {
            content.append(&mut self.repository.read_blob(BlobKind::Data, *blob)?);
        }
        Ok(content)
    }
}
