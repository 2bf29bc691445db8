//! Captured answers of engines become definitions.

use serde_json::json;

use super::*;
use crate::definition::{PodmanOnly, from_bytes, to_bytes};

const DOCKER: &str = include_str!("../../../tests/fixtures/docker-20.10-container.json");
const SHARED: &str = include_str!("../../../tests/fixtures/docker-20.10-shared-network.json");
const PODMAN: &str = include_str!("../../../tests/fixtures/podman-4.3-container.json");

fn read(text: &str) -> ContainerDefinition {
    read_value(serde_json::from_str(text).unwrap())
}

fn read_value(inspect: Object) -> ContainerDefinition {
    ContainerDefinition::from_inspect(
        inspect,
        &Surroundings {
            podman: &|_| PodmanOnly::default(),
            host_name: "machine",
            names: &|id| id.starts_with("5ddfec6f71cb").then(|| "base".to_owned()),
            digests: &|_| vec!["demo/box@sha256:77".to_owned()],
            data: &|mount| {
                let volume = mount.kind == MountKind::Volume;
                volume.then(|| TreePath::root().child(&mount.source))
            },
        },
    )
}

#[test]
fn docker_tells_definition_and_state_apart() {
    let web = read(DOCKER);
    assert_eq!(web.name, "shop-web-1");
    assert!(web.started);
    assert_eq!(
        web.image,
        ImageReference {
            name: "demo/box:1".into(),
            id: "sha256:6167051996e60bdf2f7b0a8406efd2ff8415335bc2883b98b895c9366fc48f44".into(),
            digests: vec!["demo/box@sha256:77".into()],
        }
    );
    let project = web.project.as_ref().unwrap();
    assert_eq!(
        (project.project.as_str(), project.service.as_str()),
        ("shop", "web")
    );
    assert_eq!(web.config.get("Hostname"), None);
    assert_eq!(
        web.host_config["PortBindings"]["80/tcp"][0]["HostPort"],
        "8080"
    );
    assert_eq!(
        serde_json::to_value(&web.networks).unwrap(),
        json!({"shop_back": {"Aliases": ["web"], "IPAMConfig": {"IPv4Address": "10.97.0.9"}}})
    );
    let mounts: Vec<_> = web
        .mounts
        .iter()
        .map(|m| (m.destination.as_str(), m.kind, m.read_only, m.anonymous))
        .collect();
    assert_eq!(
        mounts,
        [
            ("/cache", MountKind::Tmpfs, false, false),
            ("/data", MountKind::Volume, false, false),
            ("/html", MountKind::Bind, true, false),
            ("/scratch", MountKind::Volume, false, true),
        ]
    );
    assert_eq!(
        web.mounts[1].data.as_ref().map(ToString::to_string),
        Some("/data".into())
    );
    assert_eq!(
        web.other,
        Object::new(),
        "everything the engine said has a place"
    );
    assert_eq!(
        from_bytes::<ContainerDefinition>(&to_bytes(&web).unwrap()).unwrap(),
        web
    );
}

#[test]
fn what_changes_by_running_changes_no_byte_and_unknown_keys_are_kept() {
    let mut inspect: Object = serde_json::from_str(DOCKER).unwrap();
    let before = to_bytes(&read_value(inspect.clone())).unwrap();
    inspect["State"]["Pid"] = 1.into();
    inspect["State"]["StartedAt"] = "2027-01-01T00:00:00Z".into();
    inspect["RestartCount"] = 9.into();
    inspect["NetworkSettings"]["Networks"]["shop_back"]["MacAddress"] = "02:42".into();
    let mounts = inspect["Mounts"].as_array_mut().unwrap();
    mounts.reverse();
    assert_eq!(to_bytes(&read_value(inspect.clone())).unwrap(), before);

    inspect["State"] = json!({"Status": "exited", "Running": false});
    inspect.insert("NewKey".into(), json!({"deep": [1, null]}));
    inspect["HostConfig"]["NewLimit"] = 7.into();
    let later = read_value(inspect);
    assert!(!later.started);
    assert_eq!(later.other["NewKey"], json!({"deep": [1, null]}));
    assert_eq!(later.host_config["NewLimit"], 7);
}

#[test]
fn shared_namespaces_are_by_name() {
    let side = read(SHARED);
    assert_eq!(side.network_mode(), "container:base");
    assert_eq!(
        side.config.get("Hostname"),
        None,
        "it is the other container's"
    );
    assert_eq!(side.networks, BTreeMap::new());
}

#[test]
fn uts_namespaces_are_by_name_as_well() {
    let mut inspect: Object = serde_json::from_str(DOCKER).unwrap();
    inspect["HostConfig"]["UTSMode"] = "container:5ddfec6f71cb0001".into();
    inspect["Config"]["Hostname"] = "base-host".into();
    let web = read_value(inspect);
    assert_eq!(web.host_config["UTSMode"], "container:base");
    assert_eq!(web.config.get("Hostname"), None);
}

#[test]
fn a_host_name_of_ones_own_is_kept_beside_the_hosts_network() {
    let mut inspect: Object = serde_json::from_str(DOCKER).unwrap();
    inspect["HostConfig"]["NetworkMode"] = "host".into();
    for (name, kept) in [
        ("mail.example.org", Some("mail.example.org")),
        ("machine", None),
    ] {
        inspect["Config"]["Hostname"] = name.into();
        let found = read_value(inspect.clone());
        assert_eq!(found.config.get("Hostname").and_then(Value::as_str), kept);
    }
}

#[test]
fn a_mount_of_a_volumes_folder_is_a_part() {
    let mut inspect: Object = serde_json::from_str(DOCKER).unwrap();
    inspect["HostConfig"]["Mounts"] = json!([
        {"Type": "volume", "Source": "data", "Target": "/data", "VolumeOptions": {"NoCopy": true}},
        {"Type": "volume", "Source": "data", "Target": "/sub/", "VolumeOptions": {"Subpath": "a"}},
    ]);
    let web = read_value(inspect);
    assert_eq!([web.is_part("/data"), web.is_part("/sub")], [false, true]);
}

#[test]
fn podman_says_the_same_in_its_own_way() {
    let app = read(PODMAN);
    assert_eq!(app.name, "app");
    assert!(app.started);
    assert_eq!(app.config.get("Hostname"), None);
    assert_eq!(
        app.environment(),
        [
            "TOKEN=hunter2",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TERM=xterm",
            "container=podman",
        ]
    );
    assert_eq!(
        serde_json::to_value(&app.networks).unwrap(),
        json!({"podman": {}})
    );
    assert!(app.mounts[1].anonymous);
    assert_eq!(app.other, Object::new());
}

#[test]
fn newer_documents_and_other_bytes_are_refused() {
    let newer = br#"{"version": 2, "name": "x"}"#;
    assert_eq!(
        from_bytes::<ContainerDefinition>(newer)
            .unwrap_err()
            .to_string(),
        "the definition of a container has version 2, this program reads up to 1"
    );
    assert_eq!(
        from_bytes::<ContainerDefinition>(b"[]")
            .unwrap_err()
            .to_string(),
        "cannot read the definition of a container"
    );
}
