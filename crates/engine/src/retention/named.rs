//! Dropping points that a person names, whatever rules keep them.
//!
//! Invariant: what no remaining point holds is named in the plan.

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::tree_path::TreePath;
use refloat_repository::SnapshotId;

use super::{Candidate, Coverage, Decision, ForgetGroup, ForgetPlan, Reason, Unprotected};
use crate::point_list::{PointSelector, PointSummary, SelectError};

/// Why a named point cannot be dropped.
#[derive(Debug, thiserror::Error)]
pub enum NamedError {
    /// Nothing fits, or more than one.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// It is not Refloat's to drop.
    #[error("{0} was made by another program")]
    Foreign(String),
}

/// Plans to drop the points that `ids` name: prefixes of point or snapshot ids.
///
/// # Errors
/// An id fits nothing, more than one point, or another program's snapshot.
pub fn plan_named(candidates: Vec<Candidate>, ids: &[String]) -> Result<ForgetPlan, NamedError> {
    let points: Vec<PointSummary> = candidates.iter().map(|c| c.point.clone()).collect();
    let mut dropped: BTreeSet<SnapshotId> = BTreeSet::new();
    for id in ids {
        let found = PointSelector::Prefix(id.clone()).find(&points)?;
        if found.id.is_none() {
            return Err(NamedError::Foreign(found.short()));
        }
        // A point that was tagged again has two records.
        let records = points.iter().filter(|point| point.id == found.id);
        dropped.extend(records.map(|point| point.snapshot));
    }
    let unprotected = unprotected(&candidates, &dropped);
    let mut groups: BTreeMap<(String, String, Coverage), Vec<Decision>> = BTreeMap::new();
    for Candidate {
        point, coverage, ..
    } in candidates
    {
        let reasons = match dropped.contains(&point.snapshot) {
            true => Vec::new(),
            false => vec![Reason::NotNamed],
        };
        let Some(policy) = point.policy.clone().filter(|_| point.id.is_some()) else {
            continue;
        };
        let group = groups
            .entry((policy, point.host.clone(), coverage))
            .or_default();
        group.push(Decision { point, reasons });
    }
    let groups = groups
        .into_iter()
        .filter(|(_, decisions)| !decisions.iter().all(Decision::is_kept))
        .map(|((policy, host, covers), mut decisions)| {
            decisions.sort_by_key(|d| std::cmp::Reverse((d.point.time, d.point.snapshot)));
            ForgetGroup {
                policy,
                host,
                covers,
                decisions,
            }
        });
    Ok(ForgetPlan {
        groups: groups.collect(),
        unprotected,
        partials: Vec::new(),
    })
}

/// Items that a dropped point holds saved and no remaining one does. An empty copy does not stand
/// in for one with data.
fn unprotected(candidates: &[Candidate], dropped: &BTreeSet<SnapshotId>) -> Vec<Unprotected> {
    let saved = |candidate: &Candidate| -> Vec<(TreePath, Unprotected, bool)> {
        let holdings = candidate
            .holdings
            .iter()
            .flatten()
            .filter(|(_, h)| h.saved && !h.is_nothing);
        holdings
            .map(|(path, holding)| {
                let item = Unprotected {
                    source: holding.source.clone(),
                    item: holding.title.clone(),
                    last_copy: candidate.point.time,
                };
                // A suspicious copy may be the accident to recover from.
                (path.clone(), item, holding.has_data && !holding.suspicious)
            })
            .collect()
    };
    let mut kept: BTreeMap<TreePath, bool> = BTreeMap::new();
    let mut lost: BTreeMap<TreePath, (Unprotected, bool)> = BTreeMap::new();
    for candidate in candidates {
        let is_dropped = dropped.contains(&candidate.point.snapshot);
        for (path, item, has_data) in saved(candidate) {
            if !is_dropped {
                *kept.entry(path).or_default() |= has_data;
                continue;
            }
            let newest = lost.entry(path).or_insert_with(|| (item.clone(), has_data));
            newest.1 |= has_data;
            newest.0.last_copy = newest.0.last_copy.max(item.last_copy);
        }
    }
    lost.retain(|path, (_, has_data)| match kept.get(path) {
        None => true,
        Some(kept_data) => *has_data && !kept_data,
    });
    let mut items: Vec<Unprotected> = lost.into_values().map(|(item, _)| item).collect();
    items.sort();
    items
}
