//! Points whose time is later than that of the run which makes the next one.
//!
//! Invariant: a run that does not become the newest point of its policy and host is not complete: `latest`
//! would bring back older data, and `forget` would drop the new data first.

use refloat_model::finding::Finding;
use refloat_model::time::Timestamp;
use refloat_repository::{SnapshotFile, SnapshotId};

use super::plan::policy_title;
use super::run::BackupRun;
use crate::point_list::{PointSummary, is_ahead, summaries};

/// What a person must know of the clocks, ours and those of earlier runs.
pub fn compare(
    run: &BackupRun<'_>,
    snapshots: &[(SnapshotId, SnapshotFile)],
    started: Timestamp,
) -> Vec<Finding> {
    let points = summaries(snapshots);
    let ahead = points.iter().filter(|p| is_ahead(p.time, started));
    let (own, others): (Vec<_>, Vec<_>) =
        ahead.filter(|point| point.id.is_some()).partition(|point| {
            point.policy.as_deref() == Some(&run.policy.name) && point.host == run.options.host
        });
    let newest = |points: Vec<&PointSummary>| points.into_iter().max_by_key(|p| p.time).cloned();
    let mut findings = Vec::new();
    if let Some(point) = newest(own) {
        let message = format!(
            "this run began at {started} and the point {} is of {}, later than that: the clock of \
             one of them is wrong, and the newest point is not the newest data",
            point.short(),
            point.time
        );
        findings.push(Finding::error(policy_title(&run.policy.name), message));
    }
    if let Some(point) = newest(others) {
        let message = format!(
            "is of {}, and this run began at {started}: the clock of one of them is wrong",
            point.time
        );
        findings.push(Finding::warning(
            format!("point {}", point.short()),
            message,
        ));
    }
    findings
}
