//! Everything an engine tells about itself, read once.
//!
//! Invariant: only `GET` requests. An object that vanishes between list and look is a finding.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use refloat_database::{Container as DatabaseContainer, Recipe};
use refloat_model::cancel::Cancel;
use refloat_model::finding::Finding;
use serde_json::Value;

use super::podman::{self, Libpod};
use super::rootfs::Changes;
use super::swarm;
use crate::client::{Client, encode};
use crate::consistency::Consistency;
use crate::definition::{
    ContainerDefinition, HostDefinition, ImageDefinition, MountDefinition, NetworkDefinition,
    Object, Surroundings, SwarmObject, VolumeDefinition, is_built_in_name,
};
use crate::error::{EngineError, chain};
use crate::mask::Mask;
use crate::options::{Options, RootfsSelection};

/// What one engine holds.
pub(crate) struct Estate {
    pub(crate) host: HostDefinition,
    pub(crate) containers: Vec<RunningContainer>,
    pub(crate) images: BTreeMap<String, ImageDefinition>,
    pub(crate) volumes: BTreeMap<String, StoredVolume>,
    pub(crate) networks: BTreeMap<String, NetworkDefinition>,
    pub(crate) swarm: Vec<SwarmObject>,
    pub(crate) libpod: Libpod,
    pub(crate) findings: Vec<Finding>,
}

/// A container, running or not, with what is known beside its definition.
pub(crate) struct RunningContainer {
    pub(crate) id: String,
    pub(crate) definition: ContainerDefinition,
    pub(crate) state: String,
    pub(crate) started_at: String,
    pub(crate) consistency: Consistency,
    pub(crate) recipe: Option<Recipe>,
    pub(crate) changes: Changes,
    pub(crate) mask: Arc<Mask>,
}

/// A volume and where the engine has it.
#[derive(Clone)]
pub(crate) struct StoredVolume {
    pub(crate) definition: VolumeDefinition,
    pub(crate) mountpoint: String,
}

impl RunningContainer {
    /// Whether its processes may write.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state.as_str(), "running" | "restarting")
    }

    /// The compose project.
    pub(crate) fn project(&self) -> Option<&str> {
        self.definition
            .project
            .as_ref()
            .map(|member| member.project.as_str())
    }

    /// The swarm service whose task it is; such containers are made by the swarm.
    pub(crate) fn swarm_service(&self) -> Option<&str> {
        self.definition.label("com.docker.swarm.service.name")
    }

    /// The name under which its data lies in the point. A swarm gives each new task another one.
    pub(crate) fn lasting_name(&self) -> &str {
        let name = &self.definition.name;
        let task = self.definition.label("com.docker.swarm.task.id");
        let lasting = task.and_then(|task| name.strip_suffix(task)?.strip_suffix('.'));
        lasting.unwrap_or(name)
    }

    /// The stack of its swarm service.
    pub(crate) fn stack(&self) -> Option<&str> {
        self.definition.label("com.docker.stack.namespace")
    }
}

impl Estate {
    /// Asks the engine for everything.
    pub(crate) fn read(
        client: &Client,
        options: &Options,
        cancel: &Cancel,
    ) -> Result<Self, ReadError> {
        let failed = |operation| move |error| ReadError::Engine(operation, error);
        let get = |operation, target: &str| client.get(target).map_err(failed(operation));
        let version = get("ask the version of", "/version")?;
        let info = object(get("ask the settings of", "/info")?);
        let manages_swarm = swarm::is_manager(&info);
        // Podman has no plugins, and a proxy may forbid the call: then none are known.
        let plugins = client.get("/plugins").unwrap_or(Value::Null);
        let mut estate = Self {
            host: HostDefinition::from_answers(&version, info, &plugins),
            containers: Vec::new(),
            images: BTreeMap::new(),
            volumes: BTreeMap::new(),
            networks: BTreeMap::new(),
            swarm: Vec::new(),
            libpod: Libpod::default(),
            findings: Vec::new(),
        };
        for volume in list(get("list the volumes of", "/volumes")?.get("Volumes")) {
            estate.add_volume(volume);
        }
        for network in list(Some(&get("list the networks of", "/networks")?)) {
            let network = NetworkDefinition::from_inspect(network);
            estate.networks.insert(network.name.clone(), network);
        }
        let images = get("list the images of", "/images/json")?;
        estate.read_images(client, &list(Some(&images)), cancel)?;
        let containers = get("list the containers of", "/containers/json?all=true")?;
        let containers = list(Some(&containers));
        let ids: Vec<String> = containers.iter().map(|c| text(c, "Id")).collect();
        podman::read(client, &mut estate, &ids);
        estate.read_containers(client, options, &containers, cancel)?;
        if manages_swarm {
            swarm::read(client, &mut estate).map_err(failed("read the swarm of"))?;
        }
        Ok(estate)
    }

