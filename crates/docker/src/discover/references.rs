//! What a container, a volume and a network need to work again.
//!
//! Invariant: what every engine or host has anyway is no reference; everything else is.

use refloat_model::subject::{Subject, SubjectKind};
use serde_json::Value;

use super::binds::BindRule;
use super::podman::pod_name;
use super::{Estate, image_subject};
use crate::definition::{
    ContainerDefinition, MountKind, NetworkDefinition, SHARED_MODES, VolumeDefinition,
};
use crate::options::Options;

const NETWORK_DRIVERS: &[&str] = &[
    "bridge", "host", "ipvlan", "macvlan", "none", "null", "overlay", "",
];
const LOG_DRIVERS: &[&str] = &[
    "",
    "awslogs",
    "fluentd",
    "gcplogs",
    "gelf",
    "journald",
    "json-file",
    "k8s-file",
    "local",
    "none",
    "passthrough",
    "splunk",
    "syslog",
];
const RUNTIMES: &[&str] = &["", "crun", "io.containerd.runc.v2", "oci", "runc"];

/// Names things within one source.
pub(super) struct References<'a> {
    pub(super) source: &'a str,
    pub(super) estate: &'a Estate,
    pub(super) options: &'a Options,
}

impl References<'_> {
    pub(super) fn subject(&self, kind: SubjectKind, name: impl Into<String>) -> Subject {
        Subject::new(self.source, kind, name)
    }

    /// Images are the same everywhere.
    pub(super) fn image(name: impl Into<String>) -> Subject {
        Subject::new("", SubjectKind::Image, name)
    }

    fn driver(&self, kind: &str, name: &str) -> Subject {
        self.subject(SubjectKind::Driver, format!("{kind}/{name}"))
    }

    /// The rule that leaves a bind mount out.
    pub(super) fn bind_rule(&self, source: &str) -> Option<BindRule> {
        let root = &self.estate.host.root_dir;
        BindRule::for_source(source, root, &self.options.exclude_binds)
    }

    /// Whether a bind mount is missed where it does not come back: no new host brings it along.
    pub(super) fn misses_bind(&self, source: &str, read_only: bool) -> bool {
        let rule = self.bind_rule(source);
        !rule.is_some_and(|rule| rule.is_provided_by_host(read_only))
    }

    /// Everything a container's definition refers to, sorted.
    pub(super) fn of_container(&self, container: &ContainerDefinition) -> Vec<Subject> {
        let mut found = vec![Self::image(image_subject(container))];
        for mount in &container.mounts {
            match mount.kind {
                MountKind::Volume => {
                    found.push(self.subject(SubjectKind::Volume, &mount.source));
                }
                MountKind::Bind if self.misses_bind(&mount.source, mount.read_only) => {
                    found.push(self.subject(SubjectKind::Bind, &mount.source));
                }
                MountKind::Bind | MountKind::Tmpfs | MountKind::Other => {}
            }
        }
        for name in container.networks.keys() {
            if !self.estate.is_built_in_network(name) {
                found.push(self.subject(SubjectKind::Network, name));
            }
        }
        found.extend(self.drivers_of(container));
        found.extend(self.containers_of(container));
        let only = &container.podman;
        let pod = only
            .pod
            .iter()
            .map(|pod| self.subject(SubjectKind::Object, pod_name(pod)));
        let secrets = only.secrets.iter();
        found.extend(pod.chain(secrets.map(|name| self.subject(SubjectKind::Secret, name))));
        found.sort();
        found.dedup();
        found
    }

    fn drivers_of(&self, container: &ContainerDefinition) -> Vec<Subject> {
        let host = &container.host_config;
        let log = word(host.get("LogConfig").and_then(|config| config.get("Type")));
        let runtime = word(host.get("Runtime"));
        let mut drivers = Vec::new();
        if !LOG_DRIVERS.contains(&log) {
            drivers.push(self.driver("log", log));
        }
        if !RUNTIMES.contains(&runtime) {
            drivers.push(self.driver("runtime", runtime));
        }
        drivers
    }

    /// Containers whose namespaces or volumes it shares.
    fn containers_of(&self, container: &ContainerDefinition) -> Vec<Subject> {
        let host = &container.host_config;
        let modes = SHARED_MODES
            .into_iter()
            .filter_map(|key| host.get(key)?.as_str()?.strip_prefix("container:"));
        let list = |key: &str| {
            let values = host.get(key).and_then(Value::as_array);
            values.into_iter().flatten().filter_map(Value::as_str)
        };
        let volumes = list("VolumesFrom").filter_map(|text| text.split(':').next());
        // `/db:/web/alias`
        let links = list("Links").filter_map(|text| text.trim_start_matches('/').split(':').next());
        modes
            .chain(volumes)
            .chain(links)
            .map(|name| self.subject(SubjectKind::Container, name))
            .collect()
    }

    /// What a volume refers to: its driver, unless every engine has it.
    pub(super) fn of_volume(&self, volume: &VolumeDefinition) -> Vec<Subject> {
        match volume.driver.as_str() {
            "" | "local" => Vec::new(),
            driver => vec![self.driver("volume", driver)],
        }
    }

    /// What a network refers to: its driver, unless every engine has it.
    pub(super) fn of_network(&self, network: &NetworkDefinition) -> Vec<Subject> {
        if NETWORK_DRIVERS.contains(&network.driver.as_str()) {
            Vec::new()
        } else {
            vec![self.driver("network", &network.driver)]
        }
    }
}

fn word(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}
