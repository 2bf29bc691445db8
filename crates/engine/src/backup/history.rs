//! Comparing a run with the point before it.
//!
//! Invariant: what cannot be compared is no failure of the run.

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::point::ItemRecord;
use refloat_model::time::Timestamp;
use refloat_repository::{SnapshotFile, SnapshotId};

use super::losses;
use super::parents::is_other_system;
use super::plan::{BackupPlan, source_title, title};
use super::publish::paths;
use super::run::BackupRun;
use crate::manifest;
use crate::point_list::{AD_HOC_POLICY, TAG_POLICY, is_ahead, is_partial};
use crate::stored::StoredTree;

/// The newest point of the same policy and host; for a run that was told its sources on the command line, of those
/// that cover the same. One of the future counts only if there is no other.
pub fn previous(
    run: &BackupRun<'_>,
    plan: &BackupPlan,
    snapshots: &[(SnapshotId, SnapshotFile)],
    started: Timestamp,
) -> Option<(SnapshotId, StoredTree)> {
    let paths = (run.policy.name == AD_HOC_POLICY).then(|| paths(plan, AD_HOC_POLICY));
    let newest = snapshots
        .iter()
        .filter(|(_, file)| {
            !is_partial(file)
                && file.tag_value(TAG_POLICY) == Some(&run.policy.name)
                && file.hostname == run.options.host
                && paths.as_ref().is_none_or(|paths| file.paths == *paths)
        })
        .max_by_key(|(id, file)| {
            let time = file.time.instant();
            (!is_ahead(time.into(), started), time, *id)
        });
    let (id, file) = newest?;
    Some((*id, StoredTree::new(run.repository.clone(), file.tree?)))
}

/// What changed since the point before that a person should know: data that is no longer there, a
/// source that lost most of what it held, and a name that stands for another system now.
pub fn compare(
    run: &BackupRun<'_>,
    previous: Option<&(SnapshotId, StoredTree)>,
    plan: &BackupPlan,
    now: &BTreeMap<String, Vec<ItemRecord>>,
) -> Vec<Finding> {
    let Some((_, tree)) = previous else {
        return Vec::new();
    };
    let Ok(record) = manifest::read_record(tree) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for source in &plan.sources {
        if run.cancel.is_cancelled() {
            break;
        }
        if is_other_system(&record, source) {
            findings.push(Finding::warning(
                source_title(&source.name),
                "is another system than in the last recovery point; nothing of that was taken \
                 as parent",
            ));
            continue;
        }
        let Ok(items) = manifest::read_items(tree, &source.name) else {
            continue;
        };
        let now = now.get(&source.name).map_or(&[][..], Vec::as_slice);
        findings.extend(losses::compare(source, &items, now));
        let present: BTreeSet<_> = now.iter().map(|r| &r.item.path).collect();
        let gone = items
            .iter()
            .filter(|r| r.outcome.is_saved() && holds_data(r.item.kind))
            .filter(|r| !present.contains(&r.item.path));
        findings.extend(gone.map(|r| {
            let message = "was saved in the last recovery point and is no longer there";
            Finding::warning(title(&r.item), message)
        }));
    }
    findings
}

const fn holds_data(kind: ItemKind) -> bool {
    matches!(
        kind,
        ItemKind::Volume | ItemKind::Bind | ItemKind::Dump | ItemKind::Folder
    )
}
