//! `/recovery-point.json` and `/manifest/<source>/*.jsonl`: written and read.
//!
//! Invariant: lines are sorted by path, so that unchanged parts deduplicate; a line of a later
//! version with more fields can still be read.

use refloat_model::closure::ReferenceState;
use refloat_model::item::Placement;
use refloat_model::point::{ItemRecord, PointRecord};
use refloat_model::tree_path::TreePath;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::stored::{StoredTree, TreePathError};

/// The file name of the summary.
pub const RECORD_FILE: &str = "recovery-point.json";
/// The directory of manifests.
pub const MANIFEST_DIRECTORY: &str = "manifest";
/// The file name of the items of a source.
pub const ITEMS_FILE: &str = "items.jsonl";
/// The file name of the placements of a source.
pub const PLACEMENTS_FILE: &str = "placements.jsonl";
/// The largest summary that is written, in bytes.
const RECORD_BYTES_MAX: usize = 1 << 20;

/// Whether a path of a point is about the point and not of what it saved.
#[must_use]
pub fn is_own(path: &TreePath) -> bool {
    let first = path.components().first();
    first.is_some_and(|name| {
        let name: &[u8] = name.as_ref();
        name == RECORD_FILE.as_bytes() || name == MANIFEST_DIRECTORY.as_bytes()
    })
}

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read from the repository.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: TreePath,
        /// Why.
        #[source]
        source: TreePathError,
    },
    /// It is not what it should be.
    #[error("{path} is not valid")]
    Invalid {
        /// Which file.
        path: TreePath,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It cannot be written as JSON.
    #[error("cannot encode {what}")]
    Encode {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// The path of a source's manifest.
#[must_use]
pub fn items_path(source: &str) -> TreePath {
    TreePath::root()
        .child(MANIFEST_DIRECTORY)
        .child(source)
        .child(ITEMS_FILE)
}

/// Reads the summary.
///
/// # Errors
/// There is none (another program's snapshot), or it cannot be read.
pub fn read_record(tree: &StoredTree) -> Result<PointRecord, ManifestError> {
    let path = TreePath::root().child(RECORD_FILE);
    let bytes = read(tree, &path)?;
    serde_json::from_slice(&bytes).map_err(|source| ManifestError::Invalid { path, source })
}

/// Reads the manifest of a source.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn read_items(tree: &StoredTree, source: &str) -> Result<Vec<ItemRecord>, ManifestError> {
    read_lines(tree, items_path(source))
}

/// Reads where things of a source ran.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn read_placements(tree: &StoredTree, source: &str) -> Result<Vec<Placement>, ManifestError> {
    read_lines(
        tree,
        TreePath::root()
            .child(MANIFEST_DIRECTORY)
            .child(source)
            .child(PLACEMENTS_FILE),
    )
}

fn read(tree: &StoredTree, path: &TreePath) -> Result<Vec<u8>, ManifestError> {
    tree.read_whole(path).map_err(|source| ManifestError::Read {
        path: path.clone(),
        source,
    })
}

fn read_lines<T: DeserializeOwned>(
    tree: &StoredTree,
    path: TreePath,
) -> Result<Vec<T>, ManifestError> {
    let bytes = read(tree, &path)?;
    bytes
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(serde_json::from_slice)
        .collect::<Result<_, _>>()
        .map_err(|source| ManifestError::Invalid { path, source })
}

/// Writes one JSON document a line.
///
/// # Errors
/// A value cannot be expressed as JSON.
pub fn to_lines<T: Serialize>(what: &'static str, values: &[T]) -> Result<Vec<u8>, ManifestError> {
    let mut lines = Vec::new();
    for value in values {
        serde_json::to_writer(&mut lines, value)
            .map_err(|source| ManifestError::Encode { what, source })?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// Writes the summary. One that would be too large loses the references that are captured: they
/// are in the manifests too.
///
/// # Errors
/// It cannot be expressed as JSON.
pub fn to_record_file(record: &PointRecord) -> Result<Vec<u8>, ManifestError> {
    let encode = |record: &PointRecord| {
        serde_json::to_vec_pretty(record).map_err(|source| ManifestError::Encode {
            what: "the point's record",
            source,
        })
    };
    let whole = encode(record)?;
    if whole.len() <= RECORD_BYTES_MAX {
        return Ok(whole);
    }
    let mut shorter = record.clone();
    for workload in &mut shorter.closure {
        workload
            .references
            .retain(|r| !matches!(r.state, ReferenceState::Captured { .. }));
    }
    encode(&shorter)
}
