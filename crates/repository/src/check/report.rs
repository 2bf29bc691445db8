//! What a check reports.
//!
//! Invariant: a path is in the report if and only if it cannot be restored as it was, up to a
//! bound that is told.

use refloat_model::tree_path::TreePath;
use serde::Serialize;

use super::finding::CheckFinding;
use super::lost::Located;
use crate::id::SnapshotId;

/// The outcome of a check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CheckReport {
    /// Everything found, sorted.
    pub findings: Vec<CheckFinding>,
    /// What cannot be restored because of it, by snapshot and path.
    pub lost: Vec<LostPath>,
    /// Whether there are more lost paths than the 100,000 that are listed.
    pub lost_is_cut: bool,
    /// What was looked at.
    pub counts: CheckCounts,
}

/// A path that cannot be restored as it was.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct LostPath {
    /// In which snapshot.
    pub snapshot: SnapshotId,
    /// Which.
    pub path: TreePath,
    /// What of it.
    pub entry: LostEntry,
}

/// What is lost under a path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LostEntry {
    /// A file's content, in part or in whole.
    File,
    /// A directory with everything below it.
    Directory,
}

/// What a check looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct CheckCounts {
    /// Snapshots that can be read.
    pub snapshots: u64,
    /// Index files that can be read.
    pub index_files: u64,
    /// Packs that an index names.
    pub packs: u64,
    /// Places of blobs that an index names.
    pub blobs: u64,
    /// Different trees.
    pub trees: u64,
    /// Size of all packs that are there, in bytes.
    pub bytes_listed: u64,
    /// Bytes of packs that were read and verified.
    pub bytes_read: u64,
}

impl CheckReport {
    pub(super) fn new(
        mut findings: Vec<CheckFinding>,
        located: Located,
        counts: CheckCounts,
    ) -> Self {
        findings.sort();
        findings.dedup();
        Self {
            findings,
            lost: located.paths,
            lost_is_cut: located.is_cut,
            counts,
        }
    }

    /// Whether nothing is lost or damaged; remarks do not count.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.findings.iter().all(CheckFinding::is_remark)
    }

    /// What is lost or damaged.
    pub fn errors(&self) -> impl Iterator<Item = &CheckFinding> {
        self.findings.iter().filter(|finding| !finding.is_remark())
    }

    /// Waste that the next prune removes.
    pub fn remarks(&self) -> impl Iterator<Item = &CheckFinding> {
        self.findings.iter().filter(|finding| finding.is_remark())
    }
}
