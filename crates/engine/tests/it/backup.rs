//! What a run does and what it says of it.

use std::sync::Arc;

use refloat_engine::backup::{BackupError, BackupReport, is_complete};
use refloat_engine::manifest;
use refloat_engine::stored::RepositoryPoint;
use refloat_model::cancel::Cancel;
use refloat_model::closure::Waiver;
use refloat_model::glob::Glob;
use refloat_model::item::ItemKind;
use refloat_model::outcome::{Consistency, Outcome};
use refloat_model::time::Timestamp;
use refloat_repository::{BlobId, BlobKind, RepositoryError};
use refloat_source::StoredPoint as _;
use refloat_storage::{FileKind, StorageError, StorageErrorKind};
use refloat_testkit::intercept::{Call, Intercepted};

use crate::playground::{Behaviour, Playground, item, volume};

fn holds(content: &str) -> Behaviour {
    Behaviour::Holds(content.to_owned())
}

fn outcomes(report: &BackupReport) -> Vec<String> {
    report
        .items
        .iter()
        .map(|i| match &i.record.outcome {
            Outcome::Failed { reason } => format!("{}: {reason}", i.record.item.title),
            Outcome::Partial { missing, .. } => {
                format!("{}: {}", i.record.item.title, missing.join(", "))
            }
            other => format!("{} {}", i.record.item.title, other.word()),
        })
        .collect()
}

#[test]
fn a_workload_is_held_only_while_its_data_is_captured() {
    let mut ground = Playground::new();
    let items = [
        (item(ItemKind::Container, "web", Some("shop")), holds("{}")),
        (volume("data"), holds("bytes")),
        (item(ItemKind::Dump, "dump", Some("shop")), holds("rows")),
        (item(ItemKind::Image, "image", None), holds("layers")),
    ];
    let report = ground.back_up(&items, &[]).unwrap();
    assert_eq!(
        ground.log(),
        [
            "capture dump",
            "quiesce shop",
            "capture data",
            "resume shop",
            "capture web",
            "capture image"
        ]
    );
    assert!(is_complete(&report.record));
    assert_eq!(report.record.outcomes["saved"], 4);
}

#[test]
fn what_is_stored_is_what_was_captured() {
    let mut ground = Playground::new();
    let report = ground
        .back_up(&[(volume("data"), holds("bytes"))], &["data"])
        .unwrap();
    let tree = ground.newest();
    let path = volume("data").path.child("file");
    assert_eq!(tree.read_whole(&path).unwrap(), b"bytes");
    let point = RepositoryPoint::open(tree.clone()).unwrap();
    assert_eq!(*point.record(), report.record);
    assert_eq!(
        point.items("web").unwrap(),
        [report.items[0].record.clone()]
    );
    assert_eq!(manifest::read_placements(&tree, "web").unwrap(), []);
}

#[test]
fn one_failure_is_named_and_does_not_stop_the_others() {
    let mut ground = Playground::new();
    let items = [
        (volume("a"), Behaviour::Fails),
        (volume("b"), Behaviour::FailsInPart),
        (volume("c"), holds("bytes")),
    ];
    let report = ground.back_up(&items, &["a", "b", "c"]).unwrap();
    assert_eq!(
        outcomes(&report),
        [
            "a: cannot read a: it is gone",
            "b: b/secret: permission denied",
            "c saved"
        ]
    );
    assert!(!is_complete(&report.record));
    let closure = serde_json::to_value(&report.record.closure[0].references).unwrap();
    assert_eq!(closure[0]["state"], "missing");
    assert_eq!(closure[0]["why"], "cannot read a: it is gone");
    assert_eq!(
        closure[1]["why"],
        "saved in part only: 1 entries are missing"
    );
    assert_eq!(closure[2]["state"], "captured");
}

#[test]
fn a_missing_reference_is_incomplete_until_it_is_waived() {
    let mut ground = Playground::new();
    let items = [(volume("data"), holds("bytes"))];
    let report = ground.back_up(&items, &["data", "elsewhere"]).unwrap();
    assert!(!is_complete(&report.record));
    ground.waivers.push(Waiver {
        reference: Glob::new("volume:else*").unwrap(),
        who: "ops".into(),
        why: "scratch".into(),
        until: Timestamp {
            seconds: i64::MAX / 2,
            nanoseconds: 0,
        },
    });
    let report = ground.back_up(&items, &["data", "elsewhere"]).unwrap();
    assert!(is_complete(&report.record));
}

