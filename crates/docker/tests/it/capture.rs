//! What a small estate looks like in a recovery point.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

use refloat_docker::definition::{
    ContainerDefinition, HostDefinition, MountKind, NetworkDefinition, ProjectDefinition,
    VolumeDefinition, from_bytes,
};
use refloat_docker::{Options, RootfsSelection, VolumeAccess};
use refloat_model::closure::close;
use refloat_model::entry::EntryKind;
use refloat_model::outcome::Consistency;
use refloat_model::time::Timestamp;
use refloat_testkit::docker::Engine;

use crate::estate::{IMAGE, capture, connect, discover, engine, item, rule, try_capture};
use crate::shop::shop;
use crate::tree::Tree;

#[test]
fn a_host_is_discovered_and_captured() {
    let Some(engine) = engine() else { return };
    shop(&engine);
    let source = connect(&engine, Options::default());
    let inventory = discover(&source);

    inventory_names_everything(&inventory, &engine);
    containers_are_definitions(&source, &inventory, &engine);
    volume_is_read_directly(&source, &inventory, &engine);
    documents_are_stable(&engine, &source, &inventory);

    let (tree, _) = capture(&source, &inventory, "/docker/web/networks/shop_back.json");
    let network: NetworkDefinition = from_bytes(&tree.node("shop_back.json").content).unwrap();
    assert_eq!(network.ipam["Config"][0]["Subnet"], "10.98.1.0/24");

    let (tree, _) = capture(&source, &inventory, "/docker/web/projects/shop");
    let project: ProjectDefinition = from_bytes(&tree.node("shop/project.json").content).unwrap();
    let start = project.services["web"]
        .depends_on
        .keys()
        .collect::<Vec<_>>();
    assert_eq!(start, ["store"]);
    assert_eq!(project.volumes, ["shop_data"]);
    assert_eq!(tree.text("shop/files/a.env"), "A=1\n");
    assert!(tree.text("shop/files/compose.yml").contains("env_file"));

    let (tree, made) = capture(&source, &inventory, "/docker/web/binds/shop-web-1/1");
    assert_eq!(tree.text("1/index.html"), "welcome");
    assert_eq!(
        made.consistency,
        Consistency::Application,
        "read-only: nobody writes"
    );

    let (tree, _) = capture(&source, &inventory, "/docker/web/host.json");
    let host: HostDefinition = from_bytes(&tree.node("host.json").content).unwrap();
    assert_eq!(host.id, engine.docker(["info", "-f", "{{.ID}}"]));
    assert_eq!(
        host.settings["Driver"],
        engine.docker(["info", "-f", "{{.Driver}}"]).as_str()
    );
}

fn inventory_names_everything(inventory: &refloat_model::item::Inventory, engine: &Engine) {
    let at = |path: &str| item(inventory, path);
    assert_eq!(inventory.identity, engine.docker(["info", "-f", "{{.ID}}"]));
    assert_eq!(rule(at("/docker/web/networks/bridge.json")), "built-in");
    assert_eq!(rule(at("/docker/web/binds/shop-web-1/0")), "device-path");
    assert_eq!(rule(at("/docker/web/rootfs/shop-web-1")), "stateless");
    let written = at("/docker/web/rootfs/shop-store-1");
    assert_eq!(rule(written), "not-selected");
    assert_eq!(
        written.risks,
        ["3 changes in the container's own filesystem: /srv, /srv/y, /uploaded"]
    );
    let web = at("/docker/web/containers/shop-web-1.json");
    assert!(web.sensitive);
    assert_eq!(
        web.risks,
        ["/cache is in memory only: its content is not captured"]
    );
    let image = engine.docker(["image", "inspect", "-f", "{{.Id}}", IMAGE]);
    let requires: Vec<_> = web
        .requires
        .iter()
        .map(ToString::to_string)
        .filter(|name| !name.starts_with("volume:"))
        .collect();
    let bind = format!("bind:{}/shop/html", engine.folder().display());
    assert_eq!(
        requires,
        [
            format!("image:{IMAGE}@{image}"),
            bind,
            "network:shop_back".to_owned()
        ]
    );
    let anonymous = inventory
        .items
        .iter()
        .find(|i| i.title == "shop-web-1:/scratch (anonymous)");
    assert_eq!(rule(anonymous.unwrap()), "");
    let saved = inventory.items.iter().filter(|item| item.skip.is_none());
    let provided = saved
        .flat_map(|item| item.provides.iter().cloned())
        .map(|subject| (subject, BTreeSet::from(["web".to_owned()])))
        .collect();
    let [shop] = inventory.workloads.as_slice() else {
        panic!("{:?}", inventory.workloads)
    };
    let closure = close(
        "web",
        "shop",
        &shop.requires,
        &provided,
        &[],
        Timestamp::EPOCH,
        |_| String::new(),
    );
    assert!(closure.is_closed(), "{closure:?}");
    let places: Vec<_> = inventory
        .placements
        .iter()
        .map(|p| (p.container.as_str(), p.service.as_deref(), p.state.as_str()))
        .collect();
    assert_eq!(
        places,
        [
            ("shop-store-1", Some("store"), "running"),
            ("shop-web-1", Some("web"), "running")
        ]
    );
}

