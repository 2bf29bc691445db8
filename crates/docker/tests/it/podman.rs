//! Podman's socket is the same source.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use refloat_docker::definition::{
    ContainerDefinition, EngineKind, HostDefinition, ImageDefinition, from_bytes,
};
use refloat_docker::{Options, VolumeAccess};
use refloat_model::subject::{Subject, SubjectKind};
use refloat_testkit::docker::Engine;

use crate::estate::{capture, connect, discover, item, rule, try_capture};
use crate::tree::Tree;

#[test]
fn podman_is_discovered_and_captured() {
    let Some(engine) = Engine::start_podman() else {
        return;
    };
    let image = engine.import_busybox("localhost/bb:1");
    engine.docker(["volume", "create", "data"]);
    engine.docker([
        "run",
        "-d",
        "--name",
        "app",
        "--env",
        "A=1",
        "-v",
        "data:/data",
        "localhost/bb:1",
        "sh",
        "-c",
        "echo x > /own; echo hello > /data/a; ln /data/a /data/b; exec sleep 1000",
    ]);
    // No exec: this machine may not let Podman set limits.
    let last = engine.data_root().join("volumes/data/_data/b");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !last.exists() {
        assert!(Instant::now() < deadline, "the container does not write");
        std::thread::sleep(Duration::from_millis(50));
    }
    let source = connect(&engine, Options::default());
    let inventory = discover(&source);

    let (tree, _) = capture(&source, &inventory, "/docker/web/host.json");
    let host: HostDefinition = from_bytes(&tree.node("host.json").content).unwrap();
    assert_eq!(host.engine, EngineKind::Podman);
    assert_eq!(host.versions["engine"], "4.3.1");
    assert_eq!(
        discover(&source).identity,
        inventory.identity,
        "the same on every look"
    );

    let (tree, _) = capture(&source, &inventory, "/docker/web/containers/app.json");
    let app: ContainerDefinition = from_bytes(&tree.node("app.json").content).unwrap();
    assert!(app.started);
    assert_eq!(app.image.id, image);
    assert!(app.environment().contains(&"A=1"));
    assert_eq!(app.mounts[0].source, "data");

    let (tree, _) = capture(&source, &inventory, "/docker/web/volumes/data");
    assert_eq!(tree.text("data/data/a"), "hello\n");

    assert_eq!(
        rule(item(&inventory, "/docker/web/rootfs/app")),
        "not-selected"
    );
    let (tree, _) = capture(&source, &inventory, "/images/web/localhost%2Fbb/1");
    let stored: ImageDefinition = from_bytes(&tree.node("1/image.json").content).unwrap();
    assert_eq!(stored.id, image);
    tree.node(&format!("1/complete-{}", &image[7..]));

    let options = Options {
        volume_access: VolumeAccess::Engine,
        ..Options::default()
    };
    let source = connect(&engine, options);
    let inventory = discover(&source);
    let (tree, _) = capture(&source, &inventory, "/docker/web/volumes/data");
    assert_eq!(tree.text("data/data/a"), "hello\n");
    assert_eq!(tree.text("data/data/b"), "hello\n");
}

#[test]
fn a_podman_volume_that_is_not_mounted_is_not_taken_for_empty() {
    let Some(engine) = Engine::start_podman() else {
        return;
    };
    engine.import_busybox("localhost/bb:1");
    let real = engine.folder().join("real");
    std::fs::create_dir(&real).unwrap();
    std::fs::write(real.join("a"), "hello").unwrap();
    let device = format!("device={}", real.display());
    engine.docker([
        "volume",
        "create",
        "--opt",
        "type=none",
        "--opt",
        "o=bind",
        "--opt",
        &device,
        "media",
    ]);
    let mount = ["-v", "media:/data", "localhost/bb:1", "sleep", "1000"];
    engine.docker([&["create", "--name", "app"][..], &mount].concat());
    let path = "/docker/web/volumes/media";
    for access in [VolumeAccess::Auto, VolumeAccess::Engine] {
        let options = Options {
            volume_access: access,
            ..Options::default()
        };
        let source = connect(&engine, options);
        let inventory = discover(&source);
        let error = try_capture(&source, &inventory, path, &mut Tree::default()).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(
            cause,
            "it is not mounted: start a container that uses it, and back up while that runs; where \
             the backup itself stops it (refloat.stop, or the policy's consistency), have it paused \
             instead"
        );
        engine.docker(["start", "app"]);
        let (tree, _) = capture(&source, &inventory, path);
        assert_eq!(tree.text("media/data/a"), "hello");
        engine.docker(["stop", "-t", "0", "app"]);
    }
}

/// The containers `app`, in a pod and with secrets, and `plain`.
fn pods_and_secrets(engine: &Engine) {
    engine.import_busybox("localhost/bb:1");
    let secret = engine.folder().join("secret");
    std::fs::write(&secret, "hunter2").unwrap();
    for name in ["token", "certificate", "unused"] {
        let create = ["secret", "create", name].map(OsStr::new);
        engine.podman(create.into_iter().chain([secret.as_os_str()]));
    }
    let podman = |words: &str| engine.podman(words.split(' '));
    podman("pod create --name web --infra-image localhost/bb:1 --infra-command sleep");
    podman(
        "create --pod web --name app --secret token,type=env,target=TOKEN \
         --secret certificate,mode=0400 --tz=local localhost/bb:1 sleep --umask",
    );
    podman("create --name plain localhost/bb:1 sleep 1000");
}

/// Docker's API shows neither, and a container that comes back without them looks whole.
#[test]
fn pods_and_secrets_of_podman_are_missed_by_name() {
    let Some(engine) = Engine::start_podman() else {
        return;
    };
    pods_and_secrets(&engine);
    let source = connect(&engine, Options::default());
    let inventory = discover(&source);
    let [app, plain] = ["app", "plain"].map(|n| format!("/docker/web/containers/{n}.json"));
    for (kind, name) in [
        (SubjectKind::Secret, "certificate"),
        (SubjectKind::Secret, "token"),
        (SubjectKind::Object, "pod/web"),
    ] {
        let subject = Subject::new("web", kind, name);
        let needs = |path: &str| item(&inventory, path).requires.contains(&subject);
        assert_eq!([needs(&app), needs(&plain)], [true, false], "{subject}");
    }
    assert_eq!(rule(item(&inventory, "/docker/web/pods/web")), "podman-pod");
    for name in ["certificate", "token", "unused"] {
        let path = format!("/docker/web/secrets/{name}");
        assert_eq!(rule(item(&inventory, &path)), "not-given-out");
    }
    let risk = "it was created with --tz, which Docker's API cannot ask for: it comes back without";
    assert_eq!(item(&inventory, &app).risks, [risk]);
    assert!(item(&inventory, &plain).risks.is_empty());

    let stored = |path: &str, name: &str| {
        let (tree, _) = capture(&source, &inventory, path);
        tree.text(name)
    };
    let text = stored(&app, "app.json");
    assert!(!text.contains("hunter2"), "{text}");
    let definition: ContainerDefinition = from_bytes(text.as_bytes()).unwrap();
    let expected = "pod web, secret certificate, secret token, --tz";
    assert_eq!(definition.podman.to_string(), expected);
    let text = stored(&plain, "plain.json");
    let definition: ContainerDefinition = from_bytes(text.as_bytes()).unwrap();
    assert!(definition.podman.is_empty());
}
