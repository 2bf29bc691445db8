//! Services, configs and secrets of a swarm.
//!
//! Invariant: a service is created only if all it refers to is there or comes back.

use std::cmp::Reverse;

use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::plan::{Action, OnConflict};

use super::super::{compare, swarm};
use super::{MISSING, Planner, Relation, is_made};
use crate::definition::{ObjectKind, SwarmObject};
use crate::discover::named_image;

/// The label by which a task's container names its service.
const LABEL_SERVICE: &str = "com.docker.swarm.service.name";

/// The name of a swarm object's step.
fn title(kind: ObjectKind, name: &str) -> String {
    format!("{} {name}", kind.word())
}

impl Planner<'_> {
    /// What becomes of things of a swarm where there is none to put them into.
    pub(super) fn without_swarm(&self) -> Option<Action> {
        let why = "the target manages no swarm";
        match (
            self.ground.present.manages_swarm(),
            self.request.on_conflict,
        ) {
            (true, _) => None,
            (false, OnConflict::Skip) => Some(Action::Skip {
                why: format!("{MISSING}{why}"),
            }),
            (false, _) => Some(Action::Conflict {
                why: format!(
                    "{why}: make it a manager (docker swarm init), or leave it out (skip)"
                ),
            }),
        }
    }

    pub(super) fn decide_swarm(&mut self) {
        let mut keys: Vec<(ObjectKind, String)> = self.selection.swarm.iter().cloned().collect();
        // Secrets and configs come before the services that use them.
        keys.sort_by_key(|(kind, name)| (Reverse(*kind), name.clone()));
        for (kind, name) in keys {
            let Some(held) = self.holding.swarm.get(&(kind, name.clone())).cloned() else {
                continue;
            };
            let object = &held.definition;
            let action = match (self.without_swarm(), kind) {
                (Some(action), _) => action,
                (None, ObjectKind::Secret) => self.secret_action(&name),
                (None, ObjectKind::Config) => self.object_action(object),
                (None, ObjectKind::Service) => self.service_action(object),
            };
            let path = held.record.item.path.clone();
            let step = title(kind, &name);
            self.step(ItemKind::Object, &step, &held.record, path, action, None);
        }
    }

    fn secret_action(&mut self, name: &str) -> Action {
        if self
            .ground
            .present
            .swarm_object(ObjectKind::Secret, name)
            .is_some()
        {
            self.findings.push(Finding::note(
                title(ObjectKind::Secret, name),
                "the target has one; its value cannot be looked at and stays",
            ));
            return Action::Reuse;
        }
        let Some(file) = self.request.secrets.get(name) else {
            return Action::Skip {
                why: format!(
                    "{MISSING}its value, which no engine gives out: give it with --secret \
                     {name}=FILE"
                ),
            };
        };
        match std::fs::File::open(file) {
            Ok(_) => Action::Create,
            Err(error) => Action::Conflict {
                why: format!("cannot read {}: {error}", file.display()),
            },
        }
    }

    /// Configs and services by what they say.
    fn object_action(&mut self, wanted: &SwarmObject) -> Action {
        let found = self.ground.present.swarm_object(wanted.kind, &wanted.name);
        let relation = match found {
            None => Relation::Absent,
            Some(found) => match compare::swarm_objects(wanted, &found.object) {
                places if places.is_empty() => Relation::Equal,
                places => Relation::Differs(format!(
                    "the target has a {} {} that differs in {}",
                    wanted.kind.word(),
                    wanted.name,
                    places.join(", ")
                )),
            },
        };
        let step = title(wanted.kind, &wanted.name);
        match self.action(ItemKind::Object, &step, relation) {
            Action::Rename { .. } => {
                self.names.remove(ItemKind::Object, &step);
                Action::Conflict {
                    why: "an object of a swarm cannot be restored under another name".to_owned(),
                }
            }
            action => action,
        }
    }

    fn service_action(&mut self, service: &SwarmObject) -> Action {
        if self.request.leave_stopped {
            return Action::Skip {
                why: "a service starts when it is created".to_owned(),
            };
        }
        if let Some(why) = self.service_lacks(service) {
            return Action::Skip {
                why: format!("{MISSING}{why}"),
            };
        }
        let (placed, changed) = swarm::for_target(service, self.ground.present);
        let action = self.object_action(&placed);
        if is_made(&action) {
            let subject = title(service.kind, &service.name);
            let said = changed.into_iter().chain(self.service_remarks(&placed));
            let said: Vec<String> = said.collect();
            let warnings = said
                .into_iter()
                .map(|text| Finding::warning(subject.clone(), text));
            self.findings.extend(warnings);
            self.check_service_ports(service);
        }
        action
    }

    /// What a service cannot run without and does not come back.
    fn service_lacks(&self, service: &SwarmObject) -> Option<String> {
        let present = self.ground.present;
        for kind in [ObjectKind::Secret, ObjectKind::Config] {
            for name in service.files(kind) {
                let comes = self.decision(ItemKind::Object, &title(kind, name));
                let comes = comes.is_some_and(|a| is_made(a) || *a == Action::Reuse);
                if !comes && present.swarm_object(kind, name).is_none() {
                    return Some(format!("its {} {name}", kind.word()));
                }
            }
        }
        for network in service.networks() {
            let old = self.old_name(ItemKind::Network, network);
            let comes = self.decision(ItemKind::Network, &old).is_some_and(is_made);
            if !comes && !present.networks.contains_key(network) {
                return Some(format!("its network {network}"));
            }
        }
        service.mounts().into_iter().find_map(|mount| {
            let old = self.old_name(ItemKind::Volume, &mount.source);
            let (kind, name) = match mount.kind.as_str() {
                "volume" => (ItemKind::Volume, old.as_str()),
                "bind" => (ItemKind::Bind, mount.source.as_str()),
                _ => return None,
            };
            // A service must not start on an empty folder in place of its data.
            let lost = match self.decision(kind, name) {
                Some(Action::Skip { why }) => why.starts_with(MISSING),
                Some(_) => false,
                None => self
                    .holding
                    .damaged
                    .iter()
                    .any(|(record, _)| record.item.kind == kind && record.item.title == name),
            };
            lost.then(|| format!("the data of {} {}", kind.word(), mount.source))
        })
    }

    /// What may keep a service from running and cannot be decided here.
    fn service_remarks(&self, service: &SwarmObject) -> Vec<String> {
        let mut remarks = Vec::new();
        let constraints = service.constraints();
        let mut nodes = self.ground.present.nodes.iter();
        if !nodes.any(|node| swarm::fits(node, &constraints)) {
            let wanted = constraints.join(", ");
            remarks.push(format!(
                "no node of the target's swarm fits its placement: {wanted}"
            ));
        }
        if let Some(image) = service.image() {
            let name = named_image(image.split('@').next().unwrap_or(image), "");
            let held = self.holding.images.values();
            let comes = held
                .flat_map(|held| &held.definition.tags)
                .any(|tag| named_image(tag, "") == name);
            if !comes && self.ground.present.image_named(image).is_none() {
                remarks.push(format!(
                    "its image {image} is not here: the swarm has to pull it"
                ));
            }
        }
        if self.ground.present.nodes.len() > 1 && !service.mounts().is_empty() {
            let text = "its volumes and host paths come back on this node only";
            remarks.push(text.to_owned());
        }
        remarks
    }

    fn check_service_ports(&mut self, service: &SwarmObject) {
        let mut findings = Vec::new();
        for (protocol, port) in service.ports() {
            let services = self
                .ground
                .present
                .swarm
                .iter()
                .map(|listed| &listed.object);
            let other = services
                .filter(|other| other.kind == service.kind && other.name != service.name)
                .find(|other| other.ports().contains(&(protocol.clone(), port)));
            let present = self.ground.present;
            // Its own tasks give their ports up when it is updated.
            let is_own = |name: &str| {
                let container = present.containers.get(name);
                let label = container.and_then(|c| c.definition.label(LABEL_SERVICE));
                label == Some(&service.name)
            };
            let taken = present.ports.iter();
            let mut taken = taken
                .filter(|taken| taken.protocol == protocol && u64::from(taken.port) == port)
                .filter_map(|taken| taken.container.clone());
            let container = taken.find(|name| !is_own(name));
            let by = match (other, container) {
                (Some(other), _) => format!("service {}", other.name),
                (None, Some(container)) => format!("container {container}"),
                (None, None) => continue,
            };
            let subject = title(service.kind, &service.name);
            let message =
                format!("port {port}/{protocol} is taken on the target by {by}: free it first");
            findings.push(Finding::error(subject, message));
        }
        self.findings.extend(findings);
    }
}
