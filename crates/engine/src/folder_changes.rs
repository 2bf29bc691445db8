//! What restoring into a folder would change there, found by looking.
//!
//! Content is not read: a file of the same size and time looks unchanged. Executing compares
//! contents, and may so write more than is listed here, never other entries.
//!
//! Invariant: a hostile tree with countless paths costs no more than what is listed and what is
//! in the folder already: whole trees that are new are counted by their survey.

use std::collections::HashSet;
use std::path::Path;

use refloat_localfs::{FolderWriter, RelativePath};
use refloat_model::cancel::Cancel;
use refloat_model::entry::{Entry, EntryKind};
use refloat_repository::restore::{CountedFiles, Survey};
use refloat_repository::{BlobId, BlobReader as _, IndexedRepository, Node};
use serde::Serialize;

use crate::folder_restore::{FolderPlan, FolderRestoreError};
use crate::stored::StoredTree;

/// How many entries are listed; all are counted.
pub const LISTED_MAX: usize = 1000;
/// From this size a file is replaced in place: what it has on the disk already counts.
const IN_PLACE_BYTES_MIN: u64 = 64 << 20;

/// What would happen to one entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// It is not there.
    Create,
    /// Something else of its name is there and goes.
    Replace,
    /// A directory that is not empty has its name, and stays.
    Blocked,
    /// What the directory holds cannot be read in the repository.
    Lost,
}

/// One entry that would change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FolderChange {
    /// What happens.
    pub change: ChangeKind,
    /// Below the folder.
    pub path: String,
}

/// All that would change.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct FolderChanges {
    /// Entries that are not there.
    pub created: u64,
    /// Entries of which something else is there.
    pub replaced: u64,
    /// Entries that look as stored.
    pub unchanged: u64,
    /// Entries that cannot be written.
    pub blocked: u64,
    /// Entries of which is not known what is there: it may not be looked at. They count as new.
    pub unknown: u64,
    /// Directories of which cannot be read what they hold: it will be missing.
    pub lost: u64,
    /// Space that is needed, in bytes; holes count as full unless they are long.
    pub bytes_needed: u64,
    /// The first [`LISTED_MAX`] that change.
    pub listed: Vec<FolderChange>,
}

/// Looks at what executing `plan` into `folder` would change. A folder that is not there is empty.
///
/// # Errors
/// The folder or the storage as such cannot be read, or the run was cancelled.
pub fn changes(
    tree: &StoredTree,
    plan: &FolderPlan,
    folder: &Path,
    cancel: &Cancel,
) -> Result<FolderChanges, FolderRestoreError> {
    let writer = match folder.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        _ => Some(FolderWriter::open(folder)?),
    };
    let mut look = Look {
        repository: tree.repository(),
        plan,
        writer,
        cancel,
        changes: FolderChanges::default(),
        files: CountedFiles::default(),
        trees: HashSet::new(),
    };
    let there = look.writer.is_some();
    look.nodes(RelativePath::root(), plan.nodes(), there)?;
    Ok(look.changes)
}

struct Look<'a> {
    repository: &'a IndexedRepository,
    plan: &'a FolderPlan,
    writer: Option<FolderWriter>,
    cancel: &'a Cancel,
    changes: FolderChanges,
    /// Files that were looked at one by one.
    files: CountedFiles,
    /// Trees that were counted as wholes.
    trees: HashSet<BlobId>,
}

