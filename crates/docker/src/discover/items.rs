//! One item for each thing an engine holds.
//!
//! Invariant: a rule that leaves something out has a stable word and a reason for people.

use std::collections::BTreeSet;

use refloat_model::item::{Item, ItemKind};
use refloat_model::subject::SubjectKind;

use super::inventory::{Build, skip};
use super::podman::options_lost;
use super::references::References;
use super::{RunningContainer, Subject, image_names, image_subject};
use crate::consistency::{DumpMode, Hold, excludes};
use crate::definition::{ImageDefinition, MountDefinition, MountKind};
use crate::layout::UNTAGGED;
use crate::options::{ImageSelection, RootfsSelection};

const EXCLUDED: &str = "excluded";
/// The rule of images without a container.
pub(super) const NOT_IN_USE: &str = "not-in-use";
/// The rule of what has no name and no user.
pub(super) const DANGLING: &str = "dangling";
const BY_LABEL: &str = "the label refloat.exclude leaves it out";

impl Build<'_> {
    pub(super) fn host(&mut self) {
        let mut host = Item::new(ItemKind::Host, "engine settings", self.layout.host());
        host.sensitive = true;
        self.add(host, Subject::Host);
    }

    pub(super) fn containers(&mut self) {
        for container in self.selected.clone() {
            self.place(container);
            let definition = &container.definition;
            let path = self.layout.container(&definition.name);
            let mut found = Item::new(ItemKind::Container, &definition.name, path);
            found.workload = Some(self.workload(container));
            found.sensitive = true;
            let name = definition.name.clone();
            found.provides = vec![self.references.subject(SubjectKind::Container, name)];
            found.requires = self.references.of_container(definition);
            for mount in &definition.mounts {
                if mount.kind == MountKind::Tmpfs {
                    found.risks.push(format!(
                        "{} is in memory only: its content is not captured",
                        mount.destination
                    ));
                }
            }
            found.risks.extend(options_lost(&definition.podman));
            if container.consistency.exclude {
                skip(&mut found, EXCLUDED, BY_LABEL);
            } else if container.swarm_service().is_some() {
                skip(
                    &mut found,
                    "swarm-task",
                    "the swarm makes it from its service, which is captured",
                );
                self.need(container, &found.requires);
            } else {
                let mut needs = found.requires.clone();
                needs.extend(found.provides.iter().cloned());
                self.need(container, &needs);
            }
            self.add(found, Subject::Container(container.id.clone()));
        }
    }

    pub(super) fn volumes(&mut self) {
        for (name, volume) in &self.estate.volumes {
            let users = self.users(|m| m.kind == MountKind::Volume && m.source == *name);
            let definition = &volume.definition;
            let of_project = definition
                .project()
                .is_some_and(|project| self.options.selects(project, Some(project)));
            if users.is_empty() && !of_project && !self.selects_everything() {
                continue;
            }
            let mut found = Item::new(ItemKind::Volume, name, self.layout.volume(name));
            found.workload = self
                .common_workload(&users)
                .or_else(|| definition.project().map(str::to_owned));
            found.provides = vec![self.references.subject(SubjectKind::Volume, name)];
            found.requires = self.references.of_volume(definition);
            found.sensitive = !definition.options.is_empty();
            if definition.driver != "local" {
                found.risks.push(format!(
                    "volume driver {:?} is not part of the recovery point",
                    definition.driver
                ));
            }
            found.risks.extend(self.live_database(name, &users));
            if definition.anonymous {
                found.title = anonymous_title(name, &users);
            }
            if excludes(&definition.labels) {
                skip(&mut found, EXCLUDED, BY_LABEL);
            } else if definition.anonymous && self.users_anywhere(name) == 0 {
                skip(
                    &mut found,
                    DANGLING,
                    "nobody uses it and nobody gave it a name",
                );
            } else if !users.is_empty() && users.iter().all(|c| c.consistency.exclude) {
                skip(
                    &mut found,
                    EXCLUDED,
                    "the containers that use it are left out",
                );
            } else {
                let key = (MountKind::Volume, name.clone());
                self.data.insert(key, found.path.clone());
            }
            self.add(found, Subject::Volume(name.clone()));
        }
    }

    pub(super) fn binds(&mut self) {
        for container in self.selected.clone() {
            let binds = container
                .definition
                .mounts
                .iter()
                .filter(|mount| mount.kind == MountKind::Bind);
            for (index, mount) in binds.enumerate() {
                self.bind(container, index, mount);
            }
        }
    }

    fn bind(&mut self, container: &RunningContainer, index: usize, mount: &MountDefinition) {
        let name = &container.definition.name;
        let title = format!("{name}:{} ({})", mount.destination, mount.source);
        let path = self.layout.bind(container.lasting_name(), index);
        let mut found = Item::new(ItemKind::Bind, title, path);
        found.workload = Some(self.workload(container));
        let key = (MountKind::Bind, mount.source.clone());
        if let Some(rule) = self.references.bind_rule(&mount.source) {
            skip(&mut found, rule.word(), rule.why());
        } else if container.consistency.exclude {
            skip(&mut found, EXCLUDED, BY_LABEL);
        } else if let Some(path) = self.data.get(&key) {
            let why = format!("the same host path is captured as {path}");
            skip(&mut found, "shared-bind", why);
        } else {
            self.data.insert(key, found.path.clone());
            let source = mount.source.clone();
            found.provides = vec![self.references.subject(SubjectKind::Bind, source)];
        }
        let subject = Subject::Bind {
            container: container.id.clone(),
            destination: mount.destination.clone(),
            source: mount.source.clone(),
        };
        self.add(found, subject);
    }

    pub(super) fn networks(&mut self) {
        for (name, network) in &self.estate.networks {
            let users: Vec<_> = self
                .selected
                .iter()
                .copied()
                .filter(|container| container.definition.networks.contains_key(name))
                .collect();
            let of_project = network
                .project()
                .is_some_and(|project| self.options.selects(project, Some(project)));
            if users.is_empty() && !of_project && !self.selects_everything() {
                continue;
            }
            let mut found = Item::new(ItemKind::Network, name, self.layout.network(name));
            found.workload = network
                .project()
                .map(str::to_owned)
                .or_else(|| self.common_workload(&users));
            if network.is_built_in() {
                found.workload = None;
                skip(&mut found, "built-in", "every engine makes it by itself");
            } else {
                found.provides = vec![self.references.subject(SubjectKind::Network, name)];
                found.requires = self.references.of_network(network);
            }
            self.add(found, Subject::Network(name.clone()));
        }
    }

    pub(super) fn dumps(&mut self) {
        for container in self.captured() {
            let Some(recipe) = &container.recipe else {
                continue;
            };
            let name = &container.definition.name;
            let title = format!("{} in {name}", recipe.engine());
            let path = self.layout.dumps(container.lasting_name());
            let mut found = Item::new(ItemKind::Dump, title, path);
            found.workload = Some(self.workload(container));
            found.risks = recipe.risks().to_vec();
            found.sensitive = true;
            let provides = self.references.subject(SubjectKind::Database, name);
            if container.consistency.dump == DumpMode::None {
                skip(
                    &mut found,
                    "no-dump",
                    "the label refloat.dump or the policy says so",
                );
            } else if !container.is_running() {
                skip(
                    &mut found,
                    "not-running",
                    "the database does not run: its volume is copied at rest",
                );
            } else if container.consistency.hold != Hold::Run {
                skip(
                    &mut found,
                    "held",
                    "the container is paused or stopped while its volume is copied",
                );
            } else {
                self.need(container, std::slice::from_ref(&provides));
                found.provides = vec![provides];
            }
            self.add(found, Subject::Dumps(container.id.clone()));
        }
    }

    pub(super) fn root_filesystems(&mut self) {
        for container in self.captured() {
            let definition = &container.definition;
            let path = self.layout.rootfs(container.lasting_name());
            let mut found = Item::new(ItemKind::RootFilesystem, &definition.name, path);
            // Files of anybody, secrets that Compose copied in among them.
            found.sensitive = true;
            found.workload = Some(self.workload(container));
            let changes = &container.changes;
            if container.swarm_service().is_some() {
                skip(
                    &mut found,
                    "swarm-task",
                    "the swarm throws it away with every task",
                );
            } else if self.options.rootfs == RootfsSelection::Ignore {
                skip(&mut found, "not-selected", "the policy does not look at it");
            } else if changes.is_empty() {
                skip(
                    &mut found,
                    "stateless",
                    "it holds nothing but its image and what every start makes again",
                );
            } else {
                found.risks.push(changes.describe());
                if self.options.rootfs == RootfsSelection::Report {
                    skip(
                        &mut found,
                        "not-selected",
                        "the policy reports such data and does not capture it",
                    );
                }
            }
            self.add(found, Subject::Rootfs(container.id.clone()));
        }
    }

    pub(super) fn images(&mut self) {
        let captured = self.captured();
        let in_use: BTreeSet<&str> = captured
            .iter()
            .map(|container| container.definition.image.id.as_str())
            .collect();
        for (id, image) in &self.estate.images {
            let used = in_use.contains(id.as_str()) || self.is_of_service(image);
            if !used && !self.selects_everything() {
                continue;
            }
            let first = image.tags.first().map(String::as_str);
            let path = self.layout.image(first, id);
            let title = first.map_or_else(|| format!("{UNTAGGED} {id}"), str::to_owned);
            let mut found = Item::new(ItemKind::Image, title, path);
            found.bytes_estimate = Some(image.size_bytes).filter(|size| *size > 0);
            if image.repo_digests.is_empty() {
                found
                    .risks
                    .push("no registry is known to have it".to_owned());
            }
            match self.options.images {
                ImageSelection::None => {
                    skip(&mut found, "not-selected", "the policy captures no images");
                }
                ImageSelection::InUse if !used => skip(
                    &mut found,
                    NOT_IN_USE,
                    "no captured container is made from it",
                ),
                ImageSelection::All if !used && first.is_none() => {
                    skip(&mut found, DANGLING, "it has no name and no container");
                }
                ImageSelection::InUse | ImageSelection::All => {}
            }
            // Also of what is left out, so that whoever needs it is told why it is missing.
            found.provides = self.image_provides(image, &captured);
            self.add(found, Subject::Image(id.clone()));
        }
    }

    fn image_provides(
        &self,
        image: &ImageDefinition,
        captured: &[&RunningContainer],
    ) -> Vec<refloat_model::subject::Subject> {
        let by_containers = captured
            .iter()
            .filter(|container| container.definition.image.id == image.id)
            .map(|container| image_subject(&container.definition));
        let names: BTreeSet<String> = image_names(image).chain(by_containers).collect();
        names.into_iter().map(References::image).collect()
    }

    pub(super) fn projects(&mut self) {
        let captured = self.captured();
        let projects: BTreeSet<&str> = captured.iter().filter_map(|c| c.project()).collect();
        for project in projects {
            let mut found = Item::new(ItemKind::Project, project, self.layout.project(project));
            found.workload = Some(project.to_owned());
            found.sensitive = true;
            self.add(found, Subject::Project(project.to_owned()));
        }
    }

    /// Selected containers with such a mount.
    fn users(&self, fits: impl Fn(&MountDefinition) -> bool) -> Vec<&'_ RunningContainer> {
        let mut users = self.selected.clone();
        users.retain(|container| container.definition.mounts.iter().any(&fits));
        users
    }

    fn users_anywhere(&self, volume: &str) -> usize {
        let uses =
            |mount: &MountDefinition| mount.kind == MountKind::Volume && mount.source == volume;
        let containers = self.estate.containers.iter();
        containers
            .filter(|container| container.definition.mounts.iter().any(uses))
            .count()
    }

    /// A warning if a database writes to the volume and nothing makes it consistent.
    fn live_database(&self, volume: &str, users: &[&RunningContainer]) -> Option<String> {
        users.iter().find_map(|container| {
            let recipe = container.recipe.as_ref()?;
            let owned =
                container.definition.mounts.iter().any(|m| {
                    m.source == volume && !m.read_only && recipe.owns_mount(&m.destination)
                });
            let unheld = container.is_running()
                && container.consistency.dump == DumpMode::None
                && !container.consistency.is_needed();
            (owned && unheld).then(|| {
                format!(
                    "{} writes to it and is neither dumped nor held: crash-consistent only",
                    recipe.engine()
                )
            })
        })
    }
}

fn anonymous_title(name: &str, users: &[&RunningContainer]) -> String {
    let place = users.iter().find_map(|container| {
        let mounts = &container.definition.mounts;
        let mount = mounts.iter().find(|mount| mount.source == name)?;
        let container = &container.definition.name;
        Some(format!("{container}:{} (anonymous)", mount.destination))
    });
    place.unwrap_or_else(|| format!("{name} (anonymous)"))
}
