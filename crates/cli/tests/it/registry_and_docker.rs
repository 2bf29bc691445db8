//! Containers whose images are in a registry: closure joins both, and with no registry left the
//! containers start from the point.
//!
//! Skipped, saying so, where no engine can be started.

use refloat_testkit::docker::{Engine, EngineOptions};
use refloat_testkit::registry::images::Remote;
use refloat_testkit::registry::server::{Neighbour, Server};
use serde_json::Value;

use crate::cli_env::CliEnv;

/// An engine and a registry that it reaches, each with one container's image.
struct Estate {
    engine: Engine,
    registry: Server,
    _inside: Neighbour,
    image: String,
    id: String,
}

impl Estate {
    fn start() -> Option<Self> {
        let engine = Engine::start(&EngineOptions::default())?;
        let registry = Server::start()?;
        let inside = registry.beside(engine.inside("docker-registry"));
        let image = format!("{}/team/app:1", registry.host());
        engine.import_busybox(&image);
        let id = build(&engine, &image, "one");
        let run = ["run", "-d", "--name", "web", "--network", "none", &image];
        push(&engine, &image);
        engine.docker(run.into_iter().chain(["sleep", "3600"]));
        Some(Self {
            engine,
            registry,
            _inside: inside,
            image,
            id,
        })
    }

    fn configure(&self, env: &CliEnv, images: &str, registry: &str) {
        let config = format!(
            "sources:\n  web: {{docker: {{host: \"{}\", images: {images}}}}}\n  hub: {{registry: \
             {{url: \"{}\"{registry}}}}}\npolicies:\n  all: {{select: [{{source: web}}, {{source: \
             hub}}]}}\n",
            self.engine.address(),
            self.registry.address::<String>()
        );
        env.write("refloat.yaml", &config);
    }

    /// The digest by which the engine knows the image in the registry.
    fn digest(&self) -> String {
        let format = "{{index .RepoDigests 0}}";
        let name = self
            .engine
            .docker(["image", "inspect", "-f", format, &self.id]);
        name.split_once('@').unwrap().1.to_owned()
    }
}

/// Makes the image anew with a file of this content; gives its id.
fn build(engine: &Engine, image: &str, content: &str) -> String {
    let base = format!("{image}-base");
    engine.docker(["tag", image, &base]);
    let dockerfile = format!("FROM {base}\nCOPY file /file\nCMD [\"/bin/sh\"]\n");
    engine.build(image, &dockerfile, &[("file", content)])
}

/// The registry inside may still be starting.
fn push(engine: &Engine, image: &str) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let output = engine.try_docker(["push", image]);
        if output.status.success() {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{output:?}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

/// What the closure of the last point says of the container's image.
fn image_of(report: &Value) -> Value {
    let closure = report["points"][0]["closure"].as_array().unwrap();
    let web = closure.iter().find(|c| c["workload"] == "web").unwrap();
    let references = web["references"].as_array().unwrap();
    references
        .iter()
        .find(|r| r["kind"] == "image")
        .unwrap()
        .clone()
}

fn findings(report: &Value) -> String {
    report["points"][0]["findings"].to_string()
}

#[test]
fn containers_start_from_a_registrys_images_with_no_registry_left() {
    let Some(estate) = Estate::start() else {
        return;
    };
    let env = CliEnv::with_repository();
    estate.configure(&env, "none", ", in-use-only: true");
    let report = env.json(&["backup"]);
    assert_eq!(report["points"][0]["complete"], true, "{report:#}");
    let image = image_of(&report);
    assert_eq!(image["state"], "captured", "{image:#}");
    assert_eq!(image["from"], serde_json::json!(["hub"]), "{image:#}");
    assert!(
        image["digests"][0]
            .as_str()
            .unwrap()
            .ends_with(&estate.digest()),
        "{image:#}"
    );
    let shown = env.succeed(&["show", "latest"]);
    assert!(shown.contains("in hub  image:"), "{shown}");

    let Estate {
        engine,
        registry,
        image,
        id,
        ..
    } = estate;
    drop((engine, registry));
    let target = Engine::start(&EngineOptions::default()).unwrap();
    let to = format!("docker:{}", target.address());
    let restored = env.run(&["restore", "latest", "--to", &to]);
    assert!(restored.starts_with("exit code: 0"), "{restored}");
    let format = "{{.Image}} {{.Config.Image}} {{.State.Running}}";
    assert_eq!(
        target.docker(["inspect", "-f", format, "web"]),
        format!("{id} {image} true")
    );
    assert_eq!(target.docker(["exec", "web", "cat", "/file"]), "one");
    let repeated = env.run(&["restore", "latest", "--to", &to]);
    assert!(
        repeated.starts_with("exit code: 0") && !repeated.contains("create"),
        "{repeated}"
    );
}

#[test]
fn a_moved_tag_is_told_and_what_runs_is_captured_all_the_same() {
    let Some(estate) = Estate::start() else {
        return;
    };
    let env = CliEnv::with_repository();
    let old = estate.digest();
    build(&estate.engine, &estate.image, "two");
    push(&estate.engine, &estate.image);

    estate.configure(&env, "in-use", "");
    let both = env.json(&["backup"]);
    let image = image_of(&both);
    assert_eq!(image["from"], serde_json::json!(["hub", "web"]), "{both:#}");
    assert!(findings(&both).contains("the tag moved"), "{both:#}");
    assert!(
        findings(&both).contains("still there by digest"),
        "{both:#}"
    );
    let index = env.succeed(&["cat", "latest:/images/hub/team%2Fapp/index.json"]);
    assert!(index.contains(&old), "{index}");

    estate.configure(&env, "none", "");
    Remote::new(&estate.registry.host()).delete_manifest("team/app", &old);
    let gone = env.json(&["backup"]);
    assert_eq!(gone["points"][0]["complete"], false, "{gone:#}");
    assert_eq!(image_of(&gone)["state"], "missing", "{gone:#}");
    assert!(findings(&gone).contains("it is there no more"), "{gone:#}");
    assert_eq!(env.code(&["backup"]), 3);
    let coverage = env.json(&["discover"]);
    let image = &coverage["images"][0];
    assert_eq!(
        image["used_by"],
        serde_json::json!(["web/web"]),
        "{coverage:#}"
    );
    assert_eq!(image["places"][0]["kind"], "docker", "{coverage:#}");
    assert!(image["places"][0]["left_out"].is_string(), "{coverage:#}");
    let shown = env.run(&["discover"]);
    assert!(shown.contains("no source would save it"), "{shown}");
}

#[test]
fn images_of_a_registry_alone_go_into_an_engine() {
    let Some(estate) = Estate::start() else {
        return;
    };
    let env = CliEnv::with_repository();
    let from = format!("registry:{}", estate.registry.address::<String>());
    env.succeed(&["backup", "--source", &from]);
    let targets = [
        Engine::start(&EngineOptions::default()),
        Engine::start_podman(),
    ];
    for target in targets.into_iter().flatten() {
        let to = format!("docker:{}", target.address());
        let restore = ["restore", "latest", "--to", &to];
        let only = ["--only", "image:team/app:1"];
        let restored = env.run(&[&restore[..], &only].concat());
        assert!(restored.starts_with("exit code: 0"), "{restored}");
        let inspect = ["image", "inspect", "-f", "{{.Id}}", &estate.image];
        let id = target.docker(inspect);
        // Podman may leave the algorithm out.
        assert!(estate.id.ends_with(&id), "{id} is not {}", estate.id);
        let all = env.run(&restore);
        assert!(
            all.starts_with("exit code: 0") && all.contains("reuse"),
            "{all}"
        );
    }
}
