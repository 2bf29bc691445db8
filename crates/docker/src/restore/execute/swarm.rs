//! Secrets, configs and services of a swarm.
//!
//! Invariant: a secret's value goes from its file into one request and nowhere else.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::plan::{Action, Step};
use serde_json::{Value, json};

use super::{Execution, Remarks};
use crate::client::encode;
use crate::definition::{ObjectKind, SwarmObject};
use crate::discover::{ListedObject, swarm_objects};
use crate::restore::failure::Failure;
use crate::restore::{compare, swarm};

/// The longest wait for a service's tasks.
const TASKS_WAIT: Duration = Duration::from_secs(300);
/// How often tasks are asked for.
const TASKS_POLL: Duration = Duration::from_millis(300);
/// The largest secret a swarm takes, in bytes.
const SECRET_BYTES_MAX: u64 = 500 * 1024;

impl Execution<'_> {
    pub(super) fn swarm_object(&mut self, step: &Step) -> Result<Remarks, Failure> {
        if step.action == Action::Reuse {
            return Ok(Vec::new());
        }
        let mut held = self.tools.holding.swarm.values();
        let held = held.find(|held| held.record.item.path == step.path);
        let object = held
            .map(|held| held.definition.clone())
            .ok_or_else(|| Failure::Needs(format!("{} is not in the recovery point", step.path)))?;
        let failed = Failure::engine("look at", step.name.clone());
        let there = swarm_objects(self.tools.client).map_err(failed)?;
        match object.kind {
            ObjectKind::Secret => self.secret(&object, &there),
            ObjectKind::Config => self.config(step, &object, &there),
            ObjectKind::Service => self.service(step, &object, &there),
        }
    }

    fn secret(&self, secret: &SwarmObject, there: &[ListedObject]) -> Result<Remarks, Failure> {
        if find(there, secret).is_some() {
            return Ok(vec!["it is there".to_owned()]);
        }
        let name = &secret.name;
        let Some(file) = self.tools.request.secrets.get(name) else {
            return Err(Failure::Needs(format!(
                "no file was given for secret {name}"
            )));
        };
        let length = file.metadata().map_err(Failure::local("read", file))?.len();
        if length > SECRET_BYTES_MAX {
            return Err(Failure::Needs(format!(
                "{} has {length} bytes; a swarm takes secrets up to {SECRET_BYTES_MAX}",
                file.display()
            )));
        }
        let value = std::fs::read(file).map_err(Failure::local("read", file))?;
        let mut body = secret.spec.clone();
        body.insert("Data".to_owned(), STANDARD.encode(value).into());
        self.create(secret, &Value::Object(body))?;
        Ok(vec!["its value is that of the file".to_owned()])
    }

    fn config(
        &self,
        step: &Step,
        config: &SwarmObject,
        there: &[ListedObject],
    ) -> Result<Remarks, Failure> {
        if let Some(found) = find(there, config) {
            if compare::swarm_objects(config, &found.object).is_empty() {
                return Ok(vec!["it is there".to_owned()]);
            }
            replaces(step, config)?;
            // A config in use is refused by the engine, with the service that uses it.
            let failed = Failure::engine("remove", step.name.clone());
            let target = format!("/configs/{}", encode(&found.id));
            self.tools.client.delete(&target).map_err(failed)?;
        }
        self.create(config, &Value::Object(config.spec.clone()))?;
        Ok(Vec::new())
    }

    fn service(
        &mut self,
        step: &Step,
        service: &SwarmObject,
        there: &[ListedObject],
    ) -> Result<Remarks, Failure> {
        self.has_what_a_service_needs(service)?;
        let (service, _said_in_the_plan) = swarm::for_target(service, &self.tools.present);
        let spec = Value::Object(service.with_ids(|kind, name| {
            let mut there = there.iter();
            let found = there.find(|o| o.object.kind == kind && o.object.name == name)?;
            Some(found.id.clone())
        }));
        match find(there, &service) {
            Some(found) if compare::swarm_objects(&service, &found.object).is_empty() => {}
            Some(found) => {
                replaces(step, &service)?;
                let (id, version) = (encode(&found.id), found.version);
                let target = format!("/services/{id}/update?version={version}");
                let failed = Failure::engine("update", step.name.clone());
                self.tools
                    .client
                    .post(&target, Some(&spec))
                    .map_err(failed)?;
            }
            None => self.create(&service, &spec)?,
        }
        self.tools
            .progress
            .phase(&format!("waiting for the tasks of {}", step.name));
        let remark = self.await_tasks(&service)?;
        let failed = Failure::engine("look at", step.name.clone());
        let there = swarm_objects(self.tools.client).map_err(failed)?;
        let places = match find(&there, &service) {
            Some(found) => compare::swarm_objects(&service, &found.object),
            None => vec!["existence".to_owned()],
        };
        if places.is_empty() {
            return Ok(vec![remark, "settings equal".to_owned()]);
        }
        let message = format!("restored, but it differs in {}", places.join(", "));
        self.findings
            .push(Finding::warning(step.name.clone(), message));
        Ok(vec![remark])
    }

    fn create(&self, object: &SwarmObject, body: &Value) -> Result<(), Failure> {
        let target = format!("/{}/create", object.kind.folder());
        let subject = format!("{} {}", object.kind.word(), object.name);
        let created = self.tools.client.post(&target, Some(body));
        created
            .map(drop)
            .map_err(Failure::engine("create", subject))
    }

    /// What came back before must have come back.
    fn has_what_a_service_needs(&self, service: &SwarmObject) -> Result<(), Failure> {
        let came_back = |kind: ItemKind, name: String| match self.has_failed(kind, &name) {
            true => Err(Failure::Needs(format!(
                "its {} {name} did not come back",
                kind.word()
            ))),
            false => Ok(()),
        };
        for kind in [ObjectKind::Secret, ObjectKind::Config] {
            for name in service.files(kind) {
                came_back(ItemKind::Object, format!("{} {name}", kind.word()))?;
            }
        }
        let old = |kind, name: &str| self.tools.names.old(kind, name).unwrap_or(name).to_owned();
        for network in service.networks() {
            came_back(ItemKind::Network, old(ItemKind::Network, network))?;
        }
        for mount in service.mounts() {
            match mount.kind.as_str() {
                "volume" => came_back(ItemKind::Volume, old(ItemKind::Volume, &mount.source))?,
                "bind" => came_back(ItemKind::Bind, mount.source)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Waits until as many tasks run as the service wants.
    fn await_tasks(&self, service: &SwarmObject) -> Result<String, Failure> {
        let begin = Instant::now();
        loop {
            let filters = json!({"service": [service.name], "desired-state": ["running"]});
            let target = format!("/tasks?filters={}", encode(&filters.to_string()));
            let failed = Failure::engine("list the tasks of", service.name.clone());
            let tasks = self.tools.client.get(&target).map_err(failed)?;
            let Some(wanted) = self.wanted_tasks(service) else {
                return Ok("started".to_owned());
            };
            let tasks: Vec<&Value> = tasks.as_array().into_iter().flatten().collect();
            let state = |task: &&&Value| task.pointer("/Status/State") == Some(&json!("running"));
            let running = tasks.iter().filter(state).count();
            if running >= wanted {
                let seconds = begin.elapsed().as_secs_f64();
                return Ok(format!(
                    "{running} of {wanted} tasks run after {seconds:.1} s"
                ));
            }
            if begin.elapsed() >= TASKS_WAIT {
                let said = tasks
                    .iter()
                    .find_map(|task| task.pointer("/Status/Err")?.as_str());
                let said = said.map(|text| format!(": {text}")).unwrap_or_default();
                return Err(Failure::Needs(format!(
                    "{running} of {wanted} tasks run after {} s{said}",
                    TASKS_WAIT.as_secs()
                )));
            }
            self.tools.cancel.check()?;
            std::thread::sleep(TASKS_POLL);
        }
    }

    /// How many tasks must run; none for jobs, which end.
    fn wanted_tasks(&self, service: &SwarmObject) -> Option<usize> {
        let mode = service.spec.get("Mode");
        if let Some(replicated) = mode.and_then(|mode| mode.get("Replicated")) {
            let replicas = replicated.get("Replicas").and_then(Value::as_u64);
            return usize::try_from(replicas.unwrap_or(1)).ok();
        }
        mode.and_then(|mode| mode.get("Global"))?;
        let constraints = service.constraints();
        let nodes = self.tools.present.nodes.iter();
        let active = nodes.filter(|node| {
            let available = node.get("Spec").and_then(|spec| spec.get("Availability"));
            available == Some(&json!("active")) && swarm::fits(node, &constraints)
        });
        Some(active.count())
    }
}

fn find<'l>(there: &'l [ListedObject], object: &SwarmObject) -> Option<&'l ListedObject> {
    let mut there = there.iter();
    there.find(|o| o.object.kind == object.kind && o.object.name == object.name)
}

/// Whether the plan knew that another one is there.
fn replaces(step: &Step, object: &SwarmObject) -> Result<(), Failure> {
    match step.action {
        Action::Replace { .. } => Ok(()),
        _ => Err(Failure::Outdated {
            subject: format!("{} {}", object.kind.word(), object.name),
            why: "it is there and differs".to_owned(),
        }),
    }
}
