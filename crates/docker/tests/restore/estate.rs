//! A small estate on a real engine, and what must be equal after a restore.

use refloat_docker::{Address, ConnectOptions, DockerTarget};
use refloat_model::cancel::Cancel;
use refloat_model::plan::{RestorePlan, RestoreReport, RestoreRequest, Step};
use refloat_model::progress::Silent;
use refloat_source::Target;
use refloat_testkit::docker::{Engine, EngineOptions};

use crate::point::Point;

pub fn engine() -> Option<Engine> {
    Engine::start(&EngineOptions::default())
}

pub fn target(engine: &Engine) -> DockerTarget {
    let address: Address = engine.address().parse().unwrap();
    DockerTarget::connect("target", &address, &ConnectOptions::default()).unwrap()
}

pub fn only(words: &[&str]) -> RestoreRequest {
    let only = words.iter().map(ToString::to_string).collect();
    RestoreRequest {
        only,
        ..RestoreRequest::default()
    }
}

pub fn plan(target: &DockerTarget, point: &Point, request: &RestoreRequest) -> RestorePlan {
    target.plan(point, request).unwrap()
}

/// Plans and executes; the plan must be executable.
pub fn restore(target: &DockerTarget, point: &Point, request: &RestoreRequest) -> RestoreReport {
    let plan = plan(target, point, request);
    assert!(plan.is_executable(), "{:#?}", plan);
    target
        .execute(
            &plan,
            point,
            request,
            &Silent::default(),
            &Cancel::default(),
        )
        .unwrap()
}

/// Plans and executes; everything must succeed.
pub fn restore_all(
    target: &DockerTarget,
    point: &Point,
    request: &RestoreRequest,
) -> RestoreReport {
    let report = restore(target, point, request);
    let failed: Vec<_> = report
        .steps
        .iter()
        .filter(|step| step.error.is_some())
        .collect();
    assert!(report.is_complete(), "{failed:#?} {:#?}", report.findings);
    report
}

/// `kind:name action` of steps.
pub fn words<'a>(steps: impl IntoIterator<Item = &'a Step>) -> Vec<String> {
    let word = |step: &Step| format!("{}:{} {}", step.kind.word(), step.name, step.action.word());
    steps.into_iter().map(word).collect()
}

/// A project of a store with a volume and a fixed address, and a web service that waits for it,
/// with a bind mount and a published port; and a container that does not run.
pub fn shop(engine: &Engine) {
    let folder = engine.folder().join("shop");
    std::fs::create_dir_all(folder.join("html")).unwrap();
    std::fs::write(folder.join("html/index.html"), "welcome\n").unwrap();
    std::fs::write(folder.join("compose.yaml"), "services: {}\n").unwrap();
    std::fs::write(folder.join(".env"), "A=1\n").unwrap();
    engine.import_busybox("bb:1");
    engine.build("shop/web:1", "FROM bb:1\nRUN echo layer > /layer\n", &[]);
    let of_shop = "--label=com.docker.compose.project=shop";
    engine.docker([
        "network",
        "create",
        of_shop,
        "--subnet=10.98.1.0/24",
        "shop_back",
    ]);
    engine.docker(["network", "create", of_shop, "shop_front"]);
    engine.docker(["volume", "create", of_shop, "shop_data"]);
    let fill = "[ -e /data/ready ] || { mkdir -p /data/sub && echo hello > /data/sub/a \
        && ln /data/sub/a /data/b && ln -s sub/a /data/l && chmod 640 /data/sub/a \
        && chown 12:34 /data/sub/a && mkfifo /data/pipe && touch /data/ready; }; \
        exec httpd -f -h /data";
    let store = [
        "--network=shop_back",
        "--ip=10.98.1.9",
        "--network-alias=store",
        "--volume=shop_data:/data",
        "--health-cmd=test -e /data/ready",
        "--health-interval=1s",
    ];
    service(engine, "store", "", &store, &["bb:1", "sh", "-c", fill]);
    let html = format!("--volume={}/html:/html:ro", folder.display());
    let web = [
        "--network=shop_front",
        "--publish=8081:80",
        "--env=API_TOKEN=hunter2",
        "--memory=64m",
        "--restart=unless-stopped",
        "--volume=/scratch",
        "--tmpfs=/cache",
        "--cap-drop=NET_RAW",
        "--entrypoint=",
        &html,
    ];
    let depends = "store:service_healthy:false";
    service(
        engine,
        "web",
        depends,
        &web,
        &["shop/web:1", "httpd", "-f", "-h", "/html"],
    );
    engine.docker([
        "network",
        "connect",
        "--alias=front",
        "shop_back",
        "shop-web-1",
    ]);
    engine.docker(["create", "--name=toolbox", "bb:1", "sleep", "9"]);
    engine.docker(["start", "shop-store-1", "shop-web-1"]);
    engine.await_output("wget", &["-qO-", "http://10.98.1.9/sub/a"], "hello\n");
}

