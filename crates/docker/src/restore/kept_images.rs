//! Images that their engine kept as a registry gave them (Docker with the containerd image store),
//! for engines that unpack layers and call an image by its configuration.
//!
//! Invariant: images and the containers made from them change their ids together, or not at all.

use std::collections::BTreeMap;

use refloat_model::tree_path::TreePath;
use refloat_source::StoredPoint;
use serde_json::Value;

use super::holding::Holding;
use super::image_stream::{Contents, digest, json_file};
use crate::definition::ImageDefinition;
use crate::layout::{IMAGE_BLOBS, IMAGE_INDEX};

/// Indexes in indexes, deeper than this, are not followed.
pub(super) const INDEX_DEPTH_MAX: usize = 8;

/// Gives such images the ids they have once they are loaded.
pub(super) fn use_configurations(point: &dyn StoredPoint, holding: &mut Holding) {
    let mut renamed: BTreeMap<String, String> = BTreeMap::new();
    for (id, mut held) in std::mem::take(&mut holding.images) {
        let found = kept(point, &held.record.item.path, &held.definition);
        let id = match found {
            Some((path, contents)) => {
                held.record.item.path = path;
                held.definition.id = contents.id();
                renamed.insert(id, contents.id());
                contents.id()
            }
            None => id,
        };
        holding.images.insert(id, held);
    }
    for held in holding.containers.values_mut() {
        let image = &mut held.definition.image;
        if let Some(id) = renamed.get(&image.id) {
            image.id.clone_from(id);
        }
    }
}

/// The manifest for the image's machine, if the layout has the very manifest or index by which the
/// engine called the image.
fn kept(
    point: &dyn StoredPoint,
    layout: &TreePath,
    image: &ImageDefinition,
) -> Option<(TreePath, Contents)> {
    let index = json_file(point, &layout.child(IMAGE_INDEX)).ok()?;
    let root = digest(index.get("manifests")?.as_array()?.first()?)?;
    if root != image.hex() {
        return None;
    }
    let blobs = layout.child(IMAGE_BLOBS).child("sha256");
    find_manifest(point, &blobs, &root, INDEX_DEPTH_MAX, &|contents| {
        let id = contents.id();
        let hex = id.strip_prefix("sha256:").unwrap_or(&id);
        let config = json_file(point, &blobs.child(hex));
        config.is_ok_and(|config| {
            let text = |key: &str| config.get(key).and_then(Value::as_str);
            text("architecture") == Some(&image.architecture) && text("os") == Some(&image.os)
        })
    })
}

/// The first manifest beneath `hex` whose image is the wanted one, among `blobs`.
pub(super) fn find_manifest(
    point: &dyn StoredPoint,
    blobs: &TreePath,
    hex: &str,
    depth: usize,
    is_wanted: &dyn Fn(&Contents) -> bool,
) -> Option<(TreePath, Contents)> {
    let path = blobs.child(hex);
    // A platform that was not captured is not there, and not the wanted one.
    let document = json_file(point, &path).ok()?;
    let children = document.get("manifests").and_then(Value::as_array);
    if let Some(children) = children {
        let mut children = children.iter().filter(|_| depth > 0).filter_map(digest);
        return children.find_map(|hex| find_manifest(point, blobs, &hex, depth - 1, is_wanted));
    }
    let contents = Contents::read(point, &path).ok()?;
    is_wanted(&contents).then_some((path, contents))
}
