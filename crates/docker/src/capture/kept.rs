//! Images that an engine keeps as a registry gave them: Docker with the containerd image store gives
//! out manifests and compressed layers byte for byte, and calls an image by its manifest or index.
//!
//! Platforms that were not pulled are named by an index and are not there; the engine's own must be
//! there whole.
//!
//! Invariant: an index is given only if everything of one image for the engine's machine is there.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::images::{INDEX_TYPE, MANIFEST_TYPE};
use super::layers::Exported;
use crate::definition::ImageDefinition;

/// Indexes in indexes, deeper than this, are not followed.
const INDEX_DEPTH_MAX: usize = 8;

/// What an export holds of such an image.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// The index of the layout; none if the image is not whole.
    pub(super) index: Option<Vec<u8>>,
    /// Blobs that should be there, with the reason; empty if the image is whole.
    pub(super) missing: Vec<(String, String)>,
}

/// A look at everything below the image's root.
struct Look<'a> {
    image: &'a ImageDefinition,
    exported: &'a Exported,
    seen: BTreeSet<String>,
    /// Whether an image for the engine's machine is there whole.
    is_whole: bool,
    missing: Vec<(String, String)>,
}

impl Kept {
    /// Looks whether everything that the image's root leads to is in the export.
    pub(super) fn of(image: &ImageDefinition, exported: &Exported) -> Self {
        let mut look = Look {
            image,
            exported,
            seen: BTreeSet::new(),
            is_whole: false,
            missing: Vec::new(),
        };
        look.below(image.hex(), None, 0);
        let root = exported.document(image.hex());
        let size = exported.sizes.get(image.hex());
        let (Some(root), Some(size), true) = (root, size, look.is_whole) else {
            if look.missing.is_empty() {
                let machine = format!("{}/{}", image.os, image.architecture);
                let why = format!("the engine's export has no image for {machine} in it");
                look.missing.push((image.hex().to_owned(), why));
            }
            return Self {
                index: None,
                missing: look.missing,
            };
        };
        let usual = if root.get("manifests").is_some() {
            INDEX_TYPE
        } else {
            MANIFEST_TYPE
        };
        let media_type = root.get("mediaType").and_then(Value::as_str);
        let descriptor = json!({
            "mediaType": media_type.unwrap_or(usual),
            "digest": format!("sha256:{}", image.hex()),
            "size": size,
        });
        let index = json!({
            "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [descriptor],
        });
        Self {
            index: Some(index.to_string().into_bytes()),
            missing: Vec::new(),
        }
    }
}

impl Look<'_> {
    fn below(&mut self, hex: &str, platform: Option<&Value>, depth: usize) {
        if depth > INDEX_DEPTH_MAX || !self.seen.insert(hex.to_owned()) {
            return;
        }
        // A platform that the engine did not pull.
        let Some(document) = self.exported.document(hex) else {
            return;
        };
        if let Some(children) = document.get("manifests").and_then(Value::as_array) {
            let child = |child: &Value| {
                let platform = child.get("platform").cloned();
                Some((hex_of(child)?.to_owned(), platform))
            };
            let children: Vec<_> = children.iter().filter_map(child).collect();
            // An index is not kept in memory while those in it are.
            drop(document);
            for (hex, platform) in children {
                self.below(&hex, platform.as_ref(), depth + 1);
            }
            return;
        }
        if !self.is_for_the_engine(platform) {
            return;
        }
        let layers = document.get("layers").and_then(Value::as_array);
        let blobs = document.get("config").into_iter();
        let mut is_whole = true;
        for blob in blobs.chain(layers.into_iter().flatten()) {
            let there = hex_of(blob).and_then(|hex| self.exported.sizes.get(hex));
            if there.is_none() || there.copied() != blob.get("size").and_then(Value::as_u64) {
                is_whole = false;
                let name = hex_of(blob).unwrap_or(hex).to_owned();
                let why = format!("the engine's export does not hold it whole (needed by {hex})");
                self.missing.push((name, why));
            }
        }
        self.is_whole |= is_whole;
    }

    /// Whether an index's word fits the machine that the engine has the image for; what says
    /// nothing may be anything. Attestations are for `unknown`.
    fn is_for_the_engine(&self, platform: Option<&Value>) -> bool {
        let fits = |key: &str, own: &str| {
            let said = platform.and_then(|p| p.get(key)).and_then(Value::as_str);
            said.is_none_or(|said| said == own)
        };
        fits("os", &self.image.os) && fits("architecture", &self.image.architecture)
    }
}

fn hex_of(descriptor: &Value) -> Option<&str> {
    descriptor.get("digest")?.as_str()?.strip_prefix("sha256:")
}
