//! Points with hostile or missing parts, and targets without room.

use refloat_model::finding::Severity;
use refloat_model::item::ItemKind;
use refloat_model::outcome::Outcome;
use refloat_model::plan::{Action, RestorePlan, RestoreRequest};
use refloat_testkit::docker::{Engine, EngineOptions};

use crate::estate::{engine, lose_folder, only, plan, restore, restore_all, shop, target};
use crate::point::Point;

fn action<'a>(plan: &'a RestorePlan, kind: ItemKind, name: &str) -> &'a Action {
    let mut steps = plan.steps.iter();
    let step = steps.find(|step| step.kind == kind && step.name == name);
    &step
        .unwrap_or_else(|| panic!("no {name} in {plan:#?}"))
        .action
}

fn missing(action: &Action) -> &str {
    match action {
        Action::Skip { why } => why.strip_prefix("missing in the recovery point: ").unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_a_layer_the_image_and_its_containers_stay_out_and_the_rest_comes_back() {
    let (Some(source), Some(empty)) = (engine(), engine()) else {
        return;
    };
    shop(&source);
    let mut point = Point::capture(&source);
    lose_folder(&source);
    // The layer that only the web service's image has is the smallest blob but for documents.
    let blobs = point.nodes.iter().filter(|(path, node)| {
        let path = path.to_string();
        path.contains("shop%2Fweb") && path.contains("/blobs/") && node.content.len() > 1_000_000
    });
    let layer = blobs.map(|(path, _)| path.to_string()).next().unwrap();
    point.forget(|path| path == layer);
    let target = target(&empty);
    let planned = plan(&target, &point, &RestoreRequest::default());
    assert_eq!(
        missing(action(&planned, ItemKind::Image, "shop/web:1")),
        format!("{layer} is not in the recovery point")
    );
    let web = action(&planned, ItemKind::Container, "shop-web-1");
    assert_eq!(missing(web), "its image shop/web:1");
    let report = restore(&target, &point, &RestoreRequest::default());
    assert!(!report.is_complete());
    assert_eq!(
        empty.docker(["ps", "--format", "{{.Names}}"]),
        "shop-store-1"
    );
    let said = report
        .findings
        .iter()
        .filter(|f| f.severity == Severity::Error);
    assert_eq!(said.count(), 2);
}

#[test]
fn hostile_definitions_reach_nothing_outside() {
    let (Some(source), Some(empty)) = (engine(), engine()) else {
        return;
    };
    shop(&source);
    let mut point = Point::capture(&source);
    lose_folder(&source);
    let folder = source.folder().display().to_string();
    point.edit("/docker/web/containers/shop-web-1.json", |text| {
        text.replace(&format!("{folder}/shop/html"), "/etc")
    });
    point.edit("/docker/web/projects/shop/project.json", |text| {
        text.replace(
            &format!("{folder}/shop/.env"),
            "/run/refloat-test/../../etc/cron.d/x",
        )
    });
    point.edit("/docker/web/containers/toolbox.json", |text| {
        text.replace("\"toolbox\"", "\"../x\"")
    });
    point.edit("/docker/web/containers/shop-store-1.json", |_| {
        "{\"version\": 1".into()
    });
    point.edit("/docker/web/networks/shop_front.json", |text| {
        text.replace("\"version\": 1", "\"version\": 99")
    });
    let target = target(&empty);
    let planned = plan(&target, &point, &RestoreRequest::default());
    let refused = "/etc is not written to: a whole host is captured as files, not as a \
                   container's mount";
    assert_eq!(missing(action(&planned, ItemKind::Bind, "/etc")), refused);
    let web = action(&planned, ItemKind::Container, "shop-web-1");
    assert_eq!(missing(web), "its network shop_front");
    let name = action(&planned, ItemKind::Container, "../x");
    assert_eq!(missing(name), "the name is none an engine accepts");
    let store = action(&planned, ItemKind::Container, "shop-store-1");
    assert!(missing(store).starts_with("cannot understand"), "{store:?}");
    let network = action(&planned, ItemKind::Network, "shop_front");
    assert!(missing(network).contains("has version 99"), "{network:?}");
    let project = action(&planned, ItemKind::Project, "shop");
    assert_eq!(
        *project,
        Action::Skip {
            why: "/run/refloat-test/../../etc/cron.d/x is no place for a project's file".into()
        }
    );
    let report = restore(&target, &point, &RestoreRequest::default());
    assert!(!report.is_complete());
    assert_eq!(empty.docker(["ps", "-a", "--format", "{{.Names}}"]), "");
}

#[test]
fn a_container_whose_volume_failed_in_the_backup_does_not_start_on_an_empty_one() {
    let (Some(source), Some(empty)) = (engine(), engine()) else {
        return;
    };
    shop(&source);
    let mut point = Point::capture(&source);
    point.forget(|path| path.starts_with("/docker/web/volumes/shop_data"));
    let failed = |record: &&mut refloat_model::point::ItemRecord| {
        record.item.path.to_string() == "/docker/web/volumes/shop_data"
    };
    point.items.iter_mut().find(failed).unwrap().outcome = Outcome::Failed {
        reason: "no space".into(),
    };
    lose_folder(&source);
    let target = target(&empty);
    let request = only(&["project:shop"]);
    let planned = plan(&target, &point, &request);
    let store = action(&planned, ItemKind::Container, "shop-store-1");
    assert_eq!(missing(store), "the data of volume shop_data");
    // What the target has is used.
    empty.docker(["volume", "create", "shop_data"]);
    let planned = plan(&target, &point, &request);
    let store = action(&planned, ItemKind::Container, "shop-store-1");
    assert_eq!(*store, Action::Create);
}

#[test]
fn a_target_without_room_is_found_before_anything_is_touched() {
    let Some(source) = engine() else { return };
    shop(&source);
    let point = Point::capture(&source);
    // Everything an engine needs fits, images twice and the spare do not.
    let Some(room) = Room::new("100m") else {
        return;
    };
    let options = EngineOptions {
        parent: Some(room.0.path().to_owned()),
        ..EngineOptions::default()
    };
    let Some(small) = Engine::start(&options) else {
        return;
    };
    let planned = plan(&target(&small), &point, &RestoreRequest::default());
    let errors: Vec<_> = planned
        .findings
        .iter()
        .filter(|f| f.severity == Severity::Error)
        .collect();
    let full = format!("folder {}", small.data_root().display());
    let fill = small.folder().join("fill");
    if errors.is_empty() {
        std::fs::write(&fill, vec![1; 60 << 20]).unwrap();
    }
    let planned = plan(&target(&small), &point, &RestoreRequest::default());
    assert!(
        planned
            .findings
            .iter()
            .any(|f| f.severity == Severity::Error && f.subject == full)
    );
    assert!(!planned.is_executable());
}

/// A small file system.
struct Room(tempfile::TempDir);

impl Room {
    fn new(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "refloat-test"])
            .arg(folder.path())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            refloat_testkit::skip("cannot mount a small file system");
            return None;
        }
        Some(Self(folder))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ended = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.0.path())
            .status();
    }
}

