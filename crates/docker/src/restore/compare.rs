//! Whether a thing on the target is what the point holds.
//!
//! Invariant: differences are named by their place, never by their value: values may be secrets.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::spec;
use crate::definition::{
    ContainerDefinition, NetworkDefinition, Object, SwarmObject, VolumeDefinition,
};

/// Places that say nothing about what a container is: made up, or kept elsewhere.
const CONFIG_IGNORED: &[&str] = &[
    "Hostname",
    "Image",
    "OnBuild",
    "AttachStderr",
    "AttachStdout",
];
const HOST_CONFIG_IGNORED: &[&str] = &["ContainerIDFile", "ConsoleSize", "Binds"];

/// Whether what was captured and what is compared with it are of the same kind of engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kin {
    /// They use the same words.
    Same,
    /// One is Docker's, the other Podman's.
    Foreign,
}

/// Where two containers differ.
pub(super) fn containers(
    wanted: &ContainerDefinition,
    found: &ContainerDefinition,
    kin: Kin,
) -> Vec<String> {
    match kin {
        Kin::Same => difference(&container_view(wanted), &container_view(found)),
        Kin::Foreign => super::portable::difference(wanted, found),
    }
}

/// Where two networks differ.
pub(super) fn networks(
    wanted: &NetworkDefinition,
    found: &NetworkDefinition,
    kin: Kin,
) -> Vec<String> {
    if kin == Kin::Foreign {
        let subnets = |network: &NetworkDefinition| {
            let configs = network.ipam.get("Config").and_then(Value::as_array);
            let subnets = configs
                .into_iter()
                .flatten()
                .filter_map(|c| c.get("Subnet"));
            subnets.cloned().collect::<Vec<Value>>()
        };
        let view = |network: &NetworkDefinition| {
            json!({
                "driver": network.driver,
                "internal": network.internal,
                "subnets": subnets(network),
                "labels": network.labels,
            })
        };
        return differences_of_set(&view(wanted), &view(found));
    }
    let view = |network: &NetworkDefinition| {
        json!({
            "driver": network.driver,
            "internal": network.internal,
            "attachable": network.attachable,
            "ipv6": network.ipv6,
            "subnets": network.ipam.get("Config"),
            "options": network.options,
            "labels": network.labels,
        })
    };
    difference(&view(wanted), &view(found))
}

/// Where two volumes differ, without their data.
pub(super) fn volumes(wanted: &VolumeDefinition, found: &VolumeDefinition) -> Vec<String> {
    let view = |volume: &VolumeDefinition| json!({"driver": volume.driver, "options": volume.options, "labels": volume.labels});
    difference(&view(wanted), &view(found))
}

/// Where two services or configs differ.
pub(super) fn swarm_objects(wanted: &SwarmObject, found: &SwarmObject) -> Vec<String> {
    let view = |object: &SwarmObject| Value::Object(object.spec.clone());
    difference(&view(wanted), &view(found))
}

/// An object without some of its keys.
pub(super) fn without(object: &Object, keys: &[&str]) -> Value {
    let mut object = object.clone();
    object.retain(|key, _| !keys.contains(&key.as_str()));
    Value::Object(object)
}

/// What a container mounts, by place.
pub(super) fn mounts_view(container: &ContainerDefinition) -> BTreeMap<&str, Value> {
    let mounts = container.mounts.iter();
    mounts
        .map(|mount| {
            let view = json!([mount.kind, mount.source, mount.read_only]);
            (mount.destination.as_str(), view)
        })
        .collect()
}

fn container_view(container: &ContainerDefinition) -> Value {
    let mounts = mounts_view(container);
    let networks: BTreeMap<&str, Value> = container
        .networks
        .iter()
        .map(|(name, endpoint)| (name.as_str(), endpoint_view(endpoint)))
        .collect();
    // A volume whose name the engine made up is attached by that name when it comes back.
    let binds: Vec<&Value> = container
        .host_config
        .get("Binds")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|bind| {
            let source = bind.as_str().and_then(|b| b.split(':').next());
            !source.is_some_and(is_made_up)
        })
        .collect();
    let mut config = without(&container.config, CONFIG_IGNORED);
    if let Some(Value::Array(environment)) = config.get_mut("Env") {
        // Podman gives it back in another order, and with the host name it made up.
        environment.retain(|variable| !variable.as_str().is_some_and(spec::is_made_up_hostname));
        environment.sort_by_key(ToString::to_string);
    }
    // "Taken away" is told as it was asked for by one engine, as nothing by the other.
    if config.get("Entrypoint") == Some(&json!([""]))
        && let Some(config) = config.as_object_mut()
    {
        config.remove("Entrypoint");
    }
    let mut host_config = without(&container.host_config, HOST_CONFIG_IGNORED);
    if let Some(Value::Array(mounts)) = host_config.get_mut("Mounts") {
        mounts.iter_mut().for_each(forget_made_up_source);
    }
    json!({
        "image": container.image.id,
        "config": config,
        "host config": host_config,
        "binds": sorted(binds),
        "mounts": mounts,
        // Mere attachment counts, and an attachment without settings is an empty object.
        "network names": container.networks.keys().collect::<Vec<_>>(),
        "networks": networks,
    })
}

/// Whether an engine made this volume name up.
fn is_made_up(volume: &str) -> bool {
    volume.len() == 64 && volume.bytes().all(|b| b.is_ascii_hexdigit())
}

