//! From captured items to one published recovery point.
//!
//! Invariant: the snapshot is the last thing written; what failed is named in it.

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::entry::{Entry, TreeSink as _};
use refloat_model::finding::{Finding, Severity};
use refloat_model::point::{ItemRecord, PointRecord, RECORD_VERSION, SourceRecord};
use refloat_model::time::Timestamp;
use refloat_model::tree_path::TreePath;
use refloat_repository::archive::{Added, Archiver};
use refloat_repository::format::snapshot::SnapshotSummary;
use refloat_repository::{BlobId, SnapshotFile, SnapshotId};

use super::capture::{Captured, CapturedItem};
use super::clocks;
use super::closure;
use super::history;
use super::partial::{self, Parts};
use super::plan::{BackupPlan, Group, SourcePlan, policy_title};
use super::run::{BackupError, BackupReport, BackupRun, Figures, ItemReport};
use super::skeleton::Skeleton;
use crate::manifest::{
    ITEMS_FILE, MANIFEST_DIRECTORY, PLACEMENTS_FILE, RECORD_FILE, to_lines, to_record_file,
};
use crate::point_list::{AD_HOC_POLICY, FILES, TAG, TAG_INCOMPLETE, TAG_POINT, TAG_POLICY};

/// How many findings the summary holds; the worst first.
const FINDINGS_MAX: usize = 1000;
/// How many subjects of a source's errors it holds. A cluster serves some hundred kinds.
const ERRORS_MAX: usize = 2000;

/// A point whose trees are made.
pub struct Prepared {
    record: PointRecord,
    by_source: BTreeMap<String, Vec<ItemRecord>>,
    figures: Figures,
    parent: Option<SnapshotId>,
    root: BlobId,
    /// The root of what is kept of unfinished items.
    parts: Option<BlobId>,
}

/// Writes manifests and directories.
pub fn prepare(
    run: &BackupRun<'_>,
    plan: &BackupPlan,
    captured: Captured,
    archiver: &Archiver,
    snapshots: &[(SnapshotId, SnapshotFile)],
    started: Timestamp,
) -> Result<Prepared, BackupError> {
    run.progress.phase("writing the recovery point");
    let Captured {
        mut items,
        mut findings,
        figures,
    } = captured;
    let parts = Parts::take(&mut items);
    let previous = history::previous(run, plan, snapshots, started);
    let mut skeleton = Skeleton::default();
    for CapturedItem { record, node, .. } in &mut items {
        if let Some(Err(_second)) = node
            .take()
            .map(|node| skeleton.insert(&record.item.path, node))
        {
            record.outcome = refloat_model::outcome::Outcome::Failed {
                reason: format!("its place {} is taken by another item", record.item.path),
            };
        }
    }
    let by_source = manifests(plan, items);
    findings.extend(plan.sources.iter().flat_map(|s| s.findings.clone()));
    findings.extend(history::compare(run, &previous, plan, &by_source));
    findings.extend(clocks::compare(run, snapshots, started));
    let record = record(run, plan, &by_source, findings, started);
    store_manifests(plan, &by_source, &record, archiver, &mut skeleton)?;
    Ok(Prepared {
        figures,
        parent: previous.first().map(|(id, _)| *id),
        root: skeleton.store(archiver)?,
        parts: parts.store(plan, &record, archiver)?,
        record,
        by_source,
    })
}

impl Prepared {
    /// Writes the snapshots, once everything that they need is stored.
    pub fn publish(
        self,
        run: &BackupRun<'_>,
        plan: &BackupPlan,
        archiver: &mut Archiver,
    ) -> Result<BackupReport, BackupError> {
        let Self {
            record,
            by_source,
            mut figures,
            parent,
            root,
            parts,
        } = self;
        let started = record.started;
        let archived = archiver.complete()?;
        if let Some(root) = parts {
            archived.publish(run.lock, &partial::snapshot(run, plan, root, started))?;
        }
        let length = (run.now)().to_jiff().duration_since(started.to_jiff());
        // Of a clock that was set back meanwhile it is negative, and told as none.
        figures.set(
            archived.added(),
            std::time::Duration::try_from(length).unwrap_or_default(),
        );
        let file = snapshot(run, plan, root, parent, &record, figures, archived.added());
        let snapshot = archived.publish(run.lock, &file)?;
        let items = by_source.into_iter().flat_map(|(source, records)| {
            records.into_iter().map(move |record| ItemReport {
                source: source.clone(),
                record,
            })
        });
        Ok(BackupReport {
            snapshot,
            record,
            items: items.collect(),
            figures,
        })
    }
}

