//! Which things of a point a request means, with all they need.
//!
//! Invariant: whatever a selected container needs to run is selected with it.

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::item::ItemKind;
use refloat_model::tree_path::TreePath;
use refloat_source::TargetError;

use super::holding::Holding;
use crate::definition::{ContainerDefinition, MountKind, ObjectKind, SHARED_MODES};

/// How many names an error suggests.
const CANDIDATES_MAX: usize = 20;

/// What is to be restored, by the names in the point.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Selection {
    pub(super) containers: BTreeSet<String>,
    pub(super) networks: BTreeSet<String>,
    pub(super) volumes: BTreeSet<String>,
    pub(super) projects: BTreeSet<String>,
    /// By image id.
    pub(super) images: BTreeSet<String>,
    pub(super) binds: BTreeSet<TreePath>,
    /// By container name.
    pub(super) dumps: BTreeSet<String>,
    pub(super) swarm: BTreeSet<(ObjectKind, String)>,
    /// What was asked for by kind and name, not as part of a workload.
    pub(super) explicit: BTreeSet<(ItemKind, String)>,
    /// Whether the whole host was asked for.
    pub(super) everything: bool,
}

impl Selection {
    /// Reads `only` of a request.
    pub(super) fn of(holding: &Holding, only: &[String]) -> Result<Self, TargetError> {
        let mut selection = Self::default();
        let mut words = only
            .iter()
            .filter(|word| !word.starts_with("source:"))
            .peekable();
        if words.peek().is_none() {
            selection.everything = true;
            selection.add_all(holding);
            return Ok(selection);
        }
        for word in words {
            selection.add_word(holding, word)?;
        }
        for name in selection.containers.clone() {
            selection.add_needs(holding, &name);
        }
        for key in selection.swarm.clone() {
            selection.add_service_needs(holding, &key);
        }
        Ok(selection)
    }

    fn add_all(&mut self, holding: &Holding) {
        self.containers.extend(holding.containers.keys().cloned());
        self.networks.extend(holding.networks.keys().cloned());
        self.volumes.extend(holding.volumes.keys().cloned());
        self.projects.extend(holding.projects.keys().cloned());
        self.images.extend(holding.images.keys().cloned());
        self.binds.extend(holding.binds.keys().cloned());
        self.dumps.extend(holding.dumps.keys().cloned());
        self.swarm.extend(holding.swarm.keys().cloned());
    }

    fn add_word(&mut self, holding: &Holding, word: &str) -> Result<(), TargetError> {
        let Some((kind, name)) = word.split_once(':') else {
            return self.add_workload(holding, word);
        };
        let item_kind = match kind {
            "workload" => return self.add_workload(holding, name),
            "project" => {
                self.explicit.insert((ItemKind::Project, name.to_owned()));
                return self.add_project(holding, name);
            }
            "stack" => return self.add_stack(holding, name),
            "service" => return self.add_object(holding, (ObjectKind::Service, name), word),
            "config" => return self.add_object(holding, (ObjectKind::Config, name), word),
            "secret" => return self.add_object(holding, (ObjectKind::Secret, name), word),
            "container" => ItemKind::Container,
            "volume" => ItemKind::Volume,
            "network" => ItemKind::Network,
            "image" => ItemKind::Image,
            "bind" => ItemKind::Bind,
            "dump" => ItemKind::Dump,
            _ => return Err(missing(word, KINDS.iter().map(|k| format!("{k}:NAME")))),
        };
        let found = match item_kind {
            ItemKind::Container => add(&mut self.containers, name, holding.containers.keys()),
            ItemKind::Volume => add(&mut self.volumes, name, holding.volumes.keys()),
            ItemKind::Network => add(&mut self.networks, name, holding.networks.keys()),
            ItemKind::Dump => add(&mut self.dumps, name, holding.dumps.keys()),
            ItemKind::Image => self.add_image(holding, name),
            _ => self.add_bind(holding, name),
        };
        if found {
            self.explicit.insert((item_kind, name.to_owned()));
            return Ok(());
        }
        Err(missing(word, names_of(holding, item_kind)))
    }

    fn add_workload(&mut self, holding: &Holding, name: &str) -> Result<(), TargetError> {
        if add(&mut self.containers, name, holding.containers.keys()) {
            return Ok(());
        }
        let service = (ObjectKind::Service, name);
        if self.add_stack(holding, name).is_ok() || self.add_object(holding, service, name).is_ok()
        {
            return Ok(());
        }
        self.add_project(holding, name)
    }

