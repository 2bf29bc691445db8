//! From what an engine holds to what is captured.
//!
//! Invariant: pure; two looks at an unchanged engine give the same inventory.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use refloat_model::finding::Finding;
use refloat_model::item::{ImageUse, Inventory, Item, ItemKind, Placement, Workload};
use refloat_model::outcome::Outcome;
use refloat_model::subject::{Subject as Reference, SubjectKind};
use refloat_model::tree_path::TreePath;

use super::references::References;
use super::{Estate, RunningContainer, Subject, image_subject};
use crate::definition::{MountDefinition, MountKind};
use crate::layout::Layout;
use crate::options::Options;

/// An inventory and what capture needs to know behind it.
pub(crate) struct Discovered {
    pub(crate) inventory: Inventory,
    pub(crate) subjects: HashMap<TreePath, Subject>,
    /// Where the data of captured volumes and binds lies, by kind and source.
    pub(crate) data: BTreeMap<(MountKind, String), TreePath>,
    pub(crate) estate: Estate,
}

impl Discovered {
    /// A container by id.
    pub(crate) fn container(&self, id: &str) -> Option<&RunningContainer> {
        self.estate.containers.iter().find(|c| c.id == id)
    }

    /// Where a mount's data lies in the recovery point.
    pub(crate) fn data_path(&self, mount: &MountDefinition) -> Option<TreePath> {
        self.data.get(&(mount.kind, mount.source.clone())).cloned()
    }

    /// The containers of a workload.
    pub(crate) fn members(&self, workload: &str) -> impl Iterator<Item = &RunningContainer> {
        let names = WorkloadNames::of(&self.estate);
        self.estate
            .containers
            .iter()
            .filter(move |container| names.name(container).0 == workload)
    }
}

/// Decides what is captured.
pub(crate) fn inventory(source: &str, options: &Options, estate: Estate) -> Discovered {
    let mut build = Build::new(source, options, &estate);
    build.host();
    build.containers();
    build.volumes();
    build.binds();
    build.networks();
    build.dumps();
    build.root_filesystems();
    build.images();
    build.projects();
    build.swarm();
    build.podman();
    let Build {
        items,
        subjects,
        data,
        workloads,
        placements,
        selected,
        mut findings,
        ..
    } = build;
    let images: BTreeSet<ImageUse> = selected.into_iter().map(image_use).collect();
    findings.extend(estate.findings.iter().cloned());
    findings.sort();
    findings.dedup();
    let inventory = Inventory {
        identity: estate.host.id.clone(),
        versions: estate.host.versions.clone(),
        workloads: workloads.into_values().collect(),
        items,
        placements,
        images: images.into_iter().collect(),
        findings,
    };
    Discovered {
        inventory,
        subjects,
        data,
        estate,
    }
}

/// Names of workloads: projects first, then containers of their own.
pub(super) struct WorkloadNames {
    projects: BTreeSet<String>,
}

impl WorkloadNames {
    pub(super) fn of(estate: &Estate) -> Self {
        let projects = estate
            .containers
            .iter()
            .filter_map(|container| {
                container
                    .project()
                    .or(container.stack())
                    .or(container.swarm_service())
            })
            .map(str::to_owned)
            .collect();
        Self { projects }
    }

    /// The workload's name and kind.
    pub(super) fn name(&self, container: &RunningContainer) -> (String, &'static str) {
        if let Some(project) = container.project() {
            return (project.to_owned(), "compose project");
        }
        if let Some(stack) = container.stack() {
            return (stack.to_owned(), "swarm stack");
        }
        if let Some(service) = container.swarm_service() {
            return (service.to_owned(), "swarm service");
        }
        let name = &container.definition.name;
        if self.projects.contains(name) {
            // A project of the same name has the word already.
            return (format!("container/{name}"), "container");
        }
        (name.clone(), "container")
    }
}

/// The inventory while it grows.
pub(super) struct Build<'a> {
    pub(super) estate: &'a Estate,
    pub(super) options: &'a Options,
    pub(super) layout: Layout,
    pub(super) references: References<'a>,
    pub(super) names: WorkloadNames,
    /// Containers the policy selects, also those that a label leaves out.
    pub(super) selected: Vec<&'a RunningContainer>,
    pub(super) items: Vec<Item>,
    pub(super) subjects: HashMap<TreePath, Subject>,
    pub(super) data: BTreeMap<(MountKind, String), TreePath>,
    pub(super) workloads: BTreeMap<String, Workload>,
    pub(super) placements: Vec<Placement>,
    pub(super) findings: Vec<Finding>,
}