#[test]
fn nothing_saved_is_no_point() {
    let mut ground = Playground::new();
    let result = ground.back_up(&[(volume("a"), Behaviour::Fails)], &[]);
    assert!(matches!(result, Err(BackupError::NothingSaved { .. })));
    let result = ground.back_up(&[], &[]);
    assert!(matches!(result, Err(BackupError::NothingSelected { .. })));
    ground.workloads = vec![Glob::new("shpo").unwrap()];
    let items = [
        (item(ItemKind::Host, "host", None), holds("settings")),
        (volume("a"), holds("bytes")),
    ];
    let Err(BackupError::NothingSelected { findings, .. }) = ground.back_up(&items, &[]) else {
        panic!("the settings of the host alone are no point");
    };
    assert!(findings[0].message.contains("has no workloads \"shpo\""));
    assert_eq!(ground.points(), 0);
}

#[test]
fn a_cancelled_run_resumes_and_publishes_nothing() {
    let mut ground = Playground::new();
    let items = [
        (volume("a"), holds("bytes")),
        (volume("b"), Behaviour::Cancels),
        (volume("c"), holds("bytes")),
    ];
    let result = ground.back_up(&items, &[]);
    assert!(matches!(result, Err(BackupError::Cancelled(_))));
    assert_eq!(
        ground.log(),
        ["quiesce shop", "capture a", "capture b", "resume shop"]
    );
    assert_eq!(ground.points(), 0);
}

#[test]
fn a_run_cancelled_while_its_point_is_written_says_so_and_what_it_stored_is_indexed() {
    let mut ground = Playground::new();
    ground.cancel_in_phase = Some("writing the recovery point");
    let result = ground.back_up(&[(volume("a"), holds("bytes"))], &[]);
    assert!(
        matches!(result, Err(BackupError::Cancelled(_))),
        "{result:?}"
    );
    assert_eq!(ground.points(), 0);
    let indexed = ground.repository.reload().unwrap();
    let id = BlobId::of(b"bytes");
    assert!(
        indexed.index().contains(BlobKind::Data, &id),
        "the next run need not store it again"
    );
}

#[test]
fn a_run_whose_storage_stops_with_it_while_its_point_is_written_ends_as_interrupted() {
    let cancel = Cancel::default();
    let stopped = cancel.clone();
    let mut ground = Playground::over(move |storage| {
        let gate = move |call: Call| {
            if matches!(call, Call::Write(key) if key.kind() == FileKind::Snapshot) {
                stopped.cancel();
            }
            match stopped.is_cancelled() {
                false => Ok(()),
                true => Err(StorageError::on(
                    StorageErrorKind::Interrupted,
                    "reach",
                    "anything",
                    "memory",
                    None,
                )),
            }
        };
        Arc::new(Intercepted::new(storage, Box::new(gate)))
    });
    ground.cancel = cancel.clone();
    let result = ground.back_up(&[(volume("a"), holds("bytes"))], &[]);
    let Err(BackupError::Repository(RepositoryError::Storage(error))) = result else {
        panic!("{result:?}");
    };
    assert_eq!(error.kind(), StorageErrorKind::Interrupted);
}

#[test]
fn a_panic_in_an_adapter_resumes_and_publishes_nothing() {
    let mut ground = Playground::new();
    let result = ground.back_up(&[(volume("a"), Behaviour::Panics)], &[]);
    assert!(matches!(result, Err(BackupError::Panicked)));
    assert_eq!(
        ground.log(),
        ["quiesce shop", "capture a", "resume shop by dropping"]
    );
    assert_eq!(ground.points(), 0);
}

#[test]
fn what_is_late_is_named_and_the_rest_is_published() {
    let mut ground = Playground::new();
    ground.deadline = "1h".parse().ok();
    let items = [
        (volume("a"), holds("bytes")),
        (volume("b"), Behaviour::Stalls(4000)),
        (volume("c"), holds("bytes")),
    ];
    let report = ground.back_up(&items, &[]).unwrap();
    assert_eq!(
        outcomes(&report),
        [
            "a saved",
            "b: not finished within the run's deadline of 1h",
            "c: not finished within the run's deadline of 1h"
        ]
    );
    assert_eq!(ground.log().last().unwrap(), "resume shop");
    assert_eq!(ground.points(), 1);
}

#[test]
fn data_that_could_not_be_held_is_saved_as_a_crash_leaves_it() {
    let mut ground = Playground::new();
    ground.quiesce_fails = true;
    let report = ground
        .back_up(&[(volume("data"), holds("bytes"))], &[])
        .unwrap();
    assert_eq!(report.items[0].record.consistency, Some(Consistency::Crash));
    assert!(report.items[0].record.outcome.is_saved());
    assert!(!is_complete(&report.record));
    assert_eq!(
        report.record.findings[0].message,
        "could not be made consistent: cannot quiesce shop: its command failed"
    );
}
