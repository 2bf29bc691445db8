//! Comparing a run with the point before it.
//!
//! Invariant: what cannot be compared is no failure of the run.

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::finding::Finding;
use refloat_model::item::{Item, ItemKind};
use refloat_model::outcome::Outcome;
use refloat_model::point::{ItemRecord, PointRecord};
use refloat_model::time::Timestamp;
use refloat_model::tree_path::TreePath;
use refloat_repository::archive::TreeStatistics;
use refloat_repository::{SnapshotFile, SnapshotId};

use super::anomaly;
use super::losses::{self, EMPTY};
use super::parents::is_other_system;
use super::plan::{BackupPlan, SourcePlan, source_title, title};
use super::publish::paths;
use super::run::BackupRun;
use crate::git_export::{Gaps, item_place};
use crate::manifest;
use crate::point_list::{AD_HOC_POLICY, TAG_POLICY, by_age, is_partial};
use crate::stored::StoredTree;

/// How many points back what could not be seen since is looked for.
const POINTS_MAX: usize = 5;

/// The newest points of the same policy and host, the newest first; for a run that was told its sources on the
/// command line, of those that cover the same. Those of the future come last.
pub fn previous(
    run: &BackupRun<'_>,
    plan: &BackupPlan,
    snapshots: &[(SnapshotId, SnapshotFile)],
    started: Timestamp,
) -> Vec<(SnapshotId, StoredTree)> {
    let paths = (run.policy.name == AD_HOC_POLICY).then(|| paths(plan, AD_HOC_POLICY));
    let mut points: Vec<_> = snapshots
        .iter()
        .filter(|(_, file)| {
            !is_partial(file)
                && file.tag_value(TAG_POLICY) == Some(&run.policy.name)
                && file.hostname == run.options.host
                && paths.as_ref().is_none_or(|paths| file.paths == *paths)
        })
        .collect();
    points.sort_by_key(|point| by_age(point, started));
    let trees = points.into_iter().map_while(|(id, file)| {
        let tree = StoredTree::new(run.repository.clone(), file.tree?);
        Some((*id, tree))
    });
    trees.take(POINTS_MAX).collect()
}

/// What changed since the point before that a person should know: data that is no longer there, a
/// source that lost most of what it held, and a name that stands for another system now.
pub fn compare(
    run: &BackupRun<'_>,
    previous: &[(SnapshotId, StoredTree)],
    plan: &BackupPlan,
    now: &BTreeMap<String, Vec<ItemRecord>>,
) -> Vec<Finding> {
    let records = previous.iter().map_while(|(_, tree)| {
        let record = manifest::read_record(tree).ok()?;
        Some((record, tree))
    });
    let points: Vec<_> = records.collect();
    let mut findings = Vec::new();
    for source in &plan.sources {
        if run.cancel.is_cancelled() {
            break;
        }
        let holds = |(record, _): &&(PointRecord, _)| record.sources.contains_key(&source.name);
        let Some((newest, tree)) = points.iter().find(holds) else {
            continue;
        };
        let now = now.get(&source.name).map_or(&[][..], Vec::as_slice);
        let is_other = is_other_system(newest, source);
        let items = if is_other {
            // Begun anew, it may be empty, and rotate out what the other one had.
            // What cannot be read is no failure of this run.
            manifest::read_items(tree, &source.name).unwrap_or_default()
        } else {
            seen(points.iter().filter(holds), source)
        };
        findings.extend(losses::compare(source, &items, now));
        let before: BTreeMap<&TreePath, &ItemRecord> =
            items.iter().map(|old| (&old.item.path, old)).collect();
        for record in now {
            let Some(old) = before.get(&record.item.path) else {
                continue;
            };
            findings.extend(thinned(old, record));
            if is_other {
                // Of one system the capture has done that, with all that it counted.
                let uncounted = TreeStatistics::default();
                findings.extend(anomaly::compare(record, old, newest.started, &uncounted));
            }
        }
        let present: BTreeSet<_> = now.iter().map(|r| &r.item.path).collect();
        let gone = items
            .iter()
            .filter(|r| r.outcome.is_saved() && holds_data(r.item.kind))
            .filter(|r| !present.contains(&r.item.path));
        if is_other {
            // Each engine makes up names of its own.
            let named = gone
                .clone()
                .filter(|r| !r.item.title.ends_with("(anonymous)"));
            findings.push(other_system(source, named.count()));
        }
        findings.extend(gone.map(|r| {
            let message = "was saved in the last recovery point and is no longer there";
            Finding::warning(title(&r.item), message)
        }));
    }
    findings
}

