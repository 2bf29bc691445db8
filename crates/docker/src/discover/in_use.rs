//! Images that workloads, also of other sources, are made from: which of them does this engine's
//! image store hold?
//!
//! Invariants: asks nobody; an image that the policy leaves out on purpose stays left out, and is
//! named where it lies.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use refloat_model::finding::Finding;
use refloat_model::item::{ImageUse, Inventory, Item};
use refloat_model::outcome::Outcome;
use refloat_model::tree_path::TreePath;

use super::items::{DANGLING, NOT_IN_USE};
use super::{Discovered, Estate, Subject, image_names, named_image};
use crate::definition::ImageDefinition;

/// How many images a finding names.
const NAMES_SHOWN_MAX: usize = 5;

/// Adds to the engine's items whose images they are.
pub(crate) fn find_images(found: &Discovered, images: &[ImageUse], inventory: &mut Inventory) {
    let Inventory {
        items, findings, ..
    } = inventory;
    let held = stored(&found.estate, &found.subjects, items);
    let mut by_index = BTreeMap::new();
    for used in images {
        let mut is_held = false;
        for (number, image) in &held {
            if is_of(used, image) {
                is_held = true;
                let platform = format!("{}/{}", image.os, image.architecture);
                let is_unknown = is_of_unknown_platform(used, image);
                if is_unknown && !used.platforms.is_empty() {
                    if let Some(other) = other_platform(used, &platform) {
                        findings.push(other);
                        continue;
                    }
                } else if is_unknown {
                    let names: &mut BTreeSet<&str> = by_index.entry(platform).or_default();
                    names.insert(&used.reference);
                }
                if let Some(item) = items.get_mut(*number) {
                    come_along(item, used);
                }
            }
        }
        if is_held {
            findings.extend(moved(used, &held));
        }
    }
    findings.extend(by_index.iter().map(one_platform));
}

/// What to say of an image that is held for another platform than it runs on: it is not taken for it.
fn other_platform(used: &ImageUse, platform: &str) -> Option<Finding> {
    if used.platforms.iter().all(|own| own == platform) {
        return None;
    }
    let message = format!(
        "this engine holds {platform} only, and it runs on {}: that must come from elsewhere",
        used.platforms.join(", ")
    );
    Some(Finding::warning(
        format!("image {}", used.reference),
        message,
    ))
}

/// What to say of images that are held for one platform, and perhaps run on another.
fn one_platform((platform, names): (&String, &BTreeSet<&str>)) -> Finding {
    let shown: Vec<&str> = names.iter().copied().take(NAMES_SHOWN_MAX).collect();
    let more = match names.len().saturating_sub(shown.len()) {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    let message = format!(
        "this engine holds {platform} only of {}{more}, which other sources name by a digest that \
         may stand for several platforms; machines of another platform need theirs from elsewhere",
        shown.join(", ")
    );
    Finding::note("images of other sources", message)
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
///
/// The digest by which an image was pulled may be that of an index for several platforms, of which
/// an engine has one: where both know the configuration, that decides.
fn is_of(used: &ImageUse, image: &ImageDefinition) -> bool {
    if used.id.is_empty() && used.digests.is_empty() {
        let name = named_image(&used.reference, &image.id);
        return image_names(image).any(|own| own == name);
    }
    let (own, wanted) = (digests(&image.repo_digests), digests(&used.digests));
    // Engines that keep what registries gave them call an image by its manifest.
    if used.id == image.id || wanted.contains(image.id.as_str()) {
        return true;
    }
    let are_configurations = !used.id.is_empty()
        && !wanted.contains(used.id.as_str())
        && !own.contains(image.id.as_str());
    !are_configurations && !own.is_disjoint(&wanted)
}

/// Whether only a digest speaks for it that may be an index's: the platform that runs is not known.
fn is_of_unknown_platform(used: &ImageUse, image: &ImageDefinition) -> bool {
    // An image that is called by its manifest's or index's digest has the same one elsewhere, which
    // does not tell the platform either.
    let digests = digests(&used.digests);
    used.id != image.id && !digests.is_empty() || digests.contains(used.id.as_str())
}

/// The digests in names.
fn digests(names: &[String]) -> BTreeSet<&str> {
    let names = names.iter();
    names
        .filter_map(|name| Some(name.split_once('@')?.1))
        .collect()
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
            platforms: Vec::new(),
        }
    }

    #[test]
    fn an_image_for_another_platform_than_it_runs_on_is_not_taken() {
        let mut used = used("app:1", &["host/app@sha256:m1"], "");
        for (platforms, expected) in [
            (&["linux/amd64"][..], None),
            (&["linux/arm64"], Some("it runs on linux/arm64")),
            (
                &["linux/amd64", "linux/arm64"],
                Some("it runs on linux/amd64, linux/arm64"),
            ),
        ] {
            used.platforms = platforms.iter().map(ToString::to_string).collect();
            let told = other_platform(&used, "linux/amd64").map(|finding| finding.message);
            assert_eq!(told.is_some(), expected.is_some(), "{told:?}");
            assert!(
                told.unwrap_or_default()
                    .contains(expected.unwrap_or_default())
            );
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
            // The same index, and the image for another platform.
            (used("app:1", &["host/app@sha256:m1"], "sha256:c2"), false),
            // Called by the index, which is all that is known of it.
            (used("app:1", &["host/app@sha256:m1"], "sha256:m1"), true),
        ] {
            assert_eq!(is_of(&used, &image), expected, "{used:?}");
        }
    }

    #[test]
    fn the_platform_is_told_where_only_an_index_may_be_known() {
        let image = image("sha256:c1", "host/app:1", "host/app@sha256:m1");
        for (used, expected) in [
            (used("app:1", &["host/app@sha256:m1"], ""), true),
            (used("app:1", &["host/app@sha256:m1"], "sha256:m1"), true),
            (used("app:1", &["host/app@sha256:m1"], "sha256:c1"), false),
            (used("host/app:1", &[], "sha256:c1"), false),
        ] {
            assert_eq!(is_of_unknown_platform(&used, &image), expected, "{used:?}");
        }
        let names = BTreeSet::from(["a:1", "a:2", "a:3", "a:4", "a:5", "a:6"]);
        let told = one_platform((&"linux/amd64".to_owned(), &names)).message;
        let begin = "this engine holds linux/amd64 only of a:1, a:2, a:3, a:4, a:5 and 1 more, ";
        assert!(told.starts_with(begin), "{told}");
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
