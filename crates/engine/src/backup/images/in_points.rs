//! Which recovery points hold images that are in use.
//!
//! Points are looked into from the newest back, until every image was found. Manifests that did not
//! change between points are the same chunks, and are read once.
//!
//! Invariant: only what was saved whole counts, and only in points that no repair has cut.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use refloat_model::cancel::{Cancel, Cancelled};
use refloat_model::finding::Finding;
use refloat_model::subject::{Subject, SubjectKind};
use refloat_model::time::Timestamp;
use refloat_repository::repair::REPAIRED_TAG;
use refloat_repository::{BlobId, IndexedRepository, SnapshotFile, SnapshotId};
use serde::Serialize;

use super::ImageCoverage;
use crate::chain;
use crate::manifest::{self, ManifestError};
use crate::point_list::{PointSummary, summaries};
use crate::stored::StoredTree;

/// A recovery point that holds an image.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ImagePoint {
    /// What people call the point.
    pub point: String,
    /// When it was taken.
    pub time: Timestamp,
    /// The source whose copy it has.
    pub source: String,
    /// The item.
    pub item: String,
}

/// Images that were found nowhere yet, by every digest that means exactly one image. A tag moves:
/// what had it in another point may be another image.
struct Sought {
    by_digest: BTreeMap<String, Vec<usize>>,
    left: BTreeSet<usize>,
}

/// Looks for images in the recovery points and says which is the newest that has each. What could
/// not be read is a finding.
///
/// # Errors
/// The run was cancelled.
pub fn look_into_points(
    images: &mut [ImageCoverage],
    repository: &IndexedRepository,
    snapshots: &[(SnapshotId, SnapshotFile)],
    cancel: &Cancel,
) -> Result<Vec<Finding>, Cancelled> {
    let mut sought = Sought::new(images);
    let mut findings = Vec::new();
    let mut read = HashSet::new();
    let mut points: Vec<PointSummary> = summaries(snapshots);
    points.retain(|p| p.id.is_some() && !p.tags.iter().any(|tag| tag == REPAIRED_TAG));
    points.sort_by_key(|point| std::cmp::Reverse(point.time));
    for point in points {
        if sought.left.is_empty() {
            break;
        }
        cancel.check()?;
        let snapshot = snapshots.iter().find(|(id, _)| *id == point.snapshot);
        let Some(root) = snapshot.and_then(|(_, file)| file.tree) else {
            continue;
        };
        let tree = StoredTree::new(repository.clone(), root);
        let found = sought.look(&tree, &point, &mut read, images);
        if let Err(error) = found {
            let message = format!("cannot be looked into for images: {}", chain(&error));
            findings.push(Finding::warning(
                format!("point {}", point.short()),
                message,
            ));
        }
    }
    Ok(findings)
}

impl Sought {
    fn new(images: &[ImageCoverage]) -> Self {
        let mut sought = Self {
            by_digest: BTreeMap::new(),
            left: (0..images.len()).collect(),
        };
        for (number, coverage) in images.iter().enumerate() {
            let image = &coverage.image;
            let named = image.digests.iter().chain([&image.subject.name]);
            let digests = named
                .filter_map(|name| digest(name))
                .chain([image.id.as_str()]);
            let digests: BTreeSet<&str> = digests.filter(|digest| !digest.is_empty()).collect();
            for digest in digests {
                let numbers = sought.by_digest.entry(digest.to_owned()).or_default();
                numbers.push(number);
            }
        }
        sought
    }

    fn look(
        &mut self,
        tree: &StoredTree,
        point: &PointSummary,
        read: &mut HashSet<Vec<BlobId>>,
        images: &mut [ImageCoverage],
    ) -> Result<(), ManifestError> {
        for source in manifest::read_record(tree)?.sources.into_keys() {
            let path = manifest::items_path(&source);
            let node = tree
                .file(&path)
                .map_err(|source| ManifestError::Read { path, source })?;
            if !read.insert(node.content.to_vec()) {
                continue;
            }
            let records = manifest::read_items(tree, &source)?;
            for record in records.iter().filter(|r| r.outcome.is_saved()) {
                let provided = record.item.provides.iter();
                for subject in provided.filter(|s| s.kind == SubjectKind::Image) {
                    for number in self.take(subject) {
                        if let Some(image) = images.get_mut(number) {
                            image.point = Some(ImagePoint {
                                point: point.short(),
                                time: point.time,
                                source: source.clone(),
                                item: record.item.title.clone(),
                            });
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The images that `subject` is, and that were not found before.
    fn take(&mut self, subject: &Subject) -> Vec<usize> {
        let numbers = digest(&subject.name).and_then(|digest| self.by_digest.get(digest));
        let numbers = numbers.into_iter().flatten();
        let left = &mut self.left;
        numbers
            .copied()
            .filter(|number| left.remove(number))
            .collect()
    }
}

/// `sha256:…` behind an image's name.
fn digest(name: &str) -> Option<&str> {
    name.split_once('@').map(|(_, digest)| digest)
}

#[cfg(test)]
mod tests {
    use refloat_model::item::ImageUse;

    use super::*;

    fn image(name: &str, digests: &[&str], id: &str) -> ImageCoverage {
        ImageCoverage {
            image: ImageUse {
                subject: Subject::new("", SubjectKind::Image, name),
                reference: "app:1".to_owned(),
                digests: digests.iter().map(|text| (*text).to_owned()).collect(),
                id: id.to_owned(),
                platforms: Vec::new(),
            },
            used_by: Vec::new(),
            places: Vec::new(),
            point: None,
        }
    }

    #[test]
    fn an_image_is_found_by_a_digest_and_not_by_a_tag() {
        let images = [
            image("app:1", &[], ""),
            image("app@sha256:m1", &[], ""),
            image("app:2", &["h/app@sha256:m2"], ""),
            image("app:3", &[], "sha256:c3"),
        ];
        let mut sought = Sought::new(&images);
        let mut take = |name: &str| sought.take(&Subject::new("", SubjectKind::Image, name));
        assert_eq!(take("app:1"), [] as [usize; 0]);
        assert_eq!(take("mirror/app@sha256:m1"), [1]);
        assert_eq!(take("app@sha256:m2"), [2]);
        assert_eq!(take("app@sha256:c3"), [3]);
        assert_eq!(
            take("app@sha256:c3"),
            [] as [usize; 0],
            "it was found before"
        );
    }
}
