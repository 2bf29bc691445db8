//! A container with its volume and image, there and back over two real engines.
//!
//! Skipped, saying so, where no engine can be started.

use std::time::{Duration, Instant};

use refloat_testkit::docker::{Engine, EngineOptions};

use crate::cli_env::CliEnv;

/// A value that must not be seen anywhere.
const SECRET: &str = "hunter2-in-the-environment";

fn shop(engine: &Engine) {
    engine.import_busybox("shop:1");
    engine.docker(["volume", "create", "data"]);
    let password = format!("PASSWORD={SECRET}");
    engine.docker([
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "none",
        "-e",
        &password,
        "-v",
        "data:/data",
        "shop:1",
        "sh",
        "-c",
        "[ -e /data/file ] || echo rows > /data/file; sleep 3600",
    ]);
    await_rows(engine);
}

/// Waits until the application has written its data.
fn await_rows(engine: &Engine) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let output = engine.try_docker(["exec", "web", "cat", "/data/file"]);
        if output.stdout == b"rows\n" {
            return;
        }
        assert!(Instant::now() < deadline, "{output:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_container_comes_back_on_an_empty_engine_and_keeps_its_secret() {
    let Some(source) = Engine::start(&EngineOptions::default()) else {
        return;
    };
    let Some(target) = Engine::start(&EngineOptions::default()) else {
        return;
    };
    shop(&source);
    let env = CliEnv::with_repository();
    let from = format!("docker:{}", source.address());
    let to = format!("docker:{}", target.address());

    let discovered = env.run(&["discover", "--source", &from]);
    assert!(
        discovered.contains("volume") && discovered.contains("shop:1"),
        "{discovered}"
    );
    let backup = env.run(&["-v", "backup", "--source", &from]);
    assert!(backup.starts_with("exit code: 0"), "{backup}");
    let again = env.json(&["backup", "--source", &from]);
    assert_eq!(again["points"][0]["complete"], true, "{again:#}");
    assert_eq!(again["points"][0]["figures"]["files_new"], 0, "{again:#}");

    let definition = "latest:/docker/engine/containers/web.json";
    let seen = [
        discovered,
        backup,
        again.to_string(),
        env.run(&["-v", "show", "latest", "--placement"]),
        env.run(&["--json", "show", "latest"]),
        env.run(&["cat", definition]),
        env.run(&["--json", "cat", definition]),
        env.run(&["restore", "latest", "--to", &to, "--dry-run"]),
        env.run(&["--json", "restore", "latest", "--to", &to, "--dry-run"]),
    ];
    for text in &seen {
        assert!(!text.contains(SECRET), "{text}");
    }
    assert!(seen[5].contains("***"), "{}", seen[5]);
    assert!(
        env.succeed(&["cat", "--reveal", definition])
            .contains(SECRET)
    );

    let restored = env.run(&["restore", "latest", "--to", &to]);
    assert!(restored.starts_with("exit code: 0"), "{restored}");
    await_rows(&target);
    assert!(target.docker(["exec", "web", "env"]).contains(SECRET));
    let repeated = env.run(&["restore", "latest", "--to", &to]);
    assert!(repeated.starts_with("exit code: 0"), "{repeated}");
    assert!(
        !repeated.contains("create"),
        "a repeated restore changes nothing: {repeated}"
    );
}
