//! A recovery point as adapters see it when they restore.
//!
//! Invariant: an adapter reads through this and never sees the repository.

use std::io::Read;
use std::path::Path;

use refloat_model::cancel::Cancel;
use refloat_model::entry::{Content, Entry, EntryKind, TreeSink};
use refloat_model::point::{ItemRecord, PointRecord};
use refloat_model::tree_path::TreePath;
use refloat_repository::{BlobId, BlobKind, BlobReader as _, Node, RepositoryError};
use refloat_source::{StoredError, StoredPoint, WrittenFolder};

use super::content::BlobStream;
use super::lookup::StoredTree;
use crate::manifest::{self, ManifestError};

/// Directories deeper than this are damage or an attack: no file system makes such paths.
const DEPTH_MAX: usize = 2048;

/// A recovery point of a repository.
#[derive(Debug)]
pub struct RepositoryPoint {
    tree: StoredTree,
    record: PointRecord,
}

impl RepositoryPoint {
    /// Opens a point.
    ///
    /// # Errors
    /// It has no record (another program's snapshot), or that cannot be read.
    pub fn open(tree: StoredTree) -> Result<Self, ManifestError> {
        let record = manifest::read_record(&tree)?;
        Ok(Self { tree, record })
    }

    /// Its tree.
    #[must_use]
    pub const fn tree(&self) -> &StoredTree {
        &self.tree
    }

    fn nodes(&self, path: &TreePath) -> Result<Vec<Node>, StoredError> {
        let failed = |cause| StoredError {
            operation: "list",
            path: path.clone(),
            cause,
        };
        let tree = self.tree.directory(path).map_err(|e| failed(e.into()))?;
        self.tree
            .repository()
            .read_tree(tree)
            .map_err(|e| failed(e.into()))
    }

    fn has(&self, blob: &BlobId) -> bool {
        self.tree
            .repository()
            .index()
            .contains(BlobKind::Data, blob)
    }

    fn content(&self, node: &Node) -> BlobStream {
        BlobStream::new(self.tree.repository().clone(), node.content.clone())
    }

    fn push(
        &self,
        tree: BlobId,
        depth: usize,
        sink: &mut dyn TreeSink,
        cancel: &Cancel,
    ) -> Result<(), refloat_repository::Cause> {
        if depth > DEPTH_MAX {
            return Err(format!("directories are nested deeper than {DEPTH_MAX}").into());
        }
        for node in self.tree.repository().read_tree(tree)? {
            cancel.check()?;
            match (&node.entry.kind, node.subtree) {
                (EntryKind::Directory, Some(subtree)) => {
                    sink.enter(node.entry)?;
                    self.push(subtree, depth + 1, sink, cancel)?;
                    sink.leave()?;
                }
                (EntryKind::Directory, None) => {
                    return Err(format!(
                        "the directory {:?} has no tree",
                        String::from_utf8_lossy(&node.entry.name)
                    )
                    .into());
                }
                (EntryKind::File { .. }, _) => {
                    let content = self.content(&node);
                    let content: Box<dyn Content> = Box::new(move || Ok(content));
                    sink.file(node.entry, content)?;
                }
                _ => sink.node(node.entry)?,
            }
        }
        Ok(())
    }
}

impl StoredPoint for RepositoryPoint {
    fn record(&self) -> &PointRecord {
        &self.record
    }

    fn items(&self, source: &str) -> Result<Vec<ItemRecord>, StoredError> {
        manifest::read_items(&self.tree, source).map_err(|e| StoredError {
            operation: "read",
            path: manifest::items_path(source),
            cause: e.into(),
        })
    }

    fn stat(&self, path: &TreePath) -> Result<Option<Entry>, StoredError> {
        if path.components().is_empty() {
            return Ok(Some(Entry::synthetic_directory(*b"/")));
        }
        let node = self.tree.node(path).map_err(|e| StoredError {
            operation: "look at",
            path: path.clone(),
            cause: e.into(),
        })?;
        Ok(node.map(|node| node.entry))
    }

    fn list(&self, path: &TreePath) -> Result<Vec<Entry>, StoredError> {
        Ok(self
            .nodes(path)?
            .into_iter()
            .map(|node| node.entry)
            .collect())
    }

    fn open(&self, path: &TreePath) -> Result<Box<dyn Read + Send>, StoredError> {
        let node = self.tree.file(path).map_err(|e| StoredError {
            operation: "read",
            path: path.clone(),
            cause: e.into(),
        })?;
        // Told now, not after half of it went to an application.
        if let Some(blob) = node.content.iter().find(|blob| !self.has(blob)) {
            return Err(StoredError {
                operation: "read",
                path: path.clone(),
                cause: Box::new(RepositoryError::MissingBlob {
                    kind: "data",
                    blob: *blob,
                }),
            });
        }
        Ok(Box::new(self.content(&node)))
    }

    fn walk(
        &self,
        path: &TreePath,
        sink: &mut dyn TreeSink,
        cancel: &Cancel,
    ) -> Result<(), StoredError> {
        let failed = |cause| StoredError {
            operation: "read",
            path: path.clone(),
            cause,
        };
        let tree = self.tree.directory(path).map_err(|e| failed(e.into()))?;
        self.push(tree, 0, sink, cancel).map_err(failed)
    }

    fn write_folder(
        &self,
        path: &TreePath,
        destination: &Path,
        cancel: &Cancel,
    ) -> Result<WrittenFolder, StoredError> {
        super::folder::write(&self.tree, path, destination, cancel)
    }
}
