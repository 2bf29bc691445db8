//! What a run captures, in which groups, and what it leaves out by which rule.
//!
//! Invariant: the plan is a pure function of inventories and policy, and holds every item of
//! every inventory exactly once.

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::closure::Waiver;
use refloat_model::finding::Finding;
use refloat_model::glob::Glob;
use refloat_model::item::{ImageUse, Inventory, Item, ItemKind, Placement, Workload};
use refloat_model::outcome::Outcome;
use refloat_model::subject::Subject;
use refloat_model::tree_path::TreePath;

/// The rule of items outside a policy's selection.
const NOT_SELECTED: &str = "not-selected";

/// What a policy wants of the estate.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BackupPolicy {
    /// Its name.
    pub name: String,
    /// Sources, whole or in part.
    pub select: Vec<Selection>,
    /// References that need not be captured.
    pub waivers: Vec<Waiver>,
}

/// A source, or part of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selection {
    /// The source's name.
    pub source: String,
    /// Patterns of workloads; empty means all, and what belongs to no workload too.
    pub workloads: Vec<Glob>,
}

/// A source as discovery found it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Discovered {
    /// The configured name.
    pub name: String,
    /// `docker`, `files` …
    pub kind: String,
    /// The address without credentials.
    pub address: String,
    /// What it holds.
    pub inventory: Inventory,
}

/// Everything a run will do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BackupPlan {
    /// By source.
    pub sources: Vec<SourcePlan>,
}

/// What a run will do with one source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourcePlan {
    /// The configured name.
    pub name: String,
    /// `docker`, `files` …
    pub kind: String,
    /// The address without credentials.
    pub address: String,
    /// The system's own identity.
    pub identity: String,
    /// Versions of the system and its parts.
    pub versions: BTreeMap<String, String>,
    /// What is captured, by workload; the last group is what belongs to none.
    pub groups: Vec<Group>,
    /// What is not captured, each with its outcome.
    pub settled: Vec<(Item, Outcome)>,
    /// What ran where.
    pub placements: Vec<Placement>,
    /// The images that workloads are made from.
    pub images: Vec<ImageUse>,
    /// What discovery found worth telling.
    pub findings: Vec<Finding>,
}

/// Items that are captured together, with one workload held consistent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// The workload; none for what belongs to the source as such.
    pub workload: Option<Workload>,
    /// Whether the policy names it: false if only things of it are captured that another
    /// workload needs.
    pub selected: bool,
    /// What the application itself writes out: captured while it runs.
    pub running: Vec<Item>,
    /// What changes under an application's hands: captured while it is held.
    pub held: Vec<Item>,
    /// Definitions and other things that do not change: captured after it was resumed.
    pub after: Vec<Item>,
}

impl Group {
    fn new(workload: Option<Workload>, selected: bool) -> Self {
        Self {
            workload,
            selected,
            running: Vec::new(),
            held: Vec::new(),
            after: Vec::new(),
        }
    }

    fn push(&mut self, item: Item) {
        match item.kind {
            ItemKind::Dump => self.running.push(item),
            ItemKind::Volume | ItemKind::Bind | ItemKind::RootFilesystem | ItemKind::Folder => {
                self.held.push(item);
            }
            ItemKind::Host
            | ItemKind::Container
            | ItemKind::Project
            | ItemKind::Network
            | ItemKind::Image
            | ItemKind::Object => self.after.push(item),
        }
    }

    /// All items, in the order of their capture.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.running.iter().chain(&self.held).chain(&self.after)
    }
}

impl BackupPlan {
    /// All items that will be captured.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.sources
            .iter()
            .flat_map(|s| &s.groups)
            .flat_map(Group::items)
    }
}

/// Computes the plan of one policy. Sources that it does not select are not part of it.
#[must_use]
pub fn plan(policy: &BackupPolicy, discovered: Vec<Discovered>) -> BackupPlan {
    let mut taken = BTreeSet::new();
    let found = found_literals(policy, &discovered);
    let sources = discovered
        .into_iter()
        .filter_map(|source| {
            let selections: Vec<&Selection> = policy
                .select
                .iter()
                .filter(|s| s.source == source.name)
                .collect();
            if selections.is_empty() {
                return None;
            }
            let unmatched = unmatched(&policy.name, &source, &selections, &found);
            let mut plan = plan_source(source, &selections, &mut taken);
            plan.findings.extend(unmatched);
            Some(plan)
        })
        .collect();
    BackupPlan { sources }
}

