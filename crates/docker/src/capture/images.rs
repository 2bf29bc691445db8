//! An image as an OCI layout of its own; see ADR 0005.
//!
//! Invariant: the marker `complete-<id>` is written only beside a layout that is whole; where the
//! parent point has it, the layout there is this image.

use std::collections::BTreeMap;

use refloat_model::outcome::Consistency;
use refloat_source::SourceError;
use serde_json::json;

use super::Session;
use super::kept::Kept;
use super::layers::{Exported, digest_hex};
use crate::client::encode;
use crate::definition::ImageDefinition;
use crate::layout::{IMAGE_BLOBS, IMAGE_FILE, IMAGE_INDEX, IMAGE_LAYOUT};

const ALGORITHM: &[u8] = b"sha256";
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
pub(super) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

impl Session<'_> {
    pub(super) fn image(&mut self, id: &str) -> Result<Consistency, SourceError> {
        let inspect = self.inspect(&format!("/images/{}/json", encode(id)))?;
        let image = ImageDefinition::from_inspect(inspect);
        self.enter(self.name)?;
        self.document(IMAGE_FILE.as_bytes(), &image)?;
        let marker = format!("complete-{}", image.hex());
        let marked = self.sink.reuse(marker.as_bytes())?;
        if !(marked && self.take_layout_over()?) {
            let index = self.layout(&image)?;
            self.bytes(IMAGE_LAYOUT.as_bytes(), LAYOUT)?;
            if let Some(index) = index {
                self.bytes(IMAGE_INDEX.as_bytes(), &index)?;
                if !marked {
                    self.bytes(marker.as_bytes(), b"")?;
                }
            }
        }
        self.leave()?;
        Ok(Self::definition())
    }

    /// Takes the whole layout from the parent point, where the marker says that it is this image.
    fn take_layout_over(&mut self) -> Result<bool, SourceError> {
        if !self.sink.reuse(IMAGE_BLOBS.as_bytes())? {
            return Ok(false);
        }
        for name in [IMAGE_INDEX, IMAGE_LAYOUT] {
            if !self.sink.reuse(name.as_bytes())? {
                let why = "the parent point has blobs and a marker, but not this file";
                self.sink.fail(name.as_bytes(), why.to_owned());
            }
        }
        Ok(true)
    }

    /// Writes all blobs; gives the index, if all that it names is there.
    fn layout(&mut self, image: &ImageDefinition) -> Result<Option<Vec<u8>>, SourceError> {
        self.enter(IMAGE_BLOBS.as_bytes())?;
        self.enter(ALGORITHM)?;
        let exported = self.export(image)?;
        let index = match own_manifest(image, &exported) {
            Some(manifest) => {
                let hex = digest_hex(&manifest);
                if !exported.sizes.contains_key(&hex) {
                    self.bytes(hex.as_bytes(), &manifest)?;
                }
                Some(own_index(image, &hex, manifest.len()))
            }
            // The engine keeps what a registry gave it, and calls the image by its manifest.
            None if exported.documents.contains_key(image.hex()) => {
                let kept = Kept::of(image, &exported);
                for (hex, why) in kept.missing {
                    self.sink.fail(hex.as_bytes(), why);
                }
                kept.index
            }
            None => {
                for hex in needed(image).filter(|hex| !exported.sizes.contains_key(*hex)) {
                    let why = "the engine's export does not hold it".to_owned();
                    self.sink.fail(hex.as_bytes(), why);
                }
                None
            }
        };
        self.leave()?;
        self.leave()?;
        Ok(index)
    }
}

/// The hexadecimal digests of an image's configuration and layers.
pub(super) fn needed(image: &ImageDefinition) -> impl Iterator<Item = &str> {
    let layers = image.diff_ids.iter();
    std::iter::once(image.hex())
        .chain(layers.map(|digest| digest.strip_prefix("sha256:").unwrap_or(digest)))
}

/// A manifest of configuration and uncompressed layers; none if one of them is missing.
fn own_manifest(image: &ImageDefinition, exported: &Exported) -> Option<Vec<u8>> {
    let descriptor = |kind: &str, hex: &str, sizes: &BTreeMap<String, u64>| {
        let size = sizes.get(hex)?;
        Some(json!({"mediaType": kind, "digest": format!("sha256:{hex}"), "size": size}))
    };
    let config = descriptor(CONFIG_TYPE, image.hex(), &exported.sizes)?;
    let layers = needed(image)
        .skip(1)
        .map(|hex| descriptor(LAYER_TYPE, hex, &exported.sizes))
        .collect::<Option<Vec<_>>>()?;
    if image.diff_ids.is_empty() {
        return None;
    }
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": layers,
    });
    Some(manifest.to_string().into_bytes())
}

fn own_index(image: &ImageDefinition, manifest_hex: &str, manifest_bytes: usize) -> Vec<u8> {
    let mut platform = json!({"architecture": image.architecture, "os": image.os});
    if !image.variant.is_empty() {
        platform["variant"] = image.variant.clone().into();
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [{
            "mediaType": MANIFEST_TYPE,
            "digest": format!("sha256:{manifest_hex}"),
            "size": manifest_bytes,
            "platform": platform,
        }],
    });
    index.to_string().into_bytes()
}
