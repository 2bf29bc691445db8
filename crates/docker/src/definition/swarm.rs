//! Objects of a swarm: services, configs, and the names of secrets.
//!
//! Invariant: the value of a secret is never part of it: the engine does not give it out.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Document, Object};

/// `/docker/<source>/swarm/<kind>s/<name>.json`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SwarmObject {
    /// What it is.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// The stack it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// The engine's `Spec`, which creates it again. References to networks, configs and secrets
    /// are by name.
    pub spec: Object,
}

impl Document for SwarmObject {
    const VERSION: u32 = 1;
    const WORD: &'static str = "swarm object";
}

/// The kind of a swarm object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    /// A service.
    Service,
    /// A configuration object with its content.
    Config,
    /// A secret without its content.
    Secret,
}

impl ObjectKind {
    /// The folder of its kind, and the engine's path for it.
    #[must_use]
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Service => "services",
            Self::Config => "configs",
            Self::Secret => "secrets",
        }
    }

    /// The word for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Service => "swarm service",
            Self::Config => "swarm config",
            Self::Secret => "swarm secret",
        }
    }
}

/// A volume or host path that a service mounts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ServiceMount {
    /// `volume`, `bind`, `tmpfs` …
    pub(crate) kind: String,
    /// The volume's name or the host path.
    pub(crate) source: String,
    pub(crate) read_only: bool,
}

/// What a task's files and variables come from: the list of the specification, and where the
/// engine keeps the name and the id in it.
const FILE_LISTS: [(ObjectKind, &str, &str, &str); 2] = [
    (ObjectKind::Config, "Configs", "ConfigName", "ConfigID"),
    (ObjectKind::Secret, "Secrets", "SecretName", "SecretID"),
];

impl SwarmObject {
    /// Drops what only this swarm understands: ids of configs and secrets, beside which their
    /// names stand, and the count of forced updates.
    pub(crate) fn normalise(&mut self) {
        if let Some(task) = task_mut(&mut self.spec) {
            task.remove("ForceUpdate");
            if let Some(container) = task.get_mut("ContainerSpec").and_then(Value::as_object_mut) {
                for (_, list, _, id) in FILE_LISTS {
                    for file in objects_mut(container.get_mut(list)) {
                        file.remove(id);
                    }
                }
            }
        }
    }

    /// Puts in the ids by which the target knows configs and secrets.
    pub(crate) fn with_ids(&self, id_of: impl Fn(ObjectKind, &str) -> Option<String>) -> Object {
        let mut spec = self.spec.clone();
        let container = task_mut(&mut spec)
            .and_then(|task| task.get_mut("ContainerSpec"))
            .and_then(Value::as_object_mut);
        if let Some(container) = container {
            for (kind, list, name, id) in FILE_LISTS {
                for file in objects_mut(container.get_mut(list)) {
                    let found = file
                        .get(name)
                        .and_then(Value::as_str)
                        .and_then(|name| id_of(kind, name));
                    if let Some(found) = found {
                        file.insert(id.to_owned(), found.into());
                    }
                }
            }
        }
        spec
    }

    /// Names of the configs or secrets a service uses.
    pub(crate) fn files(&self, kind: ObjectKind) -> Vec<&str> {
        let lists = FILE_LISTS.iter().filter(|(of, ..)| *of == kind);
        lists
            .flat_map(|(_, list, name, _)| {
                let files = self.container().and_then(|c| c.get(*list));
                objects(files).filter_map(|file| file.get(*name)?.as_str())
            })
            .collect()
    }

    /// Names of the networks a service is attached to.
    pub(crate) fn networks(&self) -> Vec<&str> {
        let of_task = self
            .spec
            .get("TaskTemplate")
            .and_then(|t| t.get("Networks"));
        objects(of_task)
            .chain(objects(self.spec.get("Networks")))
            .filter_map(|attachment| attachment.get("Target")?.as_str())
            .collect()
    }

