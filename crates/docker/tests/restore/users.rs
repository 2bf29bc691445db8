//! Data that is replaced while others have it, or have something mounted in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use refloat_docker::DockerTarget;
use refloat_model::cancel::Cancel;
use refloat_model::finding::Severity;
use refloat_model::item::ItemKind;
use refloat_model::plan::{OnConflict, RestorePlan, RestoreReport, RestoreRequest};
use refloat_model::progress::Silent;
use refloat_source::Target;
use refloat_testkit::docker::Engine;

use crate::estate::{engine, only, plan, restore_all, target};
use crate::point::Point;

/// A file system in memory, until it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn on(place: &Path) -> Self {
        let place = place.to_owned();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "tmpfs"]).arg(&place);
        assert!(command.status().unwrap().success());
        Self(place)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _status = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn replacing(words: &[&str]) -> RestoreRequest {
    RestoreRequest {
        on_conflict: OnConflict::Replace,
        ..only(words)
    }
}

fn messages(plan: &RestorePlan, severity: Severity) -> Vec<&str> {
    let of = plan.findings.iter().filter(|f| f.severity == severity);
    of.map(|finding| finding.message.as_str()).collect()
}

fn run(engine: &Engine, options: &[&str], command: &str) {
    let words = [&["run", "-d"], options, &["bb:1", "sh", "-c", command]];
    engine.docker(words.concat());
}

fn execute(
    target: &DockerTarget,
    plan: &RestorePlan,
    point: &Point,
    request: &RestoreRequest,
) -> RestoreReport {
    let (progress, cancel) = (Silent::default(), Cancel::default());
    target
        .execute(plan, point, request, &progress, &cancel)
        .unwrap()
}

fn started(engine: &Engine, name: &str) -> String {
    let state = "{{.State.Running}} {{.State.StartedAt}}";
    engine.docker(["inspect", "-f", state, name])
}

#[test]
fn what_is_mounted_in_a_bind_is_not_removed_with_strangers() {
    let Some(engine) = engine() else { return };
    let media = engine.folder().join("media");
    let nas = media.join("my nas");
    fs::create_dir_all(&nas).unwrap();
    fs::write(media.join("list"), "old").unwrap();
    engine.import_busybox("bb:1");
    let bind = format!("--volume={}:/media", media.display());
    engine.docker(["create", "--name=app", &bind, "bb:1", "true"]);
    let point = Point::capture(&engine);
    fs::write(media.join("list"), "newer").unwrap();
    fs::write(media.join("stranger"), "x").unwrap();
    let target = target(&engine);
    let request = replacing(&["bind:app"]);
    let before = plan(&target, &point, &request);

    let mounted = Mounted::on(&nas);
    fs::create_dir(nas.join("films")).unwrap();
    fs::write(nas.join("films/one"), "film").unwrap();
    let planned = plan(&target, &point, &request);
    let why = format!(
        "{}/films is on a file system that is mounted there and is not in the recovery point: it \
         would be removed; unmount that file system first",
        nas.display()
    );
    assert_eq!(messages(&planned, Severity::Error), [why.as_str()]);
    // It was mounted after the plan was made.
    let report = execute(&target, &before, &point, &request);
    let errors: Vec<_> = report
        .steps
        .iter()
        .filter_map(|s| s.error.clone())
        .collect();
    assert_eq!(errors, [why]);
    assert_eq!(fs::read_to_string(nas.join("films/one")).unwrap(), "film");
    assert!(media.join("stranger").exists(), "nothing is begun");

    fs::remove_dir_all(nas.join("films")).unwrap();
    restore_all(&target, &point, &request);
    assert_eq!(fs::read_to_string(media.join("list")).unwrap(), "old");
    assert!(!media.join("stranger").exists());
    drop(mounted);
}