#[test]
fn podman_takes_back_what_podman_gave() {
    let (Some(source), Some(empty)) = (Engine::start_podman(), Engine::start_podman()) else {
        return;
    };
    source.import_busybox("localhost/bb:1");
    source.docker(["network", "create", "--subnet=10.97.1.0/24", "back"]);
    source.docker(["volume", "create", "data"]);
    source.docker([
        "run",
        "-d",
        "--name=store",
        "--network=back",
        "--ip=10.97.1.9",
        "-v",
        "data:/data",
        "-p",
        "8082:80",
        "-e",
        "A=1",
        "localhost/bb:1",
        "sh",
        "-c",
        "echo hello > /data/a; exec httpd -f -h /data",
    ]);
    source.await_output("wget", &["-qO-", "http://127.0.0.1:8082/a"], "hello\n");
    let point = Point::capture(&source);
    let target = target(&empty);
    let report = restore_all(&target, &point, &RestoreRequest::default());
    let store = report
        .steps
        .iter()
        .find(|s| s.step.name == "store")
        .unwrap();
    assert_eq!(
        store.remarks,
        ["created", "started", "running", "settings equal"]
    );
    empty.await_output("wget", &["-qO-", "http://127.0.0.1:8082/a"], "hello\n");
    let settings = "{{.Image}} {{json .Config.Cmd}} {{json .HostConfig.PortBindings}}";
    let ask = |engine: &Engine| engine.docker(["inspect", "-f", settings, "store"]);
    assert_eq!(ask(&empty), ask(&source));
}
