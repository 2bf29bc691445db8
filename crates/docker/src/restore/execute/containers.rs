//! Creating containers with their old names and settings, and starting them in order.
//!
//! Invariant: a container is created only if everything it mounts came back, and started only if
//! what it waits for is up.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::outcome::Outcome;
use refloat_model::plan::{Action, Step};
use serde_json::{Value, json};

use super::{Execution, Remarks};
use crate::client::encode;
use crate::definition::{Condition, ContainerDefinition, MountKind};
use crate::error::EngineError;
use crate::restore::failure::Failure;
use crate::restore::journal::gone;
use crate::restore::plan::{is_made, waits_for};
use crate::restore::present::{PresentContainer, inspect_container, inspect_image, text};
use crate::restore::{compare, spec};

/// How long a container may take to stop by itself, in seconds.
const STOP_SECONDS: u32 = 10;
/// How long the engine may take to stop it.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

impl Execution<'_> {
    fn container_definition(&self, name: &str) -> Result<ContainerDefinition, Failure> {
        let held = self.tools.holding.containers.get(name);
        held.map(|held| held.definition.clone())
            .ok_or_else(|| Failure::Needs(format!("container {name} is not in the point")))
    }

    pub(super) fn create_container(&mut self, step: &Step) -> Result<Remarks, Failure> {
        let wanted = self.container_definition(&step.name)?;
        let client = self.tools.client;
        self.has_what_it_needs(&wanted)?;
        let failed = |operation| Failure::engine(operation, format!("container {}", wanted.name));
        let found = self.find(&wanted.name)?;
        if let Some(found) = found {
            let places = compare::containers(&wanted, &found, self.tools.kin);
            if places.is_empty() {
                return Ok(vec!["it is there and equal".to_owned()]);
            }
            if !matches!(step.action, Action::Replace { .. }) {
                return Err(Failure::Outdated {
                    subject: format!("container {}", wanted.name),
                    why: format!("it is there and differs in {}", places.join(", ")),
                });
            }
            self.remove_container(&wanted.name)?;
        }
        self.tools
            .progress
            .phase(&format!("creating container {}", wanted.name));
        let image = self.image_reference(&wanted)?;
        let spec = spec::container(&wanted, &image, self.tools.present.host.engine, |volume| {
            let key = (ItemKind::Volume, volume.to_owned());
            let restored = self.plan.steps.iter().any(|step| {
                (step.kind, step.name.as_str()) == (ItemKind::Volume, volume)
                    && (is_made(&step.action) || step.action == Action::Reuse)
            });
            restored && !self.failed.contains(&key)
        });
        self.make_bound_folders(&wanted)?;
        self.expect_root_filesystem(&step.name)?;
        let target = format!("/containers/create?name={}", encode(&wanted.name));
        let target = match wanted.platform.is_empty() || !wanted.platform.contains('/') {
            true => target,
            false => format!("{target}&platform={}", encode(&wanted.platform)),
        };
        let created = client
            .post(&target, Some(&spec.body))
            .map_err(failed("create"))?;
        let id = text(created.get("Id"));
        self.ids.insert(id, wanted.name.clone());
        if let Err(error) = self.attach(&wanted.name, &spec) {
            // A container without its networks must not pass for the one that was captured.
            let removed = self.remove_container(&wanted.name);
            return Err(match removed {
                Ok(()) => Failure::engine("attach the networks of", wanted.name)(error),
                Err(failure) => failure,
            });
        }
        Ok(vec!["created".to_owned()])
    }

    fn attach(&self, name: &str, spec: &spec::ContainerSpec) -> Result<(), EngineError> {
        let client = self.tools.client;
        for (network, endpoint) in &spec.attach {
            let target = format!("/networks/{}/connect", encode(network));
            let body = json!({"Container": name, "EndpointConfig": endpoint});
            accepted(client.post(&target, Some(&body)))?;
        }
        if let Some(network) = &spec.detach {
            let target = format!("/networks/{}/disconnect", encode(network));
            let body = json!({"Container": name, "Force": true});
            accepted(client.post(&target, Some(&body)))?;
        }
        Ok(())
    }

    /// What a container must not be created without.
    fn has_what_it_needs(&self, wanted: &ContainerDefinition) -> Result<(), Failure> {
        let failed = |kind, name: &str| {
            let old = self.tools.names.old(kind, name).unwrap_or(name);
            match self.has_failed(kind, old) {
                true => Err(Failure::Needs(format!(
                    "its {} {name} did not come back",
                    kind.word()
                ))),
                false => Ok(()),
            }
        };
        for network in wanted.networks.keys() {
            failed(ItemKind::Network, network)?;
        }
        for mount in &wanted.mounts {
            match mount.kind {
                MountKind::Volume => failed(ItemKind::Volume, &mount.source)?,
                MountKind::Bind => failed(ItemKind::Bind, &mount.source)?,
                MountKind::Tmpfs | MountKind::Other => {}
            }
        }
        Ok(())
    }

    /// The name the image is known by, if that name means this image, else its id.
    fn image_reference(&self, wanted: &ContainerDefinition) -> Result<String, Failure> {
        let failed = || Failure::engine("look at", format!("image {}", wanted.image.name));
        let named = inspect_image(self.tools.client, &wanted.image.name).map_err(failed())?;
        if named.is_some_and(|image| image.id == wanted.image.id) {
            return Ok(wanted.image.name.clone());
        }
        match inspect_image(self.tools.client, &wanted.image.id).map_err(failed())? {
            Some(image) => Ok(image.id),
            None => Err(Failure::Needs(format!(
                "its image {} is not there",
                wanted.image.name
            ))),
        }
    }

    /// Folders of the host that are bound and not restored (excluded, or filled by a dump): the
    /// engine makes them only for one of the two ways to ask for a bind.
    fn make_bound_folders(&self, wanted: &ContainerDefinition) -> Result<(), Failure> {
        if !self.reach.is_local() {
            return Ok(());
        }
        let captured = wanted
            .mounts
            .iter()
            .filter(|m| m.kind == MountKind::Bind && m.data.is_some());
        for mount in captured {
            let path = Path::new(&mount.source);
            if self.reach.refusal(&mount.source).is_none() && !path.exists() {
                std::fs::create_dir_all(path).map_err(Failure::local("make", path))?;
            }
        }
        Ok(())
    }

    pub(super) fn find(&self, name: &str) -> Result<Option<ContainerDefinition>, Failure> {
        inspect_container(self.tools.client, name, &self.ids)
            .map_err(Failure::engine("look at", format!("container {name}")))
    }

    pub(super) fn start_container(&mut self, step: &Step) -> Result<Remarks, Failure> {
        let wanted = self.container_definition(&step.name)?;
        let has_dump = self.plan.steps.iter().any(|other| {
            other.kind == ItemKind::Dump && other.name == step.name && is_made(&other.action)
        });
        if !wanted.started || self.tools.request.leave_stopped {
            return Ok(Vec::new());
        }
        if self.has_failed(ItemKind::RootFilesystem, &step.name) {
            let why = "its own filesystem did not come back".to_owned();
            return Err(Failure::Needs(why));
        }
        if self.withheld.contains(&wanted.name) {
            let why = "data that it was stopped for did not come back".to_owned();
            return Err(Failure::Needs(why));
        }
        self.dependencies_are_up(&step.name)?;
        // Files of a dump are placed before the server runs: the dump's own step starts it.
        if has_dump {
            return Ok(Vec::new());
        }
        self.tools
            .progress
            .phase(&format!("starting container {}", wanted.name));
        self.start(&wanted.name)?;
        Ok(vec!["started".to_owned()])
    }

    fn dependencies_are_up(&self, name: &str) -> Result<(), Failure> {
        let by_new: BTreeMap<&str, &ContainerDefinition> = self
            .tools
            .holding
            .containers
            .values()
            .map(|held| (held.definition.name.as_str(), &held.definition))
            .collect();
        let new = self.tools.names.of(ItemKind::Container, name);
        let Some(needs) = waits_for(&by_new).remove(new) else {
            return Ok(());
        };
        for (need, condition) in needs {
            let old = self
                .tools
                .names
                .old(ItemKind::Container, &need)
                .unwrap_or(&need)
                .to_owned();
            if self.has_failed(ItemKind::Container, &old) || self.has_failed(ItemKind::Dump, &old) {
                return Err(Failure::Needs(format!(
                    "it waits for {need}, which did not come back"
                )));
            }
            let restored = self.plan.steps.iter().any(|step| {
                (step.kind, step.name.as_str()) == (ItemKind::Container, old.as_str())
                    && (is_made(&step.action) || step.action == Action::Reuse)
            });
            let starts = by_new.get(need.as_str()).is_some_and(|c| c.started);
            if restored && starts {
                match condition {
                    Condition::Started => {}
                    Condition::Healthy => drop(self.await_healthy(&need)?),
                    Condition::Completed => self.await_completed(&need)?,
                }
            }
        }
        Ok(())
    }

    pub(super) fn start(&self, name: &str) -> Result<(), Failure> {
        let target = format!("/containers/{}/start", encode(name));
        match self.tools.client.post_within(&target, None, STOP_TIMEOUT) {
            // It runs already.
            Ok(_) | Err(EngineError::Refused { status: 304, .. }) => Ok(()),
            Err(error) => Err(Failure::engine("start", format!("container {name}"))(error)),
        }
    }

    pub(super) fn stop(&self, name: &str) -> Result<(), Failure> {
        let target = format!("/containers/{}/stop?t={STOP_SECONDS}", encode(name));
        match self.tools.client.post_within(&target, None, STOP_TIMEOUT) {
            Ok(_)
            | Err(EngineError::Refused {
                status: 304 | 404, ..
            }) => Ok(()),
            Err(error) => Err(Failure::engine("stop", format!("container {name}"))(error)),
        }
    }

    pub(super) fn remove_container(&mut self, name: &str) -> Result<(), Failure> {
        self.stop(name)?;
        // Who still shares with the old one is not equal to who shares with the new one.
        self.ids.retain(|_, known| known != name);
        let target = format!("/containers/{}?force=true&v=false", encode(name));
        gone(self.tools.client.delete(&target))
            .map_err(Failure::engine("remove", format!("container {name}")))
    }

    /// Whether the plan replaces a container of the target.
    pub(super) fn replaces(&self, present: &PresentContainer) -> bool {
        self.plan.steps.iter().any(|step| {
            step.kind == ItemKind::Container
                && matches!(step.action, Action::Replace { .. })
                && step.name == present.definition.name
        })
    }

    /// Frees a network from containers that are replaced; others keep it.
    pub(super) fn release_network(&mut self, network: &str) -> Result<(), Failure> {
        let containers = self.tools.present.containers.values();
        let users: Vec<PresentContainer> = containers
            .filter(|container| container.definition.networks.contains_key(network))
            .cloned()
            .collect();
        if let Some(user) = users.iter().find(|user| !self.replaces(user)) {
            let name = &user.definition.name;
            return Err(Failure::Needs(format!(
                "container {name} uses it and is not restored"
            )));
        }
        users
            .iter()
            .try_for_each(|user| self.remove_container(&user.definition.name))
    }

    /// Awaits health and compares what runs now with what was captured.
    pub(super) fn prove_container(&mut self, step: &Step) -> Result<Remarks, Failure> {
        let wanted = self.container_definition(&step.name)?;
        let title = format!("container {}", step.name);
        let mut remarks = Vec::new();
        if wanted.started && !self.tools.request.leave_stopped {
            if self.has_failed(ItemKind::Dump, &step.name) {
                return Err(Failure::Needs("its dump was not loaded".to_owned()));
            }
            remarks.push(self.await_healthy(&wanted.name)?);
        }
        let Some(found) = self.find(&wanted.name)? else {
            return Err(Failure::Unhealthy {
                container: wanted.name,
                what: "is gone".to_owned(),
            });
        };
        let places = compare::containers(&wanted, &found, self.tools.kin);
        if places.is_empty() {
            remarks.push("settings equal".to_owned());
        } else {
            let message = format!("restored, but it differs in {}", places.join(", "));
            self.findings.push(Finding::warning(title.clone(), message));
        }
        self.tools.progress.item(&title, &Outcome::Saved);
        Ok(remarks)
    }

    /// The engine's answer to "inspect".
    pub(super) fn inspect(&self, name: &str) -> Result<Value, Failure> {
        let answer = self
            .tools
            .client
            .get(&format!("/containers/{}/json", encode(name)));
        answer.map_err(Failure::engine("look at", format!("container {name}")))
    }

    pub(super) fn is_running(&self, name: &str) -> Result<bool, Failure> {
        let running = self
            .inspect(name)?
            .pointer("/State/Running")
            .and_then(Value::as_bool);
        Ok(running == Some(true))
    }
}

/// Podman answers some requests with a word where Docker answers nothing.
fn accepted(answer: Result<Value, EngineError>) -> Result<(), EngineError> {
    match answer {
        Ok(_) | Err(EngineError::Malformed(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
