//! Paths that go on behind an etcd snapshot: `latest:/etcd/prod/snapshot.db/registry/pods`.
//!
//! Invariant: a snapshot is looked into only after its hash was proven.

use refloat_engine::stored::BlobStream;
use refloat_etcd::{Depth, Object, SnapshotView, StoredValue};
use refloat_model::tree_path::TreePath;

use crate::command_error::CommandError;
use crate::environment;
use crate::point::OpenPoint;

/// A place inside a snapshot.
pub struct Inside {
    /// The snapshot's own path.
    pub snapshot: TreePath,
    /// The keys.
    pub view: SnapshotView,
    /// Where inside.
    pub within: Vec<Vec<u8>>,
}

impl Inside {
    /// Opens the snapshot that `path` goes through; none if it goes through none, or names a
    /// snapshot itself.
    ///
    /// # Errors
    /// The snapshot is damaged.
    pub fn through(open: &OpenPoint, path: &TreePath) -> Result<Option<Self>, CommandError> {
        match refloat_etcd::within_snapshot(path) {
            Some((_, within)) if within.is_empty() => Ok(None),
            _ => Self::at(open, path),
        }
    }

    /// Opens the snapshot that `path` names or goes through; none if there is none.
    ///
    /// # Errors
    /// The snapshot is damaged.
    pub fn at(open: &OpenPoint, path: &TreePath) -> Result<Option<Self>, CommandError> {
        let Some((snapshot, within)) = refloat_etcd::within_snapshot(path) else {
            return Ok(None);
        };
        match open.tree.node(&snapshot)? {
            Some(node) if node.subtree.is_none() => {
                let repository = open.tree.repository().clone();
                let content = BlobStream::new(repository, node.content.clone());
                let view = SnapshotView::open(content, &environment::temporary())?;
                Ok(Some(Self {
                    snapshot,
                    view,
                    within,
                }))
            }
            _ => Ok(None),
        }
    }

    /// Keys and parts of keys, with their paths in the point.
    ///
    /// # Errors
    /// There is nothing.
    pub fn list(&self, depth: Depth) -> Result<Vec<Key>, CommandError> {
        let listed = self.view.list(&self.within, depth)?;
        let key = |listed: refloat_etcd::Listed| {
            let object = if listed.is_directory {
                None
            } else {
                Some(self.view.object(&listed.path)?)
            };
            Ok(Key {
                path: self.path(&listed.path)?,
                inside: listed.path,
                object,
            })
        };
        listed.into_iter().map(key).collect()
    }

    /// The path in the point of a path inside.
    fn path(&self, inside: &[Vec<u8>]) -> Result<TreePath, CommandError> {
        let joined = inside
            .iter()
            .try_fold(self.snapshot.clone(), TreePath::join);
        Ok(joined?)
    }
}

/// One line of a listing.
pub struct Key {
    /// In the point.
    pub path: TreePath,
    /// In the snapshot.
    pub inside: Vec<Vec<u8>>,
    /// What it holds; none for a part that several keys begin with.
    pub object: Option<Object>,
}

/// What a key holds, for lists: `protobuf v1 Pod`, `encrypted aescbc:v1:key1`.
pub fn holds(object: &Object) -> String {
    let recognised = object.recognised();
    let more = match &recognised {
        StoredValue::Encrypted { how } => Some(how.clone()),
        other => other.kind(),
    };
    let word = recognised.word();
    more.map_or_else(|| word.to_owned(), |more| format!("{word} {more}"))
}
