//! Writing a stored folder to disk, for targets that fill volumes directly.
//!
//! Invariant: what is not as stored is named in the answer.

use std::path::Path;
use std::sync::Arc;

use refloat_localfs::FolderWriter;
use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_model::tree_path::TreePath;
use refloat_repository::BlobReader as _;
use refloat_repository::restore::{RestoreOptions, restore};
use refloat_source::{StoredError, WrittenFolder};

use super::lookup::StoredTree;

/// Writes what the directory `path` holds into the existing folder `destination`, and gives that
/// folder the directory's own metadata.
pub fn write(
    tree: &StoredTree,
    path: &TreePath,
    destination: &Path,
    cancel: &Cancel,
) -> Result<WrittenFolder, StoredError> {
    let failed = |cause| StoredError {
        operation: "restore",
        path: path.clone(),
        cause,
    };
    let directory = tree.directory(path).map_err(|e| failed(e.into()))?;
    let own = tree.node(path).map_err(|e| failed(e.into()))?;
    let repository = tree.repository();
    let nodes = repository
        .read_tree(directory)
        .map_err(|e| failed(e.into()))?;
    let writer = FolderWriter::open(destination).map_err(|e| failed(e.into()))?;
    let report = restore(
        repository,
        nodes,
        own.map(|node| node.entry.metadata),
        &writer,
        RestoreOptions::default(),
        Arc::new(Counters::default()),
        cancel.clone(),
    )
    .map_err(|e| failed(e.into()))?;
    let mut failures: Vec<String> = report
        .failures
        .iter()
        .map(|f| format!("{}: {}", String::from_utf8_lossy(&f.path), f.reason))
        .collect();
    failures.extend(
        report
            .findings
            .into_iter()
            .map(|f| format!("{}: {}", f.subject, f.message)),
    );
    let named = u64::try_from(report.failures.len()).unwrap_or(u64::MAX);
    if report.failure_count > named {
        failures.push(format!("and {} more", report.failure_count - named));
    }
    Ok(WrittenFolder {
        entries: report.entries,
        bytes_verified: report.bytes_verified,
        failures,
    })
}
