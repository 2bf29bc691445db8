//! Flow schemas and priority levels, of which every server has some.
//!
//! Invariant: what a person made or changed is no server's own.

use serde_json::Value;

use crate::kind::{annotation, name};

/// What servers make for themselves, as they did before they wrote [`AUTOUPDATE`] into it (1.22).
const SUGGESTED: [&str; 18] = [
    "catch-all",
    "endpoint-controller",
    "exempt",
    "global-default",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-system-service-accounts",
    "leader-election",
    "node-high",
    "probes",
    "service-accounts",
    "system",
    "system-leader-election",
    "system-node-high",
    "system-nodes",
    "workload-high",
    "workload-leader-election",
    "workload-low",
];

/// `true`: the server keeps the object as it was made; `false`: somebody took it over.
const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// Whether the server made an object of these kinds and nobody took it over.
pub(super) fn is_of_server(object: &Value) -> bool {
    match annotation(object, AUTOUPDATE) {
        Some(value) => value == "true",
        None => SUGGESTED.contains(&name(object)),
    }
}
