//! New names for restored things, and everything that refers to them.
//!
//! Invariant: after [`Names::apply`] no definition refers to a renamed thing by its old name.

use std::collections::BTreeMap;

use refloat_model::item::ItemKind;
use refloat_model::plan::{Action, Step};
use serde_json::Value;

use super::holding::Holding;
use crate::definition::{ContainerDefinition, MountKind, SHARED_MODES};

/// The label by which compose knows a project's things.
const LABEL_PROJECT: &str = "com.docker.compose.project";

/// New names by kind and name in the point.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Names(BTreeMap<(ItemKind, String), String>);

impl Names {
    /// The names of a plan that was shown.
    pub(super) fn of_steps(steps: &[Step]) -> Self {
        let renamed = steps.iter().filter_map(|step| match &step.action {
            Action::Rename { to } => Some(((step.kind, step.name.clone()), to.clone())),
            _ => None,
        });
        Self(renamed.collect())
    }

    pub(super) fn insert(&mut self, kind: ItemKind, name: &str, to: &str) {
        self.0.insert((kind, name.to_owned()), to.to_owned());
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(super) fn remove(&mut self, kind: ItemKind, name: &str) {
        self.0.remove(&(kind, name.to_owned()));
    }

    /// The name a thing is restored under.
    pub(super) fn of<'a>(&'a self, kind: ItemKind, name: &'a str) -> &'a str {
        self.get(kind, name).unwrap_or(name)
    }

    /// The new name of a thing that gets one.
    pub(super) fn get(&self, kind: ItemKind, name: &str) -> Option<&str> {
        self.0.get(&(kind, name.to_owned())).map(String::as_str)
    }

    /// The name in the point of a thing that has this new name.
    pub(super) fn old(&self, kind: ItemKind, new: &str) -> Option<&str> {
        let mut renamed = self
            .0
            .iter()
            .filter(|((k, _), to)| *k == kind && *to == new);
        renamed.next().map(|((_, old), _)| old.as_str())
    }

    /// Spreads new names of projects to what carries the project's name in its own.
    pub(super) fn spread_projects(&mut self, holding: &Holding) {
        let projects: Vec<(String, String)> = self
            .0
            .iter()
            .filter(|((kind, _), _)| *kind == ItemKind::Project)
            .map(|((_, old), new)| (old.clone(), new.clone()))
            .collect();
        for (old, new) in projects {
            let containers = holding.containers.values().map(|c| &c.definition);
            let containers = containers
                .filter(|c| c.project.as_ref().is_some_and(|p| p.project == old))
                .map(|c| (ItemKind::Container, c.name.as_str()));
            let volumes = holding.volumes.values().map(|v| &v.definition);
            let volumes = volumes
                .filter(|v| v.project() == Some(&old))
                .map(|v| (ItemKind::Volume, v.name.as_str()));
            let networks = holding.networks.values().map(|n| &n.definition);
            let networks = networks
                .filter(|n| n.project() == Some(&old))
                .map(|n| (ItemKind::Network, n.name.as_str()));
            for (kind, name) in containers.chain(volumes).chain(networks) {
                let rest = name
                    .strip_prefix(&old)
                    .filter(|r| r.starts_with(['-', '_']));
                if let Some(rest) = rest {
                    let name = (kind, name.to_owned());
                    self.0.entry(name).or_insert_with(|| format!("{new}{rest}"));
                }
            }
        }
    }

    /// Writes the new names into the definitions; the keys of the holding stay.
    pub(super) fn apply(&self, holding: &mut Holding) {
        if self.0.is_empty() {
            return;
        }
        for held in holding.containers.values_mut() {
            self.apply_to_container(&mut held.definition);
        }
        for held in holding.volumes.values_mut() {
            let definition = &mut held.definition;
            definition.name = self.of(ItemKind::Volume, &definition.name).to_owned();
            self.apply_to_labels(&mut definition.labels);
        }
        for held in holding.networks.values_mut() {
            let definition = &mut held.definition;
            definition.name = self.of(ItemKind::Network, &definition.name).to_owned();
            self.apply_to_labels(&mut definition.labels);
        }
        for held in holding.swarm.values_mut() {
            held.definition.rename(
                |volume| self.of(ItemKind::Volume, volume).to_owned(),
                |network| self.of(ItemKind::Network, network).to_owned(),
            );
        }
    }

    fn apply_to_labels(&self, labels: &mut BTreeMap<String, String>) {
        if let Some(project) = labels.get_mut(LABEL_PROJECT) {
            *project = self.of(ItemKind::Project, project).to_owned();
        }
    }

    fn apply_to_container(&self, container: &mut ContainerDefinition) {
        container.name = self.of(ItemKind::Container, &container.name).to_owned();
        for mount in &mut container.mounts {
            if mount.kind == MountKind::Volume {
                mount.source = self.of(ItemKind::Volume, &mount.source).to_owned();
            }
        }
        container.networks = std::mem::take(&mut container.networks)
            .into_iter()
            .map(|(name, endpoint)| (self.of(ItemKind::Network, &name).to_owned(), endpoint))
            .collect();
        if let Some(member) = &mut container.project {
            member.project = self.of(ItemKind::Project, &member.project).to_owned();
        }
        if let Some(label) = text(container.config.get_mut("Labels"), LABEL_PROJECT) {
            *label = self.of(ItemKind::Project, label).to_owned();
        }
        let host = &mut container.host_config;
        for key in SHARED_MODES {
            if let Some(Value::String(mode)) = host.get_mut(key) {
                if let Some(name) = mode.strip_prefix("container:") {
                    *mode = format!("container:{}", self.of(ItemKind::Container, name));
                } else if key == "NetworkMode" {
                    *mode = self.of(ItemKind::Network, mode).to_owned();
                }
            }
        }
        for bind in strings(host.get_mut("Binds")) {
            self.rename_head(ItemKind::Volume, bind, ':');
        }
        for from in strings(host.get_mut("VolumesFrom")) {
            self.rename_head(ItemKind::Container, from, ':');
        }
        // `/other:/this/alias`
        for link in strings(host.get_mut("Links")) {
            let bare = link.trim_start_matches('/').to_owned();
            *link = bare;
            self.rename_head(ItemKind::Container, link, ':');
        }
        for mount in host
            .get_mut("Mounts")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if mount.get("Type").and_then(Value::as_str) == Some("volume")
                && let Some(source) = text(Some(mount), "Source")
            {
                *source = self.of(ItemKind::Volume, source).to_owned();
            }
        }
    }