    /// All of a swarm stack.
    fn add_stack(&mut self, holding: &Holding, name: &str) -> Result<(), TargetError> {
        let of_stack = |stack: Option<&str>| stack == Some(name);
        let objects = holding.swarm.iter();
        let objects = objects.filter(|(_, held)| of_stack(held.definition.stack.as_deref()));
        let before = self.swarm.len();
        self.swarm.extend(objects.map(|(key, _)| key.clone()));
        if before == self.swarm.len() {
            let stacks: BTreeSet<String> = holding
                .swarm
                .values()
                .filter_map(|held| held.definition.stack.clone())
                .collect();
            return Err(missing(&format!("stack:{name}"), stacks));
        }
        let label = |labels: &BTreeMap<String, String>| {
            of_stack(labels.get(LABEL_STACK).map(String::as_str))
        };
        let volumes = holding.volumes.iter();
        let volumes = volumes.filter(|(_, held)| label(&held.definition.labels));
        self.volumes.extend(volumes.map(|(name, _)| name.clone()));
        let networks = holding.networks.iter();
        let networks = networks.filter(|(_, held)| label(&held.definition.labels));
        self.networks.extend(networks.map(|(name, _)| name.clone()));
        Ok(())
    }

    /// One object of a swarm.
    fn add_object(
        &mut self,
        holding: &Holding,
        (kind, name): (ObjectKind, &str),
        word: &str,
    ) -> Result<(), TargetError> {
        let key = (kind, name.to_owned());
        if holding.swarm.contains_key(&key) {
            self.swarm.insert(key);
            return Ok(());
        }
        let known = holding.swarm.keys().filter(|(of, _)| *of == kind);
        Err(missing(word, known.map(|(_, name)| name.clone())))
    }

    /// Whatever a service needs to run.
    fn add_service_needs(&mut self, holding: &Holding, key: &(ObjectKind, String)) {
        let Some(held) = holding.swarm.get(key) else {
            return;
        };
        let service = &held.definition;
        for kind in [ObjectKind::Config, ObjectKind::Secret] {
            for name in service.files(kind) {
                // The point may lack it: then the plan says so.
                drop(self.add_object(holding, (kind, name), name));
            }
        }
        for network in service.networks() {
            add(&mut self.networks, network, holding.networks.keys());
        }
        if let Some(image) = service.image().and_then(|i| i.split('@').next()) {
            self.add_image(holding, image);
        }
        for mount in service.mounts() {
            match mount.kind.as_str() {
                "volume" => drop(add(
                    &mut self.volumes,
                    &mount.source,
                    holding.volumes.keys(),
                )),
                "bind" => {
                    let binds = holding.binds.keys();
                    let of = |path: &&TreePath| {
                        holding.bind_source(path).as_deref() == Some(&mount.source)
                    };
                    self.binds.extend(binds.filter(of).cloned());
                }
                _ => {}
            }
        }
    }

    fn add_project(&mut self, holding: &Holding, name: &str) -> Result<(), TargetError> {
        let project_of = |c: &ContainerDefinition| c.project.as_ref().map(|p| p.project.clone());
        let before = self.containers.len();
        for (container, held) in &holding.containers {
            if project_of(&held.definition).as_deref() == Some(name) {
                self.containers.insert(container.clone());
            }
        }
        let has_files = add(&mut self.projects, name, holding.projects.keys());
        if !has_files && before == self.containers.len() {
            let projects = holding.projects.keys().cloned();
            return Err(missing(
                &format!("workload {name}"),
                projects.chain(holding.containers.keys().cloned()),
            ));
        }
        for (volume, held) in &holding.volumes {
            if held.definition.project() == Some(name) {
                self.volumes.insert(volume.clone());
            }
        }
        for (network, held) in &holding.networks {
            if held.definition.project() == Some(name) {
                self.networks.insert(network.clone());
            }
        }
        Ok(())
    }

    /// An image by id or by any of its names.
    fn add_image(&mut self, holding: &Holding, name: &str) -> bool {
        let found = holding.image_named(name);
        if let Some(image) = found {
            self.images.insert(image.id.clone());
        }
        found.is_some()
    }