    /// What a service mounts.
    pub(crate) fn mounts(&self) -> Vec<ServiceMount> {
        let text = |mount: &Object, key: &str| {
            let value = mount.get(key).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        objects(self.container().and_then(|c| c.get("Mounts")))
            .map(|mount| ServiceMount {
                kind: text(mount, "Type"),
                source: text(mount, "Source"),
                read_only: mount.get("ReadOnly").and_then(Value::as_bool) == Some(true),
            })
            .filter(|mount| !mount.source.is_empty())
            .collect()
    }

    /// The image of a service's tasks, as it was asked for.
    pub(crate) fn image(&self) -> Option<&str> {
        self.container()?.get("Image")?.as_str()
    }

    /// Gives a service's tasks another image.
    pub(crate) fn set_image(&mut self, image: &str) {
        let container = task_mut(&mut self.spec)
            .and_then(|task| task.get_mut("ContainerSpec"))
            .and_then(Value::as_object_mut);
        if let Some(container) = container {
            container.insert("Image".to_owned(), image.into());
        }
    }

    /// Writes other names for volumes and networks into a service.
    pub(crate) fn rename(
        &mut self,
        volume: impl Fn(&str) -> String,
        network: impl Fn(&str) -> String,
    ) {
        for attachment in objects_mut(self.spec.get_mut("Networks")) {
            change(attachment, "Target", &network);
        }
        let Some(task) = task_mut(&mut self.spec) else {
            return;
        };
        for attachment in objects_mut(task.get_mut("Networks")) {
            change(attachment, "Target", &network);
        }
        let container = task.get_mut("ContainerSpec").and_then(Value::as_object_mut);
        for mount in objects_mut(container.and_then(|c| c.get_mut("Mounts"))) {
            if mount.get("Type").and_then(Value::as_str) == Some("volume") {
                change(mount, "Source", &volume);
            }
        }
    }

    /// Fixed published ports, with their protocol.
    pub(crate) fn ports(&self) -> Vec<(String, u64)> {
        let ports = self.spec.get("EndpointSpec").and_then(|e| e.get("Ports"));
        objects(ports)
            .filter_map(|port| {
                let number = port.get("PublishedPort")?.as_u64().filter(|p| *p > 0)?;
                let protocol = port.get("Protocol").and_then(Value::as_str);
                Some((protocol.unwrap_or("tcp").to_owned(), number))
            })
            .collect()
    }

    /// `node.labels.disk == ssd` and the like.
    pub(crate) fn constraints(&self) -> Vec<&str> {
        let placement = self
            .spec
            .get("TaskTemplate")
            .and_then(|t| t.get("Placement"));
        let list = placement.and_then(|p| p.get("Constraints"));
        let list = list.and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).collect()
    }

    fn container(&self) -> Option<&Object> {
        self.spec
            .get("TaskTemplate")?
            .get("ContainerSpec")?
            .as_object()
    }
}

fn change(object: &mut Object, key: &str, to: impl Fn(&str) -> String) {
    if let Some(Value::String(text)) = object.get_mut(key) {
        *text = to(text);
    }
}

fn task_mut(spec: &mut Object) -> Option<&mut Object> {
    spec.get_mut("TaskTemplate")?.as_object_mut()
}

fn objects(list: Option<&Value>) -> impl Iterator<Item = &Object> {
    let list = list.and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_object)
}

fn objects_mut(list: Option<&mut Value>) -> impl Iterator<Item = &mut Object> {
    let list = list.and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_object_mut)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service() -> SwarmObject {
        serde_json::from_value(json!({
            "kind": "service", "name": "web", "spec": {
                "Name": "web", "EndpointSpec": {"Ports": [
                    {"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080},
                    {"Protocol": "udp", "TargetPort": 53}]},
                "TaskTemplate": {
                    "ForceUpdate": 3, "Networks": [{"Target": "back"}],
                    "Placement": {"Constraints": ["node.role==manager"]},
                    "ContainerSpec": {
                        "Image": "web:1",
                        "Mounts": [{"Type": "volume", "Source": "data", "Target": "/d"},
                                   {"Type": "bind", "Source": "/srv", "Target": "/s"},
                                   {"Type": "tmpfs", "Target": "/t"}],
                        "Configs": [{"ConfigID": "c1", "ConfigName": "conf", "File": {}}],
                        "Secrets": [{"SecretID": "s1", "SecretName": "token", "File": {}}],
                    },
                },
            },
        }))
        .unwrap()
    }

    #[test]
    fn references_are_by_name_and_get_the_targets_ids() {
        let mut service = service();
        service.normalise();
        let text = serde_json::to_string(&service.spec).unwrap();
        for gone in ["c1", "s1", "ForceUpdate"] {
            assert!(!text.contains(gone), "{text}");
        }
        assert_eq!(service.files(ObjectKind::Config), ["conf"]);
        assert_eq!(service.files(ObjectKind::Secret), ["token"]);
        assert_eq!(service.networks(), ["back"]);
        assert_eq!(service.ports(), [("tcp".to_owned(), 8080)]);
        let mounts: Vec<_> = service.mounts().into_iter().map(|m| m.source).collect();
        assert_eq!(mounts, ["data", "/srv"]);
        service.rename(|v| format!("{v}-2"), |n| format!("{n}-2"));
        let spec = service.with_ids(|kind, name| Some(format!("{}/{name}", kind.folder())));
        assert_eq!(
            Value::Object(spec)["TaskTemplate"],
            json!({
                "Networks": [{"Target": "back-2"}],
                "Placement": {"Constraints": ["node.role==manager"]},
                "ContainerSpec": {
                    "Image": "web:1",
                    "Mounts": [{"Type": "volume", "Source": "data-2", "Target": "/d"},
                               {"Type": "bind", "Source": "/srv", "Target": "/s"},
                               {"Type": "tmpfs", "Target": "/t"}],
                    "Configs": [{"ConfigID": "configs/conf", "ConfigName": "conf", "File": {}}],
                    "Secrets": [{"SecretID": "secrets/token", "SecretName": "token", "File": {}}],
                },
            })
        );
    }
}
