//! Containers in the order in which they start, and their dumps.
//!
//! Invariant: a container stands after everything it waits for, except within a circle, which is
//! named.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::outcome::Outcome;
use refloat_model::plan::{Action, OnConflict, Step};
use refloat_model::point::ItemRecord;

use super::super::journal::Progress;
use super::super::selection::{lives_with, shared_with};
use super::data::{DatabaseRules, recipe};
use super::{MISSING, Planner, Relation, is_made, is_name};
use crate::definition::{Condition, ContainerDefinition, MountDefinition, MountKind, ObjectKind};

/// What each of the containers waits for before it starts, by name in the map.
pub(in crate::restore) fn waits_for(
    containers: &BTreeMap<&str, &ContainerDefinition>,
) -> BTreeMap<String, BTreeMap<String, Condition>> {
    let mut waits = BTreeMap::new();
    for (name, container) in containers {
        let mut needs = BTreeMap::new();
        for other in shared_with(container) {
            needs.insert(other, Condition::Started);
        }
        if let Some(member) = &container.project {
            for (service, dependency) in &member.depends_on {
                let replicas = containers.iter().filter(|(_, other)| {
                    other
                        .project
                        .as_ref()
                        .is_some_and(|o| o.project == member.project && o.service == *service)
                });
                for (other, _) in replicas {
                    needs.insert((*other).to_owned(), dependency.condition);
                }
            }
        }
        needs.retain(|other, _| other != name && containers.contains_key(other.as_str()));
        waits.insert((*name).to_owned(), needs);
    }
    waits
}

/// Names in starting order, and those of them that stand in a circle.
pub(in crate::restore) fn starting_order(
    waits: &BTreeMap<String, BTreeMap<String, Condition>>,
) -> (Vec<String>, Vec<String>) {
    let mut order: Vec<String> = Vec::new();
    let mut placed = BTreeSet::new();
    let mut circles = Vec::new();
    while order.len() < waits.len() {
        let rest = waits.iter().filter(|(name, _)| !placed.contains(*name));
        let ready: Vec<&String> = rest
            .clone()
            .filter(|(_, needs)| needs.keys().all(|need| placed.contains(need)))
            .map(|(name, _)| name)
            .collect();
        // Nobody is ready: a circle. It is broken at the first name.
        let next = if ready.is_empty() {
            let first: Vec<&String> = rest.map(|(name, _)| name).take(1).collect();
            circles.extend(first.iter().map(|name| (*name).clone()));
            first
        } else {
            ready
        };
        for name in next {
            placed.insert(name.clone());
            order.push(name.clone());
        }
    }
    (order, circles)
}

/// Whether dumps are missing, and not only what says that no new server takes them.
fn lacks_dumps(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Saved => false,
        Outcome::Partial {
            missing,
            missing_count,
        } => {
            let is_refusal = |what: &String| {
                let path = what.split(": ").next().unwrap_or_default();
                refloat_database::is_refusal(path.rsplit('/').next().unwrap_or(path))
            };
            *missing_count != missing.len() as u64 || !missing.iter().all(is_refusal)
        }
        Outcome::Skipped { .. } | Outcome::Failed { .. } => true,
    }
}

fn not_whole() -> Action {
    Action::Skip {
        why: format!("{MISSING}the dump is not whole"),
    }
}

fn data_kept() -> Action {
    Action::Skip {
        why: "the data of its server is kept".to_owned(),
    }
}