fn service(engine: &Engine, name: &str, depends: &str, options: &[&str], command: &[&str]) {
    let folder = engine.folder().join("shop").display().to_string();
    let label = |key: &str, value: &str| format!("--label=com.docker.compose.{key}={value}");
    let mut words = vec![
        "create".to_owned(),
        format!("--name=shop-{name}-1"),
        label("project", "shop"),
        label("service", name),
        label("container-number", "1"),
        label("depends_on", depends),
        label("project.working_dir", &folder),
        label("project.config_files", &format!("{folder}/compose.yaml")),
    ];
    words.extend(options.iter().chain(command).map(ToString::to_string));
    engine.docker(words);
}

/// Removes the project's folder, as a lost machine would.
pub fn lose_folder(engine: &Engine) {
    std::fs::remove_dir_all(engine.folder().join("shop")).unwrap();
}

/// What must be the same on both engines: images, containers, networks and volumes, each with
/// what the engine does not make up anew.
pub fn facts(engine: &Engine) -> Vec<String> {
    let ask = |words: &[&str]| engine.docker(words);
    let images = "{{.Repository}}:{{.Tag}} {{.ID}}";
    let container = "{{.Name}} {{.State.Running}} {{.Image}} {{json .Config.Env}} \
        {{json .Config.Cmd}} {{json .Config.Entrypoint}} {{json .Config.Labels}} \
        {{json .HostConfig.PortBindings}} {{.HostConfig.Memory}} {{json .HostConfig.CapDrop}} \
        {{json .HostConfig.RestartPolicy}} {{json .HostConfig.Tmpfs}} {{.HostConfig.NetworkMode}} \
        {{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{json $e.IPAMConfig}} {{end}}";
    let mounts = "{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}}\n{{end}}";
    let network = "{{.Name}} {{.Driver}} {{json .IPAM.Config}} {{json .Labels}}";
    let mut facts: Vec<String> = Vec::new();
    facts.push(sorted(&ask(&[
        "image",
        "ls",
        "--no-trunc",
        "--format",
        images,
    ])));
    for name in sorted(&ask(&["ps", "-a", "--format", "{{.Names}}"])).lines() {
        facts.push(ask(&["inspect", "-f", container, name]));
        facts.push(sorted(&ask(&["inspect", "-f", mounts, name])));
    }
    for name in sorted(&ask(&["network", "ls", "--format", "{{.Name}}"])).lines() {
        facts.push(ask(&["network", "inspect", "-f", network, name]));
    }
    for name in sorted(&ask(&["volume", "ls", "--format", "{{.Name}}"])).lines() {
        facts.push(ask(&[
            "volume",
            "inspect",
            "-f",
            "{{.Name}} {{json .Labels}}",
            name,
        ]));
    }
    // What is not set is said in two ways.
    facts
        .iter()
        .map(|fact| fact.replace("null", "{}"))
        .collect()
}

fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Everything in a volume: names, kinds, modes, owners, times with nanoseconds, links, hashes.
pub fn files(engine: &Engine, volume: &str) -> String {
    let folder = engine
        .data_root()
        .join("volumes")
        .join(volume)
        .join("_data");
    let script = "find . -printf '%P %y %m %U:%G %T@ %l\\n' | sort; \
        find . -type f -print0 | sort -z | xargs -0 sha256sum; find . -samefile sub/a | sort";
    let output = std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}
