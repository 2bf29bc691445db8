//! The two places where a cluster's objects can be looked at.
//!
//! Invariant: a folder's place, `apps/v1/deployments/shop`, is the same in both; what a point's
//! policy does not select is in neither.

use std::collections::BTreeMap;
use std::sync::Arc;

use refloat_engine::backup::{self, BackupPolicy, Selection};
use refloat_engine::config::SourceConfig;
use refloat_engine::git_export::{self, Gaps, item_place};
use refloat_engine::stored::StoredTree;
use refloat_model::finding::{Finding, Severity};
use refloat_model::item::Item;
use refloat_repository::{BlobId, BlobReader as _};
use refloat_source::Source;

use super::report::Report;
use super::unselected::{Unselected, wide};
use super::{Args, point_gaps};
use crate::command_error::{CommandError, one_line};
use crate::commands::backup::{policy, selected};
use crate::point::OpenPoint;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::sources::{self, Connected, Declared, Purpose};

/// The kind of sources that are compared.
const KIND: &str = "kubernetes";

/// Where the objects are looked at.
pub struct Cluster<'a> {
    /// The source's.
    pub name: String,
    /// By their place below a cluster's objects.
    pub folders: BTreeMap<String, Place>,
    /// What cannot be seen.
    pub gaps: Gaps,
    pub source: Option<Arc<dyn Source>>,
    pub tree: Option<&'a StoredTree>,
    /// What a narrower selection leaves out of it; none if all of it is selected.
    pub unselected: Option<Unselected>,
}

impl Cluster<'_> {
    /// Whether an object is there although it is not selected.
    ///
    /// # Errors
    /// Why that cannot be told.
    pub fn has_unselected(&self, place: &str, name: &str) -> Result<bool, String> {
        let unselected = self.unselected.as_ref();
        unselected.map_or(Ok(false), |unselected| unselected.has(place, name))
    }
}

/// Where a folder of objects is.
pub enum Place {
    Live(Item),
    Stored(BlobId),
}

/// The clusters that are asked now, as far as the point's policy selects them.
pub fn live_clusters<'a>(
    args: &Args,
    open: Option<&OpenPoint>,
    (settings, signals): (&Settings, &Signals),
    report: &mut Report,
) -> Result<Vec<Cluster<'a>>, CommandError> {
    let (policy, declared) = policy_of(args, open, settings, report)?;
    if declared.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(open) = open.filter(|_| !args.sources.is_given()) {
        unasked(open, &declared, report);
    }
    let plain_tcp = args.sources.access.plain_tcp();
    let mut connected = Connected::to(&declared, plain_tcp, Purpose::Capture)?;
    let discovery = connected.discover(&policy.select, &signals.cancel)?;
    for (name, error) in &discovery.unreachable {
        report.incomplete(&format!("source {name}"), one_line(error));
    }
    let plan = backup::plan(&policy, discovery.found);
    let clusters = plan.sources.into_iter().filter_map(|plan| {
        let mut sources = connected.sources.iter();
        let source = sources.find(|source| source.description().name == plan.name)?;
        let errors = plan.findings.iter();
        for finding in errors.filter(|finding| finding.severity == Severity::Error) {
            let subject = format!("{}: {}", plan.name, finding.subject);
            report.incomplete(&subject, finding.message.clone());
        }
        let items = plan.groups.iter().flat_map(|group| group.items());
        let places = items.filter_map(|item| Some((item_place(item)?, Place::Live(item.clone()))));
        Some(Cluster {
            name: plan.name.clone(),
            folders: places.collect(),
            gaps: Gaps::of_findings(&plan.findings),
            source: Some(Arc::clone(source)),
            tree: None,
            unselected: Unselected::of(
                declared
                    .iter()
                    .find(|declared| declared.name == plan.name)?,
                &policy,
                (plain_tcp, signals.cancel.clone()),
            ),
        })
    });
    Ok(clusters.collect())
}

/// Names clusters of the point that nobody asks any more.
fn unasked(open: &OpenPoint, declared: &[Declared], report: &mut Report) {
    for name in clusters_of(open) {
        if !declared.iter().any(|declared| declared.name == *name) {
            let why = "is in the point, and neither refloat.yaml nor the policy has it any more: \
                       it was not compared (name it with --source)";
            report.incomplete(&format!("source {name}"), why.to_owned());
        }
    }
}