    /// Renames what stands before the first `mark`.
    fn rename_head(&self, kind: ItemKind, text: &mut String, mark: char) {
        let (head, rest) = match text.find(mark) {
            Some(at) => text.split_at(at),
            None => (text.as_str(), ""),
        };
        if let Some(new) = self.get(kind, head) {
            *text = format!("{new}{rest}");
        }
    }
}

fn text<'a>(object: Option<&'a mut Value>, key: &str) -> Option<&'a mut String> {
    match object?.get_mut(key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn strings(list: Option<&mut Value>) -> impl Iterator<Item = &mut String> {
    let list = list.and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(|value| match value {
        Value::String(text) => Some(text),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_reference_gets_the_new_name() {
        let mut container: ContainerDefinition = serde_json::from_value(json!({
            "name": "shop-web-1", "image": {"name": "web:1", "id": "sha256:aa"}, "started": true,
            "project": {"project": "shop", "service": "web", "number": 1},
            "config": {"Labels": {"com.docker.compose.project": "shop"}},
            "host_config": {
                "NetworkMode": "shop_back", "PidMode": "container:shop-db-1",
                "UTSMode": "container:shop-db-1",
                "Binds": ["shop_data:/d:ro", "/shop_data:/e"], "VolumesFrom": ["shop-db-1:ro"],
                "Links": ["/shop-db-1:/shop-web-1/db"],
                "Mounts": [{"Type": "volume", "Source": "shop_data", "Target": "/m"}],
            },
            "networks": {"shop_back": {}}, "platform": "linux",
            "mounts": [
                {"kind": "volume", "destination": "/d", "read_only": true, "source": "shop_data"}
            ],
        }))
        .unwrap();
        let mut names = Names::default();
        names.insert(ItemKind::Project, "shop", "test");
        names.insert(ItemKind::Container, "shop-web-1", "test-web-1");
        names.insert(ItemKind::Container, "shop-db-1", "test-db-1");
        names.insert(ItemKind::Volume, "shop_data", "test_data");
        names.insert(ItemKind::Network, "shop_back", "test_back");
        names.apply_to_container(&mut container);
        assert_eq!(
            serde_json::to_value(&container).unwrap(),
            json!({
                "name": "test-web-1", "image": {"name": "web:1", "id": "sha256:aa"},
                "started": true, "project": {"project": "test", "service": "web", "number": 1},
                "config": {"Labels": {"com.docker.compose.project": "test"}},
                "host_config": {
                    "NetworkMode": "test_back", "PidMode": "container:test-db-1",
                    "UTSMode": "container:test-db-1",
                    "Binds": ["test_data:/d:ro", "/shop_data:/e"],
                    "VolumesFrom": ["test-db-1:ro"], "Links": ["test-db-1:/shop-web-1/db"],
                    "Mounts": [{"Type": "volume", "Source": "test_data", "Target": "/m"}],
                },
                "networks": {"test_back": {}}, "platform": "linux",
                "mounts": [{
                    "kind": "volume", "destination": "/d", "read_only": true, "source": "test_data"
                }],
            })
        );
    }
}
