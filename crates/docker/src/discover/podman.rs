//! Podman's own API, for what Docker's does not tell: pods, secrets, options that Docker has not.
//!
//! Invariant: what a container has of these is missed by name until somebody waives it; no restore
//! brings it back.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use refloat_model::finding::Finding;
use refloat_model::item::{Item, ItemKind};
use refloat_model::subject::SubjectKind;
use serde_json::Value;

use super::estate::{Estate, list};
use super::inventory::{Build, skip};
use crate::client::{Client, encode};
use crate::definition::{EngineKind, PodmanOnly};
use crate::error::{EngineError, chain};

/// What Podman tells of its containers and secrets.
#[derive(Default)]
pub(crate) struct Libpod {
    /// By the container's id; only those that have something.
    pub(crate) containers: HashMap<String, PodmanOnly>,
    /// The names of all secrets.
    secrets: BTreeSet<String>,
}

/// Asks Podman about the containers of these ids.
pub(super) fn read(client: &Client, estate: &mut Estate, ids: &[String]) {
    if estate.host.engine != EngineKind::Podman {
        return;
    }
    let version = estate.host.versions.get("engine").cloned();
    match ask(client, &version.unwrap_or_default(), ids) {
        Ok((libpod, unknown)) => {
            estate.libpod = libpod;
            estate
                .findings
                .extend(unknown.into_iter().map(|(id, error)| {
                    let message = format!(
                        "whether it belongs to a pod or is given secrets is not known: {}",
                        chain(&error)
                    );
                    Finding::error(format!("container {id}"), message)
                }));
        }
        // A proxy may let Docker's requests through alone.
        Err(error) => estate.findings.push(Finding::warning(
            format!("host {}", estate.host.name),
            format!(
                "whether containers belong to pods or are given secrets is not known: {}",
                chain(&error)
            ),
        )),
    }
}

/// What Podman told, and the containers of which it did not.
type Told = (Libpod, Vec<(String, EngineError)>);

fn ask(client: &Client, version: &str, ids: &[String]) -> Result<Told, EngineError> {
    let get = |target: &str| client.get(&format!("/v{version}/libpod/{target}"));
    let names = |listed: &Value, pointer: &str| -> Vec<(String, String)> {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let listed = list(Some(listed)).into_iter().map(Value::Object);
        listed
            .filter_map(|one| {
                let id = text(one.get("Id").or(one.get("ID")))?;
                Some((id, text(one.pointer(pointer))?))
            })
            .collect()
    };
    let pods: HashMap<String, String> = names(&get("pods/json")?, "/Name").into_iter().collect();
    let (mut libpod, mut unknown) = (Libpod::default(), Vec::new());
    let secrets = names(&get("secrets/json")?, "/Spec/Name");
    libpod.secrets = secrets.into_iter().map(|(_, name)| name).collect();
    for id in ids {
        let inspect = match get(&format!("containers/{}/json", encode(id))) {
            Ok(inspect) => inspect,
            Err(error) if error.is_not_found() => continue,
            Err(error) => {
                unknown.push((id.clone(), error));
                continue;
            }
        };
        let only = PodmanOnly::from_inspect(&inspect, &pods);
        if !only.is_empty() {
            libpod.containers.insert(id.clone(), only);
        }
    }
    Ok((libpod, unknown))
}

impl Build<'_> {
    pub(super) fn podman(&mut self) {
        let mut pods: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut secrets: BTreeSet<&str> = BTreeSet::new();
        if self.selects_everything() {
            secrets.extend(self.estate.libpod.secrets.iter().map(String::as_str));
        }
        for container in self.captured() {
            let definition = &container.definition;
            secrets.extend(definition.podman.secrets.iter().map(String::as_str));
            if let Some(pod) = &definition.podman.pod {
                pods.entry(pod).or_default().push(&definition.name);
            }
        }
        for (name, members) in pods {
            let mut pod = Item::new(
                ItemKind::Object,
                format!("pod {name}"),
                self.layout.pod(name),
            );
            let subject = self.references.subject(SubjectKind::Object, pod_name(name));
            let why = format!(
                "a pod of Podman is not captured: its containers ({}) come back sharing their \
                 namespaces, and in no pod; keep what makes it elsewhere, and waive {subject}",
                members.join(", ")
            );
            pod.provides = vec![subject];
            skip(&mut pod, "podman-pod", why);
            self.items.push(pod);
        }
        for name in secrets {
            let path = self.layout.secret(name);
            let title = format!("value of Podman's secret {name}");
            let why = format!(
                "the engine does not give its value out, and no restore gives it to a container: keep \
                 it and what makes the container elsewhere, and waive secret:{name}"
            );
            let value = self.secret_value(title, path, name, why);
            self.items.push(value);
        }
    }
}

/// The risk of a container that was created with options Docker does not have.
pub(super) fn options_lost(only: &PodmanOnly) -> Option<String> {
    let options: Vec<&str> = only.options.iter().map(String::as_str).collect();
    let what = options.join(", ");
    (!what.is_empty()).then(|| {
        format!(
            "it was created with {what}, which Docker's API cannot ask for: it comes back without"
        )
    })
}

/// How a pod is referred to among objects.
pub(super) fn pod_name(name: &str) -> String {
    format!("pod/{name}")
}
