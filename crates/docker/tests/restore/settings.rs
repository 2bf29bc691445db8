//! Settings that engines do not take as they say them, or that name another container.

use refloat_model::plan::{OnConflict, RestoreRequest};
use refloat_testkit::docker::Engine;

use crate::estate::{engine, only, plan, restore_all, target, words};
use crate::point::Point;

#[test]
fn a_volume_that_was_asked_for_without_a_name_comes_back() {
    let (Some(source), Some(empty)) = (engine(), engine()) else {
        return;
    };
    source.import_busybox("bb:1");
    let mount = "--mount=type=volume,dst=/work";
    source.docker([
        "run",
        "--name=box",
        mount,
        "bb:1",
        "sh",
        "-c",
        "echo hello > /work/a",
    ]);
    let point = Point::capture(&source);
    let target = target(&empty);
    restore_all(&target, &point, &RestoreRequest::default());
    let printed = empty.docker([
        "run",
        "--rm",
        "--volumes-from=box",
        "bb:1",
        "cat",
        "/work/a",
    ]);
    assert_eq!(printed, "hello");
    assert_eq!(
        words(&plan(&target, &point, &only(&["container:box"])).steps)
            .last()
            .unwrap(),
        "container:box reuse"
    );
}

#[test]
fn who_shares_with_a_container_that_is_replaced_is_replaced() {
    let Some(engine) = engine() else { return };
    engine.import_busybox("bb:1");
    let base = |memory: &str| {
        engine.docker(["run", "-d", "--name=base", memory, "bb:1", "sleep", "1000"]);
    };
    let share = |name: &str| {
        let network = "--network=container:base";
        let name = format!("--name={name}");
        engine.docker(["run", "-d", &name, network, "bb:1", "sleep", "1000"]);
    };
    base("--memory=32m");
    share("side");
    let point = Point::capture(&engine);
    engine.docker(["rm", "-f", "base", "side"]);
    base("--memory=64m");
    share("side");
    share("mine");
    let target = target(&engine);
    let request = RestoreRequest {
        on_conflict: OnConflict::Replace,
        ..RestoreRequest::default()
    };
    let planned = plan(&target, &point, &request);
    let steps = words(&planned.steps);
    assert!(
        steps.contains(&"container:base replace".to_owned()),
        "{steps:?}"
    );
    assert!(
        steps.contains(&"container:side replace".to_owned()),
        "{steps:?}"
    );
    let mine = planned
        .findings
        .iter()
        .find(|f| f.subject == "container mine");
    assert_eq!(
        mine.unwrap().message,
        "it shares with container base, which is replaced: it does not start again until it is \
         made anew as well"
    );
    restore_all(&target, &point, &request);
    let id = engine.docker(["inspect", "-f", "{{.Id}}", "base"]);
    let mode = "{{.HostConfig.NetworkMode}} {{.State.Running}}";
    assert_eq!(
        engine.docker(["inspect", "-f", mode, "side"]),
        format!("container:{id} true")
    );
}

#[test]
fn limits_come_back_as_podman_takes_them() {
    let (Some(source), Some(empty)) = (Engine::start_podman(), Engine::start_podman()) else {
        return;
    };
    source.import_busybox("localhost/bb:1");
    let limit = "--ulimit=nofile=100:200";
    source.docker([
        "create",
        "--name=box",
        limit,
        "localhost/bb:1",
        "sleep",
        "9",
    ]);
    let point = Point::capture(&source);
    restore_all(&target(&empty), &point, &RestoreRequest::default());
    let ask = |engine: &Engine| {
        let limits = "{{range .HostConfig.Ulimits}}{{.Name}}={{.Soft}}:{{.Hard}} {{end}}";
        engine.docker(["inspect", "-f", limits, "box"])
    };
    assert!(ask(&source).contains("=100:200"), "{}", ask(&source));
    assert_eq!(ask(&empty), ask(&source));
}
