//! What the target has already, read once before planning.
//!
//! Invariant: only `GET` requests.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use serde_json::Value;

use super::failure::Failure;
use super::reach::Reach;
use crate::client::{Client, encode};
use crate::definition::{
    ContainerDefinition, EngineKind, HostDefinition, ImageDefinition, MountKind, NetworkDefinition,
    Object, ObjectKind, PodmanOnly, Surroundings, VolumeDefinition,
};
use crate::discover::{BindRule, ListedObject, is_manager, swarm_objects};
use crate::error::EngineError;
use crate::locality::is_own_container;

/// A container of the target.
#[derive(Clone, Debug)]
pub(super) struct PresentContainer {
    pub(super) id: String,
    pub(super) definition: ContainerDefinition,
}

/// A port that is taken on the target.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct TakenPort {
    /// `tcp`, `udp` or `sctp`.
    pub(super) protocol: String,
    /// None means every address.
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
    /// The container that has it; none for other programs.
    pub(super) container: Option<String>,
}

/// All that is on the target.
#[derive(Debug)]
pub(super) struct Present {
    pub(super) host: HostDefinition,
    /// The answer to `/info`.
    pub(super) info: Value,
    pub(super) containers: BTreeMap<String, PresentContainer>,
    pub(super) networks: BTreeMap<String, NetworkDefinition>,
    pub(super) volumes: BTreeMap<String, (VolumeDefinition, String)>,
    /// By image id.
    pub(super) images: BTreeMap<String, ImageDefinition>,
    pub(super) ports: BTreeSet<TakenPort>,
    /// Services, configs and secrets, where it manages a swarm.
    pub(super) swarm: Vec<ListedObject>,
    /// The nodes of the swarm it manages, as the engine says them.
    pub(super) nodes: Vec<Object>,
}

impl Present {
    /// Asks the target for everything.
    pub(super) fn read(client: &Client) -> Result<Self, Failure> {
        let get = |operation: &'static str, target: &str| {
            client
                .get(target)
                .map_err(Failure::engine(operation, client.address().to_string()))
        };
        let version = get("ask the version of", "/version")?;
        let info = get("ask the settings of", "/info")?;
        let settings = info.as_object().cloned().unwrap_or_default();
        let mut present = Self {
            host: HostDefinition::from_answers(&version, settings, &Value::Null),
            info,
            containers: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            images: BTreeMap::new(),
            ports: BTreeSet::new(),
            swarm: Vec::new(),
            nodes: Vec::new(),
        };
        for network in objects(&get("list the networks of", "/networks")?) {
            let network = NetworkDefinition::from_inspect(network);
            present.networks.insert(network.name.clone(), network);
        }
        // Podman lists its usual network under Docker's name, and takes it by its own.
        if let (EngineKind::Podman, Some(usual)) =
            (present.host.engine, present.networks.get("bridge").cloned())
        {
            present.networks.entry("podman".to_owned()).or_insert(usual);
        }
        let volumes = get("list the volumes of", "/volumes")?;
        for volume in volumes.get("Volumes").map(objects).unwrap_or_default() {
            let mountpoint = text(volume.get("Mountpoint"));
            let volume = VolumeDefinition::from_inspect(volume);
            present
                .volumes
                .insert(volume.name.clone(), (volume, mountpoint));
        }
        for image in objects(&get("list the images of", "/images/json")?) {
            present.read_image(client, &text(image.get("Id")))?;
        }
        let listed = objects(&get("list the containers of", "/containers/json?all=true")?);
        present.read_containers(client, &listed)?;
        if present.manages_swarm() {
            let failed = Failure::engine("list the swarm of", client.address().to_string());
            present.swarm = swarm_objects(client).map_err(failed)?;
            present.nodes = objects(&get("list the nodes of", "/nodes")?);
        }
        Ok(present)
    }

    /// Whether the target is a manager of a swarm.
    pub(super) fn manages_swarm(&self) -> bool {
        self.info.as_object().is_some_and(is_manager)
    }

    /// A service, config or secret.
    pub(super) fn swarm_object(&self, kind: ObjectKind, name: &str) -> Option<&ListedObject> {
        let mut objects = self.swarm.iter();
        objects.find(|o| o.object.kind == kind && o.object.name == name)
    }

    fn read_image(&mut self, client: &Client, id: &str) -> Result<(), Failure> {
        if let Some(image) =
            inspect_image(client, id).map_err(Failure::engine("look at", format!("image {id}")))?
        {
            self.images.insert(image.id.clone(), image);
        }
        Ok(())
    }

    fn read_containers(&mut self, client: &Client, listed: &[Object]) -> Result<(), Failure> {
        let names: HashMap<String, String> = listed
            .iter()
            .map(|container| (text(container.get("Id")), first_name(container)))
            .collect();
        for container in listed {
            let id = text(container.get("Id"));
            let Some(definition) = inspect_container(client, &id, &names)
                .map_err(Failure::engine("look at", format!("container {id}")))?
            else {
                continue;
            };
            let ports = container.get("Ports").map(objects_of).unwrap_or_default();
            self.ports.extend(ports.iter().filter_map(|port| {
                Some(TakenPort {
                    protocol: text(port.get("Type")),
                    address: specific(&text(port.get("IP"))),
                    port: u16::try_from(port.get("PublicPort")?.as_u64()?).ok()?,
                    container: Some(definition.name.clone()),
                })
            }));
            let name = definition.name.clone();
            self.containers
                .insert(name, PresentContainer { id, definition });
        }
        Ok(())
    }

    /// The image a name stands for on the target.
    pub(super) fn image_named(&self, name: &str) -> Option<&ImageDefinition> {
        let wanted = crate::discover::named_image(name, "");
        self.images.values().find(|image| {
            image
                .tags
                .iter()
                .any(|tag| crate::discover::named_image(tag, "") == wanted)
        })
    }

    /// Names of the containers that mount a volume.
    pub(super) fn users_of_volume<'a>(
        &'a self,
        volume: &'a str,
    ) -> impl Iterator<Item = &'a PresentContainer> {
        self.containers.values().filter(move |container| {
            let mounts = &container.definition.mounts;
            mounts
                .iter()
                .any(|mount| mount.kind == MountKind::Volume && mount.source == volume)
        })
    }

    /// Containers that mount a volume and are stopped while its data is replaced.
    pub(super) fn stopped_for_volume<'a>(
        &'a self,
        volume: &'a str,
    ) -> impl Iterator<Item = &'a PresentContainer> {
        self.containers.values().filter(move |container| {
            let mut mounts = container.definition.mounts.iter();
            mounts.any(|mount| {
                mount.kind == MountKind::Volume
                    && mount.source == volume
                    && !(mount.read_only && container.is_left_as_reader())
            })
        })
    }
}