#[test]
fn whoever_has_a_bind_is_stopped_while_it_is_replaced() {
    let Some(engine) = engine() else { return };
    let data = engine.folder().join("pg");
    let file = data.join("conf/app.conf");
    fs::create_dir_all(data.join("conf")).unwrap();
    fs::write(data.join("rows"), "old").unwrap();
    fs::write(&file, "old").unwrap();
    engine.import_busybox("bb:1");
    let at = |place: &Path, inside: &str| format!("--volume={}:{inside}", place.display());
    // What runs when the data is read is written down by whoever has it.
    let log = "cat /d/rows >> /log; exec sleep 1000";
    run(&engine, &["--name=db", &at(&data, "/d")], log);
    run(
        &engine,
        &["--name=above", &at(engine.folder(), "/f")],
        "exec sleep 1000",
    );
    run(
        &engine,
        &["--name=file", &at(&file, "/app.conf")],
        "exec sleep 1000",
    );
    run(
        &engine,
        &["--name=host", "--volume=/:/host:ro"],
        "exec sleep 1000",
    );
    let point = Point::capture(&engine);
    fs::write(data.join("rows"), "newer").unwrap();
    fs::write(&file, "newer").unwrap();
    let target = target(&engine);
    let request = replacing(&["bind:db", "bind:file"]);
    let planned = plan(&target, &point, &request);
    let will = "above, db, file will be stopped while it is replaced";
    assert_eq!(messages(&planned, Severity::Warning), [will, will]);
    let names = ["db", "above", "file", "host"];
    let before = names.map(|name| started(&engine, name));
    restore_all(&target, &point, &request);
    for (name, before) in names.into_iter().zip(before) {
        let now = started(&engine, name);
        assert!(now.starts_with("true"), "{name} {now}");
        assert_eq!(now == before, name == "host", "{name}");
    }
    assert_eq!(engine.docker(["exec", "file", "cat", "/app.conf"]), "old");
    assert_eq!(engine.docker(["exec", "db", "cat", "/log"]), "oldold");
}

#[test]
fn who_was_stopped_for_data_that_fails_stays_stopped() {
    let Some(engine) = engine() else { return };
    let data = engine.folder().join("pg");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("rows"), "what was stored").unwrap();
    engine.import_busybox("bb:1");
    let bind = format!("--volume={}:/d", data.display());
    run(&engine, &["--name=db", &bind], "exec sleep 1000");
    let mut point = Point::capture(&engine);
    let rows = point
        .nodes
        .keys()
        .find(|path| path.to_string().ends_with("/rows"));
    point.damaged.push(rows.unwrap().clone());
    fs::write(data.join("rows"), "newer").unwrap();
    let target = target(&engine);
    let request = replacing(&["container:db"]);
    let planned = plan(&target, &point, &request);
    let report = execute(&target, &planned, &point, &request);
    assert!(!report.is_complete());
    let stopped = report
        .findings
        .iter()
        .find(|f| f.severity == Severity::Error);
    assert_eq!(
        stopped.unwrap().message,
        "its data is partly replaced; db stay stopped"
    );
    assert!(started(&engine, "db").starts_with("false"));
}

#[test]
fn a_container_that_stopping_removes_is_not_stopped() {
    let Some(engine) = engine() else { return };
    engine.import_busybox("bb:1");
    let options = ["--rm", "--name=tmp", "--volume=data:/d", "--volume=/own"];
    run(
        &engine,
        &options,
        "echo 1 > /d/a; echo mine > /own/a; exec sleep 1000",
    );
    engine.docker(["exec", "tmp", "sh", "-c", "until [ -e /own/a ]; do :; done"]);
    let point = Point::capture(&engine);
    engine.docker(["exec", "tmp", "sh", "-c", "echo 22 > /d/a"]);
    let target = target(&engine);
    let request = replacing(&["volume:data"]);
    let planned = plan(&target, &point, &request);
    let why = "container tmp uses it, and the engine removes that container and its anonymous \
               volumes when it stops (--rm): end it yourself first";
    assert_eq!(messages(&planned, Severity::Error), [why]);
    // One whose plan was made before the container was there.
    let mut before = planned;
    before.findings.clear();
    let report = execute(&target, &before, &point, &request);
    assert_eq!(report.steps[0].error.as_deref(), Some(why));
    assert_eq!(
        engine.docker(["exec", "tmp", "cat", "/own/a", "/d/a"]),
        "mine\n22"
    );
}

