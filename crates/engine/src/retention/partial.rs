//! When what a run kept of unfinished items is needed no more.
//!
//! Invariant: a partial snapshot stays while it holds the newest that there is of an item which the
//! newest account of its source still wants and does not have saved.

use refloat_model::time::Timestamp;
use refloat_model::tree_path::TreePath;
use refloat_repository::SnapshotId;
use serde::Serialize;

use super::{Candidate, Coverage, Holding, Holdings};

/// A partial snapshot with what it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartialCandidate {
    /// The record.
    pub snapshot: SnapshotId,
    /// When it was written, which for a checkpoint is in the middle of its run.
    pub time: Timestamp,
    /// When its run began, which is the time of the point that the run may have come to.
    pub started: Timestamp,
    /// What it holds; none if its manifest cannot be read.
    pub holdings: Option<Holdings>,
    /// What its run covered, if its policy does not say.
    pub coverage: Coverage,
}

/// What becomes of a partial snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PartialDecision {
    /// The record.
    pub snapshot: SnapshotId,
    /// When it was written.
    pub time: Timestamp,
    /// Whether nothing needs it, so that it goes.
    pub superseded: bool,
    /// The items it holds parts of.
    pub items: Vec<String>,
}

/// Decides each partial snapshot, oldest first.
#[must_use]
pub fn partials(mut partials: Vec<PartialCandidate>, points: &[Candidate]) -> Vec<PartialDecision> {
    partials.sort_by_key(|partial| (partial.time, partial.snapshot));
    let decide = |(index, partial): (usize, &PartialCandidate)| {
        let newer = partials.get(index + 1..).unwrap_or_default();
        let needed = |(path, item): (&TreePath, &Holding)| {
            !is_in_newer(path, newer) && is_wanted(path, item, partial, points)
        };
        let holdings = partial.holdings.as_ref();
        PartialDecision {
            snapshot: partial.snapshot,
            time: partial.time,
            // What cannot be read now may be readable after a repair: whoever wants it gone drops it
            // by name.
            superseded: holdings.is_some_and(|items| !items.iter().any(needed)),
            items: holdings
                .iter()
                .flat_map(|items| items.values().map(|item| item.title.clone()))
                .collect(),
        }
    };
    partials.iter().enumerate().map(decide).collect()
}

fn is_in_newer(path: &TreePath, newer: &[PartialCandidate]) -> bool {
    let mut newer = newer.iter().filter_map(|partial| partial.holdings.as_ref());
    newer.any(|items| items.contains_key(path))
}

/// Whether the newest point of a run that began when the partial one's did or later, covers as much and tells of the
/// item's source still misses the item.
fn is_wanted(
    path: &TreePath,
    item: &Holding,
    partial: &PartialCandidate,
    points: &[Candidate],
) -> bool {
    let accounts = points
        .iter()
        .filter(|point| point.point.time >= partial.started)
        .filter(|point| point.coverage.includes(&partial.coverage));
    let newest = accounts
        .filter_map(|point| Some((point, point.holdings.as_ref()?)))
        .filter(|(point, items)| {
            // What is missing of a source that was seen in part may be wanted all the same.
            let is_whole = !point.unseen.contains(&item.source);
            let tells = is_whole && items.values().any(|other| other.source == item.source);
            tells || items.contains_key(path)
        })
        .max_by_key(|(point, _)| point.point.time);
    match newest {
        None => true,
        Some((_, items)) => items
            .get(path)
            .is_some_and(|found| found.selected && !found.saved),
    }
}
