//! A swarm's services, configs and secrets, on an engine that manages one and on one that does not.

use std::fs;

use refloat_model::finding::Severity;
use refloat_model::plan::{Action, OnConflict, RestoreRequest};
use refloat_testkit::docker::Engine;

use crate::estate::{engine, only, plan, restore, restore_all, target, words};
use crate::point::Point;

fn manager(engine: &Engine) {
    engine.docker(["swarm", "init", "--advertise-addr", "127.0.0.1"]);
}

/// A stack of one service that serves its volume, its config and its secret on a port.
fn stack(engine: &Engine) {
    manager(engine);
    engine.import_busybox("bb:1");
    let of_stack = "--label=com.docker.stack.namespace=shop";
    engine.docker_with_input(["config", "create", of_stack, "settings", "-"], b"blue\n");
    engine.docker_with_input(["secret", "create", of_stack, "token", "-"], b"hunter2\n");
    engine.docker(["network", "create", of_stack, "-d", "overlay", "shop_back"]);
    engine.docker(["volume", "create", of_stack, "shop_data"]);
    let serve = "[ -e /data/rows ] || echo rows > /data/rows; exec httpd -f -h /";
    engine.docker([
        "service",
        "create",
        "-d",
        "--no-resolve-image",
        of_stack,
        "--name=shop_web",
        "--network=shop_back",
        "--config=settings",
        "--secret=token",
        "--publish=mode=host,target=80,published=8080",
        "--mount=type=volume,src=shop_data,dst=/data",
        "--env=COLOR=blue",
        "bb:1",
        "sh",
        "-c",
        serve,
    ]);
    serves(engine, "run/secrets/token", "hunter2\n");
}

fn serves(engine: &Engine, file: &str, content: &str) {
    let address = format!("http://127.0.0.1:8080/{file}");
    engine.await_output("wget", &["-qO-", &address], content);
}

fn spec(engine: &Engine) -> String {
    let spec = engine.docker(["service", "inspect", "-f", "{{json .Spec}}", "shop_web"]);
    let mut spec: serde_json::Value = serde_json::from_str(&spec).unwrap();
    let task = &mut spec["TaskTemplate"];
    task["Networks"][0]["Target"].take();
    task["ContainerSpec"]["Configs"][0]["ConfigID"].take();
    task["ContainerSpec"]["Secrets"][0]["SecretID"].take();
    spec.to_string()
}

#[test]
fn a_stack_comes_back_with_the_secrets_that_are_given() {
    let (Some(source), Some(empty)) = (engine(), engine()) else {
        return;
    };
    stack(&source);
    let point = Point::capture(&source);
    let before = spec(&source);
    manager(&empty);
    let target = target(&empty);

    // Without the value the service does not start, and what to do is said.
    let unasked = plan(&target, &point, &only(&["shop"]));
    assert_eq!(
        words(&unasked.steps),
        [
            "image:bb:1 create",
            "network:shop_back create",
            "volume:shop_data create",
            "object:swarm secret token skip",
            "object:swarm config settings create",
            "object:swarm service shop_web skip",
        ]
    );
    let Action::Skip { why } = &unasked.steps[3].action else {
        panic!("{unasked:#?}")
    };
    assert!(why.contains("--secret token=FILE"), "{why}");
    let lacking = restore(&target, &point, &only(&["shop"]));
    assert!(!lacking.is_complete());
    assert_eq!(empty.docker(["service", "ls", "-q"]), "");

    let file = empty.folder().join("token.txt");
    let mut request = only(&["stack:shop"]);
    request.secrets.insert("token".to_owned(), file.clone());
    let unreadable = plan(&target, &point, &request);
    assert!(!unreadable.is_executable(), "{unreadable:#?}");
    fs::write(&file, "another\n").unwrap();
    let report = restore_all(&target, &point, &request);
    let service = report.steps.last().unwrap();
    assert!(
        service.remarks[0].starts_with("1 of 1 tasks run")
            && service.remarks[1] == "settings equal",
        "{service:#?}"
    );
    serves(&empty, "data/rows", "rows\n");
    serves(&empty, "settings", "blue\n");
    serves(&empty, "run/secrets/token", "another\n");
    assert_eq!(spec(&empty), before);

    let again = plan(&target, &point, &request);
    let reused = |word: &String| word.ends_with("reuse");
    assert!(words(&again.steps).iter().all(reused), "{:#?}", again.steps);

    // One that was changed since is a conflict, and is brought back in place.
    empty.docker(["service", "update", "-d", "--env-add=COLOR=red", "shop_web"]);
    let planned = plan(&target, &point, &request);
    let Action::Conflict { why } = &planned.steps.last().unwrap().action else {
        panic!("{planned:#?}")
    };
    assert!(why.contains("TaskTemplate.ContainerSpec.Env"), "{why}");
    request.on_conflict = OnConflict::Replace;
    restore_all(&target, &point, &request);
    assert_eq!(spec(&empty), before);
    serves(&empty, "run/secrets/token", "another\n");
}

#[test]
fn an_engine_without_a_swarm_takes_no_part_of_one_unless_told_to_leave_it_out() {
    let (Some(source), Some(empty)) = (engine(), engine()) else {
        return;
    };
    stack(&source);
    source.docker(["create", "--name=toolbox", "bb:1", "sleep", "9"]);
    let point = Point::capture(&source);
    let target = target(&empty);
    let planned = plan(&target, &point, &RestoreRequest::default());
    assert!(!planned.is_executable());
    let conflicts = planned.steps.iter().filter_map(|step| match &step.action {
        Action::Conflict { why } => Some((step.name.as_str(), why.as_str())),
        _ => None,
    });
    let conflicts: Vec<_> = conflicts.collect();
    let names: Vec<&str> = conflicts.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "shop_back",
            "swarm secret token",
            "swarm config settings",
            "swarm service shop_web"
        ]
    );
    assert!(
        conflicts[0].1.contains("docker swarm init"),
        "{conflicts:?}"
    );

    let request = RestoreRequest {
        on_conflict: OnConflict::Skip,
        ..RestoreRequest::default()
    };
    let report = restore(&target, &point, &request);
    assert!(
        !report.is_complete(),
        "what does not come back is no success"
    );
    let errors = report.findings.iter();
    let errors = errors.filter(|finding| finding.severity == Severity::Error);
    assert_eq!(errors.count(), 4, "{:#?}", report.findings);
    assert_eq!(
        empty.docker(["ps", "-a", "--format", "{{.Names}}"]),
        "toolbox"
    );
    assert_eq!(empty.docker(["volume", "ls", "-q"]), "shop_data");
}
