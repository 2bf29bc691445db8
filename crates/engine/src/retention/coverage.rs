//! What a point covers that no policy of the configuration describes.
//!
//! Invariant: two runs whose sources are named on the command line share a coverage only if the same was asked of
//! both, so that neither counts as a newer copy of what only the other one holds.

use refloat_model::point::PointRecord;
use serde::Serialize;

use super::Holdings;
use crate::point_list::{AD_HOC_POLICY, FILES, PointSummary};

/// What the points of a group cover; nothing if their policy says it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Coverage(Vec<Covered>);

/// A folder, or a source of another kind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(transparent)]
struct Covered {
    /// Where it is in the point.
    path: String,
    /// Which system it is: another one of the same name is something else. Folders have the host, which is that of
    /// the whole group.
    #[serde(skip)]
    identity: String,
}

impl Coverage {
    /// Of what has this manifest.
    pub(super) fn of(record: &PointRecord, holdings: &Holdings) -> Self {
        if record.policy != AD_HOC_POLICY {
            return Self::default();
        }
        let mut covered = Vec::new();
        for (name, source) in &record.sources {
            if source.kind == FILES {
                let folders = holdings
                    .iter()
                    .filter(|(_, holding)| holding.source == *name);
                covered.extend(folders.map(|(path, _)| Covered {
                    path: path.to_string(),
                    identity: String::new(),
                }));
            } else {
                covered.push(Covered {
                    path: format!("/{}/{name}", source.kind),
                    identity: source.identity.clone(),
                });
            }
        }
        covered.sort();
        Self(covered)
    }

    /// Of a point whose manifest cannot be read, by its snapshot alone.
    pub(super) fn of_snapshot(point: &PointSummary) -> Self {
        if point.policy.as_deref() != Some(AD_HOC_POLICY) {
            return Self::default();
        }
        let covered = point.paths.iter().map(|path| Covered {
            path: path.clone(),
            identity: String::new(),
        });
        Self(covered.collect())
    }

    /// Whether all that another one covers is covered. A partial snapshot holds a part of what its run was of.
    pub(super) fn includes(&self, part: &Self) -> bool {
        self.is_empty() == part.is_empty() && part.0.iter().all(|covered| self.0.contains(covered))
    }

    /// Whether it is the policy that says what is covered.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let paths: Vec<&str> = self.0.iter().map(|covered| covered.path.as_str()).collect();
        f.write_str(&paths.join(" "))
    }
}
