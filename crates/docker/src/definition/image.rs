//! An image as the engine knows it; its content lies beside it as an OCI layout.
//!
//! Invariant: `id` is the engine's image id; loading the layout gives an image with this id.

use serde::{Deserialize, Serialize};

use super::Document;

/// `/images/<source>/<repository>/<tag>/image.json`
///
/// Beside it lies a complete OCI image layout of this one image: `oci-layout`, `index.json` and
/// `blobs/sha256/<hex>`; see ADR 0005.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImageDefinition {
    /// The engine's image id, `sha256:…`.
    pub id: String,
    /// All its local names, `repository:tag`, sorted; empty if it has none.
    pub tags: Vec<String>,
    /// Manifest digests the engine knows from registries, `repository@sha256:…`, sorted.
    pub repo_digests: Vec<String>,
    /// `linux`
    pub os: String,
    /// `amd64`
    pub architecture: String,
    /// `v8`, empty for most.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Digests of the uncompressed layers from the base up, `sha256:…`.
    pub diff_ids: Vec<String>,
    /// What the engine says it takes on disk, shared layers included.
    pub size_bytes: u64,
}

impl Document for ImageDefinition {
    const VERSION: u32 = 1;
    const WORD: &'static str = "image";
}
