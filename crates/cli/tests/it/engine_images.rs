//! Images that were captured from engines: into folders that others read, into registries, and
//! from engines that keep images as registries gave them.
//!
//! Skipped, saying so, where no engine can be started.

use std::path::Path;
use std::process::Command;

use refloat_testkit::docker::{Engine, EngineOptions};
use refloat_testkit::registry::images::{Remote, digest};
use refloat_testkit::registry::misbehaving::{Answer, Fake};
use refloat_testkit::registry::server::Server;
use refloat_testkit::registry::skopeo;
use serde_json::{Value, json};

use crate::cli_env::CliEnv;

/// An engine with a container, made from an image of two layers with two names; gives the id.
fn engine_with_container() -> Option<(Engine, String)> {
    let engine = Engine::start(&EngineOptions::default())?;
    engine.import_busybox("base:1");
    let file = [("file", "one")];
    let id = engine.build(
        "registry.local:5000/team/app:1",
        "FROM base:1\nCOPY file /file\n",
        &file,
    );
    engine.docker(["tag", "registry.local:5000/team/app:1", "own:latest"]);
    let run = [
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "none",
        "own:latest",
    ];
    engine.docker(run.into_iter().chain(["sleep", "3600"]));
    Some((engine, id))
}

/// The digest of the configuration, which is what engines call the image.
fn config_digest(layout: &str) -> Option<String> {
    let raw = skopeo(&["inspect", "--raw", layout])?.unwrap();
    let manifest: Value = serde_json::from_str(&raw).unwrap();
    Some(manifest["config"]["digest"].as_str().unwrap().to_owned())
}

#[test]
fn images_of_an_engine_become_layouts_and_registries_content() {
    let Some((engine, id)) = engine_with_container() else {
        return;
    };
    let env = CliEnv::with_repository();
    let from = format!("docker:{}", engine.address());
    env.succeed(&["backup", "--source", &from]);
    let plan = env.run(&["restore", "latest", "--to", "oci:images", "--dry-run"]);
    assert!(plan.contains("keeps layers unpacked"), "{plan}");
    env.succeed(&["restore", "latest", "--to", "oci:images"]);
    for name in ["team%2Fapp:1", "own:latest"] {
        let layout = format!("oci:{}", env.path(&format!("images/{name}")).display());
        let Some(found) = config_digest(&layout) else {
            return;
        };
        assert_eq!(found, id, "{name}");
    }
    // What skopeo makes of it an engine takes as the same image.
    let layout = format!("oci:{}", env.path("images/own:latest").display());
    let archive = env.path("own.tar").display().to_string();
    skopeo(&[
        "copy",
        &layout,
        &format!("docker-archive:{archive}:own:latest"),
    ])
    .unwrap()
    .unwrap();
    let other = Engine::start(&EngineOptions::default()).unwrap();
    other.docker(["load", "-i", &archive]);
    assert_eq!(
        other.docker(["image", "inspect", "-f", "{{.Id}}", "own:latest"]),
        id
    );

    let Some(registry) = Server::start() else {
        return;
    };
    let to = format!("registry:{}", registry.address::<String>());
    env.succeed(&[
        "restore",
        "latest",
        "--to",
        &to,
        "--as",
        "repository:own=shop/own",
    ]);
    let remote = Remote::new(&registry.host());
    let (_, manifest) = remote.manifest("shop/own", "latest").unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["config"]["digest"], id.as_str());
    assert!(remote.manifest("team/app", "1").is_some());
    let again = env.succeed(&["restore", "latest", "--to", "oci:images"]);
    assert!(!again.contains("create"), "{again}");
}