/// Every item of every source, captured or settled beforehand, sorted by path.
fn manifests(plan: &BackupPlan, items: Vec<CapturedItem>) -> BTreeMap<String, Vec<ItemRecord>> {
    let mut by_source: BTreeMap<String, Vec<ItemRecord>> = plan
        .sources
        .iter()
        .map(|s| (s.name.clone(), settled(s)))
        .collect();
    for item in items {
        by_source.entry(item.source).or_default().push(item.record);
    }
    for records in by_source.values_mut() {
        records.sort_by(|a, b| a.item.path.cmp(&b.item.path));
    }
    by_source
}

fn settled(source: &SourcePlan) -> Vec<ItemRecord> {
    let record = |(item, outcome): &(_, refloat_model::outcome::Outcome)| ItemRecord {
        item: refloat_model::item::Item::clone(item),
        outcome: outcome.clone(),
        consistency: None,
        files: 0,
        bytes: 0,
    };
    source.settled.iter().map(record).collect()
}

pub(super) fn record(
    run: &BackupRun<'_>,
    plan: &BackupPlan,
    by_source: &BTreeMap<String, Vec<ItemRecord>>,
    mut findings: Vec<Finding>,
    started: Timestamp,
) -> PointRecord {
    let finished = (run.now)();
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    for record in by_source.values().flatten() {
        *outcomes
            .entry(record.outcome.word().to_owned())
            .or_default() += 1;
    }
    let unique: BTreeSet<Finding> = findings.drain(..).collect();
    let mut findings: Vec<Finding> = unique.into_iter().collect();
    findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    findings.truncate(FINDINGS_MAX);
    let source_record = |source: &SourcePlan| SourceRecord {
        kind: source.kind.clone(),
        address: source.address.clone(),
        identity: source.identity.clone(),
        versions: source.versions.clone(),
        errors: Some(errors(source, &run.policy.name)),
    };
    PointRecord {
        version: RECORD_VERSION,
        id: run.options.point,
        policy: run.policy.name.clone(),
        run: run.options.run,
        started,
        finished,
        program: run.options.program.clone(),
        sources: plan
            .sources
            .iter()
            .map(|s| (s.name.clone(), source_record(s)))
            .collect(),
        outcomes,
        closure: closure::close_all(plan, by_source, &run.policy.waivers, finished),
        findings,
    }
}

/// What a source's errors are about, whichever of them the summary has room for. What the policy
/// wants and the source does not have hides nothing of the source.
fn errors(source: &SourcePlan, policy: &str) -> BTreeSet<String> {
    let errors = source.findings.iter();
    let errors = errors.filter(|finding| {
        finding.severity == Severity::Error && finding.subject != policy_title(policy)
    });
    let subjects: BTreeSet<&String> = errors.map(|finding| &finding.subject).collect();
    subjects.into_iter().take(ERRORS_MAX).cloned().collect()
}

/// Whether everything that the point should hold is in it: the difference between exit code 0
/// and 3.
#[must_use]
pub fn is_complete(record: &PointRecord) -> bool {
    let none = |word: &str| record.outcomes.get(word).is_none_or(|count| *count == 0);
    none("failed")
        && none("partial")
        && record
            .closure
            .iter()
            .all(refloat_model::closure::WorkloadClosure::is_closed)
        && !record
            .findings
            .iter()
            .any(|f| f.severity == Severity::Error)
}

