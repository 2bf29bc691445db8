//! Restores that fail halfway, and the next run that finishes them.

use refloat_docker::VolumeAccess;
use refloat_model::cancel::Cancel;
use refloat_model::outcome::Outcome;
use refloat_model::plan::{OnConflict, RestoreRequest};
use refloat_model::progress::{Counters, Progress, Silent};
use refloat_model::tree_path::TreePath;
use refloat_source::{Target, TargetError};

use crate::estate::{engine, facts, files, lose_folder, plan, restore, restore_all, shop, target};
use crate::point::Point;

/// A point in which one file of the store's volume cannot be read.
fn damaged(point: &Point) -> Point {
    let mut damaged = point.clone();
    let file = "/docker/web/volumes/shop_data/data/b";
    damaged.damaged.push(TreePath::parse(file).unwrap());
    damaged
}

fn a_half_filled_volume_is_never_seen(access: VolumeAccess) {
    let (Some(source), Some(empty)) = (engine(), engine()) else {
        return;
    };
    shop(&source);
    let point = Point::capture(&source);
    let (facts_before, files_before) = (facts(&source), files(&source, "shop_data"));
    lose_folder(&source);
    let target = target(&empty).with_volume_access(access);
    // Through the engine the host's files are out of sight: they are replaced only if asked for.
    let everything = RestoreRequest {
        on_conflict: match access {
            VolumeAccess::Engine => OnConflict::Replace,
            _ => OnConflict::Fail,
        },
        ..RestoreRequest::default()
    };

    let report = restore(&target, &damaged(&point), &everything);
    assert!(!report.is_complete());
    let failed: Vec<&str> = report
        .steps
        .iter()
        .filter(|step| step.error.is_some())
        .map(|step| step.step.name.as_str())
        .collect();
    assert_eq!(failed, ["shop_data", "shop-store-1", "shop-web-1"]);
    let error = |name: &str| {
        let step = report.steps.iter().find(|step| step.step.name == name);
        step.unwrap().error.clone().unwrap()
    };
    assert!(
        error("shop_data").contains("a blob is damaged"),
        "{}",
        error("shop_data")
    );
    assert_eq!(
        error("shop-store-1"),
        "its volume shop_data did not come back"
    );
    assert_eq!(
        error("shop-web-1"),
        "it waits for shop-store-1, which did not come back"
    );
    let volumes = empty.docker(["volume", "ls", "--format", "{{.Name}}"]);
    assert!(!volumes.contains("shop_data"), "{volumes}");
    assert_eq!(
        empty.docker(["ps", "--format", "{{.Names}}"]),
        "",
        "something was started"
    );

    restore_all(&target, &point, &everything);
    assert_eq!(facts(&empty), facts_before);
    assert_eq!(files(&empty, "shop_data"), files_before);
}

#[test]
fn a_volume_that_cannot_be_filled_directly_is_gone_and_the_next_run_converges() {
    a_half_filled_volume_is_never_seen(VolumeAccess::Auto);
}

#[test]
fn a_volume_that_cannot_be_filled_by_archive_is_gone_and_the_next_run_converges() {
    a_half_filled_volume_is_never_seen(VolumeAccess::Engine);
}

/// Asks to stop as soon as a phase with these words begins.
struct StopAt<'a>(&'a str, Cancel, Silent);

impl Progress for StopAt<'_> {
    fn phase(&self, what: &str) {
        if what.contains(self.0) {
            self.1.cancel();
        }
    }
    fn item(&self, _: &str, _: &Outcome) {}
    fn warn(&self, _: &str) {}
    fn counters(&self) -> &std::sync::Arc<Counters> {
        self.2.counters()
    }
}

#[test]
fn interrupted_at_any_step_the_next_run_converges() {
    let (Some(source), Some(empty)) = (engine(), engine()) else {
        return;
    };
    shop(&source);
    let point = Point::capture(&source);
    let facts_before = facts(&source);
    lose_folder(&source);
    let target = target(&empty);
    let everything = RestoreRequest::default();
    for stop_at in [
        "restoring image shop/web",
        "restoring network shop_front",
        "restoring volume shop_data",
        "restoring bind",
        "creating container shop-store-1",
        "creating container shop-web-1",
        "starting container shop-store-1",
        "starting container shop-web-1",
    ] {
        if stop_at == "creating container shop-web-1" {
            // Noted as done, and lost since.
            std::fs::remove_dir_all(source.folder().join("shop/html")).unwrap();
        }
        let plan = plan(&target, &point, &everything);
        assert!(plan.is_executable(), "before {stop_at}: {plan:#?}");
        let cancel = Cancel::default();
        let progress = StopAt(stop_at, cancel.clone(), Silent::default());
        let report = target
            .execute(&plan, &point, &everything, &progress, &cancel)
            .unwrap();
        assert!(cancel.is_cancelled(), "{stop_at} was never reached");
        assert!(!report.is_complete(), "{stop_at}");
    }
    restore_all(&target, &point, &everything);
    assert_eq!(facts(&empty), facts_before);
    empty.await_output("wget", &["-qO-", "http://127.0.0.1:8081/"], "welcome\n");
}

#[test]
fn a_cancelled_restore_does_not_begin() {
    let Some(empty) = engine() else { return };
    let (target, point) = (target(&empty), Point::empty(1));
    let everything = RestoreRequest::default();
    let plan = plan(&target, &point, &everything);
    let cancel = Cancel::default();
    cancel.cancel();
    let ended = target.execute(&plan, &point, &everything, &Silent::default(), &cancel);
    assert!(matches!(ended, Err(TargetError::Cancelled)));
}
