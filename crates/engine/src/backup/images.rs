//! The images that workloads are made from, and who holds them.
//!
//! Invariant: an image in use that nobody holds is in the answer, with no place.

mod in_points;

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::item::ImageUse;
use refloat_model::outcome::Outcome;
use refloat_model::subject::{Subject, SubjectKind};
use serde::Serialize;

use super::plan::{Discovered, Selection};

pub use in_points::{ImagePoint, look_into_points};

/// One image in use and every place that holds it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ImageCoverage {
    /// The image.
    #[serde(flatten)]
    pub image: ImageUse,
    /// Workloads that are made from it, `source/workload`, sorted.
    pub used_by: Vec<String>,
    /// Who holds it; empty if nobody does.
    pub places: Vec<ImagePlace>,
    /// The newest recovery point that holds it; none if none does, or none was looked into.
    pub point: Option<ImagePoint>,
}

/// One place that holds an image.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct ImagePlace {
    /// The source.
    pub source: String,
    /// Its kind: `docker` is an image store, `registry` a registry.
    pub kind: String,
    /// The item there.
    pub item: String,
    /// Why it would not be saved from there; none if it would.
    pub left_out: Option<String>,
}

impl ImageCoverage {
    /// Whether a recovery point would hold it.
    #[must_use]
    pub fn would_be_saved(&self) -> bool {
        self.places.iter().any(|place| place.left_out.is_none())
    }
}

/// Images that selected workloads require; without selections all workloads are selected.
pub(super) fn used(found: &[Discovered], select: &[Selection]) -> Vec<ImageUse> {
    let uses = users(found, select).into_keys();
    uses.collect()
}

/// Every image in use with the places that hold it.
#[must_use]
pub fn image_coverage(found: &[Discovered]) -> Vec<ImageCoverage> {
    let mut places: BTreeMap<&Subject, BTreeSet<ImagePlace>> = BTreeMap::new();
    for source in found {
        for item in &source.inventory.items {
            let left_out = match &item.skip {
                None => None,
                Some(Outcome::Skipped { rule, why }) => Some(format!("{rule}: {why}")),
                Some(other) => Some(other.word().to_owned()),
            };
            for subject in item
                .provides
                .iter()
                .filter(|s| s.kind == SubjectKind::Image)
            {
                places.entry(subject).or_default().insert(ImagePlace {
                    source: source.name.clone(),
                    kind: source.kind.clone(),
                    item: item.title.clone(),
                    left_out: left_out.clone(),
                });
            }
        }
    }
    let covered = users(found, &[])
        .into_iter()
        .map(|(image, used_by)| ImageCoverage {
            places: places
                .get(&image.subject)
                .into_iter()
                .flatten()
                .cloned()
                .collect(),
            used_by: used_by.into_iter().collect(),
            point: None,
            image,
        });
    covered.collect()
}

/// Images by who requires them.
fn users(found: &[Discovered], select: &[Selection]) -> BTreeMap<ImageUse, BTreeSet<String>> {
    let mut users: BTreeMap<ImageUse, BTreeSet<String>> = BTreeMap::new();
    for source in found {
        let selections: Vec<&Selection> =
            select.iter().filter(|s| s.source == source.name).collect();
        if selections.is_empty() && !select.is_empty() {
            continue;
        }
        let is_selected = |workload: &str| {
            selections.is_empty()
                || selections.iter().any(|selection| {
                    let patterns = &selection.workloads;
                    patterns.is_empty() || patterns.iter().any(|p| p.matches(workload))
                })
        };
        let inventory = &source.inventory;
        let by_workload = inventory.workloads.iter().map(|w| (&w.name, &w.requires));
        let by_item = inventory
            .items
            .iter()
            .filter_map(|item| Some((item.workload.as_ref()?, &item.requires)));
        for (workload, requires) in by_workload.chain(by_item) {
            if !is_selected(workload) {
                continue;
            }
            for subject in requires.iter().filter(|s| s.kind == SubjectKind::Image) {
                let known = inventory.images.iter().find(|i| i.subject == *subject);
                let image = known.cloned().unwrap_or_else(|| by_name(subject));
                let by = format!("{}/{workload}", source.name);
                users.entry(image).or_default().insert(by);
            }
        }
    }
    users
}

/// An image of which the source knows no more than the name.
fn by_name(subject: &Subject) -> ImageUse {
    let is_digest = subject.name.contains("@sha256:");
    ImageUse {
        subject: subject.clone(),
        reference: subject.name.clone(),
        digests: is_digest
            .then(|| subject.name.clone())
            .into_iter()
            .collect(),
        id: String::new(),
        platforms: Vec::new(),
    }
}