impl Look<'_> {
    /// Depth first without recursion; only directories that are there are entered.
    fn nodes(
        &mut self,
        root: RelativePath,
        nodes: &[Node],
        there: bool,
    ) -> Result<(), FolderRestoreError> {
        let mut open = vec![(root, nodes.to_vec(), there)];
        while let Some((directory, nodes, there)) = open.pop() {
            let mut below = Vec::new();
            for node in nodes {
                self.cancel
                    .check()
                    .map_err(refloat_repository::RepositoryError::from)?;
                // A name that cannot be one fails when it is restored.
                let Ok(path) = directory.join(node.name()) else {
                    continue;
                };
                let found = match &self.writer {
                    // Whoever may not look may well write: a restore opens directories of one's own.
                    Some(writer) if there => writer.existing(&path).unwrap_or_else(|_refused| {
                        self.changes.unknown += 1;
                        None
                    }),
                    _ => None,
                };
                if self.node(&path, &node, found.as_ref())?
                    && let Some(tree) = node.subtree
                {
                    match self.read_tree(tree)? {
                        Some(nodes) => below.push((path, nodes, true)),
                        None => {
                            self.changes.lost += 1;
                            self.list(ChangeKind::Lost, &path);
                        }
                    }
                }
            }
            open.extend(below.into_iter().rev());
        }
        Ok(())
    }

    /// Decides one entry; whether it is a directory to look into.
    fn node(
        &mut self,
        path: &RelativePath,
        node: &Node,
        found: Option<&Entry>,
    ) -> Result<bool, FolderRestoreError> {
        let wanted = &node.entry;
        let of_entry = Survey::of(std::slice::from_ref(node), &self.files);
        let change = match found {
            Some(found) if looks_equal(wanted, found) => {
                self.changes.unchanged += 1;
                return Ok(wanted.kind == EntryKind::Directory);
            }
            None => ChangeKind::Create,
            Some(found) if found.kind == EntryKind::Directory && self.is_filled(path) => {
                ChangeKind::Blocked
            }
            Some(_) => ChangeKind::Replace,
        };
        self.list(change, path);
        match change {
            ChangeKind::Create => self.changes.created += 1,
            ChangeKind::Replace => self.changes.replaced += 1,
            ChangeKind::Blocked | ChangeKind::Lost => {
                self.changes.blocked += 1;
                return Ok(false);
            }
        }
        if let EntryKind::File { .. } = wanted.kind {
            // Nothing if another name of it came before.
            let size = of_entry.bytes;
            let kept = match found.map(|found| &found.kind) {
                Some(EntryKind::File { size: old }) if size >= IN_PLACE_BYTES_MIN => *old,
                _ => 0,
            };
            // In a file that is there holes have to be made, which not every file system can.
            let holes = match found {
                Some(_) => 0,
                None => of_entry.hole_bytes,
            };
            self.need(size.saturating_sub(kept.max(holes)));
        }
        if wanted.kind == EntryKind::Directory {
            self.whole(path, node)?;
        }
        Ok(false)
    }

    /// A directory that is not there: all below it is new.
    fn whole(&mut self, path: &RelativePath, node: &Node) -> Result<(), FolderRestoreError> {
        let Survey {
            files,
            directories,
            others,
            bytes,
            hole_bytes,
            unreadable,
        } = self.plan.survey_of(node, &mut self.trees);
        self.changes.created += (files + directories + others).saturating_sub(1);
        self.changes.lost += unreadable;
        self.need(bytes.saturating_sub(hole_bytes));
        let mut open = vec![(path.clone(), node.subtree)];
        while let Some((directory, tree)) = open.pop() {
            let Some(tree) = tree.filter(|_| self.changes.listed.len() < LISTED_MAX) else {
                continue;
            };
            let mut below = Vec::new();
            let Some(nodes) = self.read_tree(tree)? else {
                self.list(ChangeKind::Lost, &directory);
                continue;
            };
            for node in nodes {
                if let Ok(path) = directory.join(node.name()) {
                    self.list(ChangeKind::Create, &path);
                    below.push((path, node.subtree));
                }
            }
            open.extend(below.into_iter().rev());
        }
        Ok(())
    }

    /// None for a tree that is lost: what is beside it can still be restored.
    fn read_tree(&self, tree: BlobId) -> Result<Option<Vec<Node>>, FolderRestoreError> {
        match self.repository.read_tree(tree) {
            Ok(nodes) => Ok(Some(nodes)),
            Err(error) if error.is_of_one_thing() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn need(&mut self, bytes: u64) {
        self.changes.bytes_needed = self.changes.bytes_needed.saturating_add(bytes);
    }

    fn list(&mut self, change: ChangeKind, path: &RelativePath) {
        if self.changes.listed.len() < LISTED_MAX {
            let path = String::from_utf8_lossy(path.as_bytes()).into_owned();
            self.changes.listed.push(FolderChange { change, path });
        }
    }

    /// What may not be looked into counts as filled: it will not be removed.
    fn is_filled(&self, path: &RelativePath) -> bool {
        let filled = |writer: &FolderWriter| writer.is_filled_directory(path).unwrap_or(true);
        self.writer.as_ref().is_some_and(filled)
    }
}

/// Whether what is there may stay as far as can be told without reading it.
fn looks_equal(wanted: &Entry, found: &Entry) -> bool {
    match (&wanted.kind, &found.kind) {
        (EntryKind::Directory, EntryKind::Directory) => true,
        (EntryKind::File { size }, EntryKind::File { size: old }) => {
            size == old && wanted.metadata.modified == found.metadata.modified
        }
        (wanted, found) => wanted == found,
    }
}