#[test]
fn who_was_stopped_for_a_file_that_stays_as_it_was_runs_again() {
    let Some(engine) = engine() else { return };
    let file = engine.folder().join("pg/app.conf");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "what was stored").unwrap();
    engine.import_busybox("bb:1");
    let bind = format!("--volume={}:/app.conf", file.display());
    run(&engine, &["--name=app", &bind], "exec sleep 1000");
    let mut point = Point::capture(&engine);
    let binds = point.items.iter();
    let mut binds = binds.filter(|item| item.item.kind == ItemKind::Bind);
    let stored = binds.next().unwrap().item.path.clone();
    point.damaged.push(stored);
    fs::write(&file, "newer").unwrap();
    let target = target(&engine);
    let request = replacing(&["bind:app"]);
    let planned = plan(&target, &point, &request);
    let report = execute(&target, &planned, &point, &request);
    assert!(report.steps[0].error.is_some(), "{report:#?}");
    let errors = report.findings.iter();
    assert_eq!(errors.filter(|f| f.severity == Severity::Error).count(), 0);
    assert!(started(&engine, "app").starts_with("true"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "newer");
}

#[test]
fn who_shares_a_namespace_starts_after_its_owner_and_with_it() {
    let Some(engine) = engine() else { return };
    let data = engine.folder().join("pg");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("rows"), "old").unwrap();
    engine.import_busybox("bb:1");
    let bind = format!("--volume={}:/d", data.display());
    run(&engine, &["--name=owner", &bind], "exec sleep 1000");
    let shared = "--network=container:owner";
    // One that has the data as well, one that does not, and one that is in the other's.
    run(&engine, &["--name=first", shared, &bind], "exec sleep 1000");
    run(&engine, &["--name=later", shared], "exec sleep 1000");
    let of_later = "--pid=container:later";
    run(&engine, &["--name=inner", of_later], "exec sleep 1000");
    let point = Point::capture(&engine);
    fs::write(data.join("rows"), "newer").unwrap();
    let names = ["owner", "first", "later", "inner"];
    let before = names.map(|name| started(&engine, name));
    restore_all(&target(&engine), &point, &replacing(&["bind:first"]));
    for (name, before) in names.into_iter().zip(before) {
        let now = started(&engine, name);
        assert!(now.starts_with("true") && now != before, "{name} {now}");
    }
}

#[test]
fn who_only_reads_and_cannot_be_stopped_runs_on() {
    let Some(engine) = engine() else { return };
    let data = engine.folder().join("pg");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("rows"), "old").unwrap();
    engine.import_busybox("bb:1");
    let bind = format!("--volume={}:/d", data.display());
    run(
        &engine,
        &["--name=app", &bind, "-v=own:/own"],
        "exec sleep 1000",
    );
    let (reads, volume) = (format!("{bind}:ro"), "--volume=own:/own:ro");
    run(
        &engine,
        &["--rm", "--name=tmp", &reads, volume],
        "exec sleep 1000",
    );
    let point = Point::capture(&engine);
    fs::write(data.join("rows"), "newer").unwrap();
    engine.docker(["exec", "app", "touch", "/own/newer"]);
    let before = started(&engine, "tmp");
    let request = replacing(&["bind:app", "volume:own"]);
    restore_all(&target(&engine), &point, &request);
    assert_eq!(started(&engine, "tmp"), before);
    assert_eq!(engine.docker(["exec", "tmp", "cat", "/d/rows"]), "old");
    assert_eq!(engine.docker(["exec", "tmp", "ls", "/own"]), "");
}
