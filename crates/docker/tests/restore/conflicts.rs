//! Targets that are not empty.

use std::fs;

use refloat_model::cancel::Cancel;
use refloat_model::finding::Severity;
use refloat_model::plan::{Action, OnConflict, Permission, RestorePlan, RestoreRequest};
use refloat_model::progress::Silent;
use refloat_source::{Target, TargetError};

use crate::estate::{engine, facts, files, only, plan, restore_all, shop, target, words};
use crate::point::Point;

fn errors(plan: &RestorePlan) -> Vec<String> {
    let errors = plan
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error);
    errors
        .map(|finding| format!("{}: {}", finding.subject, finding.message))
        .collect()
}

#[test]
fn ports_and_subnets_in_use_are_found_before_anything_is_touched() {
    let (Some(source), Some(other)) = (engine(), engine()) else {
        return;
    };
    shop(&source);
    let point = Point::capture(&source);
    other.import_busybox("bb:2");
    other.docker(["network", "create", "--subnet=10.98.0.0/16", "wide"]);
    other.docker([
        "run",
        "-d",
        "--name=mine",
        "-p",
        "8081:80",
        "bb:2",
        "sleep",
        "1000",
    ]);
    let before = facts(&other);
    let target = target(&other);
    let everything = RestoreRequest::default();
    let planned = plan(&target, &point, &everything);
    assert_eq!(
        errors(&planned),
        [
            "container shop-web-1: port 8081/tcp is taken on the target by container mine: free \
             it first",
            "network shop_back: its subnet 10.98.1.0/24 overlaps with 10.98.0.0/16 of network \
             wide: remove that network, or restore onto another engine",
        ]
    );
    let refused = target.execute(
        &planned,
        &point,
        &everything,
        &Silent::default(),
        &Cancel::default(),
    );
    assert!(matches!(refused, Err(TargetError::NotExecutable(2))));
    assert_eq!(facts(&other), before);

    other.docker(["rm", "-f", "mine"]);
    let mut program = other
        .inside("busybox")
        .args(["nc", "-l", "-p", "8081"])
        .spawn()
        .unwrap();
    let taken = "container shop-web-1: port 8081/tcp is taken on the target by another program";
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !errors(&plan(&target, &point, &everything))
        .iter()
        .any(|e| e.starts_with(taken))
    {
        assert!(
            std::time::Instant::now() < deadline,
            "the program's port is not seen"
        );
    }
    program.kill().unwrap();
    program.wait().unwrap();
}

/// It outlives the volume, and no name of a volume keeps it apart.
#[test]
fn the_folder_that_a_volume_shows_is_not_overwritten_unasked() {
    let Some(engine) = engine() else { return };
    engine.import_busybox("bb:1");
    let real = engine.folder().join("real");
    fs::create_dir(&real).unwrap();
    fs::write(real.join("a"), "stored").unwrap();
    let device = format!("device={}", real.display());
    let options = ["--opt", "type=none", "--opt", "o=bind", "--opt", &device];
    engine.docker([&["volume", "create"][..], &options, &["media"]].concat());
    engine.docker([
        "run",
        "-d",
        "--name=app",
        "-v",
        "media:/data",
        "bb:1",
        "sleep",
        "1000",
    ]);
    let point = Point::capture(&engine);
    engine.docker(["rm", "-f", "app"]);
    engine.docker(["volume", "rm", "media"]);
    fs::write(real.join("a"), "newer").unwrap();

    let target = target(&engine);
    let asked = |on_conflict| RestoreRequest {
        on_conflict,
        ..only(&["volume:media"])
    };
    for on_conflict in [OnConflict::Fail, OnConflict::Rename, OnConflict::Skip] {
        let planned = plan(&target, &point, &asked(on_conflict));
        let Action::Conflict { why } = &planned.steps[0].action else {
            panic!("{planned:#?}");
        };
        assert!(why.contains(real.to_str().unwrap()), "{why}");
    }
    assert_eq!(fs::read(real.join("a")).unwrap(), b"newer");
    restore_all(&target, &point, &asked(OnConflict::Replace));
    assert_eq!(fs::read(real.join("a")).unwrap(), b"stored");

    // On a new host there is no such folder, and engines do not make it.
    engine.docker(["volume", "rm", "media"]);
    fs::remove_dir_all(&real).unwrap();
    restore_all(&target, &point, &asked(OnConflict::Fail));
    assert_eq!(fs::read(real.join("a")).unwrap(), b"stored");
}

#[test]
fn a_volume_comes_back_under_a_new_name_and_into_the_existing_one() {
    let Some(engine) = engine() else { return };
    shop(&engine);
    let point = Point::capture(&engine);
    let before = files(&engine, "shop_data");
    let target = target(&engine);
    let request = RestoreRequest {
        rename: vec![("volume:shop_data".into(), "shop_copy".into())],
        ..only(&["volume:shop_data"])
    };
    restore_all(&target, &point, &request);
    assert_eq!(files(&engine, "shop_copy"), before);
    assert_eq!(files(&engine, "shop_data"), before);

    let data = engine.data_root().join("volumes/shop_data/_data");
    fs::remove_file(data.join("sub/a")).unwrap();
    fs::write(data.join("stranger"), "x").unwrap();
    fs::create_dir(data.join("strange folder")).unwrap();
    let planned = plan(&target, &point, &only(&["volume:shop_data"]));
    assert!(
        matches!(planned.steps[0].action, Action::Conflict { .. }),
        "{planned:#?}"
    );
    let skip = RestoreRequest {
        on_conflict: OnConflict::Skip,
        ..only(&["volume:shop_data"])
    };
    assert_eq!(
        words(&plan(&target, &point, &skip).steps),
        ["volume:shop_data skip"]
    );
    let beside = RestoreRequest {
        on_conflict: OnConflict::Rename,
        ..skip.clone()
    };
    restore_all(&target, &point, &beside);
    assert_eq!(files(&engine, "shop_data-restored"), before);

    let replace = RestoreRequest {
        on_conflict: OnConflict::Replace,
        ..skip
    };
    let planned = plan(&target, &point, &replace);
    assert_eq!(words(&planned.steps), ["volume:shop_data replace"]);
    assert_eq!(
        planned.findings[0].message,
        "shop-store-1 will be stopped while its data is replaced"
    );
    let up = "{{.State.StartedAt}} {{.State.Running}}";
    let started = engine.docker(["inspect", "-f", up, "shop-store-1"]);
    restore_all(&target, &point, &replace);
    assert_eq!(files(&engine, "shop_data"), before);
    assert!(!data.join("stranger").exists() && !data.join("strange folder").exists());
    let again = engine.docker(["inspect", "-f", up, "shop-store-1"]);
    assert!(again.ends_with("true") && again != started, "{again}");
}