/// What to say of a system that is another than before: one that was brought back holds what the one
/// before did, one that was begun anew does not, and what that had must not age out.
fn other_system(source: &SourcePlan, missing: usize) -> Finding {
    let subject = source_title(&source.name);
    let what = "is another system than in the last recovery point";
    match missing {
        0 => Finding::warning(
            subject,
            format!("{what}; nothing of that was taken as parent"),
        ),
        count => Finding::error(
            subject,
            format!(
                "{what}, and {count} of the items with data that that had are not there: they are kept \
                 until forget --accept-changes"
            ),
        ),
    }
}

/// What is suspicious about an item whose copies are not compared by their bytes: it has nothing in it any
/// more, or an image repository less than half of its images.
fn thinned(old: &ItemRecord, new: &ItemRecord) -> Option<Finding> {
    if !old.outcome.is_saved() || !old.has_data() {
        return None;
    }
    let (before, left) = (images(&old.item), images(&new.item));
    let message = match &new.outcome {
        Outcome::Skipped { rule, .. } if rule == EMPTY => {
            format!("is empty now; the last copy held {} bytes", old.bytes)
        }
        Outcome::Saved
            if new.item.kind == ItemKind::Image && before >= IMAGES_MIN && left < before / 2 =>
        {
            format!("has {left} images now; the last copy held {before}")
        }
        _ => return None,
    };
    Some(Finding::error(title(&new.item), message))
}

/// How many images an item has: some have several names.
fn images(item: &Item) -> usize {
    let names = item.provides.iter().map(|subject| subject.name.as_str());
    let contents = names.map(|name| name.rsplit_once('@').map_or(name, |(_, digest)| digest));
    contents.collect::<BTreeSet<&str>>().len()
}

/// With fewer images in a repository it is everyday work that most of them go.
const IMAGES_MIN: usize = 10;

/// What the newest point holds of a source, and the points before it of what could not be seen or
/// saved since: else what is lost after such a run would be compared with nothing.
fn seen<'a>(
    newest_first: impl Iterator<Item = &'a (PointRecord, &'a StoredTree)>,
    source: &SourcePlan,
) -> Vec<ItemRecord> {
    let mut seen: Vec<ItemRecord> = Vec::new();
    let mut saved: BTreeSet<TreePath> = BTreeSet::new();
    let mut unseen: Vec<Gaps> = Vec::new();
    for (record, tree) in newest_first {
        if unseen.iter().any(Gaps::is_empty) || is_other_system(record, source) {
            break;
        }
        let Ok(items) = manifest::read_items(tree, &source.name) else {
            break;
        };
        let mut gaps = Gaps::of_point(record, &source.name);
        let is_news = |item: &ItemRecord| {
            let place = item_place(&item.item).unwrap_or_default();
            unseen.iter().all(|gaps| gaps.hides(&place)) && !saved.contains(&item.item.path)
        };
        for item in items {
            gaps.add(&item.item, &item.outcome);
            if is_news(&item) {
                seen.push(item);
            }
        }
        let whole = seen.iter().filter(|item| item.outcome.is_saved());
        saved = whole.map(|item| item.item.path.clone()).collect();
        unseen.push(gaps);
    }
    seen
}

const fn holds_data(kind: ItemKind) -> bool {
    matches!(
        kind,
        ItemKind::Volume | ItemKind::Bind | ItemKind::Dump | ItemKind::Folder
    )
}