    /// Whether the engine makes the network by itself.
    pub(crate) fn is_built_in_network(&self, name: &str) -> bool {
        is_built_in_name(name)
            || self
                .networks
                .get(name)
                .is_some_and(NetworkDefinition::is_built_in)
    }

    fn add_volume(&mut self, volume: Object) {
        let mountpoint = text(&volume, "Mountpoint");
        let definition = VolumeDefinition::from_inspect(volume);
        let name = definition.name.clone();
        self.volumes.insert(
            name,
            StoredVolume {
                definition,
                mountpoint,
            },
        );
    }

    fn read_images(
        &mut self,
        client: &Client,
        listed: &[Object],
        cancel: &Cancel,
    ) -> Result<(), ReadError> {
        for id in listed.iter().map(|image| text(image, "Id")) {
            cancel.check().map_err(|_| ReadError::Cancelled)?;
            self.read_image(client, &id)?;
        }
        Ok(())
    }

    fn read_image(&mut self, client: &Client, id: &str) -> Result<(), ReadError> {
        match client.get(&format!("/images/{}/json", encode(id))) {
            Ok(inspect) => {
                let image = ImageDefinition::from_inspect(object(inspect));
                self.images.insert(image.id.clone(), image);
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(ReadError::Engine("look at the images of", error)),
        }
        Ok(())
    }

    fn read_containers(
        &mut self,
        client: &Client,
        options: &Options,
        listed: &[Object],
        cancel: &Cancel,
    ) -> Result<(), ReadError> {
        let names: HashMap<String, String> = listed
            .iter()
            .map(|container| (text(container, "Id"), first_name(container)))
            .collect();
        for id in listed.iter().map(|container| text(container, "Id")) {
            cancel.check().map_err(|_| ReadError::Cancelled)?;
            let inspect = match client.get(&format!("/containers/{}/json", encode(&id))) {
                Ok(inspect) => object(inspect),
                Err(error) if error.is_not_found() => {
                    let name = names.get(&id).unwrap_or(&id);
                    self.findings.push(Finding::note(
                        format!("container {name}"),
                        "it was removed while the engine was being looked at",
                    ));
                    continue;
                }
                Err(error) => return Err(ReadError::Engine("look at the containers of", error)),
            };
            if is_restores_own(&inspect) {
                continue;
            }
            // Untagged images are in no list; a container's image must be known all the same.
            let image = text(&inspect, "Image");
            if !self.images.contains_key(&image) && !image.is_empty() {
                self.read_image(client, &image)?;
            }
            let mut container = self.container(id, inspect, &names, options);
            if options.rootfs != RootfsSelection::Ignore {
                container.changes = self.changes(client, &container);
            }
            self.containers.push(container);
        }
        self.containers
            .sort_by(|a, b| a.definition.name.cmp(&b.definition.name));
        Ok(())
    }

    /// Reads one container's answer to "inspect".
    pub(crate) fn container(
        &mut self,
        id: String,
        inspect: Object,
        names: &HashMap<String, String>,
        options: &Options,
    ) -> RunningContainer {
        let state = inspect.get("State").cloned().unwrap_or_default();
        let state_text = |key: &str| {
            let value = state.get(key).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let command = effective_command(&inspect);
        let definition = self.definition(inspect, &|id| names.get(id).cloned(), &|_| None);
        let labels = definition.config.get("Labels").and_then(Value::as_object);
        let labels = labels
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
        let policy = options.consistency_for(&definition.name);
        let (mut consistency, mut complaints) = Consistency::from_labels(policy, labels);
        let auto_remove = definition.host_config.get("AutoRemove");
        if auto_remove.and_then(Value::as_bool) == Some(true) {
            complaints.extend(consistency.without_stop());
        }
        for complaint in complaints {
            let subject = format!("container {}", definition.name);
            self.findings.push(Finding::warning(subject, complaint));
        }
        let environment: Vec<String> = definition
            .environment()
            .into_iter()
            .map(str::to_owned)
            .collect();
        let recipe = Recipe::recognise(&DatabaseContainer {
            image: &definition.image.name,
            environment: &environment,
            command: &command,
        });
        RunningContainer {
            id,
            state: state_text("Status"),
            started_at: started_at(&state_text("StartedAt")),
            mask: Arc::new(Mask::of(environment.iter().map(String::as_str))),
            definition,
            consistency,
            recipe,
            changes: Changes::default(),
        }
    }

    /// The definition in an answer to "inspect", given what is known around it.
    pub(crate) fn definition(
        &self,
        inspect: Object,
        names: &dyn Fn(&str) -> Option<String>,
        data: &dyn Fn(&MountDefinition) -> Option<refloat_model::tree_path::TreePath>,
    ) -> ContainerDefinition {
        ContainerDefinition::from_inspect(
            inspect,
            &Surroundings {
                host_name: &self.host.name,
                names,
                digests: &|image| {
                    let image = self.images.get(image);
                    image.map(|i| i.repo_digests.clone()).unwrap_or_default()
                },
                podman: &|id| self.libpod.containers.get(id).cloned().unwrap_or_default(),
                data,
            },
        )
    }

    fn changes(&mut self, client: &Client, container: &RunningContainer) -> Changes {
        match client.get(&format!("/containers/{}/changes", encode(&container.id))) {
            Ok(answer) => Changes::from_answer(&answer, &container.definition.mounts),
            Err(error) => {
                self.findings.push(Finding::warning(
                    format!("container {}", container.definition.name),
                    format!(
                        "data written into its own filesystem is not known: {}",
                        chain(&error)
                    ),
                ));
                Changes::default()
            }
        }
    }
}

/// Why an engine could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// A request failed; the words before the engine's name.
    Engine(&'static str, EngineError),
    /// Somebody asked the run to stop.
    Cancelled,
}

/// Whether a restore made the container for itself: its journal, or what carries data in.
fn is_restores_own(inspect: &Object) -> bool {
    let labels = inspect.get("Config").and_then(|c| c.get("Labels"));
    labels.is_some_and(|l| l.get(crate::restore::LABEL_JOURNAL).is_some())
}

/// What the container runs: the engine has put entry point and command together.
fn effective_command(inspect: &Object) -> Vec<String> {
    let arguments = inspect.get("Args").and_then(Value::as_array);
    inspect
        .get("Path")
        .into_iter()
        .chain(arguments.into_iter().flatten())
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// Engines say year 1 for "never".
fn started_at(text: &str) -> String {
    if text.starts_with("0001-") {
        String::new()
    } else {
        text.to_owned()
    }
}

fn first_name(container: &Object) -> String {
    container
        .get("Names")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        // Links add names of the form `/other/alias`.
        .map(|name| name.trim_start_matches('/'))
        .find(|name| !name.contains('/'))
        .unwrap_or_default()
        .to_owned()
}

pub(super) fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}

pub(super) fn list(value: Option<&Value>) -> Vec<Object> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .cloned()
        .collect()
}

fn text(object: &Object, key: &str) -> String {
    let text = object.get(key).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_restore_makes_for_itself_is_no_part_of_the_estate() {
        let own = |labels: Value| is_restores_own(&object(json!({"Config": {"Labels": labels}})));
        assert!(own(json!({"refloat.restore.point": "0123"})));
        assert!(!own(json!({"refloat.consistency": "stop"})));
        assert!(!own(json!(null)));
        assert!(!is_restores_own(&Object::new()));
    }
}
