//! Addresses and ports of services (P6).
//!
//! Invariant: a port or a family that somebody chose stays, one that the cluster chose goes.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{map_at, remove};
use crate::kind::{annotation, elements, text};

pub(super) fn service(object: &mut Value, server: Option<&Value>) {
    let explicit = explicit(object, server);
    if text(object, "/spec/clusterIP") != Some("None") {
        remove(object, "/spec", &["clusterIP", "clusterIPs"]);
    }
    if !explicit.health_check {
        remove(object, "/spec", &["healthCheckNodePort"]);
    }
    let ports = object
        .pointer_mut("/spec/ports")
        .and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten() {
        let number = port.get("nodePort").and_then(Value::as_u64);
        if !number.is_some_and(|number| explicit.ports.contains(&number)) {
            remove(port, "", &["nodePort"]);
        }
    }
    if let Some(spec) = map_at(object, "/spec").filter(|_| !explicit.families) {
        forget_families(spec);
    }
}

/// Leaves the families to the target; how many there are to be is in `ipFamilyPolicy`.
pub(in crate::restore) fn forget_families(spec: &mut Map<String, Value>) {
    spec.remove("ipFamilies");
    if spec.get("ipFamilyPolicy") == Some(&Value::from("SingleStack")) {
        spec.remove("ipFamilyPolicy");
    }
}

#[derive(Default)]
struct Explicit {
    ports: BTreeSet<u64>,
    health_check: bool,
    families: bool,
}

/// What somebody chose, by what kubectl applied last, else by who owns the fields.
fn explicit(object: &Value, server: Option<&Value>) -> Explicit {
    const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let applied: Option<Value> =
        annotation(object, APPLIED).and_then(|text| serde_json::from_str(text).ok());
    if let Some(applied) = applied {
        let chosen = |port: &Value| port.get("nodePort").and_then(Value::as_u64);
        return Explicit {
            ports: elements(&applied, "/spec/ports")
                .filter_map(chosen)
                .collect(),
            health_check: applied.pointer("/spec/healthCheckNodePort").is_some(),
            families: applied.pointer("/spec/ipFamilies").is_some(),
        };
    }
    let fields = elements(server.unwrap_or(object), "/metadata/managedFields");
    let mut explicit = Explicit::default();
    for spec in fields.filter_map(|entry| entry.pointer("/fieldsV1/f:spec")) {
        explicit.health_check |= spec.get("f:healthCheckNodePort").is_some();
        explicit.families |= spec.get("f:ipFamilies").is_some();
        let ports = spec.get("f:ports").and_then(Value::as_object);
        for (key, owned) in ports.into_iter().flatten() {
            if owned.get("f:nodePort").is_some() {
                explicit.ports.extend(node_port(object, key));
            }
        }
    }
    explicit
}

/// The node port of the port that a key like `k:{"port":80,"protocol":"TCP"}` means.
fn node_port(object: &Value, key: &str) -> Option<u64> {
    let key: Value = serde_json::from_str(key.strip_prefix("k:")?).ok()?;
    let protocol = |port: &Value| {
        let protocol = port.get("protocol").and_then(Value::as_str);
        protocol.unwrap_or("TCP").to_owned()
    };
    elements(object, "/spec/ports")
        .find(|port| port.get("port") == key.get("port") && protocol(port) == protocol(&key))?
        .get("nodePort")?
        .as_u64()
}
