//! A source that lost most of what it held: each copy is small and whole, so that none of them looks
//! wrong by itself.
//!
//! Invariants: what could not be seen or saved, and what a rule leaves out, is not called lost; a
//! loss makes the run incomplete, and `forget` keeps the last point before it.

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::finding::Finding;
use refloat_model::item::{Item, ItemKind};
use refloat_model::outcome::Outcome;
use refloat_model::point::ItemRecord;
use refloat_model::tree_path::TreePath;

use super::plan::{SourcePlan, source_title, title};
use crate::git_export::{Gaps, item_place, kind_id};

/// With fewer of a kind it is everyday work that all of them go.
const ALL_GONE_MIN: u64 = 3;
/// With fewer of a kind it is everyday work that most of them go.
const MOST_GONE_MIN: u64 = 10;
/// The rule of what is there without anything in it.
pub const EMPTY: &str = "empty";
/// Kinds of objects that people make and that stay. Others come and go by themselves: nodes, runs of
/// pipelines, reports.
const LASTING: [&str; 15] = [
    "clusterrolebindings.rbac.authorization.k8s.io",
    "clusterroles.rbac.authorization.k8s.io",
    "configmaps",
    "customresourcedefinitions.apiextensions.k8s.io",
    "daemonsets.apps",
    "deployments.apps",
    "ingresses.networking.k8s.io",
    "object",
    "persistentvolumeclaims",
    "persistentvolumes",
    "rolebindings.rbac.authorization.k8s.io",
    "roles.rbac.authorization.k8s.io",
    "secrets",
    "services",
    "statefulsets.apps",
];

/// What a source lost since `before`, if it is most of all, of a kind, or of a workload or of a kind
/// in it. Objects of a workload that is gone as a whole are not counted.
#[must_use]
pub fn compare(source: &SourcePlan, before: &[ItemRecord], now: &[ItemRecord]) -> Option<Finding> {
    let excuses = Excuses::new(source, now);
    let here: BTreeSet<&str> = now
        .iter()
        .filter_map(|r| r.item.workload.as_deref())
        .collect();
    let counts = |item: &Item| {
        let workload = item.workload.as_deref();
        item.kind != ItemKind::Object || workload.is_none_or(|name| here.contains(name))
    };
    let mut groups: BTreeMap<Group<'_>, Count> = BTreeMap::new();
    let saved = before.iter().filter(|r| r.outcome.is_saved());
    for record in saved.filter(|r| counts(&r.item)) {
        let kept = if excuses.fit(&record.item) {
            weight(record)
        } else {
            0
        };
        for group in groups_of(&record.item) {
            let count = groups.entry(group).or_default();
            count.before += weight(record);
            count.now += kept;
        }
    }
    for record in now.iter().filter(|r| r.outcome.is_saved()) {
        for group in groups_of(&record.item) {
            groups.entry(group).or_default().now += weight(record);
        }
    }
    let lost: Vec<String> = groups
        .into_iter()
        .filter(|(group, count)| count.is_loss() && group.workload.is_none_or(|w| here.contains(w)))
        .map(|(group, count)| format!("{}: {} before, {} now", group.name, count.before, count.now))
        .collect();
    (!lost.is_empty()).then(|| {
        let message = format!(
            "has lost most of what the last recovery point holds ({})",
            lost.join("; ")
        );
        Finding::error(source_title(&source.name), message)
    })
}

/// What is counted together.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Group<'a> {
    name: String,
    /// The workload whose end would be the reason.
    workload: Option<&'a str>,
}

/// How many there were and are.
#[derive(Default)]
struct Count {
    before: u64,
    now: u64,
}

impl Count {
    const fn is_loss(&self) -> bool {
        (self.now == 0 && self.before >= ALL_GONE_MIN)
            || (self.before >= MOST_GONE_MIN && self.now * 2 < self.before)
    }
}

/// The groups that an item counts in; none for what comes and goes.
fn groups_of(item: &Item) -> Vec<Group<'_>> {
    let kind = kind(item);
    let is_lasting = match item.kind {
        ItemKind::Object => LASTING.contains(&kind.as_str()),
        ItemKind::Image | ItemKind::Volume | ItemKind::Bind => true,
        ItemKind::Folder | ItemKind::Project => true,
        ItemKind::Host | ItemKind::Container | ItemKind::Network => false,
        ItemKind::RootFilesystem | ItemKind::Dump => false,
    };
    if !is_lasting {
        return Vec::new();
    }
    let whole = ["all".to_owned(), kind].map(|name| Group {
        name,
        workload: None,
    });
    let workload = item.workload.as_deref();
    let parts = workload.map(|name| [format!("workload {name}"), title(item)]);
    let parts = parts.into_iter().flatten();
    let parts = parts.map(|name| Group { name, workload });
    whole.into_iter().chain(parts).collect()
}

/// `secrets`, `deployments.apps`, or what other items are.
fn kind(item: &Item) -> String {
    let place = item_place(item).unwrap_or_default();
    let parts: Vec<&str> = place.split('/').collect();
    match parts.as_slice() {
        [group, _, resource, ..] => kind_id(group, resource),
        _ => item.kind.word().to_owned(),
    }
}

/// An item of a cluster holds all objects of a kind and namespace.
fn weight(record: &ItemRecord) -> u64 {
    match record.item.kind {
        ItemKind::Object => record.files.max(1),
        _ => 1,
    }
}

/// Why something that was saved is not, without being lost.
struct Excuses<'a> {
    gaps: Gaps,
    /// Neither saved nor empty now: failed, or left out.
    unsaved: BTreeSet<&'a TreePath>,
}

impl<'a> Excuses<'a> {
    fn new(source: &SourcePlan, now: &'a [ItemRecord]) -> Self {
        let unsaved = now.iter().filter(|record| match &record.outcome {
            Outcome::Saved => false,
            Outcome::Skipped { rule, .. } => rule != EMPTY,
            Outcome::Partial { .. } | Outcome::Failed { .. } => true,
        });
        Self {
            gaps: Gaps::of_findings(&source.findings),
            unsaved: unsaved.map(|r| &r.item.path).collect(),
        }
    }

    fn fit(&self, item: &Item) -> bool {
        self.unsaved.contains(&item.path)
            || item_place(item).is_some_and(|place| self.gaps.hides(&place))
    }
}

#[cfg(test)]
mod tests;