#[test]
fn containers_that_differ_are_kept_replaced_or_refused() {
    let (Some(source), Some(other)) = (engine(), engine()) else {
        return;
    };
    shop(&source);
    let point = Point::capture(&source);
    other.import_busybox("bb:2");
    other.docker([
        "create",
        "--name=toolbox",
        "--memory=32m",
        "bb:2",
        "sleep",
        "8",
    ]);
    let target = target(&other);
    let request = |on_conflict| RestoreRequest {
        on_conflict,
        ..only(&["container:toolbox"])
    };
    let refused = plan(&target, &point, &request(OnConflict::Fail));
    assert_eq!(
        refused.steps[1].action,
        Action::Conflict {
            why: "the target has a container toolbox that differs in config.Cmd, host \
                  config.Memory, host config.MemorySwap, image; keep it (skip), replace it, or \
                  restore under a new name"
                .into()
        }
    );
    let kept = restore_all(&target, &point, &request(OnConflict::Skip));
    assert_eq!(kept.steps[1].step.action.word(), "skip");
    let beside = restore_all(&target, &point, &request(OnConflict::Rename));
    assert_eq!(
        beside.steps[1].step.action,
        Action::Rename {
            to: "toolbox-restored".into()
        }
    );
    restore_all(&target, &point, &request(OnConflict::Replace));
    let image = |engine: &refloat_testkit::docker::Engine, name: &str| {
        engine.docker([
            "inspect",
            "-f",
            "{{.Config.Image}} {{.HostConfig.Memory}}",
            name,
        ])
    };
    assert_eq!(image(&other, "toolbox"), "bb:1 0");
    assert_eq!(image(&other, "toolbox-restored"), "bb:1 0");
}

#[test]
fn what_the_point_does_not_hold_is_refused_with_names_that_it_does() {
    let Some(engine) = engine() else { return };
    engine.import_busybox("bb:1");
    engine.docker(["create", "--name=toolbox", "bb:1", "sleep", "9"]);
    let point = Point::capture(&engine);
    let target = target(&engine);
    let refused = |words: &[&str]| match target.plan(&point, &only(words)) {
        Err(TargetError::NotInPoint { what, candidates }) => (what, candidates),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused(&["toolbix"]),
        ("workload toolbix".into(), vec!["toolbox".into()])
    );
    assert_eq!(
        refused(&["container:x"]),
        ("container:x".into(), vec!["toolbox".into()])
    );
    assert_eq!(
        refused(&["source:shop"]),
        ("Docker source \"shop\"".into(), vec!["source:web".into()])
    );
}

#[test]
fn places_of_the_system_are_written_only_if_they_are_asked_for() {
    let Some(engine) = engine() else { return };
    // Below /etc by way of a link: the machine's own folder stays as it is.
    let place = engine.folder().join("conf");
    let real = tempfile::tempdir_in("/etc").unwrap();
    std::os::unix::fs::symlink(real.path(), &place).unwrap();
    fs::write(real.path().join("app.conf"), "old\n").unwrap();
    let file = place.join("app.conf").display().to_string();
    engine.import_busybox("bb:1");
    let bind = format!("--volume={file}:/app.conf");
    engine.docker(["create", "--name=app", &bind, "bb:1", "sleep", "9"]);
    let point = Point::capture(&engine);
    let target = target(&engine);
    let request = only(&["container:app"]);
    let action = |request: &RestoreRequest| {
        let planned = plan(&target, &point, request);
        let mut steps = planned.steps.into_iter();
        steps
            .find(|s| s.kind == refloat_model::item::ItemKind::Bind)
            .unwrap()
            .action
    };
    assert_eq!(
        action(&request),
        Action::Reuse,
        "what is equal is no matter"
    );
    fs::remove_file(&file).unwrap();
    let Action::Conflict { why } = action(&request) else {
        panic!("it would be written")
    };
    assert!(
        why.contains("a place of the system") && why.contains("system-places"),
        "{why}"
    );
    let replacing = RestoreRequest {
        on_conflict: OnConflict::Replace,
        ..request.clone()
    };
    assert_eq!(
        action(&replacing).word(),
        "conflict",
        "replacing is not enough"
    );
    let by_name = point
        .items
        .iter()
        .find(|i| i.item.title.contains("app.conf"))
        .unwrap();
    let by_name = format!("bind:{}", by_name.item.title);
    assert_eq!(action(&only(&[&by_name])), Action::Create);
    let allowed = RestoreRequest {
        allow: [Permission::SystemPlaces].into(),
        ..request
    };
    restore_all(&target, &point, &allowed);
    assert_eq!(fs::read_to_string(&file).unwrap(), "old\n");
}