fn plan_source(
    source: Discovered,
    selections: &[&Selection],
    taken: &mut BTreeSet<TreePath>,
) -> SourcePlan {
    let scope = Scope::new(&source.inventory, selections);
    let Inventory {
        identity,
        versions,
        workloads,
        items,
        placements,
        images,
        mut findings,
    } = source.inventory;
    let mut groups: BTreeMap<String, Group> = workloads
        .into_iter()
        .map(|w| {
            let selected = scope.includes_workload(&w.name);
            (w.name.clone(), Group::new(Some(w), selected))
        })
        .collect();
    let mut rest = Group::new(None, true);
    let mut settled = Vec::new();
    for item in items {
        match scope.outcome(&item).or_else(|| clash(&item, taken)) {
            Some(outcome) => settled.push((item, outcome)),
            None => {
                taken.insert(item.path.clone());
                findings.extend(
                    item.risks
                        .iter()
                        .map(|risk| Finding::note(title(&item), risk)),
                );
                let group = item.workload.as_ref().and_then(|name| groups.get_mut(name));
                group.unwrap_or(&mut rest).push(item);
            }
        }
    }
    let placements = placements
        .into_iter()
        .filter(|p| scope.includes_workload(&p.workload))
        .collect();
    let mut groups: Vec<Group> = groups
        .into_values()
        .filter(|g| g.selected || g.items().next().is_some())
        .collect();
    groups.push(rest);
    SourcePlan {
        name: source.name,
        kind: source.kind,
        address: source.address,
        identity,
        versions,
        groups,
        settled,
        placements,
        images,
        findings,
    }
}

/// The names of workloads that a policy spells out and that some source has where it wants them: of
/// two nodes that take turns one has them.
fn found_literals(policy: &BackupPolicy, discovered: &[Discovered]) -> BTreeSet<String> {
    let of = |selection: &Selection| {
        let sources = discovered.iter().filter(|s| s.name == selection.source);
        let workloads: Vec<_> = sources.flat_map(|s| &s.inventory.workloads).collect();
        let patterns = selection.workloads.iter().filter(|p| p.is_literal());
        let found = patterns.filter(|p| workloads.iter().any(|w| p.matches(&w.name)));
        found.map(|p| p.pattern().to_owned()).collect::<Vec<_>>()
    };
    policy.select.iter().flat_map(of).collect()
}

/// The patterns of a policy that fit nothing: a name that is misspelt or changed would leave out its
/// workload in silence. What a wildcard stands for may be elsewhere for now.
fn unmatched(
    policy: &str,
    source: &Discovered,
    selections: &[&Selection],
    found: &BTreeSet<String>,
) -> Vec<Finding> {
    if selections.iter().any(|s| s.workloads.is_empty()) {
        return Vec::new();
    }
    let Inventory {
        workloads, items, ..
    } = &source.inventory;
    let patterns = selections.iter().flat_map(|s| &s.workloads);
    let patterns: BTreeMap<&str, &Glob> = patterns.map(|p| (p.pattern(), p)).collect();
    let fits_none = |glob: &&Glob| !workloads.iter().any(|w| glob.matches(&w.name));
    let tell = |glob: &Glob| {
        let mut left_out = items.iter().filter_map(|item| item.workload.as_ref());
        let (subject, pattern, name) = (policy_title(policy), glob.pattern(), &source.name);
        if left_out.any(|workload| glob.matches(workload)) {
            let message = format!(
                "the workloads {pattern:?} of source {name} are left out by the source's own rules"
            );
            return Finding::warning(subject, message);
        }
        let message = format!(
            "source {name} has no workloads {pattern:?}: misspelt, renamed, gone, or left out by \
             the source's own rules"
        );
        if glob.is_literal() && !found.contains(pattern) {
            Finding::error(subject, message)
        } else {
            Finding::warning(subject, message)
        }
    };
    patterns.into_values().filter(fits_none).map(tell).collect()
}

