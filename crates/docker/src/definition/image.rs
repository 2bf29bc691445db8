//! An image as the engine knows it; its content lies beside it as an OCI layout.
//!
//! Invariant: `id` is the engine's image id; loading the layout gives an image with this id.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Document, Object, take_string};

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

/// What engines say where a name or digest is missing.
const NONE: &str = "<none>";

impl ImageDefinition {
    /// Takes what identifies the image out of the engine's answer; the rest is in the image's own
    /// configuration, which is kept byte for byte.
    pub(crate) fn from_inspect(mut inspect: Object) -> Self {
        let sorted = |value: Option<Value>| {
            let mut list: Vec<String> = value
                .as_ref()
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .filter(|text| !text.contains(NONE))
                .map(str::to_owned)
                .collect();
            list.sort();
            list.dedup();
            list
        };
        let layers = inspect
            .get("RootFS")
            .and_then(|rootfs| rootfs.get("Layers"))
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        let mut id = take_string(&mut inspect, "Id");
        if !id.contains(':') {
            id.insert_str(0, "sha256:");
        }
        Self {
            id,
            tags: sorted(inspect.remove("RepoTags")),
            repo_digests: sorted(inspect.remove("RepoDigests")),
            os: take_string(&mut inspect, "Os"),
            architecture: take_string(&mut inspect, "Architecture"),
            variant: take_string(&mut inspect, "Variant"),
            diff_ids: layers,
            size_bytes: inspect.get("Size").and_then(Value::as_u64).unwrap_or(0),
        }
    }

    /// The id without `sha256:`.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.id.strip_prefix("sha256:").unwrap_or(&self.id)
    }
}