fn containers_are_definitions(
    source: &refloat_docker::DockerSource,
    inventory: &refloat_model::item::Inventory,
    engine: &Engine,
) {
    let (tree, made) = capture(
        source,
        inventory,
        "/docker/web/containers/shop-store-1.json",
    );
    assert_eq!(made.consistency, Consistency::Definition);
    let store: ContainerDefinition = from_bytes(&tree.node("shop-store-1.json").content).unwrap();
    assert!(store.started);
    assert_eq!(
        store.config.get("Hostname"),
        None,
        "the engine's own default"
    );
    assert_eq!(
        serde_json::to_value(&store.networks["shop_back"]).unwrap(),
        serde_json::json!({"Aliases": ["store"], "IPAMConfig": {"IPv4Address": "10.98.1.9"}})
    );
    assert_eq!(store.mounts.len(), 1);
    assert_eq!(store.mounts[0].source, "shop_data");
    let data = store.mounts[0].data.as_ref().unwrap().to_string();
    assert_eq!(data, "/docker/web/volumes/shop_data");

    let (tree, _) = capture(source, inventory, "/docker/web/containers/shop-web-1.json");
    let web: ContainerDefinition = from_bytes(&tree.node("shop-web-1.json").content).unwrap();
    assert!(web.environment().contains(&"API_TOKEN=hunter2"));
    assert_eq!(web.host_config["Memory"], 64 * 1024 * 1024);
    assert_eq!(web.host_config["RestartPolicy"]["Name"], "unless-stopped");
    let mounts: Vec<_> = web
        .mounts
        .iter()
        .map(|m| (m.destination.as_str(), m.kind, m.data.is_some()))
        .collect();
    assert_eq!(
        mounts,
        [
            ("/cache", MountKind::Tmpfs, false),
            ("/docker.sock", MountKind::Bind, false),
            ("/html", MountKind::Bind, true),
            ("/scratch", MountKind::Volume, true),
        ]
    );
    let text = tree.text("shop-web-1.json");
    let id = engine.docker(["inspect", "-f", "{{.Id}}", "shop-web-1"]);
    assert!(
        !text.contains(&id[..12]),
        "no id of the old container: {text}"
    );
}

fn volume_is_read_directly(
    source: &refloat_docker::DockerSource,
    inventory: &refloat_model::item::Inventory,
    engine: &Engine,
) {
    let (tree, made) = capture(source, inventory, "/docker/web/volumes/shop_data");
    let volume: VolumeDefinition = from_bytes(&tree.node("shop_data/volume.json").content).unwrap();
    assert_eq!(
        (volume.name.as_str(), volume.project()),
        ("shop_data", Some("shop"))
    );
    assert_eq!(made.consistency, Consistency::Crash, "its writer runs");
    assert_eq!(made.findings, []);
    let file = tree.node("shop_data/data/sub/a");
    let real = engine.data_root().join("volumes/shop_data/_data/sub/a");
    let real = std::fs::metadata(real).unwrap();
    assert_eq!(file.content, b"hello\n");
    assert_eq!(
        (file.metadata.mode, file.metadata.uid, file.metadata.gid),
        (0o640, 12, 34)
    );
    assert_eq!(
        i64::from(file.metadata.modified.nanoseconds),
        real.mtime_nsec()
    );
    assert_eq!((file.metadata.inode, file.metadata.links), (real.ino(), 2));
    let link = tree.node("shop_data/data/l");
    assert_eq!(
        link.kind,
        EntryKind::Symlink {
            target: b"sub/a".to_vec()
        }
    );
    assert_eq!(tree.node("shop_data/data/pipe").kind, EntryKind::Fifo);
}

