//! Images that workloads, also of other sources, are made from: which of them does this engine's
//! image store hold?
//!
//! Invariants: asks nobody; an image that the policy leaves out on purpose stays left out, and is
//! named where it lies.

use std::collections::HashMap;

use refloat_model::finding::Finding;
use refloat_model::item::{ImageUse, Inventory, Item};
use refloat_model::outcome::Outcome;
use refloat_model::tree_path::TreePath;

use super::items::{DANGLING, NOT_IN_USE};
use super::{Discovered, Estate, Subject, image_names, named_image};
use crate::definition::ImageDefinition;

/// Adds to the engine's items whose images they are.
pub(crate) fn find_images(found: &Discovered, images: &[ImageUse], inventory: &mut Inventory) {
    let Inventory {
        items, findings, ..
    } = inventory;
    let held = stored(&found.estate, &found.subjects, items);
    for used in images {
        let mut is_held = false;
        for (number, image) in &held {
            if is_of(used, image) {
                is_held = true;
                if let Some(item) = items.get_mut(*number) {
                    come_along(item, used);
                }
            }
        }
        if is_held {
            findings.extend(moved(used, &held));
        }
    }
}

/// The images of the store with the numbers of their items.
fn stored<'a>(
    estate: &'a Estate,
    subjects: &HashMap<TreePath, Subject>,
    items: &[Item],
) -> Vec<(usize, &'a ImageDefinition)> {
    let numbered = items.iter().enumerate();
    numbered
        .filter_map(|(number, item)| match subjects.get(&item.path)? {
            Subject::Image(id) => Some((number, estate.images.get(id)?)),
            _ => None,
        })
        .collect()
}

/// Whether this is the image: by the digest of its configuration, or by the digest of a manifest,
/// under whatever name it was pulled. Where nobody knows a digest, the name decides.
fn is_of(used: &ImageUse, image: &ImageDefinition) -> bool {
    let digest = |name: &str| name.split_once('@').map(|(_, digest)| digest.to_owned());
    if used.id.is_empty() && used.digests.is_empty() {
        let name = named_image(&used.reference, &image.id);
        return image_names(image).any(|own| own == name);
    }
    let own: Vec<String> = image
        .repo_digests
        .iter()
        .filter_map(|n| digest(n))
        .collect();
    used.id == image.id
        || used
            .digests
            .iter()
            .filter_map(|name| digest(name))
            // Engines that keep what registries gave them call an image by its manifest.
            .any(|wanted| wanted == image.id || own.contains(&wanted))
}

/// The item provides the image, and is captured if it was left out only for want of a user.
fn come_along(item: &mut Item, used: &ImageUse) {
    if let Some(Outcome::Skipped { rule, .. }) = &item.skip
        && (rule == NOT_IN_USE || rule == DANGLING)
    {
        item.skip = None;
    }
    item.provides.push(used.subject.clone());
    item.provides.sort();
    item.provides.dedup();
}

/// What to say of a name that stands for another image in this store than what runs.
fn moved(used: &ImageUse, held: &[(usize, &ImageDefinition)]) -> Option<Finding> {
    if used.reference.contains('@') {
        return None;
    }
    let mut images = held.iter().map(|(_, image)| *image);
    let now = images.find(|image| {
        let name = named_image(&used.reference, &image.id);
        // A container that was started by an image's id has no name that could move.
        !name.starts_with("<untagged>") && image_names(image).any(|own| own == name)
    })?;
    if is_of(used, now) {
        return None;
    }
    let what = match used.id.as_str() {
        "" => used.digests.first()?,
        id => id,
    };
    Some(Finding::warning(
        format!("image {}", used.reference),
        format!(
            "the tag moved: {} is {} in this engine, what runs is {what}",
            used.reference, now.id
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use refloat_model::subject::{Subject as Reference, SubjectKind};

    fn image(id: &str, tag: &str, digest: &str) -> ImageDefinition {
        ImageDefinition {
            id: id.to_owned(),
            tags: vec![tag.to_owned()],
            repo_digests: vec![digest.to_owned()],
            os: String::new(),
            architecture: String::new(),
            variant: String::new(),
            diff_ids: Vec::new(),
            size_bytes: 0,
        }
    }

    fn used(reference: &str, digests: &[&str], id: &str) -> ImageUse {
        ImageUse {
            subject: Reference::new("", SubjectKind::Image, "x"),
            reference: reference.to_owned(),
            digests: digests.iter().map(|text| (*text).to_owned()).collect(),
            id: id.to_owned(),
        }
    }

    #[test]
    fn digests_decide_and_a_name_only_where_there_is_none() {
        let image = image("sha256:c1", "host/app:1", "host/app@sha256:m1");
        for (used, expected) in [
            (used("app:1", &["mirror/app@sha256:m1"], ""), true),
            (used("other:9", &[], "sha256:c1"), true),
            // What runs is something else, whatever its name.
            (used("host/app:1", &["host/app@sha256:m2"], ""), false),
            (used("host/app:1", &[], "sha256:c2"), false),
            (used("host/app:1", &[], ""), true),
            (used("host/app:2", &[], ""), false),
            // An engine whose ids are manifests.
            (used("app:1", &["host/app@sha256:c1"], ""), true),
        ] {
            assert_eq!(is_of(&used, &image), expected, "{used:?}");
        }
    }

    #[test]
    fn a_name_that_moved_is_told() {
        let (old, new) = (
            image("sha256:c1", "<none>", "host/app@sha256:m1"),
            image("sha256:c2", "host/app:1", "host/app@sha256:m2"),
        );
        let held = [(0, &old), (1, &new)];
        let told = moved(
            &used("host/app:1", &["host/app@sha256:m1"], "sha256:c1"),
            &held,
        );
        assert_eq!(
            told.unwrap().message,
            "the tag moved: host/app:1 is sha256:c2 in this engine, what runs is sha256:c1"
        );
        assert_eq!(moved(&used("host/app:1", &[], "sha256:c2"), &held), None);
        assert_eq!(moved(&used("host/app:2", &[], "sha256:c1"), &held), None);
    }
}
