//! What a run keeps of items that it did not finish.

use refloat_engine::backup::BackupError;
use refloat_engine::config::Keep;
use refloat_engine::point_list;
use refloat_engine::retention;
use refloat_model::cancel::Cancel;
use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::progress::Counters;
use refloat_repository::prune::{self, PruneOptions};
use refloat_repository::repair::REPAIRED_TAG;
use refloat_storage::{FileKey, FileKind};

use crate::playground::{Behaviour, Playground, Then, item, volume};

const NAMES: [&str; 3] = ["a", "b", "c"];

fn files(stall: Option<i64>) -> Behaviour {
    Behaviour::Files(NAMES.to_vec(), stall)
}

fn read(ground: &Playground) -> Vec<String> {
    let mut log = ground.log();
    log.retain(|line| line.starts_with("read"));
    log.sort();
    log
}

/// Which partial snapshots are kept (`keep`) and go (`drop`).
fn verdicts(ground: &Playground) -> Vec<&'static str> {
    let repository = ground.repository.reload().unwrap();
    let cancel = Cancel::default();
    let points = retention::load(&repository, &cancel).unwrap();
    let partials = retention::load_partials(&repository, &cancel).unwrap();
    let decisions = retention::partials(partials, &points);
    let word = |superseded| if superseded { "drop" } else { "keep" };
    decisions.iter().map(|d| word(d.superseded)).collect()
}

#[test]
fn the_finished_part_of_a_late_item_is_the_next_runs_parent_and_goes_when_it_is_superseded() {
    let mut ground = Playground::new();
    ground.deadline = "1h".parse().ok();
    let other = (volume("other"), Behaviour::Holds("bytes".into()));
    let report = ground
        .back_up(&[other.clone(), (volume("big"), files(Some(4000)))], &[])
        .unwrap();
    assert_eq!(
        read(&ground),
        ["read a"],
        "what comes after the deadline is not read"
    );
    assert_eq!(report.record.outcomes["failed"], 1);
    let repository = ground.repository.reload().unwrap();
    let snapshots = repository.snapshots().unwrap().snapshots;
    assert_eq!(snapshots.len(), 2);
    let points = point_list::summaries(&snapshots);
    assert_eq!(points.len(), 1, "a partial snapshot is no point");
    assert_eq!(verdicts(&ground), ["keep"]);

    // A prune keeps what it holds.
    let (options, now) = (PruneOptions::default(), jiff::Timestamp::now());
    let prune = prune::plan(
        &repository,
        options,
        now,
        &Counters::default(),
        &Cancel::default(),
    );
    assert_eq!(prune.unwrap().plan().statistics.unused_blobs, 0);

    let report = ground
        .back_up(&[other.clone(), (volume("big"), files(None))], &[])
        .unwrap();
    assert_eq!(
        read(&ground),
        ["read b", "read c"],
        "a is taken over from the part"
    );
    assert_eq!(report.record.outcomes["saved"], 2);
    assert_eq!(verdicts(&ground), ["drop"]);

    let repository = ground.repository.reload().unwrap();
    let cancel = Cancel::default();
    let points = retention::load(&repository, &cancel).unwrap();
    let partials = retention::load_partials(&repository, &cancel).unwrap();
    let partials = retention::partials(partials, &points);
    let keep = Keep {
        last: 5,
        ..Keep::default()
    };
    let plan = retention::ForgetPlan {
        partials,
        ..retention::plan(points, |_| Some(keep.clone()))
    };
    let lock = ground.exclusive_lock();
    retention::execute(&repository, &lock, &plan, &cancel).unwrap();
    drop(lock);
    assert_eq!(ground.points(), 2, "two points, and no partial snapshot");
    ground
        .back_up(&[other, (volume("big"), files(None))], &[])
        .unwrap();
    assert_eq!(read(&ground), [""; 0], "the saved copy is the parent");
}

#[test]
fn a_part_of_what_the_next_run_could_not_see_stays() {
    let mut ground = Playground::new();
    ground.deadline = "1h".parse().ok();
    let other = [(volume("other"), Behaviour::Holds("bytes".into()))];
    let result = ground.back_up(&[(volume("big"), files(Some(4000)))], &[]);
    assert!(matches!(result, Err(BackupError::NothingSaved { .. })));
    ground.findings = vec![Finding::error("volumes", "cannot be listed")];
    ground.back_up(&other, &[]).unwrap();
    assert_eq!(verdicts(&ground), ["keep"]);
    ground.findings.clear();
    ground.back_up(&other, &[]).unwrap();
    assert_eq!(verdicts(&ground), ["drop"], "it is not there any more");
}

