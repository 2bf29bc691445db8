//! stub
use super::lookup::StoredTree;
use refloat_model::cancel::Cancel;
use refloat_model::tree_path::TreePath;
use refloat_source::{StoredError, WrittenFolder};
use std::path::Path;
pub fn write(
    _: &StoredTree,
    path: &TreePath,
    _: &Path,
    _: &Cancel,
) -> Result<WrittenFolder, StoredError> {
    Err(StoredError {
        operation: "restore",
        path: path.clone(),
        cause: "later".into(),
    })
}
