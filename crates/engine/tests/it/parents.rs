//! Comparing with the points before.

use refloat_engine::backup::{BackupReport, is_complete};

use refloat_model::item::ItemKind;
use refloat_model::outcome::Outcome;

use crate::playground::{Behaviour, Playground, item, subject, volume};

fn holds(bytes: usize) -> Behaviour {
    Behaviour::Holds("x".repeat(bytes))
}

fn messages(report: &BackupReport) -> Vec<String> {
    let findings = report.record.findings.iter();
    findings
        .map(|f| format!("{}: {}", f.subject, f.message))
        .collect()
}

#[test]
fn shrunken_and_emptied_copies_are_no_green_backups() {
    let mut ground = Playground::new();
    let mut run = |bytes| {
        let report = ground
            .back_up(&[(volume("data"), holds(bytes))], &[])
            .unwrap();
        (is_complete(&report.record), messages(&report).join(""))
    };
    assert_eq!(run(1000), (true, String::new()));
    assert_eq!(run(500), (true, String::new()));
    assert_eq!(
        run(248),
        (
            false,
            "volume data: has shrunk to 250 bytes in 2 files; the copy of \
             2026-09-21T16:13:20Z held 502 bytes in 2 files"
                .to_owned()
        )
    );
    assert!(run(0).1.starts_with("volume data: is empty now"));
    assert_eq!(run(0), (true, String::new()), "it was told once");
}

#[test]
fn the_comparison_is_with_the_newest_saved_copy_and_not_with_a_failed_one() {
    let mut ground = Playground::new();
    let other = (volume("other"), holds(1));
    ground
        .back_up(&[(volume("data"), holds(1000)), other.clone()], &[])
        .unwrap();
    ground
        .back_up(&[(volume("data"), Behaviour::Fails), other.clone()], &[])
        .unwrap();
    let report = ground
        .back_up(&[(volume("data"), holds(0)), other], &[])
        .unwrap();
    assert!(messages(&report)[0].starts_with("volume data: is empty now"));
}

#[test]
fn a_vanished_volume_and_a_swapped_system_are_told() {
    let mut ground = Playground::new();
    let (a, b) = ((volume("a"), holds(9)), (volume("b"), holds(9)));
    ground.back_up(&[a.clone(), b], &[]).unwrap();
    let report = ground.back_up(std::slice::from_ref(&a), &[]).unwrap();
    assert_eq!(
        messages(&report),
        ["volume b: was saved in the last recovery point and is no longer there"]
    );
    ground.identity = "machine-2".into();
    let other = "source web: is another system than in the last recovery point; nothing of that was \
                 taken as parent";
    let report = ground.back_up(&[a], &[]).unwrap();
    assert_eq!(messages(&report), [other]);
    assert!(is_complete(&report.record));
    // A host that was installed anew begins with nothing, or with other things.
    ground.identity = "machine-3".into();
    let report = ground.back_up(&[(volume("a"), holds(0))], &[]).unwrap();
    let told = messages(&report);
    assert!(
        told[0].starts_with("volume a: is empty now; the copy of"),
        "{told:?}"
    );
    assert_eq!(told[1..], [other]);
    assert!(!is_complete(&report.record));
    ground.identity = "machine-4".into();
    let report = ground.back_up(&[(volume("c"), holds(9))], &[]).unwrap();
    let lacks = "source web: is another system than in the last recovery point, and 1 of the items \
                 with data that that had are not there: they are kept until forget --accept-changes";
    assert!(
        messages(&report).contains(&lacks.to_owned()),
        "{:?}",
        messages(&report)
    );
    assert!(!is_complete(&report.record));
}

/// Registries tell a repository without tags as left out, and its images are compared by name alone.
#[test]
fn a_repository_that_lost_its_images_is_no_green_backup() {
    let mut ground = Playground::new();
    let repository = |images: usize| {
        let mut item = item(ItemKind::Image, "app", None);
        item.provides = (0..images).map(|n| subject(&format!("app:{n}"))).collect();
        item.skip = (images == 0).then(|| Outcome::Skipped {
            rule: "empty".into(),
            why: "the repository has no tags".into(),
        });
        item
    };
    let beside = (volume("data"), holds(9));
    let mut run = |images: usize| {
        let items = [(repository(images), holds(1000)), beside.clone()];
        let report = ground.back_up(&items, &[]).unwrap();
        (is_complete(&report.record), messages(&report).join("; "))
    };
    assert_eq!(run(500), (true, String::new()));
    assert_eq!(run(250), (true, String::new()));
    let told = "image app: has 124 images now; the last copy held 250";
    assert_eq!(run(124), (false, told.to_owned()));
    let (is_complete, told) = run(0);
    assert!(
        !is_complete && told.starts_with("image app: is empty now; the last copy held"),
        "{told}"
    );
    assert_eq!(run(0), (true, String::new()), "it was told once");
}
