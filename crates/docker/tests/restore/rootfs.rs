//! What a container had written into its own filesystem.

use refloat_docker::{Options, RootfsSelection, VolumeAccess};
use refloat_model::item::ItemKind;
use refloat_model::plan::{Action, RestoreRequest};
use refloat_testkit::docker::Engine;

use crate::estate::{engine, plan, restore, restore_all, target, words};
use crate::point::Point;

/// A container that changed, added and deleted files of its image, and says what it has.
const LOOK: &str = "ls /etc /srv; cat /etc/app.conf /srv/uploads/a; stat -c '%a %u %Y' \
                    /srv/uploads/a /etc/passwd; readlink /srv/link";

fn writer(engine: &Engine) {
    engine.import_busybox("bb:1");
    engine.build(
        "app:1",
        "FROM bb:1\nRUN echo old > /etc/app.conf && echo x > /etc/default.conf && mkdir /opt && \
         echo y > /opt/z\n",
        &[],
    );
    // It writes once: what is there after a restore was restored. What it changes gets another
    // size: engines do not see a change of the same size within a second.
    let start = "[ -e /srv/done ] || { echo changed > /etc/app.conf; rm /etc/default.conf; \
        rm -r /opt; mkdir -p /srv/uploads; echo upload > /srv/uploads/a; chmod 640 /srv/uploads/a; \
        chown 12 /srv/uploads/a; ln -s uploads/a /srv/link; touch /srv/done; }; \
        exec httpd -f -p 8083 -h /srv";
    engine.docker([
        "run",
        "-d",
        "--name=app",
        "--network=host",
        "app:1",
        "sh",
        "-c",
        start,
    ]);
    engine.await_output(
        "wget",
        &["-qO-", "http://127.0.0.1:8083/uploads/a"],
        "upload\n",
    );
}

fn captured(engine: &Engine) -> Point {
    Point::capture_with(
        engine,
        Options {
            rootfs: RootfsSelection::Save,
            ..Options::default()
        },
    )
}

#[test]
fn it_comes_back_before_the_container_starts() {
    let (Some(source), Some(empty)) = (engine(), engine()) else {
        return;
    };
    writer(&source);
    let point = captured(&source);
    let look = |engine: &Engine| engine.docker(["exec", "app", "sh", "-c", LOOK]);
    let before = look(&source);
    let target = target(&empty);
    let report = restore_all(&target, &point, &RestoreRequest::default());
    let steps: Vec<String> = words(report.steps.iter().map(|outcome| &outcome.step));
    assert_eq!(
        steps,
        [
            "image:app:1 create",
            "container:app create",
            "rootfs:app create"
        ]
    );
    assert!(
        report.steps[2].remarks[0].ends_with("2 removed"),
        "{:#?}",
        report.steps[2]
    );
    empty.await_output(
        "wget",
        &["-qO-", "http://127.0.0.1:8083/uploads/a"],
        "upload\n",
    );
    assert_eq!(look(&empty), before);
    assert!(
        !empty
            .try_docker(["exec", "app", "ls", "/opt"])
            .status
            .success()
    );
    let changes = |engine: &Engine| {
        let text = engine.docker(["diff", "app"]);
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    assert_eq!(changes(&empty), changes(&source));
    let again = plan(&target, &point, &RestoreRequest::default());
    assert_eq!(
        again.steps[2].action,
        Action::Skip {
            why: "its container is kept".into()
        }
    );
}

#[test]
fn what_the_engines_api_cannot_remove_is_named() {
    let (Some(source), Some(empty)) = (engine(), engine()) else {
        return;
    };
    writer(&source);
    let point = captured(&source);
    let target = target(&empty).with_volume_access(VolumeAccess::Engine);
    let report = restore(&target, &point, &RestoreRequest::default());
    assert!(
        report.steps.iter().all(|step| step.error.is_none()),
        "{report:#?}"
    );
    assert!(!report.is_complete());
    let said = &report.findings[0];
    assert_eq!(said.subject, "container app");
    assert!(
        said.message.contains("2 paths") && said.message.contains("/etc/default.conf"),
        "{said:?}"
    );
    assert_eq!(
        empty.docker(["exec", "app", "cat", "/etc/app.conf"]),
        "changed"
    );
    assert_eq!(
        empty.docker(["exec", "app", "cat", "/etc/default.conf"]),
        "x"
    );
}

#[test]
fn a_container_without_its_own_files_is_not_started_and_the_next_run_completes_it() {
    let (Some(source), Some(empty)) = (engine(), engine()) else {
        return;
    };
    writer(&source);
    let point = captured(&source);
    let mut damaged = point.clone();
    let upload = "/docker/web/rootfs/app/data/srv/uploads/a";
    let path = refloat_model::tree_path::TreePath::parse(upload).unwrap();
    damaged.damaged.push(path);
    let target = target(&empty);
    let report = restore(&target, &damaged, &RestoreRequest::default());
    let failed = report.steps.iter().filter(|step| step.error.is_some());
    let failed: Vec<ItemKind> = failed.map(|step| step.step.kind).collect();
    assert_eq!(failed, [ItemKind::Container, ItemKind::RootFilesystem]);
    assert_eq!(empty.docker(["ps", "-q"]), "");
    let planned = plan(&target, &point, &RestoreRequest::default());
    assert_eq!(
        words(&planned.steps),
        [
            "image:app:1 reuse",
            "container:app reuse",
            "rootfs:app create"
        ]
    );
    restore_all(&target, &point, &RestoreRequest::default());
    empty.await_output(
        "wget",
        &["-qO-", "http://127.0.0.1:8083/uploads/a"],
        "upload\n",
    );
}
