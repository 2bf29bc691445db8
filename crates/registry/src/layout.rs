//! Where everything of a registry lies in a recovery point.
//!
//! `/images/<source>/<repository>/` is an OCI image layout of the whole repository, with the name
//! as one escaped component: `index.json` names every tag, `blobs/sha256/<hex>` holds every blob
//! and manifest once. Beside it are `repository.json` and the marker of a whole capture, which
//! readers of layouts ignore. See ADR 0005 and 0007.
//!
//! Invariant: a path depends only on names and digests.

use refloat_model::tree_path::TreePath;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::RepositoryName;

/// The index of a layout.
pub(crate) const INDEX: &str = "index.json";
/// The marker of a layout.
pub(crate) const LAYOUT: &str = "oci-layout";
/// Its content.
pub(crate) const LAYOUT_TEXT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The directory of blobs.
pub(crate) const BLOBS: &str = "blobs";
/// The directory of blobs with SHA-256 digests in it.
pub(crate) const SHA256: &str = "sha256";
/// Our record of a repository.
pub(crate) const RECORD: &str = "repository.json";
/// The annotation with which an index names a tag.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The registry's own configuration; no repository name begins with `_`.
const CONFIG: &str = "_registry-config";

/// What [`RECORD`] holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct RepositoryRecord {
    /// 1.
    pub(crate) version: u32,
    /// Host and port of the registry.
    pub(crate) registry: String,
    /// The repository's name.
    pub(crate) repository: String,
    /// What was left out on purpose: platforms that were not chosen, foreign layers.
    pub(crate) absent: Vec<String>,
}

/// `/images/<source>/<repository>`
pub(crate) fn repository(source: &str, name: &RepositoryName) -> TreePath {
    TreePath::root()
        .child("images")
        .child(source)
        .child(name.as_str())
}

/// `/images/<source>/_registry-config`
pub(crate) fn config(source: &str) -> TreePath {
    TreePath::root().child("images").child(source).child(CONFIG)
}

/// Whether a path is the registry's own configuration.
pub(crate) fn is_config(path: &TreePath) -> bool {
    path.name() == Some(CONFIG.as_bytes())
}

/// `<layout>/blobs/sha256`
pub(crate) fn blobs(layout: &TreePath) -> TreePath {
    layout.child(BLOBS).child(SHA256)
}

/// `<layout>/blobs/sha256/<hex>`
pub(crate) fn blob(layout: &TreePath, digest: &Digest) -> TreePath {
    blobs(layout).child(&digest.hex())
}
