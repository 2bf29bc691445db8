//! Restoring the raw tree of a point into a folder.
//!
//! A folder that gets the metadata of what is restored into it holds a [`MARK`] meanwhile: should the
//! restore be interrupted, who repeats it sees that the folder has nothing of its own to keep.
//!
//! Invariant: the plan tells what will be written before anything is; executing it writes below
//! the folder only.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use refloat_localfs::write::DirectoryState;
pub use refloat_localfs::write::LEFT_OUT;
use refloat_localfs::{FolderWriter, Landing, RelativePath, WriteError};
pub use refloat_localfs::{Privileges, bytes_free};
use refloat_model::cancel::Cancel;
use refloat_model::entry::{EntryKind, Metadata};
use refloat_model::progress::Counters;
use refloat_model::tree_path::TreePath;
use refloat_repository::restore::{
    RestoreOptions, RestoreReport, Survey, Surveys, restore, survey,
};
use refloat_repository::{BlobId, BlobReader as _, Node, RepositoryError};

use crate::stored::{StoredTree, TreePathError};

/// The name of the mark: an empty file, of the names that a writer takes for what is not complete.
const MARK: &str = ".refloat-restoring";

/// What will be written into a folder.
#[derive(Clone, Debug)]
pub struct FolderPlan {
    nodes: Vec<Node>,
    metadata: Option<Metadata>,
    surveys: Surveys,
}

impl FolderPlan {
    /// The entries that are restored into the folder.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// How much one of them, or one below them, is; see [`Surveys::of`].
    pub(crate) fn survey_of(&self, node: &Node, met: &mut HashSet<BlobId>) -> Survey {
        self.surveys.of(node, met)
    }

    /// Whether the folder could get metadata: a single file has none for it, nor has a point's root.
    #[must_use]
    pub const fn has_metadata(&self) -> bool {
        self.metadata.is_some()
    }

    /// How much it is.
    #[must_use]
    pub const fn survey(&self) -> Survey {
        self.surveys.total()
    }
}

/// Why a restore into a folder failed as a whole.
#[derive(Debug, thiserror::Error)]
pub enum FolderRestoreError {
    /// What should be restored cannot be read.
    #[error(transparent)]
    Tree(#[from] TreePathError),
    /// The repository failed, or the folder is full.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] WriteError),
}

/// Plans to restore `path`: what a directory holds, or a single other entry.
///
/// # Errors
/// There is no such entry, or it cannot be read.
pub fn plan(
    tree: &StoredTree,
    path: &TreePath,
    cancel: &Cancel,
) -> Result<FolderPlan, FolderRestoreError> {
    let own = tree.node(path).map_err(TreePathError::from)?;
    let (nodes, metadata) = match own {
        Some(node) if node.subtree.is_none() => (vec![node], None),
        own => {
            let directory = tree.directory(path)?;
            let nodes = tree.repository().read_tree(directory)?;
            (nodes, own.map(|node| node.entry.metadata))
        }
    };
    let surveys = survey(tree.repository(), &nodes, cancel)?;
    Ok(FolderPlan {
        nodes,
        metadata,
        surveys,
    })
}

/// Whether the folder gets the metadata of the directory that is restored into it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FolderItself {
    /// It was made for this restore, or is empty, or [its restore was interrupted](was_interrupted).
    Restored,
    /// It was there and stays as it is.
    Kept,
}

/// How a plan is executed into a folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IntoFolder<'a> {
    /// The folder, which is there.
    pub folder: &'a Path,
    /// Whether it gets the metadata of what is restored into it.
    pub itself: FolderItself,
    /// Whether set-id bits, devices and file capabilities come back.
    pub privileges: Privileges,
}

/// Whether a restore into the folder, which gets what is restored into it as its own metadata, did not
/// come to its end.
#[must_use]
pub fn was_interrupted(folder: &Path) -> bool {
    folder.join(MARK).symlink_metadata().is_ok()
}

/// Executes a plan into an existing folder.
///
/// Guarantees: repeating it after a failure writes only what differs.
///
/// Crash behaviour: until the folder's own metadata is set, its [`MARK`] stays.
///
/// # Errors
/// The folder cannot be used or is full, or the run was cancelled. Single entries that failed are
/// in the report.
pub fn execute(
    tree: &StoredTree,
    plan: FolderPlan,
    into: IntoFolder<'_>,
    counters: Arc<Counters>,
    cancel: &Cancel,
) -> Result<RestoreReport, FolderRestoreError> {
    let writer = FolderWriter::open(into.folder)?.with_privileges(into.privileges);
    let FolderPlan {
        nodes,
        metadata,
        surveys,
    } = plan;
    // Of a million directories, 150 MiB that nobody asks for any more.
    drop(surveys);
    let metadata = metadata.filter(|_| into.itself == FolderItself::Restored);
    // An entry of the point that has the name is not ours.
    let marked = metadata
        .clone()
        .filter(|_| nodes.iter().all(|node| node.name() != MARK.as_bytes()));
    let folder = match writer.is_filled_directory(&RelativePath::root())? {
        true => DirectoryState::Existing,
        false => DirectoryState::Created,
    };
    if marked.is_some() {
        mark(&writer)?;
    }
    // It may take away the right to write: while the mark is there, it waits.
    let (at_once, at_the_end) = match marked {
        Some(metadata) => (None, Some(metadata)),
        None => (metadata, None),
    };
    let mut report = restore(
        tree.repository(),
        nodes,
        at_once,
        &writer,
        RestoreOptions {
            folder,
            ..RestoreOptions::default()
        },
        counters,
        cancel.clone(),
    )?;
    if let Some(metadata) = at_the_end {
        unmark(&writer, &metadata)?;
        report.entries += 1;
        report
            .findings
            .extend(writer.take_findings().into_list("restored files"));
    }
    Ok(report)
}

fn mark(writer: &FolderWriter) -> Result<(), WriteError> {
    writer.make_root_accessible();
    let path = RelativePath::root().join(MARK.as_bytes())?;
    let metadata = Metadata::synthetic(&EntryKind::File { size: 0 });
    let file = writer.prepare_file(&path, 0, Landing::Atomic)?;
    let _marked = writer.finish_file(file, &metadata)?;
    // Nobody misses what could not be set of it.
    drop(writer.take_findings());
    Ok(())
}

/// Takes the mark away, and sets the folder's own metadata.
fn unmark(writer: &FolderWriter, metadata: &Metadata) -> Result<(), WriteError> {
    let root = RelativePath::root();
    let _removed = writer.remove(&root.join(MARK.as_bytes())?, &Cancel::default())?;
    writer.set_directory_metadata(&root, metadata)?;
    writer.sync()
}