/// An engine as Docker is with the containerd image store: what `engine` says, with the image of
/// `archive` in place of its own.
fn containerd_store(engine: &Engine, archive: &Path, id: &str) -> (Fake, String, Vec<u8>) {
    let file = |name: &str| {
        let tar = Command::new("tar")
            .arg("-xOf")
            .arg(archive)
            .arg(name)
            .output()
            .unwrap();
        assert!(tar.status.success(), "{tar:?}");
        tar.stdout
    };
    let index: Value = serde_json::from_slice(&file("index.json")).unwrap();
    let root = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let manifest = file(&format!("blobs/{}", root.replace(':', "/")));
    assert_eq!(digest(&manifest), root);
    let ask = |what: &[&str]| -> Value {
        let text = engine.docker(what.iter().copied());
        serde_json::from_str(&text).unwrap()
    };
    let mut image = ask(&["image", "inspect", "-f", "{{json .}}", id]);
    image["Id"] = root.as_str().into();
    image["RepoTags"] = json!(["team/app:1"]);
    image["RepoDigests"] = json!([format!("team/app@{root}")]);
    let mut container = ask(&["container", "inspect", "-f", "{{json .}}", "web"]);
    container["Image"] = root.as_str().into();
    container["Config"]["Image"] = "team/app:1".into();
    let network = ask(&["network", "inspect", "-f", "{{json .}}", "none"]);
    let version =
        json!({"ApiVersion": "1.48", "Version": "28.5.2", "Os": "linux", "Arch": "amd64"});
    let info = json!({"ID": "containerd-store", "Name": "h", "DockerRootDir": "/var/lib/docker",
        "OSType": "linux", "Architecture": "x86_64", "Driver": "overlayfs",
        "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]});
    let listed = json!([{"Id": root, "RepoTags": ["team/app:1"], "Size": 1}]);
    let containers = json!([{"Id": container["Id"], "Names": ["/web"], "Image": "team/app:1"}]);
    let export = std::fs::read(archive).unwrap();
    let fake = Fake::start(move |asked, _| {
        let path = asked.path.split('?').next().unwrap();
        let path = path.find("/v1.").map_or(path, |at| {
            path[at + 1..]
                .find('/')
                .map_or(path, |slash| &path[at + 1 + slash..])
        });
        let answer = match path {
            "/version" => version.to_string(),
            "/info" => info.to_string(),
            "/plugins" => "[]".to_owned(),
            "/volumes" => r#"{"Volumes": []}"#.to_owned(),
            "/networks" => json!([network]).to_string(),
            "/images/json" => listed.to_string(),
            "/containers/json" => containers.to_string(),
            path if path.starts_with("/images/") && path.ends_with("/json") => image.to_string(),
            path if path.starts_with("/containers/") && path.ends_with("/json") => {
                container.to_string()
            }
            path if path.ends_with("/changes") => "[]".to_owned(),
            path if path.starts_with("/images/") && path.ends_with("/get") => {
                return Answer::new(200, export.clone()).with("content-type", "application/x-tar");
            }
            _ => return Answer::new(404, r#"{"message": "not here"}"#),
        };
        Answer::new(200, answer).with("content-type", "application/json")
    });
    (fake, root, manifest)
}

#[test]
fn an_engine_that_keeps_what_registries_gave_it_comes_back_byte_for_byte() {
    let (Some((engine, id)), Some(registry)) = (engine_with_container(), Server::start()) else {
        return;
    };
    let env = CliEnv::with_repository();
    // Compressed layers and a manifest, as such an engine exports them.
    let archive = env.path("export.tar");
    let from = format!("docker-archive:{}", env.path("saved.tar").display());
    let saved = env.path("saved.tar").display().to_string();
    engine.docker(["save", "-o", &saved, "own:latest"]);
    let there = format!("docker://{}/team/app:1", registry.host());
    let Some(pushed) = skopeo(&["copy", "--dest-tls-verify=false", &from, &there]) else {
        return;
    };
    pushed.unwrap();
    let to = format!("oci-archive:{}:team/app:1", archive.display());
    skopeo(&["copy", "--src-tls-verify=false", &there, &to])
        .unwrap()
        .unwrap();

    let (fake, root, manifest) = containerd_store(&engine, &archive, &id);
    let address = format!("docker:tcp://127.0.0.1:{}", fake.port);
    let report = env.json(&["backup", "--source", &address]);
    assert_eq!(report["points"][0]["complete"], true, "{report:#}");
    let again = env.json(&["backup", "--source", &address]);
    assert_eq!(again["points"][0]["figures"]["files_new"], 0, "{again:#}");
    let exports = fake
        .lines()
        .iter()
        .filter(|line| line.contains("/get"))
        .count();
    assert_eq!(exports, 1, "an unchanged image is not asked for again");

    let restored = env.run(&["restore", "latest", "--to", "oci:images"]);
    assert!(
        restored.starts_with("exit code: 0") && !restored.contains("unpacked"),
        "{restored}"
    );
    let layout = format!("oci:{}", env.path("images/team%2Fapp:1").display());
    let raw = skopeo(&["inspect", "--raw", &layout]).unwrap().unwrap();
    assert_eq!(
        (raw.as_bytes(), digest(raw.as_bytes())),
        (&manifest[..], root.clone())
    );

    // An engine that unpacks layers calls the image by its configuration.
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let id = manifest["config"]["digest"].as_str().unwrap();
    let target = Engine::start(&EngineOptions::default()).unwrap();
    let to = format!("docker:{}", target.address());
    env.succeed(&["restore", "latest", "--to", &to]);
    let format = "{{.Image}} {{.State.Running}}";
    assert_eq!(
        target.docker(["inspect", "-f", format, "web"]),
        format!("{id} true")
    );
    assert_eq!(target.docker(["exec", "web", "cat", "/file"]), "one");
    let repeated = env.succeed(&["restore", "latest", "--to", &to]);
    assert!(!repeated.contains("create"), "{repeated}");
}

#[test]
fn an_export_without_a_layer_is_named_and_not_called_whole() {
    let Some((engine, id)) = engine_with_container() else {
        return;
    };
    let env = CliEnv::with_repository();
    let saved = env.path("saved.tar").display().to_string();
    engine.docker(["save", "-o", &saved, "own:latest"]);
    let layout = env.path("layout");
    let to = format!("oci:{}:1", layout.display());
    let from = format!("docker-archive:{saved}");
    let Some(copied) = skopeo(&["copy", &from, &to]) else {
        return;
    };
    copied.unwrap();
    let index = std::fs::read(layout.join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let hex = |digest: &Value| digest.as_str().unwrap().replace("sha256:", "");
    let blobs = layout.join("blobs/sha256");
    let manifest = std::fs::read(blobs.join(hex(&index["manifests"][0]["digest"]))).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let lost = hex(&manifest["layers"][1]["digest"]);
    std::fs::remove_file(blobs.join(&lost)).unwrap();
    let archive = env.path("export.tar");
    let tar = Command::new("tar")
        .arg("-cf")
        .arg(&archive)
        .arg("-C")
        .arg(&layout)
        .args(["index.json", "oci-layout", "blobs"])
        .status()
        .unwrap();
    assert!(tar.success());
    let (fake, ..) = containerd_store(&engine, &archive, &id);
    let address = format!("docker:tcp://127.0.0.1:{}", fake.port);
    let report = env.run(&["backup", "--source", &address]);
    assert!(report.starts_with("exit code: 3"), "{report}");
    assert!(
        report.contains(&lost) && report.contains("does not hold it whole"),
        "{report}"
    );
    let restored = env.run(&["restore", "latest", "--to", "oci:images"]);
    assert!(
        !env.path("images/team%2Fapp/index.json").exists(),
        "{restored}"
    );
}