impl Planner<'_> {
    pub(super) fn decide_containers(&mut self, rules: &DatabaseRules) {
        let selected: BTreeMap<&str, &ContainerDefinition> = self
            .holding
            .containers
            .iter()
            .filter(|(name, _)| self.selection.containers.contains(*name))
            .map(|(name, held)| (name.as_str(), &held.definition))
            .collect();
        let (order, circles) = starting_order(&self.waits_by_old_name(&selected));
        for name in circles {
            self.findings.push(Finding::warning(
                format!("container {name}"),
                "it waits for containers that wait for it; it starts first",
            ));
        }
        for name in order {
            self.decide_container(&name, rules);
            self.warn_of_podman(&name);
            self.decide_root_filesystem(&name);
            self.decide_dump(&name, rules);
        }
        // Dumps asked for without their container.
        for name in self.selection.dumps.clone() {
            if !self.selection.containers.contains(&name) {
                self.decide_dump(&name, rules);
            }
        }
    }

    /// Says what a container that is made will not have of what it had.
    fn warn_of_podman(&mut self, name: &str) {
        let decision = self.decision(ItemKind::Container, name);
        let held = self.holding.containers.get(name);
        if let Some(held) = held.filter(|_| decision.is_some_and(super::is_made))
            && !held.definition.podman.is_empty()
        {
            let only = &held.definition.podman;
            self.findings.push(Finding::warning(
                format!("container {name}"),
                format!("it comes back without what only Podman's own API can ask for: {only}"),
            ));
        }
    }

    /// Definitions refer to each other by new names; the order is one of names in the point.
    fn waits_by_old_name(
        &self,
        selected: &BTreeMap<&str, &ContainerDefinition>,
    ) -> BTreeMap<String, BTreeMap<String, Condition>> {
        let by_new: BTreeMap<&str, &ContainerDefinition> =
            selected.values().map(|c| (c.name.as_str(), *c)).collect();
        let old = |name: String| self.old_name(ItemKind::Container, &name);
        waits_for(&by_new)
            .into_iter()
            .map(|(name, needs)| {
                let needs = needs
                    .into_iter()
                    .map(|(need, how)| (old(need), how))
                    .collect();
                (old(name), needs)
            })
            .collect()
    }

    fn decide_container(&mut self, name: &str, rules: &DatabaseRules) {
        let Some(held) = self.holding.containers.get(name).cloned() else {
            return;
        };
        let wanted = &held.definition;
        let action = if !is_name(&wanted.name) {
            Action::Skip {
                why: format!("{MISSING}the name is none an engine accepts"),
            }
        } else if wanted.label("com.docker.swarm.task.id").is_some() {
            Action::Skip {
                why: "the swarm makes it from its service".to_owned(),
            }
        } else if let Some(why) = self.lacks(name, wanted, rules) {
            Action::Skip { why }
        } else {
            let relation = match self.ground.present.containers.get(&wanted.name) {
                None => Relation::Absent,
                Some(found) => {
                    let places = super::super::compare::containers(
                        wanted,
                        &found.definition,
                        self.ground.kin,
                    );
                    match places.is_empty() {
                        true => Relation::Equal,
                        false => Relation::Differs(format!(
                            "the target has a container {} that differs in {}",
                            wanted.name,
                            places.join(", ")
                        )),
                    }
                }
            };
            match self.action(ItemKind::Container, name, relation) {
                Action::Reuse if self.displaced.contains(&wanted.name) => Action::Replace {
                    why: "its volume is made anew".to_owned(),
                },
                Action::Reuse => match self.shares_with_replaced(wanted) {
                    Some(other) => Action::Replace {
                        why: format!("it shares with container {other}, which is made anew"),
                    },
                    None => Action::Reuse,
                },
                action => action,
            }
        };
        let path = held.record.item.path.clone();
        self.step(ItemKind::Container, name, &held.record, path, action, None);
    }

    /// A container that is replaced while this one shares its network or the like: that goes with
    /// the old one. Volumes that both mount stay.
    fn shares_with_replaced(&self, wanted: &ContainerDefinition) -> Option<String> {
        let mut others = lives_with(wanted).into_iter();
        others.find(|other| self.replaces(other))
    }

    /// What a container wrote into its own filesystem comes back with it, and only then.
    fn decide_root_filesystem(&mut self, name: &str) {
        let Some(held) = self.holding.rootfs.get(name).cloned() else {
            return;
        };
        let target = self.names.of(ItemKind::Container, name);
        let noted = self.ground.notes.progress(ItemKind::RootFilesystem, target);
        let skip = |why: &str| Action::Skip {
            why: why.to_owned(),
        };
        let action = match (self.decision(ItemKind::Container, name), noted) {
            (Some(container), _) if is_made(container) => Action::Create,
            (Some(Action::Reuse), Progress::Begun) => Action::Create,
            (Some(Action::Reuse), Progress::Done) => Action::Reuse,
            (Some(Action::Reuse), Progress::Untouched) => skip("its container is kept"),
            _ => skip("its container is not restored"),
        };
        let path = held.record.item.path.clone();
        let bytes = Some(held.record.bytes).filter(|_| is_made(&action));
        self.step(
            ItemKind::RootFilesystem,
            name,
            &held.record,
            path,
            action,
            bytes,
        );
    }

    /// Whether the point has what a container wrote into its own filesystem, but not whole.
    fn lacks_own_files(&self, name: &str) -> bool {
        let of = |record: &ItemRecord| {
            record.item.kind == ItemKind::RootFilesystem && record.item.title == name
        };
        let held = self.holding.rootfs.get(name);
        held.is_some_and(|held| !held.record.outcome.is_saved())
            || self.holding.damaged.iter().any(|(record, _)| of(record))
    }

    /// Why a container cannot be created, if so.
    fn lacks(
        &self,
        name: &str,
        wanted: &ContainerDefinition,
        rules: &DatabaseRules,
    ) -> Option<String> {
        let present = self.ground.present;
        let image = &wanted.image;
        let image_decision = self.decision(ItemKind::Image, &image.id);
        let comes = image_decision.is_some_and(|a| is_made(a) || *a == Action::Reuse);
        if !present.images.contains_key(&image.id) && !comes {
            return Some(match image_decision {
                Some(Action::Conflict { .. }) => format!("its image {} is in conflict", image.name),
                _ => format!("{MISSING}its image {}", image.name),
            });
        }
        for network in wanted.networks.keys() {
            let old = self.old_name(ItemKind::Network, network);
            let known = present.networks.contains_key(network)
                || self.decision(ItemKind::Network, &old).is_some_and(is_made);
            if !known {
                return Some(format!("{MISSING}its network {network}"));
            }
        }
        if self.lacks_own_files(name) {
            return Some(format!("{MISSING}what it wrote into its own filesystem"));
        }
        wanted.mounts.iter().find_map(|mount| {
            let old = self.old_name(ItemKind::Volume, &mount.source);
            let key = match mount.kind {
                MountKind::Volume => (ItemKind::Volume, old.as_str()),
                MountKind::Bind => (ItemKind::Bind, mount.source.as_str()),
                MountKind::Tmpfs | MountKind::Other => return None,
            };
            // An application must not start on an empty folder in place of its data.
            let lost = match self.decision(key.0, key.1) {
                Some(Action::Skip { why }) => why.starts_with(MISSING),
                Some(_) => false,
                // It was to be captured and the point has nothing of it.
                None => {
                    mount.data.is_some()
                        && !self.is_there(mount)
                        && !self.is_filled_by_dump(name, wanted, mount, rules)
                }
            };
            lost.then(|| format!("{MISSING}the data of {} {}", key.0.word(), mount.source))
        })
    }

    /// Whether the target has what a mount mounts.
    fn is_there(&self, mount: &MountDefinition) -> bool {
        match mount.kind {
            MountKind::Volume => self.ground.present.volumes.contains_key(&mount.source),
            _ => self.ground.reach.is_local() && Path::new(&mount.source).exists(),
        }
    }

    /// Whether a dump fills a mount of which the point has not even the definition.
    fn is_filled_by_dump(
        &self,
        name: &str,
        wanted: &ContainerDefinition,
        mount: &MountDefinition,
        rules: &DatabaseRules,
    ) -> bool {
        let dump = self.holding.dumps.get(name);
        self.selection.dumps.contains(name)
            && dump.is_some_and(|held| held.record.outcome.is_saved())
            && !rules.unneeded.contains_key(name)
            && rules.volumes.get(name).is_none_or(Vec::is_empty)
            && recipe(wanted).is_some_and(|recipe| self.holds_data(&recipe, mount))
    }

    fn decide_dump(&mut self, name: &str, rules: &DatabaseRules) {
        let Some(held) = self.holding.dumps.get(name).cloned() else {
            return;
        };
        let container = self
            .holding
            .containers
            .get(name)
            .map(|held| held.definition.clone());
        let target_name = self.names.of(ItemKind::Container, name).to_owned();
        let asked = self
            .selection
            .explicit
            .contains(&(ItemKind::Dump, name.to_owned()));
        let service = self.service_of_task(name);
        let action = match container.as_ref().and_then(recipe) {
            None if service.is_some() => Action::Skip {
                why: format!(
                    "its server is a task of swarm service {}, whose volume comes back from its \
                     copy; load the dump by hand if that is not enough",
                    service.unwrap_or_default()
                ),
            },
            None => Action::Skip {
                why: format!("{MISSING}the container that says how"),
            },
            Some(_) if lacks_dumps(&held.record.outcome) => not_whole(),
            Some(_) => {
                let action = self.dump_action(name, &target_name, asked, rules);
                let is_refused = !held.record.outcome.is_saved();
                match action {
                    // Not into a new server, nor over the copy that comes back instead.
                    Action::Create | Action::Replace { .. } if is_refused && !asked => not_whole(),
                    action => action,
                }
            }
        };
        let bytes = held.files.iter().map(|(_, _, size)| size).sum();
        self.steps.push(Step {
            kind: ItemKind::Dump,
            name: name.to_owned(),
            path: held.record.item.path.clone(),
            workload: held.record.item.workload.clone(),
            bytes: Some(bytes).filter(|_| is_made(&action)),
            action,
        });
    }

    /// The service whose task had this name: `web.1`, `web.1.<id>`.
    fn service_of_task(&self, name: &str) -> Option<String> {
        let services = self.holding.swarm.values().map(|held| &held.definition);
        let mut services = services.filter(|object| object.kind == ObjectKind::Service);
        let of = |service: &str| name.strip_prefix(service)?.strip_prefix('.');
        let service = services.find(|service| of(&service.name).is_some())?;
        Some(service.name.clone())
    }

    fn dump_action(
        &mut self,
        name: &str,
        target_name: &str,
        asked: bool,
        rules: &DatabaseRules,
    ) -> Action {
        if let Some(why) = rules.unneeded.get(name) {
            return Action::Skip { why: why.clone() };
        }
        let server = self.decision(ItemKind::Container, name);
        let is_present = self.ground.present.containers.contains_key(target_name);
        let made = server.is_some_and(is_made);
        if asked && !made {
            return match is_present {
                true => Action::Replace {
                    why: "it was asked for by name".to_owned(),
                },
                false => Action::Conflict {
                    why: format!("there is no container {target_name} to restore it into"),
                },
            };
        }
        match server {
            None | Some(Action::Skip { .. }) => {
                return Action::Skip {
                    why: "its server is not restored".to_owned(),
                };
            }
            Some(Action::Conflict { .. }) => {
                return Action::Skip {
                    why: "its server is in conflict".to_owned(),
                };
            }
            _ => {}
        }
        let volumes = rules
            .volumes
            .get(name)
            .map(Vec::as_slice)
            .unwrap_or_default();
        // What it was loaded into may be gone since, and is made again empty.
        let remade = volumes
            .iter()
            .any(|volume| self.decision(ItemKind::Volume, volume).is_some_and(is_made));
        let data = self.data_beside(name, volumes);
        match self.ground.notes.progress(ItemKind::Dump, target_name) {
            Progress::Done if !remade && (is_present || !volumes.is_empty() || data.is_some()) => {
                return Action::Reuse;
            }
            Progress::Done | Progress::Begun => return Action::Create,
            Progress::Untouched => {}
        }
        if let Some(data) = data {
            // It serves that data: nothing was lost, and nothing is in the way.
            if self.request.on_conflict == OnConflict::Fail && server == Some(&Action::Reuse) {
                return data_kept();
            }
            return self.over_data(name, data);
        }
        // A new server, or one whose empty volumes an earlier run of this restore made.
        let begun = volumes.iter().any(|volume| {
            let new = self.names.of(ItemKind::Volume, volume);
            self.ground.notes.progress(ItemKind::Volume, new) != Progress::Untouched
        });
        match remade || begun || (volumes.is_empty() && made) {
            true => Action::Create,
            false => data_kept(),
        }
    }

    /// The action for a dump whose server has data already.
    fn over_data(&mut self, name: &str, data: Relation) -> Action {
        match self.action(ItemKind::Dump, name, data) {
            Action::Rename { .. } => {
                self.names.remove(ItemKind::Dump, name);
                Action::Conflict {
                    why: "its server has data, which cannot get another name".to_owned(),
                }
            }
            action => action,
        }
    }
}