pub(super) fn store_manifests(
    plan: &BackupPlan,
    by_source: &BTreeMap<String, Vec<ItemRecord>>,
    record: &PointRecord,
    archiver: &Archiver,
    skeleton: &mut Skeleton,
) -> Result<(), BackupError> {
    let manifest = TreePath::root().child(MANIFEST_DIRECTORY);
    let mut files = vec![(TreePath::root().child(RECORD_FILE), to_record_file(record)?)];
    for source in &plan.sources {
        let directory = manifest.child(&source.name);
        let items = by_source
            .get(&source.name)
            .map(Vec::as_slice)
            .unwrap_or_default();
        files.push((directory.child(ITEMS_FILE), to_lines("a manifest", items)?));
        files.push((
            directory.child(PLACEMENTS_FILE),
            to_lines("placements", &source.placements)?,
        ));
    }
    for (path, bytes) in files {
        store_file(archiver, skeleton, &path, &bytes)?;
    }
    Ok(())
}

fn store_file(
    archiver: &Archiver,
    skeleton: &mut Skeleton,
    path: &TreePath,
    bytes: &[u8],
) -> Result<(), BackupError> {
    let mut builder = archiver.tree(Vec::new());
    let name = path.name().unwrap_or_default();
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let entry = Entry::synthetic_file(name, size);
    builder.stream(entry, &mut &*bytes)?;
    for node in builder.finish()?.nodes {
        // Items cannot lie here: adapters write below their kind's directory.
        drop(skeleton.insert(path, node));
    }
    Ok(())
}

fn snapshot(
    run: &BackupRun<'_>,
    plan: &BackupPlan,
    root: BlobId,
    parent: Option<SnapshotId>,
    record: &PointRecord,
    figures: Figures,
    added: Added,
) -> SnapshotFile {
    let mut tags = vec![
        TAG.to_owned(),
        format!("{TAG_POINT}:{}", record.id),
        format!("{TAG_POLICY}:{}", record.policy),
    ];
    if !is_complete(record) {
        tags.push(TAG_INCOMPLETE.to_owned());
    }
    tags.extend(run.options.tags.iter().cloned());
    SnapshotFile {
        parent,
        tags: Some(tags),
        summary: Some(SnapshotSummary {
            backup_start: record.started.to_string(),
            backup_end: (run.now)().to_string(),
            files_new: figures.files_new,
            files_changed: figures.files_changed,
            files_unmodified: figures.files_unchanged,
            data_blobs: added.data_blobs,
            tree_blobs: added.tree_blobs,
            data_added: added.plaintext_bytes,
            data_added_packed: added.packed_bytes,
            total_files_processed: figures.files_new
                + figures.files_changed
                + figures.files_unchanged,
            total_bytes_processed: figures.bytes_total,
            ..SnapshotSummary::default()
        }),
        ..bare_snapshot(run, plan, root, record.started)
    }
}

/// What the records of a run have in common: no tags, no parent, no figures.
pub(super) fn bare_snapshot(
    run: &BackupRun<'_>,
    plan: &BackupPlan,
    root: BlobId,
    started: Timestamp,
) -> SnapshotFile {
    SnapshotFile {
        time: started.to_jiff().into(),
        parent: None,
        tree: Some(root),
        paths: paths(plan, &run.policy.name),
        hostname: run.options.host.clone(),
        username: String::new(),
        uid: 0,
        gid: 0,
        excludes: None,
        tags: None,
        original: None,
        program_version: Some(run.options.program.clone()),
        summary: None,
        unknown: serde_json::Map::new(),
    }
}

/// What a snapshot covers, as restic groups snapshots by it: the same for each run of a policy, and each folder of a
/// run that was told its sources on the command line.
pub(super) fn paths(plan: &BackupPlan, policy: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for source in &plan.sources {
        if policy == AD_HOC_POLICY && source.kind == FILES {
            let settled = source.settled.iter().map(|(item, _)| item);
            let items = source.groups.iter().flat_map(Group::items).chain(settled);
            paths.extend(items.map(|item| item.path.to_string()));
        } else {
            paths.push(format!("/{}/{}", source.kind, source.name));
        }
    }
    paths.sort();
    paths
}