/// As binds: what was asked for without a name is attached by the name it got.
fn forget_made_up_source(mount: &mut Value) {
    let source = mount.get("Source").and_then(Value::as_str);
    if source.is_some_and(is_made_up)
        && let Some(mount) = mount.as_object_mut()
    {
        mount.remove("Source");
    }
}

fn endpoint_view(endpoint: &Object) -> Value {
    let mut endpoint = endpoint.clone();
    if let Some(Value::Array(aliases)) = endpoint.get_mut("Aliases") {
        aliases.sort_by_key(ToString::to_string);
        aliases.dedup();
    }
    Value::Object(endpoint)
}

fn sorted(mut values: Vec<&Value>) -> Value {
    values.sort_by_key(|value| value.to_string());
    Value::Array(values.into_iter().cloned().collect())
}

/// Where `found` is not as `wanted` says; what only `found` has is no difference.
pub(super) fn differences_of_set(wanted: &Value, found: &Value) -> Vec<String> {
    let (wanted, mut found) = (normal(wanted), normal(found));
    keep_known(&mut found, &wanted);
    let mut places = Vec::new();
    collect("", &wanted, &found, &mut places);
    places
}

/// Drops keys that `known` does not have.
fn keep_known(value: &mut Value, known: &Value) {
    if let (Value::Object(object), Value::Object(known)) = (value, known) {
        object.retain(|key, _| known.contains_key(key));
        for (key, value) in object {
            if let Some(known) = known.get(key) {
                keep_known(value, known);
            }
        }
    }
}

fn difference(wanted: &Value, found: &Value) -> Vec<String> {
    let mut places = Vec::new();
    collect("", &normal(wanted), &normal(found), &mut places);
    places
}

/// Without what means "not set": engines say it as null, empty, false or 0, by version and mood.
fn normal(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let kept = object
                .iter()
                .map(|(key, value)| (key.clone(), normal(value)));
            Value::Object(kept.filter(|(_, value)| !is_unset(value)).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(normal).collect()),
        other => other.clone(),
    }
}

pub(super) fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(true) => false,
    }
}

fn collect(place: &str, wanted: &Value, found: &Value, places: &mut Vec<String>) {
    let (Value::Object(a), Value::Object(b)) = (wanted, found) else {
        if wanted != found {
            places.push(place.to_owned());
        }
        return;
    };
    let below = |key: &str| match place {
        "" => key.to_owned(),
        _ => format!("{place}.{key}"),
    };
    let nothing = |like: Option<&Value>| match like {
        Some(Value::Object(_)) => Value::Object(Map::new()),
        _ => Value::Null,
    };
    for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
        let (left, right) = (a.get(key), b.get(key));
        let (left, right) = (
            left.cloned().unwrap_or_else(|| nothing(right)),
            right.cloned().unwrap_or_else(|| nothing(left)),
        );
        collect(&below(key), &left, &right, places);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(config: Value, host_config: Value) -> ContainerDefinition {
        serde_json::from_value(json!({
            "name": "web", "image": {"name": "web:1", "id": "sha256:aa"}, "started": true,
            "config": config, "host_config": host_config, "platform": "linux",
            "networks": {"back": {"Aliases": ["b", "a"]}},
            "mounts": [{"kind": "volume", "destination": "/d", "read_only": false, "source": "v"}],
        }))
        .unwrap()
    }

    #[test]
    fn unset_is_unset_however_an_engine_says_it() {
        let a = container(
            json!({"Env": ["A=1"], "Hostname": "x"}),
            json!({"Memory": 0, "Dns": []}),
        );
        let mut b = container(
            json!({"Env": ["A=1"]}),
            json!({"Dns": null, "Privileged": false}),
        );
        b.networks.insert(
            "back".into(),
            serde_json::from_str(r#"{"Aliases": ["a", "b"]}"#).unwrap(),
        );
        assert_eq!(containers(&a, &b, Kin::Same), Vec::<String>::new());
    }

    #[test]
    fn names_that_engines_make_up_for_mounts_are_no_difference() {
        let mounts = |source: Value| json!({"Mounts": [{"Type": "volume", "Target": "/w", "Source": source}]});
        let asked = container(json!({}), mounts(json!(null)));
        let given = container(json!({}), mounts("a".repeat(64).into()));
        let other = container(json!({}), mounts("mine".into()));
        assert_eq!(containers(&asked, &given, Kin::Same), Vec::<String>::new());
        assert_eq!(
            containers(&asked, &other, Kin::Same),
            ["host config.Mounts"]
        );
    }

    #[test]
    fn differences_are_named_by_place_and_show_no_values() {
        let a = container(
            json!({"Env": ["PASSWORD=a"]}),
            json!({"Memory": 5, "LogConfig": {"Type": "x"}}),
        );
        let mut b = container(
            json!({"Env": ["PASSWORD=b"]}),
            json!({"LogConfig": {"Type": "y"}}),
        );
        b.networks.insert("front".into(), Object::new());
        b.mounts[0].read_only = true;
        b.image.id = "sha256:bb".into();
        assert_eq!(
            containers(&a, &b, Kin::Same),
            [
                "config.Env",
                "host config.LogConfig.Type",
                "host config.Memory",
                "image",
                "mounts./d",
                "network names"
            ]
        );
    }
}