/// The names of a point's clusters.
fn clusters_of(open: &OpenPoint) -> impl Iterator<Item = &String> {
    let sources = open.record.iter().flat_map(|record| &record.sources);
    sources
        .filter(|(_, source)| source.kind == KIND)
        .map(|(name, _)| name)
}

/// What is looked at: what the point's policy selects, if it is still there, else everything.
fn policy_of(
    args: &Args,
    open: Option<&OpenPoint>,
    settings: &Settings,
    report: &mut Report,
) -> Result<(BackupPolicy, Vec<Declared>), CommandError> {
    let mut declared = sources::declared(&args.sources, settings.config.as_ref())?;
    declared.retain(|declared| matches!(declared.config, SourceConfig::Kubernetes(_)));
    let name = open.and_then(|open| open.summary.policy.clone());
    let policies = settings
        .config
        .as_ref()
        .map(|loaded| &loaded.config.policies);
    let known = policies.zip(name.as_ref());
    let known = known.and_then(|(policies, name)| policies.get(name));
    match (known, &name) {
        (Some(config), Some(name)) if !args.sources.is_given() => {
            return Ok((policy(name, config), selected(&declared, config)));
        }
        (Some(config), Some(name)) => {
            let configured = settings
                .config
                .as_ref()
                .map(|loaded| &loaded.config.sources);
            let is_narrowed = declared.iter().any(|d| {
                let known = configured.and_then(|sources| sources.get(&d.name));
                let is_part = matches!(known, Some(SourceConfig::Kubernetes(k)) if *k != wide(k));
                let mut selects = config.select.iter().filter(|s| s.source.value == d.name);
                is_part || selects.any(|s| s.namespaces.is_some() || !s.workloads.is_empty())
            });
            if is_narrowed {
                report.findings.push(Finding::warning(
                    format!("policy {name}"),
                    "selects a part of what --source names: what it leaves out looks as if it were \
                     new; without --source only that part is compared",
                ));
            }
        }
        (None, Some(name)) if !args.sources.is_given() => report.findings.push(Finding::warning(
            format!("policy {name}"),
            "is in refloat.yaml no more: what it did not select looks as if it were new",
        )),
        _ => {}
    }
    let select = declared.iter().map(|declared| Selection {
        source: declared.name.clone(),
        workloads: Vec::new(),
    });
    let everything = BackupPolicy {
        name: name.unwrap_or_default(),
        select: select.collect(),
        waivers: Vec::new(),
    };
    Ok((everything, declared))
}

/// The clusters of a point.
pub fn stored_clusters(open: Option<&OpenPoint>) -> Result<Vec<Cluster<'_>>, CommandError> {
    let Some(open) = open else {
        return Ok(Vec::new());
    };
    let cluster = |name: &String| {
        let folders = stored_folders(&open.tree, name)?.into_iter();
        Ok(Cluster {
            name: name.clone(),
            folders: folders
                .map(|(place, folder)| (place, Place::Stored(folder)))
                .collect(),
            gaps: point_gaps(open, name)?,
            source: None,
            tree: Some(&open.tree),
            unselected: None,
        })
    };
    clusters_of(open).map(cluster).collect()
}

/// The folders of a cluster in a point, by their place.
pub fn stored_folders(
    tree: &StoredTree,
    cluster: &str,
) -> Result<BTreeMap<String, BlobId>, CommandError> {
    let mut folders = BTreeMap::new();
    let root = git_export::objects(tree, cluster)?;
    let mut waiting: Vec<(Vec<String>, BlobId)> =
        root.map(|r| (Vec::new(), r)).into_iter().collect();
    while let Some((place, directory)) = waiting.pop() {
        if place.len() == git_export::FOLDER_DEPTH {
            folders.insert(place.join("/"), directory);
            continue;
        }
        for node in tree.repository().read_tree(directory)? {
            if let Some(below) = node.subtree {
                let name = String::from_utf8_lossy(node.name()).into_owned();
                waiting.push(([place.as_slice(), &[name]].concat(), below));
            }
        }
    }
    Ok(folders)
}
