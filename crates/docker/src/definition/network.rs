//! A network as it must be created again.
//!
//! Invariant: no container and no handed-out address is part of it; the subnets are, also those
//! the engine chose, because fixed addresses and firewalls rely on them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Document, Object, take_object, take_string, take_strings, without};

/// `/docker/<source>/networks/<name>.json`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NetworkDefinition {
    /// Its name.
    pub name: String,
    /// `bridge`, `macvlan`, `overlay`, or a plugin's name.
    pub driver: String,
    /// `local` or `swarm`.
    pub scope: String,
    /// No way out.
    #[serde(default)]
    pub internal: bool,
    /// Containers outside a swarm service may join.
    #[serde(default)]
    pub attachable: bool,
    /// IPv6 is on.
    #[serde(default)]
    pub ipv6: bool,
    /// The engine's `IPAM`: driver, options, subnets with ranges and gateways.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub ipam: Object,
    /// The driver's options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What the engine says besides and this program does not know (`ConfigFrom`, `ConfigOnly` …),
    /// in the engine's words.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub other: Object,
}

impl Document for NetworkDefinition {
    const VERSION: u32 = 1;
    const WORD: &'static str = "network";
}

impl NetworkDefinition {
    /// The compose project it belongs to.
    #[must_use]
    pub fn project(&self) -> Option<&str> {
        self.labels
            .get(super::project::LABEL_PROJECT)
            .map(String::as_str)
    }
}

/// Which tunnels an overlay network was given: another swarm gives its own.
const OVERLAY_TUNNELS: &str = "com.docker.network.driver.overlay.vxlanid_list";

/// Networks every engine makes by itself.
const BUILT_IN: &[&str] = &["bridge", "host", "none", "docker_gwbridge", "podman"];

impl NetworkDefinition {
    /// Drops what is running state from the engine's answer.
    pub(crate) fn from_inspect(mut inspect: Object) -> Self {
        let mut flag = |key: &str| inspect.remove(key) == Some(Value::Bool(true));
        let (internal, attachable, ipv6) =
            (flag("Internal"), flag("Attachable"), flag("EnableIPv6"));
        let mut definition = Self {
            name: take_string(&mut inspect, "Name"),
            driver: take_string(&mut inspect, "Driver"),
            scope: take_string(&mut inspect, "Scope"),
            internal,
            attachable,
            ipv6,
            ipam: take_object(&mut inspect, "IPAM"),
            options: take_strings(&mut inspect, "Options"),
            labels: take_strings(&mut inspect, "Labels"),
            other: without(
                inspect,
                &["Containers", "Created", "Id", "Peers", "Services", "Status"],
            ),
        };
        // The number of the tunnel in this swarm.
        definition.normalise();
        // Engines say "none" in their own ways.
        definition.ipam.retain(|_, value| !value.is_null());
        definition.other.retain(|_, value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Object(map) => map.values().any(|v| v.as_str() != Some("")),
            _ => true,
        });
        definition
    }

    /// Drops what points of before hold of one swarm.
    pub(crate) fn normalise(&mut self) {
        self.options.remove(OVERLAY_TUNNELS);
    }

    /// Whether the engine makes it by itself, so that it need not come back.
    #[must_use]
    pub fn is_built_in(&self) -> bool {
        is_built_in_name(&self.name) || self.other.get("Ingress") == Some(&Value::Bool(true))
    }
}

/// Whether every engine has a network of this name. Podman calls its own `podman` in containers
/// and `bridge` in its list.
pub(crate) fn is_built_in_name(name: &str) -> bool {
    BUILT_IN.contains(&name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_network_keeps_its_subnets_and_loses_containers_and_times() {
        let Value::Object(inspect) = json!({
            "Name": "shop_back", "Id": "0f", "Created": "2026-11-20T13:00:00Z", "Scope": "local",
            "Driver": "bridge", "EnableIPv6": false, "Internal": true, "Attachable": false,
            "IPAM": {"Driver": "default", "Options": null,
                     "Config": [{"Subnet": "172.30.0.0/24", "Gateway": "172.30.0.1"}]},
            "Ingress": false, "ConfigFrom": {"Network": ""}, "ConfigOnly": false,
            "Containers": {"abc": {"Name": "db"}},
            "Options": {"com.docker.network.driver.mtu": "1400"}, "Labels": {}
        }) else {
            panic!("an object")
        };
        let network = NetworkDefinition::from_inspect(inspect);
        assert_eq!(
            serde_json::to_value(&network).unwrap(),
            json!({
                "name": "shop_back", "driver": "bridge", "scope": "local", "internal": true,
                "attachable": false, "ipv6": false,
                "ipam": {"Driver": "default",
                         "Config": [{"Subnet": "172.30.0.0/24", "Gateway": "172.30.0.1"}]},
                "options": {"com.docker.network.driver.mtu": "1400"},
            })
        );
        assert!(!network.is_built_in());
    }
}
