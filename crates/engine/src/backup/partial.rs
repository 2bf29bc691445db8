//! What a run keeps of items that it did not finish: a snapshot of its own, which the next run uses
//! as a parent.
//!
//! Invariant: it is no recovery point and carries no tag of one; what it holds of an item may be
//! cut off anywhere between two entries, never within one.

use std::collections::BTreeMap;

use refloat_model::point::{ItemRecord, PointRecord};
use refloat_model::time::Timestamp;
use refloat_repository::archive::Archiver;
use refloat_repository::{BlobId, Node, SnapshotFile};

use super::capture::{Captured, CapturedItem};
use super::plan::BackupPlan;
use super::publish::{self, store_manifests};
use super::run::{BackupError, BackupRun};
use super::skeleton::Skeleton;
use crate::point_list::{TAG_PARTIAL, TAG_POLICY};

/// Unfinished items of a run.
#[derive(Debug, Default)]
pub struct Parts(Vec<(String, ItemRecord, Node)>);

impl Parts {
    /// Entries that somebody made of items, each with its source and its line of the manifest.
    pub const fn of(parts: Vec<(String, ItemRecord, Node)>) -> Self {
        Self(parts)
    }

    /// Takes the parts out of captured items.
    pub fn take(items: &mut [CapturedItem]) -> Self {
        let parts = items.iter_mut().filter_map(|item| {
            let node = item.part.take()?;
            Some((item.source.clone(), item.record.clone(), node))
        });
        Self(parts.collect())
    }

    /// Stores them under one root; none if there are none.
    ///
    /// # Errors
    /// Storage failed.
    pub fn store(
        self,
        plan: &BackupPlan,
        record: &PointRecord,
        archiver: &Archiver,
    ) -> Result<Option<BlobId>, BackupError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let mut skeleton = Skeleton::default();
        let mut by_source: BTreeMap<String, Vec<ItemRecord>> = BTreeMap::new();
        for (source, record, node) in self.0 {
            let path = record.item.path.clone();
            if skeleton.insert(&path, node).is_ok() {
                by_source.entry(source).or_default().push(record);
            }
        }
        for records in by_source.values_mut() {
            records.sort_by(|a, b| a.item.path.cmp(&b.item.path));
        }
        store_manifests(plan, &by_source, record, archiver, &mut skeleton)?;
        Ok(Some(skeleton.store(archiver)?))
    }
}

/// Keeps the parts of a run that comes to no recovery point.
///
/// # Errors
/// Storage failed, or the lock was lost.
pub fn keep(
    run: &BackupRun<'_>,
    plan: &BackupPlan,
    mut captured: Captured,
    archiver: &mut Archiver,
    started: Timestamp,
) -> Result<(), BackupError> {
    let parts = Parts::take(&mut captured.items);
    let record = publish::record(run, plan, &BTreeMap::new(), captured.findings, started);
    let root = parts.store(plan, &record, archiver)?;
    if let Some(root) = root {
        let archived = archiver.complete()?;
        archived.publish(run.lock, &snapshot(run, plan, root, started))?;
    }
    Ok(())
}

/// The record of a partial snapshot.
pub fn snapshot(
    run: &BackupRun<'_>,
    plan: &BackupPlan,
    root: BlobId,
    started: Timestamp,
) -> SnapshotFile {
    let tags = vec![
        TAG_PARTIAL.to_owned(),
        format!("{TAG_POLICY}:{}", run.policy.name),
    ];
    SnapshotFile {
        tags: Some(tags),
        ..publish::bare_snapshot(run, plan, root, started)
    }
}
