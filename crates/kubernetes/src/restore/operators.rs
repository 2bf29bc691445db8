//! Which workloads act on the custom resources that come back.
//!
//! An operator that sees a custom resource before what belongs to it makes that anew: a second
//! password, an empty volume. So it gets no pods before everything is there and linked (P2).
//!
//! Invariant: told by rights alone, never by names: a workload acts on a group if its service
//! account may watch it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::hold::Hold;
use super::prepare::{Prepared, Wish};
use crate::kind::{elements, text};
use crate::pod_spec::pod_spec;

/// Kinds that can be told to have no pods.
const SCALABLE: [&str; 2] = ["deployments.apps", "statefulsets.apps"];

/// Marks the workloads that have to wait.
pub(super) fn hold_operators(prepared: &mut [Prepared]) {
    let groups = custom_groups(prepared);
    if groups.is_empty() {
        return;
    }
    let accounts = watchers(prepared, &groups);
    for p in prepared.iter_mut() {
        let is_whole = p.wish == Wish::Wanted && p.fields.is_empty();
        if !SCALABLE.contains(&p.id.as_str()) || !is_whole {
            continue;
        }
        let account = pod_spec(&p.object).and_then(|spec| text(spec, "/serviceAccountName"));
        let key = |account: &str| {
            (
                p.namespace().unwrap_or_default().to_owned(),
                account.to_owned(),
            )
        };
        let is_idle = p.object.pointer("/spec/replicas") == Some(&Value::from(0));
        if account.is_some_and(|account| accounts.contains(&key(account))) && !is_idle {
            p.hold = Some(Hold::Stopped);
        }
    }
}

/// Groups of the custom resources that come back.
fn custom_groups(prepared: &[Prepared]) -> BTreeSet<String> {
    prepared
        .iter()
        .filter(|p| p.is_custom() && p.wish == Wish::Wanted)
        .map(|p| p.kind.group.clone())
        .collect()
}

/// Service accounts, as namespace and name, that may watch one of the groups.
fn watchers(prepared: &[Prepared], groups: &BTreeSet<String>) -> BTreeSet<(String, String)> {
    let rbac = |word: &str| {
        let id = format!("{word}.rbac.authorization.k8s.io");
        prepared.iter().filter(move |p| p.id == id)
    };
    // Roles and bindings count whether they come back or are there already.
    let roles: BTreeSet<(Option<&str>, &str)> = rbac("roles")
        .chain(rbac("clusterroles"))
        .filter(|p| elements(&p.object, "/rules").any(|rule| watches(rule, groups)))
        .map(|p| (p.namespace(), p.name()))
        .collect();
    let mut accounts = BTreeSet::new();
    for binding in rbac("rolebindings").chain(rbac("clusterrolebindings")) {
        let name = text(&binding.object, "/roleRef/name").unwrap_or_default();
        let space = match text(&binding.object, "/roleRef/kind") {
            Some("Role") => binding.namespace(),
            _ => None,
        };
        if !roles.contains(&(space, name)) {
            continue;
        }
        for subject in elements(&binding.object, "/subjects") {
            let space = text(subject, "/namespace").or(binding.namespace());
            if let (Some("ServiceAccount"), Some(space), Some(name)) =
                (text(subject, "/kind"), space, text(subject, "/name"))
            {
                accounts.insert((space.to_owned(), name.to_owned()));
            }
        }
    }
    accounts
}

fn watches(rule: &Value, groups: &BTreeSet<String>) -> bool {
    let has = |pointer: &str, fits: &dyn Fn(&str) -> bool| {
        elements(rule, pointer)
            .filter_map(Value::as_str)
            .any(|word| word == "*" || fits(word))
    };
    has("/apiGroups", &|group| groups.contains(group)) && has("/verbs", &|verb| verb == "watch")
}