impl Present {
    /// Containers that are stopped while a folder or file of the host is replaced: what they bind
    /// is it, holds it, or lies in it. Who binds the whole host watches it and keeps no data in it.
    pub(super) fn users_of_bind<'a>(
        &'a self,
        source: &str,
        reach: &'a Reach,
    ) -> impl Iterator<Item = &'a PresentContainer> {
        let wanted = reach.real(source);
        let has = move |place: &str| {
            let rule = BindRule::for_source(place, &reach.root_dir, &[]);
            let place = reach.real(place);
            place.starts_with(&wanted)
                || wanted.starts_with(&place) && rule != Some(BindRule::HostTree)
        };
        self.containers.values().filter(move |container| {
            let mut mounts = container.definition.mounts.iter();
            mounts.any(|mount| {
                let fits = match mount.kind {
                    MountKind::Bind => has(&mount.source),
                    MountKind::Volume => {
                        let volume = self.volumes.get(&mount.source);
                        volume.is_some_and(|(volume, _)| volume.bound_folder().is_some_and(&has))
                    }
                    MountKind::Tmpfs | MountKind::Other => false,
                };
                fits && !(mount.read_only && container.is_left_as_reader())
            })
        })
    }
}

impl PresentContainer {
    /// Whether the engine removes it, with its anonymous volumes, when it stops.
    pub(super) fn vanishes(&self) -> bool {
        let removed = self.definition.host_config.get("AutoRemove");
        removed.and_then(Value::as_bool) == Some(true)
    }

    /// Whether it runs on where it only reads: stopping it would end this program, or remove it.
    fn is_left_as_reader(&self) -> bool {
        self.vanishes() || is_own_container(&self.id)
    }
}

/// One image; none if it is not there.
pub(super) fn inspect_image(
    client: &Client,
    id: &str,
) -> Result<Option<ImageDefinition>, EngineError> {
    match client.get(&format!("/images/{}/json", encode(id))) {
        Ok(Value::Object(inspect)) => Ok(Some(ImageDefinition::from_inspect(inspect))),
        Ok(_) => Err(EngineError::Incomplete("image")),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// One container's definition; none if it is not there.
pub(super) fn inspect_container(
    client: &Client,
    id: &str,
    names: &HashMap<String, String>,
) -> Result<Option<ContainerDefinition>, EngineError> {
    let inspect = match client.get(&format!("/containers/{}/json", encode(id))) {
        Ok(Value::Object(inspect)) => inspect,
        Ok(_) => return Err(EngineError::Incomplete("container")),
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let around = Surroundings {
        // Comparing passes over host names.
        host_name: "",
        names: &|id| names.get(id).cloned(),
        digests: &|_| Vec::new(),
        podman: &|_| PodmanOnly::default(),
        data: &|_| None,
    };
    Ok(Some(ContainerDefinition::from_inspect(inspect, &around)))
}

/// None for "every address".
pub(super) fn specific(address: &str) -> Option<IpAddr> {
    address
        .parse()
        .ok()
        .filter(|ip: &IpAddr| !ip.is_unspecified())
}

pub(super) fn first_name(container: &Object) -> String {
    let names = container.get("Names").and_then(Value::as_array);
    names
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        // Links add names of the form `/other/alias`.
        .map(|name| name.trim_start_matches('/'))
        .find(|name| !name.contains('/'))
        .unwrap_or_default()
        .to_owned()
}

pub(super) fn objects(list: &Value) -> Vec<Object> {
    objects_of(list).into_iter().cloned().collect()
}

fn objects_of(list: &Value) -> Vec<&Object> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .collect()
}

pub(super) fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}