impl<'a> Build<'a> {
    fn new(source: &'a str, options: &'a Options, estate: &'a Estate) -> Self {
        let selected = estate
            .containers
            .iter()
            .filter(|container| {
                let group = container.project().or(container.stack());
                options.selects(&container.definition.name, group)
            })
            .collect();
        Self {
            estate,
            options,
            layout: Layout::new(source),
            references: References {
                source,
                estate,
                options,
            },
            names: WorkloadNames::of(estate),
            selected,
            items: Vec::new(),
            subjects: HashMap::new(),
            data: BTreeMap::new(),
            workloads: BTreeMap::new(),
            placements: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// Whether the policy wants the whole host.
    pub(super) fn selects_everything(&self) -> bool {
        self.options.select.is_empty()
    }

    /// Selected containers that no label leaves out.
    pub(super) fn captured(&self) -> Vec<&'a RunningContainer> {
        let mut captured = self.selected.clone();
        captured.retain(|container| !container.consistency.exclude);
        captured
    }

    pub(super) fn workload(&self, container: &RunningContainer) -> String {
        self.names.name(container).0
    }

    /// The one workload of several containers; none if they belong to different ones.
    pub(super) fn common_workload(&self, containers: &[&RunningContainer]) -> Option<String> {
        let mut names: Vec<String> = containers.iter().map(|c| self.workload(c)).collect();
        names.dedup();
        match names.as_slice() {
            [one] => Some(one.clone()),
            _ => None,
        }
    }

    /// Adds an item.
    pub(super) fn add(&mut self, item: Item, subject: Subject) {
        self.subjects.insert(item.path.clone(), subject);
        self.items.push(item);
    }

    /// The value of a secret, which no engine gives out: it is missed where it is used.
    pub(super) fn secret_value(
        &self,
        title: String,
        path: TreePath,
        name: &str,
        why: String,
    ) -> Item {
        let mut value = Item::new(ItemKind::Object, title, path);
        value.provides = vec![self.references.subject(SubjectKind::Secret, name)];
        skip(&mut value, "not-given-out", why);
        value
    }

    /// Adds to what a workload needs.
    pub(super) fn need(&mut self, container: &RunningContainer, requires: &[Reference]) {
        let (name, kind) = self.names.name(container);
        self.need_of(&name, kind, requires);
    }

    /// Adds to what a workload of this name needs.
    pub(super) fn need_of(&mut self, name: &str, kind: &str, requires: &[Reference]) {
        let workload = self
            .workloads
            .entry(name.to_owned())
            .or_insert_with(|| Workload {
                name: name.to_owned(),
                kind: kind.to_owned(),
                requires: Vec::new(),
            });
        workload.requires.extend(requires.iter().cloned());
        workload.requires.sort();
        workload.requires.dedup();
    }

    /// Records where a container was and in which state.
    pub(super) fn place(&mut self, container: &RunningContainer) {
        let definition = &container.definition;
        let mounts = definition
            .mounts
            .iter()
            .filter(|mount| !mount.source.is_empty())
            .map(|mount| format!("{}:{}", mount.source, mount.destination))
            .collect();
        let service = definition
            .project
            .as_ref()
            .map(|member| member.service.clone());
        self.placements.push(Placement {
            workload: self.workload(container),
            service: service.or_else(|| container.swarm_service().map(str::to_owned)),
            container: definition.name.clone(),
            node: self.estate.host.name.clone(),
            image: image_subject(definition),
            mounts,
            state: container.state.clone(),
            started: container.started_at.clone(),
        });
    }
}

/// A container's image with the names that registries have for it.
fn image_use(container: &RunningContainer) -> ImageUse {
    let image = &container.definition.image;
    // An engine that keeps what registries gave it calls an image by the manifest.
    let is_manifest = image.digests.iter().any(|name| name.ends_with(&image.id));
    ImageUse {
        subject: References::image(image_subject(&container.definition)),
        reference: image.name.clone(),
        digests: image.digests.clone(),
        id: if is_manifest {
            String::new()
        } else {
            image.id.clone()
        },
        platforms: Vec::new(),
    }
}

/// Leaves an item out by a rule. What it would have brought back is then missing.
pub(super) fn skip(item: &mut Item, rule: &str, why: impl Into<String>) {
    item.skip = Some(Outcome::Skipped {
        rule: rule.to_owned(),
        why: why.into(),
    });
}

#[cfg(test)]
mod tests;
