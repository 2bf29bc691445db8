//! What `forget` keeps after runs that say that something is wrong.

use std::collections::BTreeSet;
use std::slice::from_ref;
use std::sync::atomic::Ordering;

use refloat_engine::backup::{BackupReport, is_complete};
use refloat_engine::config::Keep;
use refloat_engine::retention::{self, Changes, Circumstances};
use refloat_model::cancel::Cancel;
use refloat_model::finding::{Finding, Severity};
use refloat_model::glob::Glob;
use refloat_model::item::{Item, ItemKind};
use refloat_model::time::Timestamp;
use refloat_model::tree_path::TreePath;

use crate::playground::{Behaviour, Playground, item};

/// A folder of objects where clusters have them, and the names of its files.
fn objects(resource: &str, names: &[&'static str]) -> (Item, Behaviour) {
    let path = format!("/fake/web/resources/core/v1/{resource}/shop");
    let item = Item {
        path: TreePath::parse(path).unwrap(),
        ..item(ItemKind::Object, resource, None)
    };
    (item, Behaviour::Files(names.to_vec(), None))
}

/// Which points a policy that keeps the last two would keep, the newest first.
fn kept(ground: &Playground, changes: Changes) -> Vec<bool> {
    let repository = ground.repository.reload().unwrap();
    let candidates = retention::load(&repository, &Cancel::default()).unwrap();
    let keep = Keep {
        last: 2,
        ..Keep::default()
    };
    let now = Timestamp {
        seconds: 4_000_000_000,
        nanoseconds: 0,
    };
    let circumstances = Circumstances { now, changes };
    let plan = retention::plan_under(candidates, circumstances, |_| Some(keep.clone()));
    let decisions = plan.groups.iter().flat_map(|group| &group.decisions);
    decisions.map(retention::Decision::is_kept).collect()
}

fn step(ground: &Playground, seconds: i64) {
    ground.clock.fetch_add(seconds, Ordering::SeqCst);
}

fn errors(report: &BackupReport) -> Vec<String> {
    let findings = report.record.findings.iter();
    let errors = findings.filter(|f| f.severity == Severity::Error);
    errors
        .map(|f| format!("{}: {}", f.subject, f.message))
        .collect()
}

#[test]
fn what_a_source_could_not_show_is_not_taken_for_unwanted() {
    let mut ground = Playground::new();
    let secrets = objects("secrets", &["a", "b"]);
    let rest = objects("configmaps", &["c"]);
    ground.back_up(&[secrets, rest.clone()], &[]).unwrap();
    let refused = Finding::error("secrets", "these credentials cannot list secrets");
    ground.findings = vec![refused];
    for _ in 0..3 {
        ground.back_up(from_ref(&rest), &[]).unwrap();
    }
    let points = [true, true, false, true];
    assert_eq!(kept(&ground, Changes::Suspicious), points);
    // Once they can be listed again, and there are none, nothing wants them any more.
    ground.findings.clear();
    ground.back_up(&[rest], &[]).unwrap();
    let points = [true, true, false, false, false];
    assert_eq!(kept(&ground, Changes::Suspicious), points);
}

#[test]
fn a_hold_that_fails_every_night_does_not_keep_every_point() {
    let mut ground = Playground::new();
    ground.quiesce_fails = true;
    let volume = crate::playground::volume("data");
    let definition = item(ItemKind::Project, "shop", Some("shop"));
    let items = [volume, definition].map(|item| (item, Behaviour::Holds("x".into())));
    for _ in 0..4 {
        let report = ground.back_up(&items, &[]).unwrap();
        let subjects: Vec<_> = report.record.findings.iter().map(|f| &*f.subject).collect();
        assert_eq!(subjects, ["project shop"]);
    }
    let points = [true, true, false, false];
    assert_eq!(kept(&ground, Changes::Suspicious), points);
}

#[test]
fn a_name_that_the_source_does_not_have_hides_nothing_of_it() {
    let mut ground = Playground::new();
    ground.workloads = ["shop", "datbase"].map(|w| Glob::new(w).unwrap()).to_vec();
    let item = |name| {
        (
            crate::playground::volume(name),
            Behaviour::Holds("x".into()),
        )
    };
    ground.back_up(&[item("data"), item("old")], &[]).unwrap();
    for _ in 0..3 {
        let report = ground.back_up(&[item("data")], &[]).unwrap();
        assert!(!is_complete(&report.record));
        assert_eq!(report.record.sources["web"].errors, Some(BTreeSet::new()));
    }
    let points = [true, true, false, false];
    assert_eq!(kept(&ground, Changes::Suspicious), points);
}

#[test]
fn an_emptied_source_is_told_and_keeps_the_point_before() {
    let mut ground = Playground::new();
    let secrets = objects("secrets", &["a", "b", "c"]);
    let rest = objects("services", &["d", "e", "f"]);
    ground.back_up(&[secrets, rest.clone()], &[]).unwrap();
    let report = ground.back_up(from_ref(&rest), &[]).unwrap();
    assert_eq!(
        errors(&report),
        [
            "source web: has lost most of what the last recovery point holds \
            (secrets: 3 before, 0 now)"
        ]
    );
    for _ in 0..3 {
        let report = ground.back_up(from_ref(&rest), &[]).unwrap();
        assert!(is_complete(&report.record), "it was told once");
    }
    let points = [true, true, false, true, true];
    assert_eq!(kept(&ground, Changes::Suspicious), points);
    let points = [true, true, false, false, false];
    assert_eq!(kept(&ground, Changes::Accepted), points);
}

#[test]
fn what_is_lost_after_a_run_that_could_not_see_it_is_told() {
    let mut ground = Playground::new();
    let secrets = objects("secrets", &["a", "b", "c"]);
    let rest = objects("services", &["d", "e", "f"]);
    ground.back_up(&[secrets, rest.clone()], &[]).unwrap();
    let refused = Finding::error("secrets", "these credentials cannot list secrets");
    ground.findings = vec![refused];
    for _ in 0..3 {
        let report = ground.back_up(from_ref(&rest), &[]).unwrap();
        assert_eq!(errors(&report).len(), 1, "it cannot be seen");
    }
    ground.findings.clear();
    let report = ground.back_up(from_ref(&rest), &[]).unwrap();
    assert_eq!(
        errors(&report),
        [
            "source web: has lost most of what the last recovery point holds \
            (secrets: 3 before, 0 now)"
        ]
    );
    let report = ground.back_up(from_ref(&rest), &[]).unwrap();
    assert!(is_complete(&report.record), "it was told once");
    // The last point before has none of them, so the last whole one stays as well.
    let points = [true, true, true, false, false, true];
    assert_eq!(kept(&ground, Changes::Suspicious), points);
}

#[test]
fn a_run_that_does_not_become_the_newest_point_is_not_complete() {
    let mut ground = Playground::new();
    let volume = (
        crate::playground::volume("data"),
        Behaviour::Holds("x".into()),
    );
    ground.back_up(from_ref(&volume), &[]).unwrap();
    // The playground's clock goes on by an hour for each run.
    step(&ground, -3600 - 300);
    let report = ground.back_up(from_ref(&volume), &[]).unwrap();
    assert_eq!(errors(&report), [""; 0], "clocks differ by that much");
    step(&ground, -3600 - 1);
    let report = ground.back_up(from_ref(&volume), &[]).unwrap();
    assert!(!is_complete(&report.record));
    assert_eq!(
        errors(&report),
        [
            "policy hourly: this run began at 2026-09-21T15:08:19Z and the point 01010101 is of \
            2026-09-21T15:13:20Z, later than that: the clock of one of them is wrong, and the \
            newest point is not the newest data"
        ]
    );
    ground.policy = "daily".into();
    let report = ground.back_up(&[volume], &[]).unwrap();
    assert_eq!(errors(&report), [""; 0], "an hour later");
    step(&ground, -86_400);
    ground.policy = "weekly".into();
    let volume = (
        crate::playground::volume("data"),
        Behaviour::Holds("x".into()),
    );
    let report = ground.back_up(&[volume], &[]).unwrap();
    assert!(is_complete(&report.record), "{:?}", report.record.findings);
    let findings: Vec<&str> = report.record.findings.iter().map(|f| &*f.message).collect();
    assert_eq!(
        findings,
        [
            "is of 2026-09-21T16:08:19Z, and this run began at 2026-09-20T17:08:19Z: \
            the clock of one of them is wrong"
        ]
    );
}

#[test]
fn the_wrong_clock_of_one_host_leaves_the_runs_of_others_complete() {
    let mut ground = Playground::new();
    let volume = |size| {
        let item = crate::playground::volume("data");
        [(item, Behaviour::Holds("x".repeat(size)))]
    };
    step(&ground, 86_400);
    ground.host = "ahead".into();
    ground.back_up(&volume(10), &[]).unwrap();
    step(&ground, -86_400);
    ground.host = "right".into();
    let report = ground.back_up(&volume(100), &[]).unwrap();
    assert!(is_complete(&report.record), "{:?}", report.record.findings);
    assert_eq!(report.record.findings.len(), 1, "a warning");
    // Its own point is what it is compared with, though the other's is newer by its time.
    let report = ground.back_up(&volume(20), &[]).unwrap();
    assert_eq!(
        errors(&report),
        [
            "volume data: has shrunk to 22 bytes in 2 files; the copy of 2026-09-21T16:13:20Z held \
            102 bytes in 2 files"
        ]
    );
}

#[test]
fn a_point_of_the_future_is_not_compared_with_if_there_are_others() {
    let mut ground = Playground::new();
    let [three, six] = [&["a", "b", "c"][..], &["a", "b", "c", "d", "e", "f"]];
    let secrets = |names| [objects("secrets", names), objects("services", three)];
    step(&ground, 86_400);
    let [_, services] = secrets(three);
    ground.back_up(from_ref(&services), &[]).unwrap();
    step(&ground, -86_400);
    ground.back_up(&secrets(six), &[]).unwrap();
    let report = ground.back_up(&[services], &[]).unwrap();
    let lost = "source web: has lost most of what the last recovery point holds (secrets: 6 before, 0 now)";
    assert!(
        errors(&report).contains(&lost.to_owned()),
        "{:?}",
        errors(&report)
    );
}
