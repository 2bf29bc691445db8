//! A whole host lost and rebuilt.

use refloat_docker::{DockerTarget, VolumeAccess};
use refloat_model::finding::{Finding, Severity};
use refloat_model::item::ItemKind;
use refloat_model::plan::{Action, Permission, RestoreRequest};

use refloat_testkit::docker::Engine;

use crate::estate::{
    engine, facts, files, lose_folder, only, plan, restore_all, shop, target, words,
};
use crate::point::Point;

#[test]
fn a_lost_host_comes_back_in_order_and_equal() {
    let (Some(source), Some(empty)) = (engine(), engine()) else {
        return;
    };
    shop(&source);
    let point = Point::capture(&source);
    let (facts_before, files_before) = (facts(&source), files(&source, "shop_data"));
    lose_folder(&source);
    let target = target(&empty);
    let everything = RestoreRequest::default();
    let planned = plan(&target, &point, &everything);
    let anonymous = planned
        .steps
        .iter()
        .find(|s| s.name.len() == 64)
        .unwrap()
        .name
        .clone();
    assert_eq!(
        words(&planned.steps),
        [
            "image:bb:1 create".to_owned(),
            "image:shop/web:1 create".to_owned(),
            "network:shop_back create".to_owned(),
            "network:shop_front create".to_owned(),
            "project:shop create".to_owned(),
            format!("volume:{anonymous} create"),
            "volume:shop_data create".to_owned(),
            format!("bind:{}/shop/html create", source.folder().display()),
            "container:shop-store-1 create".to_owned(),
            "container:toolbox create".to_owned(),
            "container:shop-web-1 create".to_owned(),
        ]
    );
    assert_eq!(
        empty.docker(["ps", "-aq"]),
        "",
        "planning changed something"
    );

    let report = restore_all(&target, &point, &everything);
    let warnings = report
        .findings
        .iter()
        .filter(|finding| finding.severity > Severity::Note);
    assert_eq!(warnings.collect::<Vec<_>>(), Vec::<&Finding>::new());
    assert_eq!(facts(&empty), facts_before);
    assert_eq!(files(&empty, "shop_data"), files_before);
    empty.await_output("wget", &["-qO-", "http://127.0.0.1:8081/"], "welcome\n");
    empty.await_output("wget", &["-qO-", "http://10.98.1.9/sub/a"], "hello\n");
    let folder = source.folder().join("shop");
    assert_eq!(
        std::fs::read_to_string(folder.join("compose.yaml")).unwrap(),
        "services: {}\n"
    );
    let web = report
        .steps
        .iter()
        .find(|s| s.step.name == "shop-web-1")
        .unwrap();
    assert_eq!(
        web.remarks,
        ["created", "started", "running", "settings equal"]
    );

    restored_again_nothing_changes(&target, &point, &empty);
}

fn restored_again_nothing_changes(target: &DockerTarget, point: &Point, engine: &Engine) {
    let before = facts(engine);
    let again = plan(target, point, &RestoreRequest::default());
    let reused = |word: &String| word.ends_with("reuse");
    assert!(words(&again.steps).iter().all(reused), "{:#?}", again.steps);
    restore_all(target, point, &RestoreRequest::default());
    assert_eq!(facts(engine), before);
}

#[test]
fn through_the_engines_api_alone_the_same_comes_back() {
    let (Some(source), Some(empty)) = (engine(), engine()) else {
        return;
    };
    shop(&source);
    let point = Point::capture(&source);
    let (facts_before, files_before) = (facts(&source), files(&source, "shop_data"));
    lose_folder(&source);
    let target = target(&empty).with_volume_access(VolumeAccess::Engine);
    // The host's files are out of sight: nothing may be overwritten without a word.
    let unasked = plan(&target, &point, &RestoreRequest::default());
    let conflicts = unasked.steps.iter().filter_map(|step| match step.action {
        Action::Conflict { .. } => Some(step.kind),
        _ => None,
    });
    let conflicts: Vec<ItemKind> = conflicts.collect();
    assert_eq!(conflicts, [ItemKind::Project, ItemKind::Bind]);
    let request = RestoreRequest {
        allow: [Permission::UnseenFiles].into(),
        ..RestoreRequest::default()
    };
    restore_all(&target, &point, &request);
    assert_eq!(facts(&empty), facts_before);
    assert_eq!(files(&empty, "shop_data"), files_before);
    empty.await_output("wget", &["-qO-", "http://127.0.0.1:8081/"], "welcome\n");
}

#[test]
fn one_container_comes_with_what_it_needs_and_nothing_else() {
    let (Some(source), Some(empty)) = (engine(), engine()) else {
        return;
    };
    shop(&source);
    let point = Point::capture(&source);
    let target = target(&empty);
    let report = restore_all(&target, &point, &only(&["container:shop-store-1"]));
    assert_eq!(
        words(report.steps.iter().map(|outcome| &outcome.step)),
        [
            "image:bb:1 create",
            "network:shop_back create",
            "volume:shop_data create",
            "container:shop-store-1 create",
        ]
    );
    assert_eq!(
        empty.docker(["ps", "-a", "--format", "{{.Names}}"]),
        "shop-store-1"
    );
    assert_eq!(
        empty.docker(["image", "ls", "--format", "{{.Repository}}"]),
        "bb"
    );
}
