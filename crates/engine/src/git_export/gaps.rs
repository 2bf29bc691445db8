//! What of a cluster could not be seen when a point was made.
//!
//! Invariant: what was not seen is not called gone.

use std::collections::BTreeSet;

use refloat_model::finding::{Finding, Severity};
use refloat_model::item::Item;
use refloat_model::outcome::Outcome;
use refloat_model::point::PointRecord;

use super::FOLDER_DEPTH;

/// Kinds and folders of objects that a point, or a look at a cluster, does not hold as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Gaps {
    /// `secrets`, `deployments.apps`, or a group, `metrics.k8s.io/v1beta1`.
    subjects: BTreeSet<String>,
    /// `apps/v1/deployments/shop`.
    folders: BTreeSet<String>,
}

impl Gaps {
    /// What findings say of kinds that could not be listed.
    #[must_use]
    pub fn of_findings<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Self {
        let errors = findings.into_iter();
        let errors = errors.filter(|finding| finding.severity == Severity::Error);
        Self {
            subjects: errors.map(|finding| finding.subject.clone()).collect(),
            folders: BTreeSet::new(),
        }
    }

    /// What a point says of kinds of a cluster that could not be listed. The findings of older points
    /// do not say of which source they are: what no cluster can have meant is left out.
    #[must_use]
    pub fn of_point(record: &PointRecord, cluster: &str) -> Self {
        let source = record.sources.get(cluster);
        if let Some(errors) = source.and_then(|source| source.errors.clone()) {
            return Self {
                subjects: errors,
                folders: BTreeSet::new(),
            };
        }
        let findings = record.findings.iter();
        Self::of_findings(findings.filter(|finding| may_be_kind(&finding.subject)))
    }

    /// Adds a folder that was not captured as a whole.
    pub fn add(&mut self, item: &Item, outcome: &Outcome) {
        if let Some(place) = item_place(item).filter(|_| outcome.is_incomplete()) {
            self.folders.insert(place);
        }
    }

    /// Whether there is any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty() && self.folders.is_empty()
    }

    /// Whether objects in the folder `place` could be there unseen.
    #[must_use]
    pub fn hides(&self, place: &str) -> bool {
        if self.folders.contains(place) {
            return true;
        }
        let mut parts = place.split('/');
        let (Some(group), Some(version), Some(resource)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        let kind = kind_id(group, resource);
        [kind, group.to_owned(), format!("{group}/{version}")]
            .iter()
            .any(|subject| self.subjects.contains(subject))
    }
}

/// `secrets`, `deployments.apps`: how a kind is called whose objects lie in `core/v1/secrets`.
pub(crate) fn kind_id(group: &str, resource: &str) -> String {
    match group {
        "core" => resource.to_owned(),
        group => format!("{resource}.{group}"),
    }
}

/// Whether a subject could be a kind, `deployments.apps`, a group, or one with its version. Those
/// of other sources mostly could not: `container web`, `registry:5000/shop/web`.
fn may_be_kind(subject: &str) -> bool {
    let (name, version) = match subject.split_once('/') {
        Some((name, version)) => (name, Some(version)),
        None => (subject, None),
    };
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
    let is_version = |version: &str| {
        let digits = version.strip_prefix('v').unwrap_or_default();
        digits.starts_with(|c: char| c.is_ascii_digit()) && version.chars().all(is_name)
    };
    !name.is_empty() && name.chars().all(is_name) && version.is_none_or(is_version)
}

/// `apps/v1/deployments/shop` of `/kubernetes/prod/resources/apps/v1/deployments/shop`.
#[must_use]
pub fn item_place(item: &Item) -> Option<String> {
    let [_, _, resources, place @ ..] = item.path.components() else {
        return None;
    };
    let is_folder = resources == b"resources" && place.len() == FOLDER_DEPTH;
    let parts = place.iter().map(|part| String::from_utf8_lossy(part));
    is_folder.then(|| parts.collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use refloat_model::time::Timestamp;
    use serde_json::json;

    #[test]
    fn what_could_not_be_listed_hides_its_folders() {
        let findings = [
            Finding::error("secrets", "these credentials cannot list secrets"),
            Finding::error("deployments.apps", "cannot be listed"),
            Finding::error("custom.example/v1", "the API server cannot serve this"),
            Finding::warning("configmaps", "odd"),
        ];
        let gaps = Gaps::of_findings(&findings);
        for (place, expected) in [
            ("core/v1/secrets/shop", true),
            ("core/v1/configmaps/shop", false),
            ("apps/v1/deployments/shop", true),
            ("apps/v1/daemonsets/shop", false),
            ("custom.example/v1/things/_cluster", true),
            ("custom.example/v2/things/_cluster", false),
            ("odd", false),
        ] {
            assert_eq!(gaps.hides(place), expected, "{place}");
        }
        assert!(!gaps.is_empty());
        assert!(Gaps::default().is_empty());
        let old = Gaps::of_point(&record(findings.to_vec(), None), "prod");
        assert!(old.hides("core/v1/secrets/shop"));
        assert!(old.hides("custom.example/v1/things/_cluster"));
    }

    fn record(findings: Vec<Finding>, errors: Option<&[&str]>) -> PointRecord {
        let errors: Option<Vec<String>> =
            errors.map(|all| all.iter().map(ToString::to_string).collect());
        let source = |errors: &Option<Vec<String>>| {
            let mut source =
                json!({"kind": "kubernetes", "address": "", "identity": "", "versions": {}});
            if let Some(errors) = errors {
                source["errors"] = json!(errors);
            }
            source
        };
        let others = errors.is_some().then(Vec::new);
        let time = Timestamp {
            seconds: 0,
            nanoseconds: 0,
        };
        let id = "0".repeat(32);
        serde_json::from_value(json!({"version": 1, "id": id, "policy": "p", "run": id,
            "started": time, "finished": time, "program": "refloat", "outcomes": {}, "closure": [],
            "sources": {"prod": source(&errors), "dev": source(&others)}, "findings": findings}))
        .unwrap()
    }

    #[test]
    fn what_one_cluster_hides_another_does_not() {
        // Neither of them is among the findings, of which there is room for some only.
        let record = record(Vec::new(), Some(&["secrets", "down.example/v1"]));
        for (cluster, hides) in [("prod", true), ("dev", false), ("unknown", false)] {
            let gaps = Gaps::of_point(&record, cluster);
            assert_eq!(gaps.hides("core/v1/secrets/shop"), hides, "{cluster}");
            assert_eq!(gaps.hides("down.example/v1/things/x"), hides, "{cluster}");
            assert!(!gaps.hides("core/v1/configmaps/shop"));
        }
    }

    #[test]
    fn errors_of_other_sources_are_no_gaps_of_a_cluster() {
        let findings = [
            "container web",
            "source registry",
            "registry.example:5000/shop/web",
            "library/nginx",
            "/var/lib/data",
            "",
        ]
        .map(|subject| Finding::error(subject, "cannot be read"));
        let old = record(findings.to_vec(), None);
        assert!(Gaps::of_point(&old, "prod").is_empty());
        assert!(!Gaps::of_findings(&findings).is_empty());
    }
}
