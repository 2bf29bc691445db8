//! What of a point's images a request asks for.
//!
//! Invariant: an image that is asked for comes with what refers to it: a signature without its
//! image is useless, and an image without its signature may not be allowed to start.

use std::collections::BTreeSet;

use refloat_source::{StoredPoint, TargetError};

use super::engine_images::HUB_PREFIX;
use super::stored::{Layouts, StoredLayout, StoredRoot};
use crate::digest::Digest;
use crate::name::{EngineName, ImageName};

/// How many names are offered where one is not found.
const CANDIDATES_MAX: usize = 20;

/// Indices of a layout's roots that are asked for, for each layout.
pub(super) fn select(
    point: &dyn StoredPoint,
    layouts: &Layouts,
    only: &[String],
) -> Result<Vec<Vec<usize>>, TargetError> {
    let Layouts {
        readable: layouts,
        unreadable,
    } = layouts;
    if only.is_empty() {
        return Ok(layouts
            .iter()
            .map(|layout| (0..layout.roots.len()).collect())
            .collect());
    }
    let mut selected: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); layouts.len()];
    for wanted in only {
        let mut found = unreadable.iter().any(|layout| layout.is_wanted(wanted));
        for (layout, selected) in layouts.iter().zip(&mut selected) {
            for number in fitting(layout, wanted) {
                found = true;
                selected.insert(number);
            }
        }
        if !found {
            let mut candidates: BTreeSet<String> = layouts
                .iter()
                .map(|layout| layout.repository.to_string())
                .collect();
            while candidates.len() > CANDIDATES_MAX {
                candidates.pop_last();
            }
            return Err(TargetError::NotInPoint {
                what: wanted.clone(),
                candidates: candidates.into_iter().collect(),
            });
        }
    }
    for (layout, selected) in layouts.iter().zip(&mut selected) {
        if !selected.is_empty() && selected.len() < layout.roots.len() {
            add_referrers(point, layout, selected);
        }
    }
    Ok(selected
        .into_iter()
        .map(|numbers| numbers.into_iter().collect())
        .collect())
}

fn fitting(layout: &StoredLayout, wanted: &str) -> Vec<usize> {
    let name = wanted.strip_prefix("repository:").unwrap_or(wanted);
    if name == layout.repository.as_str() {
        return (0..layout.roots.len()).collect();
    }
    let name = wanted.strip_prefix("image:").unwrap_or(wanted);
    // Without a registry's host the name may be of any.
    let bare: Option<ImageName> = name.parse().ok();
    let full: Option<EngineName> = name.parse().ok();
    let numbered = layout.roots.iter().enumerate();
    numbered
        .filter(|(_, root)| {
            bare.as_ref() == Some(&layout.name(root))
                || full
                    .as_ref()
                    .is_some_and(|full| is_called(layout, root, full))
        })
        .map(|(number, _)| number)
        .collect()
}

/// Whether an image has this name in the registry that the name is of.
fn is_called(layout: &StoredLayout, root: &StoredRoot, full: &EngineName) -> bool {
    let (own, wanted) = (layout.repository.as_str(), full.repository.as_str());
    let is_repository = own == wanted
        // Docker Hub's own images, as engines call them.
        || full.host == "docker.io" && wanted.strip_prefix(HUB_PREFIX) == Some(own);
    let is_reference = match full.digest {
        Some(digest) => root.digest == digest,
        None => full.tag.is_some() && root.tag == full.tag,
    };
    is_repository && is_reference && root.hosts.contains(&full.host)
}

/// Adds roots that refer to what is selected, and what refers to those.
fn add_referrers(point: &dyn StoredPoint, layout: &StoredLayout, selected: &mut BTreeSet<usize>) {
    let mut digests: BTreeSet<Digest> = BTreeSet::new();
    let mut looked_at = BTreeSet::new();
    loop {
        for number in selected
            .iter()
            .copied()
            .filter(|number| looked_at.insert(*number))
        {
            if let Some(root) = layout.roots.get(number) {
                digests.extend(
                    layout
                        .parts(point, root)
                        .manifests
                        .iter()
                        .map(|(digest, _)| *digest),
                );
            }
        }
        let before = selected.len();
        for (number, root) in layout.roots.iter().enumerate() {
            if selected.contains(&number) {
                continue;
            }
            let subject = match &root.tag {
                Some(tag) => tag.subject(),
                None => {
                    let parts = layout.parts(point, root);
                    let own = parts.manifests.last();
                    own.and_then(|(_, manifest)| manifest.subject.as_ref())
                        .map(|s| s.digest)
                }
            };
            if subject.is_some_and(|subject| digests.contains(&subject)) {
                selected.insert(number);
            }
        }
        if selected.len() == before {
            return;
        }
    }
}
