//! From a repository to a plan of what to forget, and doing it.
//!
//! Guarantees: only snapshot records are deleted; data goes with the next prune.
//!
//! Crash behaviour: each record is deleted on its own; repeating the command does the rest.

use std::collections::BTreeSet;

use refloat_model::cancel::Cancel;
use refloat_model::finding::Severity;
use refloat_model::point::PointRecord;
use refloat_repository::forget::{ForgetOutcome, forget};
use refloat_repository::lock::Lock;
use refloat_repository::repair::REPAIRED_TAG;
use refloat_repository::{IndexedRepository, RepositoryError, SnapshotId};

use super::{Candidate, Coverage, ForgetPlan, Holding, Holdings, PartialCandidate};
use crate::backup::{is_compared, source_title, title};
use crate::git_export::Gaps;
use crate::manifest;
use crate::point_list::{PointSummary, is_partial};
use crate::stored::StoredTree;

/// Every point with what it holds.
///
/// # Errors
/// The list of points cannot be read, or the run was cancelled.
pub fn load(
    repository: &IndexedRepository,
    cancel: &Cancel,
) -> Result<Vec<Candidate>, RepositoryError> {
    let mut candidates = Vec::new();
    for (id, file) in repository.snapshots()?.snapshots {
        cancel.check()?;
        if is_partial(&file) {
            continue;
        }
        let point = PointSummary::of(id, &file);
        let tree = file
            .tree
            .map(|root| StoredTree::new(repository.clone(), root));
        let mut candidate = Candidate {
            coverage: Coverage::of_snapshot(&point),
            point,
            holdings: None,
            unseen: BTreeSet::new(),
            emptied: BTreeSet::new(),
            is_repaired: file.tags().iter().any(|tag| tag == REPAIRED_TAG),
        };
        if let Some(tree) = tree.filter(|_| candidate.point.id.is_some()) {
            candidate.read(&tree);
        }
        candidates.push(candidate);
    }
    Ok(candidates)
}

impl Candidate {
    /// Adds what the manifest says; nothing if it cannot be read.
    fn read(&mut self, tree: &StoredTree) {
        let Ok(record) = manifest::read_record(tree) else {
            return;
        };
        let Some(mut holdings) = holdings(tree, &record) else {
            return;
        };
        if self.is_repaired {
            // The manifest is of before the repair: nobody can tell what of it is still whole.
            let all = holdings.values_mut();
            all.for_each(|holding| holding.suspicious |= holding.saved);
        }
        self.coverage = Coverage::of(&record, &holdings);
        self.holdings = Some(holdings);
        let (names, accused) = (record.sources.keys(), accused(&record));
        let unseen = names.clone();
        let unseen = unseen.filter(|name| !Gaps::of_point(&record, name).is_empty());
        self.unseen = unseen.cloned().collect();
        let emptied = names.filter(|name| accused.contains(source_title(name).as_str()));
        self.emptied = emptied.cloned().collect();
    }
}

/// Every partial snapshot with what it holds.
///
/// # Errors
/// The list of snapshots cannot be read, or the run was cancelled.
pub fn load_partials(
    repository: &IndexedRepository,
    cancel: &Cancel,
) -> Result<Vec<PartialCandidate>, RepositoryError> {
    let mut partials = Vec::new();
    for (snapshot, file) in repository.snapshots()?.snapshots {
        cancel.check()?;
        if is_partial(&file) {
            let root = file.tree;
            let tree = root.map(|root| StoredTree::new(repository.clone(), root));
            let time = file.time.instant().into();
            let read = tree.and_then(|tree| {
                let record = manifest::read_record(&tree).ok()?;
                let holdings = holdings(&tree, &record)?;
                let coverage = Coverage::of(&record, &holdings);
                Some((record.started, (coverage, holdings)))
            });
            let (started, read) = read.unzip();
            let (coverage, holdings) = read.unzip();
            partials.push(PartialCandidate {
                snapshot,
                time,
                started: started.unwrap_or(time),
                holdings,
                coverage: coverage.unwrap_or_default(),
            });
        }
    }
    Ok(partials)
}

/// None if a manifest cannot be read.
fn holdings(tree: &StoredTree, record: &PointRecord) -> Option<Holdings> {
    let accused = accused(record);
    let mut holdings = Holdings::new();
    for source in record.sources.keys() {
        let items = manifest::read_items(tree, source).ok()?;
        holdings.extend(items.iter().map(|item| {
            let (path, holding) = Holding::of(source, item);
            // A saved copy that the backup called wrong was suspicious. What it says of definitions is
            // of hooks and holds that failed, every night perhaps, and not of their copies.
            let suspicious = holding.saved
                && (is_compared(item.item.kind) || !item.outcome.is_saved())
                && accused.contains(&title(&item.item).as_str());
            (
                path,
                Holding {
                    suspicious,
                    ..holding
                },
            )
        }));
    }
    Some(holdings)
}

/// What the backup called wrong.
fn accused(record: &PointRecord) -> BTreeSet<&str> {
    let errors = record.findings.iter();
    let errors = errors.filter(|finding| finding.severity == Severity::Error);
    errors.map(|finding| finding.subject.as_str()).collect()
}

/// Deletes the records of the points that the plan drops and of superseded partial snapshots, and gives those that storage keeps
/// (append-only, object lock).
///
/// # Errors
/// Storage failed, the lock was lost, or the run was cancelled. What was deleted by then stays
/// deleted.
pub fn execute(
    repository: &IndexedRepository,
    lock: &Lock,
    plan: &ForgetPlan,
    cancel: &Cancel,
) -> Result<Vec<SnapshotId>, RepositoryError> {
    cancel.check()?;
    let superseded = plan.superseded().map(|partial| partial.snapshot);
    let dropped = plan.dropped().map(|point| point.snapshot);
    let dropped: Vec<SnapshotId> = dropped.chain(superseded).collect();
    let outcomes = forget(repository, lock, &dropped)?;
    let kept = outcomes
        .into_iter()
        .filter(|(_, outcome)| *outcome == ForgetOutcome::Kept);
    Ok(kept.map(|(snapshot, _)| snapshot).collect())
}