#[test]
fn a_part_that_cannot_be_read_because_of_a_damaged_index_stays() {
    let mut ground = Playground::new();
    ground.deadline = "1h".parse().ok();
    let result = ground.back_up(&[(volume("big"), files(Some(4000)))], &[]);
    assert!(matches!(result, Err(BackupError::NothingSaved { .. })));
    ground
        .back_up(&[(volume("other"), Behaviour::Holds("bytes".into()))], &[])
        .unwrap();
    let storage = std::sync::Arc::clone(ground.repository.storage());
    for index in storage.list(FileKind::Index).unwrap() {
        storage.delete(&index.key).unwrap();
        storage.write(&index.key, b"torn").unwrap();
    }
    let repository = ground.repository.reload().unwrap();
    assert!(!repository.damaged_indexes().is_empty());
    assert_eq!(verdicts(&ground), ["keep"]);
    let unreadable = retention::unreadable(&repository, &Cancel::default()).unwrap();
    assert_eq!(unreadable.len(), 1, "a person may drop it by name");
}

#[test]
fn a_run_that_comes_to_no_point_keeps_its_parts_and_they_add_up() {
    let mut ground = Playground::new();
    ground.deadline = "1h".parse().ok();
    let result = ground.back_up(&[(volume("big"), files(Some(4000)))], &[]);
    assert!(matches!(result, Err(BackupError::NothingSaved { .. })));
    assert_eq!(ground.points(), 1);
    assert_eq!(verdicts(&ground), ["keep"]);
    assert_eq!(read(&ground), ["read a"]);
    ground
        .back_up(&[(volume("big"), files(None))], &[])
        .unwrap();
    assert_eq!(read(&ground), ["read b", "read c"]);
    // An item that is wanted no more needs no part either.
    assert_eq!(verdicts(&ground), ["drop"]);
}

/// The newest point as a repair leaves it: it lacks something, whatever its manifest says.
fn tag_as_repaired(ground: &Playground) {
    let repository = ground.repository.reload().unwrap();
    let (id, mut file) = repository.snapshots().unwrap().snapshots.pop().unwrap();
    file.tags
        .get_or_insert_default()
        .push(REPAIRED_TAG.to_owned());
    repository
        .write_json(FileKind::Snapshot, "a snapshot", &file)
        .unwrap();
    let old = FileKey::new(FileKind::Snapshot, id.0);
    repository.storage().delete(&old).unwrap();
}

#[test]
fn what_a_repair_left_of_a_point_is_no_parent_and_replaces_no_sound_copy() {
    let mut ground = Playground::new();
    for _ in 0..2 {
        ground
            .back_up(&[(volume("big"), files(None))], &[])
            .unwrap();
    }
    assert_eq!(
        read(&ground).len(),
        3,
        "the first point is the second one's parent"
    );
    tag_as_repaired(&ground);
    let repository = ground.repository.reload().unwrap();
    let points = retention::load(&repository, &Cancel::default()).unwrap();
    let keep = Keep {
        last: 1,
        ..Keep::default()
    };
    let plan = retention::plan(points, |_| Some(keep.clone()));
    assert_eq!(
        plan.dropped().count(),
        0,
        "the sound copy before it stays: {plan:#?}"
    );
    // The sound one before it is the parent: nothing is read again.
    ground
        .back_up(&[(volume("big"), files(None))], &[])
        .unwrap();
    assert_eq!(read(&ground), [""; 0]);
    // With none but repaired ones everything is.
    let mut ground = Playground::new();
    ground
        .back_up(&[(volume("big"), files(None))], &[])
        .unwrap();
    assert_eq!(read(&ground).len(), 3);
    tag_as_repaired(&ground);
    ground
        .back_up(&[(volume("big"), files(None))], &[])
        .unwrap();
    assert_eq!(read(&ground).len(), 3, "it is no parent");
}

/// Backs up an image of these contents, and gives which of them were downloaded.
fn downloads(ground: &mut Playground, contents: &[u8], then: Then) -> Vec<String> {
    ground.cancel = Cancel::default();
    let image = item(ItemKind::Image, "app", Some("shop"));
    let result = ground.back_up(
        &[(image, Behaviour::Contents(contents.to_vec(), then))],
        &[],
    );
    assert_eq!(result.is_err(), then == Then::Cancels, "{result:?}");
    let mut log = ground.log();
    log.retain(|line| line.starts_with("download"));
    log
}

#[test]
fn what_interrupted_runs_kept_adds_up_and_no_checkpoint_outlives_the_point_of_its_run() {
    let mut ground = Playground::new();
    assert_eq!(downloads(&mut ground, &[1], Then::Cancels), ["download 1"]);
    assert_eq!(verdicts(&ground), ["keep"]);
    // Interrupted before it comes to what the first one had.
    assert_eq!(downloads(&mut ground, &[2], Then::Cancels), ["download 2"]);
    assert_eq!(verdicts(&ground), ["drop", "keep"], "the newer has both");

    ground.checkpoint_every = "1m".parse().ok();
    let downloaded = downloads(&mut ground, &[1, 2, 3], Then::AwaitsCheckpoint);
    assert_eq!(downloaded, ["download 3"]);
    assert_eq!(ground.repository.snapshots().unwrap().snapshots.len(), 4);
    assert_eq!(verdicts(&ground), ["drop", "drop", "drop"]);
}
