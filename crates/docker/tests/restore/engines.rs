//! Between kinds of engines: what Docker gave comes back on Podman, and the other way round.

use refloat_model::plan::RestoreRequest;
use refloat_testkit::docker::Engine;

use crate::estate::{engine, plan, restore_all, target, words};
use crate::point::Point;

/// A store with a volume, a fixed address and a published port, and one that does not run.
fn store(engine: &Engine) {
    engine.import_busybox("localhost/bb:1");
    engine.docker(["network", "create", "--subnet=10.96.1.0/24", "rear"]);
    engine.docker(["volume", "create", "--label=of=store", "data"]);
    let write = "[ -e /data/b ] || { mkdir -p /data/sub && echo hello > /data/sub/a && \
        chmod 640 /data/sub/a && chown 12:34 /data/sub/a && ln -s sub/a /data/l && \
        ln /data/sub/a /data/b; }; exec httpd -f -h /data";
    engine.docker([
        "run",
        "-d",
        "--name=store",
        "--network=rear",
        "--ip=10.96.1.9",
        "-v",
        "data:/data",
        "-p",
        "8082:80",
        "-e",
        "API_TOKEN=hunter2",
        "--label=of=store",
        "--restart=unless-stopped",
        "--memory=64m",
        "--entrypoint=",
        "localhost/bb:1",
        "sh",
        "-c",
        write,
    ]);
    engine.docker(["create", "--name=toolbox", "localhost/bb:1", "sleep", "9"]);
    engine.await_output("wget", &["-qO-", "http://127.0.0.1:8082/b"], "hello\n");
}

/// What must be the same whoever runs it.
fn facts(engine: &Engine) -> Vec<String> {
    let settings = "{{.Image}} {{json .Config.Cmd}} {{.Config.Labels.of}} {{.HostConfig.Memory}} \
        {{json .HostConfig.PortBindings}} {{.HostConfig.RestartPolicy.Name}}";
    let data = engine.data_root().join("volumes/data/_data");
    let listed = std::process::Command::new("find")
        .args([".", "-printf", "%P %y %m %U:%G %n %T@ %l\n"])
        .current_dir(data)
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut lines: Vec<&str> = listed.lines().collect();
    lines.sort_unstable();
    let ask = |format: &str, name: &str| engine.docker(["inspect", "-f", format, name]);
    vec![
        ask(settings, "store")
            .replace("sha256:", "")
            .replace("\"HostIp\":\"0.0.0.0\"", "\"HostIp\":\"\""),
        ask("{{.State.Running}}", "toolbox"),
        engine.docker(["volume", "inspect", "-f", "{{.Labels.of}}", "data"]),
        lines.join("\n"),
    ]
}

fn there(source: &Engine, empty: &Engine) {
    store(source);
    let before = facts(source);
    let point = Point::capture(source);
    let target = target(empty);
    let report = restore_all(&target, &point, &RestoreRequest::default());
    for step in &report.steps {
        assert_eq!(step.step.action.word(), "create", "{step:#?}");
    }
    empty.await_output("wget", &["-qO-", "http://127.0.0.1:8082/b"], "hello\n");
    assert_eq!(facts(empty), before);
    let environment = empty.docker(["inspect", "-f", "{{json .Config.Env}}", "store"]);
    assert!(environment.contains("API_TOKEN=hunter2"), "{environment}");

    // The same once more converges, whatever words the other engine has for the same settings.
    let again = plan(&target, &point, &RestoreRequest::default());
    let reused = |word: &String| word.ends_with("reuse");
    assert!(words(&again.steps).iter().all(reused), "{:#?}", again.steps);
}

#[test]
fn what_docker_gave_comes_back_on_podman() {
    let (Some(source), Some(empty)) = (engine(), Engine::start_podman()) else {
        return;
    };
    there(&source, &empty);
    // Podman does not tell whether an address was asked for; Docker does.
    let address = "{{(index .NetworkSettings.Networks \"rear\").IPAddress}}";
    assert_eq!(
        empty.docker(["inspect", "-f", address, "store"]),
        "10.96.1.9"
    );
}

#[test]
fn what_podman_gave_comes_back_on_docker() {
    let (Some(source), Some(empty)) = (Engine::start_podman(), engine()) else {
        return;
    };
    there(&source, &empty);
}