/// Restarting a container changes nothing of its definition.
fn documents_are_stable(
    engine: &Engine,
    source: &refloat_docker::DockerSource,
    inventory: &refloat_model::item::Inventory,
) {
    let documents = [
        ("/docker/web/containers/shop-web-1.json", "shop-web-1.json"),
        ("/docker/web/networks/shop_back.json", "shop_back.json"),
        ("/docker/web/host.json", "host.json"),
    ];
    let read = || documents.map(|(path, name)| capture(source, inventory, path).0.text(name));
    let before = read();
    engine.docker(["restart", "-t", "0", "shop-web-1"]);
    assert_eq!(read(), before);
}

#[test]
fn volumes_are_read_through_the_engine_where_their_folder_is_not_ours() {
    let Some(engine) = engine() else { return };
    shop(&engine);
    engine.docker(["volume", "create", "lonely"]);
    let lonely = engine.data_root().join("volumes/lonely/_data/note");
    std::fs::write(lonely, "nobody mounts me").unwrap();
    let options = Options {
        volume_access: VolumeAccess::Engine,
        rootfs: RootfsSelection::Save,
        ..Options::default()
    };
    let source = connect(&engine, options);
    let inventory = discover(&source);

    let (tree, made) = capture(&source, &inventory, "/docker/web/volumes/shop_data");
    assert_eq!(tree.text("shop_data/data/sub/a"), "hello\n");
    assert_eq!(
        tree.text("shop_data/data/b"),
        "hello\n",
        "a hard link's content"
    );
    let file = tree.node("shop_data/data/sub/a");
    assert_eq!((file.metadata.mode, file.metadata.uid), (0o640, 12));
    let findings: Vec<_> = made.findings.iter().map(|f| f.message.as_str()).collect();
    assert_eq!(
        findings,
        [
            "read through the engine's archive API: times are whole seconds, sockets and \
             extended attributes other than capabilities are not captured",
            "1 hard links are captured as files of their own",
        ]
    );

    let (tree, _) = capture(&source, &inventory, "/docker/web/volumes/lonely");
    assert_eq!(tree.text("lonely/data/note"), "nobody mounts me");
    assert_eq!(
        engine.docker(["ps", "-aq", "-f", "label=refloat.helper"]),
        ""
    );

    let (tree, _) = capture(&source, &inventory, "/docker/web/binds/shop-web-1/1");
    assert_eq!(tree.text("1/index.html"), "welcome");

    let (tree, _) = capture(&source, &inventory, "/docker/web/rootfs/shop-store-1");
    assert_eq!(
        tree.paths(),
        [
            "shop-store-1",
            "shop-store-1/changes.json",
            "shop-store-1/data",
            "shop-store-1/data/srv",
            "shop-store-1/data/srv/y",
            "shop-store-1/data/uploaded",
        ]
    );
    assert_eq!(tree.text("shop-store-1/data/uploaded"), "upload\n");
}

#[test]
fn what_vanishes_is_a_named_failure_and_the_rest_goes_on() {
    let Some(engine) = engine() else { return };
    for name in ["gone", "stays"] {
        engine.docker(["volume", "create", name]);
        engine.docker(["create", "--name", name, IMAGE]);
    }
    let source = connect(&engine, Options::default());
    let inventory = discover(&source);
    engine.docker(["rm", "gone"]);
    engine.docker(["volume", "rm", "gone"]);
    for (path, text) in [
        (
            "/docker/web/containers/gone.json",
            "cannot look at container gone",
        ),
        ("/docker/web/volumes/gone", "cannot look at volume gone"),
    ] {
        let error = try_capture(&source, &inventory, path, &mut Tree::default()).unwrap_err();
        assert_eq!(error.to_string(), text);
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            cause.contains("404") && cause.to_lowercase().contains("no such"),
            "{cause}"
        );
    }
    let _saved = capture(&source, &inventory, "/docker/web/containers/stays.json");
    let _saved = capture(&source, &inventory, "/docker/web/volumes/stays");
}
