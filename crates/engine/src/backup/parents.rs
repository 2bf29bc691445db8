//! The parent of each item: the newest saved copy of it, under any policy.
//!
//! Invariant: a parent only saves reading; whatever is wrong with one never fails a backup.

use std::collections::{BTreeMap, HashSet};

use refloat_model::finding::Finding;
use refloat_model::point::{ItemRecord, PointRecord};
use refloat_model::time::Timestamp;
use refloat_model::tree_path::TreePath;
use refloat_repository::repair::REPAIRED_TAG;
use refloat_repository::{BlobId, IndexedRepository, Node, SnapshotFile, SnapshotId};

use super::plan::{BackupPlan, SourcePlan, source_title};
use crate::manifest;
use crate::point_list::{TAG, by_age, is_partial};
use crate::stored::StoredTree;

/// How many points are looked through for items that are in none of the newer ones.
const POINTS_SEARCHED_MAX: usize = 1000;

/// The newest saved copy of an item.
#[derive(Clone, Debug)]
pub struct Parent {
    /// Its entry.
    pub node: Node,
    /// Its manifest line.
    pub record: ItemRecord,
    /// When the run began that took it.
    pub time: Timestamp,
}

/// What an unfinished capture left of an item.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its entry.
    pub node: Node,
    /// When its run began.
    pub time: Timestamp,
}

/// What earlier points know of a plan's items.
#[derive(Debug, Default)]
pub struct Parents {
    /// By the item's path.
    pub by_path: BTreeMap<TreePath, Parent>,
    /// Newer than the saved copy: what unfinished captures left of an item.
    pub parts: BTreeMap<TreePath, Part>,
    /// What was found on the way.
    pub findings: Vec<Finding>,
}

/// Looks for the parents of all items that `plan` captures.
#[must_use]
pub fn find(
    repository: &IndexedRepository,
    snapshots: &[(SnapshotId, SnapshotFile)],
    plan: &BackupPlan,
    started: Timestamp,
) -> Parents {
    let mut search = Search {
        wanted: plan
            .sources
            .iter()
            .map(|s| (s.name.as_str(), wanted(s)))
            .collect(),
        seen: HashSet::new(),
        parents: Parents::default(),
    };
    let mut newest_first: Vec<&(SnapshotId, SnapshotFile)> = snapshots
        .iter()
        .filter(|(_, file)| is_partial(file) || file.tags().iter().any(|tag| tag == TAG))
        // What a repair left of a point lacks something, whatever its manifest says.
        .filter(|(_, file)| !file.tags().iter().any(|tag| tag == REPAIRED_TAG))
        .collect();
    // Of one run, what it kept of unfinished items stands beside its point.
    newest_first.sort_by_key(|point| by_age(point, started));
    for (_, file) in newest_first.into_iter().take(POINTS_SEARCHED_MAX) {
        search.wanted.retain(|_, paths| !paths.is_empty());
        if search.wanted.is_empty() {
            break;
        }
        if let Some(root) = file.tree {
            let tree = StoredTree::new(repository.clone(), root);
            search.point(&tree, plan, file.time.instant().into());
        }
    }
    search.parents
}

fn wanted(source: &SourcePlan) -> HashSet<TreePath> {
    source
        .groups
        .iter()
        .flat_map(|g| g.items())
        .map(|i| i.path.clone())
        .collect()
}

struct Search<'a> {
    /// What is still without a parent, by source.
    wanted: BTreeMap<&'a str, HashSet<TreePath>>,
    /// Contents of manifests that were looked through already.
    seen: HashSet<Vec<BlobId>>,
    parents: Parents,
}

impl Search<'_> {
    fn point(&mut self, tree: &StoredTree, plan: &BackupPlan, time: Timestamp) {
        let mut record = None;
        for source in &plan.sources {
            let wanted = self
                .wanted
                .get(source.name.as_str())
                .is_some_and(|w| !w.is_empty());
            let path = manifest::items_path(&source.name);
            let Some(content) = tree.node(&path).ok().flatten().map(|n| n.content.to_vec()) else {
                continue;
            };
            if !wanted || !self.seen.insert(content) {
                continue;
            }
            let record = record.get_or_insert_with(|| manifest::read_record(tree).ok());
            if record
                .as_ref()
                .is_none_or(|record| is_other_system(record, source))
            {
                continue;
            }
            match manifest::read_items(tree, &source.name) {
                Ok(items) => self.items(tree, source, items, time),
                Err(error) => self.parents.findings.push(Finding::warning(
                    source_title(&source.name),
                    format!("the manifest of {time} cannot serve as parent: {error}"),
                )),
            }
        }
    }

    fn items(
        &mut self,
        tree: &StoredTree,
        source: &SourcePlan,
        items: Vec<ItemRecord>,
        time: Timestamp,
    ) {
        let Some(wanted) = self.wanted.get_mut(source.name.as_str()) else {
            return;
        };
        for record in items {
            let path = record.item.path.clone();
            if !wanted.contains(&path) {
                continue;
            }
            if !record.outcome.is_saved() {
                // The newest part counts; it only saves reading, so it need not be whole.
                let is_new =
                    record.outcome.is_incomplete() && !self.parents.parts.contains_key(&path);
                if let Some(node) = tree.node(&path).ok().flatten().filter(|_| is_new) {
                    self.parents.parts.insert(path, Part { node, time });
                }
                continue;
            }
            // An entry that cannot be found or read is no parent; an older one may be.
            if let Ok(Some(node)) = tree.node(&path) {
                wanted.remove(&path);
                self.parents
                    .by_path
                    .insert(path, Parent { node, record, time });
            }
        }
    }
}

/// Whether the name now stands for another system than in an earlier point.
#[must_use]
pub fn is_other_system(record: &PointRecord, source: &SourcePlan) -> bool {
    record
        .sources
        .get(&source.name)
        .is_some_and(|old| old.kind != source.kind || old.identity != source.identity)
}
