//! Images that their engine kept as a registry gave them (Docker with the containerd image store),
//! for engines that unpack layers and call an image by its configuration.
//!
//! Invariant: images and the containers made from them change their ids together, or not at all;
//! where the target has the image under the id it had, nothing changes.

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::tree_path::TreePath;
use refloat_source::StoredPoint;
use serde_json::Value;

use super::holding::{Held, Holding};
use super::image_stream::{Contents, digest, json_file};
use crate::definition::ImageDefinition;
use crate::layout::{IMAGE_BLOBS, IMAGE_INDEX};

/// Indexes in indexes, deeper than this, are not followed.
const INDEX_DEPTH_MAX: usize = 8;

/// Gives such images the ids they have once they are loaded, except those that are `there` under
/// the ids that they had.
pub(super) fn use_configurations(
    point: &dyn StoredPoint,
    holding: &mut Holding,
    there: &BTreeMap<String, ImageDefinition>,
) {
    let mut renamed: BTreeMap<String, String> = BTreeMap::new();
    for (id, mut held) in std::mem::take(&mut holding.images) {
        let found = match there.contains_key(&id) {
            true => None,
            false => kept(point, &held.record.item.path, &held.definition),
        };
        let id = match found {
            Some((path, contents)) => {
                held.record.item.path = path;
                held.definition.id = contents.id();
                renamed.insert(id, contents.id());
                contents.id()
            }
            None => id,
        };
        match holding.images.get_mut(&id) {
            // Two manifests or indexes that lead to one configuration: one image, all its names.
            Some(first) => merge(&mut first.definition, held),
            None => drop(holding.images.insert(id, held)),
        }
    }
    for held in holding.containers.values_mut() {
        let image = &mut held.definition.image;
        if let Some(id) = renamed.get(&image.id) {
            image.id.clone_from(id);
        }
    }
}

fn merge(first: &mut ImageDefinition, other: Held<ImageDefinition>) {
    let ImageDefinition {
        tags, repo_digests, ..
    } = other.definition;
    for (own, more) in [
        (&mut first.tags, tags),
        (&mut first.repo_digests, repo_digests),
    ] {
        for name in more {
            if !own.contains(&name) {
                own.push(name);
            }
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
    find_manifest(point, &blobs, &root, &|contents| {
        let id = contents.id();
        let hex = id.strip_prefix("sha256:").unwrap_or(&id);
        let config = json_file(point, &blobs.child(hex));
        config.is_ok_and(|config| {
            let text = |key: &str| config.get(key).and_then(Value::as_str);
            text("architecture") == Some(&image.architecture) && text("os") == Some(&image.os)
        })
    })
}

/// The first manifest beneath `hex` whose image is the wanted one, among `blobs`. Each document is
/// looked at once, however often it is named.
pub(super) fn find_manifest(
    point: &dyn StoredPoint,
    blobs: &TreePath,
    hex: &str,
    is_wanted: &dyn Fn(&Contents) -> bool,
) -> Option<(TreePath, Contents)> {
    let mut seen = BTreeSet::new();
    let mut stack = vec![(hex.to_owned(), 0)];
    while let Some((hex, depth)) = stack.pop() {
        if !seen.insert(hex.clone()) {
            continue;
        }
        let path = blobs.child(&hex);
        // A platform that was not captured is not there, and not the wanted one.
        let Ok(document) = json_file(point, &path) else {
            continue;
        };
        if let Some(children) = document.get("manifests").and_then(Value::as_array) {
            if depth < INDEX_DEPTH_MAX {
                let children = children.iter().rev().filter_map(digest);
                stack.extend(
                    children
                        .filter(|hex| !seen.contains(hex))
                        .map(|hex| (hex, depth + 1)),
                );
            }
            continue;
        }
        if let Ok(contents) = Contents::read(point, &path)
            && is_wanted(&contents)
        {
            return Some((path, contents));
        }
    }
    None
}

#[cfg(test)]
mod tests;