/// `policy web`: how findings name a policy.
#[must_use]
pub fn policy_title(name: &str) -> String {
    format!("policy {name}")
}

/// `source web`: how findings name a source.
#[must_use]
pub fn source_title(name: &str) -> String {
    format!("source {name}")
}

/// `volume db-data`: how findings and reports name an item.
#[must_use]
pub fn title(item: &Item) -> String {
    format!("{} {}", item.kind.word(), item.title)
}

/// Two items of one path, or one inside the other, cannot both be in the tree.
fn clash(item: &Item, taken: &BTreeSet<TreePath>) -> Option<Outcome> {
    let below = taken
        .range(item.path.clone()..)
        .next()
        .filter(|next| next.starts_with(&item.path));
    let mut above = Some(item.path.clone());
    let mut other = below;
    while other.is_none()
        && let Some(path) = above
    {
        other = taken.get(&path);
        above = path.parent();
    }
    other.map(|other| Outcome::Failed {
        reason: format!(
            "its place {} overlaps that of another item, {other}",
            item.path
        ),
    })
}

/// What the selections of one source cover.
struct Scope {
    /// None means everything.
    workloads: Option<BTreeSet<String>>,
    /// What the selected workloads need, directly or not.
    wanted: BTreeSet<Subject>,
    /// The patterns, for people.
    patterns: String,
}

impl Scope {
    fn new(inventory: &Inventory, selections: &[&Selection]) -> Self {
        if selections.iter().any(|s| s.workloads.is_empty()) {
            return Self {
                workloads: None,
                wanted: BTreeSet::new(),
                patterns: String::new(),
            };
        }
        let patterns: Vec<&Glob> = selections.iter().flat_map(|s| &s.workloads).collect();
        let selected: Vec<&Workload> = inventory
            .workloads
            .iter()
            .filter(|w| patterns.iter().any(|p| p.matches(&w.name)))
            .collect();
        let workloads: BTreeSet<String> = selected.iter().map(|w| w.name.clone()).collect();
        let mut wanted: BTreeSet<Subject> =
            selected.iter().flat_map(|w| w.requires.clone()).collect();
        // What is needed needs other things in turn: until nothing new turns up.
        loop {
            let needed: BTreeSet<Subject> = inventory
                .items
                .iter()
                .filter(|i| {
                    i.workload.as_ref().is_some_and(|w| workloads.contains(w))
                        || i.provides.iter().any(|s| wanted.contains(s))
                })
                .flat_map(|i| i.requires.clone())
                .filter(|s| !wanted.contains(s))
                .collect();
            if needed.is_empty() {
                break;
            }
            wanted.extend(needed);
        }
        let patterns = patterns
            .iter()
            .map(|p| p.pattern())
            .collect::<Vec<_>>()
            .join(", ");
        Self {
            workloads: Some(workloads),
            wanted,
            patterns,
        }
    }

    fn includes_workload(&self, name: &str) -> bool {
        self.workloads.as_ref().is_none_or(|w| w.contains(name))
    }

    fn includes(&self, item: &Item) -> bool {
        match &item.workload {
            _ if self.workloads.is_none() => true,
            Some(workload) if self.includes_workload(workload) => true,
            // The host's settings cost nothing and are needed to rebuild any part of it. Alone they
            // would make a point of nothing.
            None if item.kind == ItemKind::Host => {
                self.workloads.as_ref().is_some_and(|w| !w.is_empty())
            }
            _ => item.provides.iter().any(|s| self.wanted.contains(s)),
        }
    }

    /// Why an item is not captured; none if it is.
    fn outcome(&self, item: &Item) -> Option<Outcome> {
        if !self.includes(item) {
            return Some(Outcome::Skipped {
                rule: NOT_SELECTED.to_owned(),
                why: format!("the policy selects workloads {}", self.patterns),
            });
        }
        item.skip.clone()
    }
}

#[cfg(test)]
mod tests;