    /// A bind by its path in the point, by its title, or by its container.
    fn add_bind(&mut self, holding: &Holding, name: &str) -> bool {
        let before = self.binds.len();
        for (path, record) in &holding.binds {
            let container = path.parent().and_then(|parent| {
                parent
                    .name()
                    .map(|name| String::from_utf8_lossy(name).into_owned())
            });
            if path.to_string() == name
                || record.item.title == name
                || container.as_deref() == Some(name)
            {
                self.binds.insert(path.clone());
            }
        }
        before < self.binds.len()
    }

    /// Whatever a container needs to run.
    fn add_needs(&mut self, holding: &Holding, name: &str) {
        let Some(held) = holding.containers.get(name) else {
            return;
        };
        let container = &held.definition;
        if holding.images.contains_key(&container.image.id) {
            self.images.insert(container.image.id.clone());
        }
        for network in container.networks.keys() {
            add(&mut self.networks, network, holding.networks.keys());
        }
        for mount in &container.mounts {
            if mount.kind == MountKind::Volume {
                add(&mut self.volumes, &mount.source, holding.volumes.keys());
            }
            if let Some(path) = mount
                .data
                .as_ref()
                .filter(|p| holding.binds.contains_key(*p))
            {
                self.binds.insert(path.clone());
            }
        }
        add(&mut self.dumps, name, holding.dumps.keys());
        for other in shared_with(container) {
            // Two containers may share with each other: each is looked through once.
            if holding.containers.contains_key(&other) && self.containers.insert(other.clone()) {
                self.add_needs(holding, &other);
            }
        }
    }
}

/// The label by which a stack's volumes and networks are known.
const LABEL_STACK: &str = "com.docker.stack.namespace";

const KINDS: [&str; 11] = [
    "project",
    "stack",
    "service",
    "config",
    "secret",
    "container",
    "volume",
    "network",
    "image",
    "bind",
    "dump",
];

fn add<'a>(
    set: &mut BTreeSet<String>,
    name: &str,
    mut known: impl Iterator<Item = &'a String>,
) -> bool {
    let found = known.any(|known| known == name);
    if found {
        set.insert(name.to_owned());
    }
    found
}

fn names_of(holding: &Holding, kind: ItemKind) -> Vec<String> {
    match kind {
        ItemKind::Container => holding.containers.keys().cloned().collect(),
        ItemKind::Volume => holding.volumes.keys().cloned().collect(),
        ItemKind::Network => holding.networks.keys().cloned().collect(),
        ItemKind::Dump => holding.dumps.keys().cloned().collect(),
        ItemKind::Image => {
            let images = holding.images.values();
            images
                .flat_map(|held| held.definition.tags.clone())
                .collect()
        }
        _ => holding.binds.keys().map(ToString::to_string).collect(),
    }
}

fn missing(what: &str, candidates: impl IntoIterator<Item = String>) -> TargetError {
    TargetError::NotInPoint {
        what: what.to_owned(),
        candidates: candidates.into_iter().take(CANDIDATES_MAX).collect(),
    }
}

/// Containers whose namespaces or volumes this one shares.
pub(super) fn shared_with(container: &ContainerDefinition) -> Vec<String> {
    let mut others = lives_with(container);
    others.extend(heads(container, "VolumesFrom"));
    others
}

/// Containers that this one needs itself, and not only what they mount.
pub(super) fn lives_with(container: &ContainerDefinition) -> Vec<String> {
    let mut others = namespaces_of(container);
    others.extend(heads(container, "Links"));
    others
}

/// Containers in whose namespaces this one is.
pub(super) fn namespaces_of(container: &ContainerDefinition) -> Vec<String> {
    let modes = SHARED_MODES.into_iter().filter_map(|key| {
        let mode = container.host_config.get(key)?.as_str()?;
        mode.strip_prefix("container:").map(str::to_owned)
    });
    modes.collect()
}

/// The names before the colons of a list of a container's settings.
fn heads(container: &ContainerDefinition, key: &str) -> Vec<String> {
    let list = container.host_config.get(key);
    let list = list.and_then(serde_json::Value::as_array);
    let texts = list.into_iter().flatten();
    let texts = texts.filter_map(|value| value.as_str());
    let head = |text: &str| {
        let text = text.trim_start_matches('/');
        text.split(':').next().unwrap_or(text).to_owned()
    };
    texts.map(head).collect()
}
