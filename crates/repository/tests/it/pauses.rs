//! W3: a writer that is stopped at any call, for longer than its lock lives, while others forget and
//! prune, refuses to publish or publishes what is whole. W4: the same beside restic.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use refloat_repository::lock::LockMode;
use refloat_repository::{ChunkerChoice, RepositoryError, SnapshotId};
use refloat_storage::local::LocalStorage;
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKind, SharedStorage};
use refloat_testkit::intercept::Intercepted;
use refloat_testkit::tier;
use refloat_testkit::zero_loss::{ZeroLoss, next_prune, thorough};

use crate::crash::commands::{back_up, files, two_points};
use crate::oracle::Swap;
use crate::pruning::{delete_snapshots, prune_at};
use crate::support::*;

/// Minutes that the writer is stopped: its lock lives, counts as lost by itself, is dead, or its
/// unindexed packs are old as well.
const STOPPED: [i64; 4] = [10, 24, 35, 26 * 60];

#[test]
fn a_writer_that_is_stopped_at_any_call_publishes_nothing_that_lacks_a_blob() {
    let started = Instant::now();
    let (filled, storage, start) = two_points();
    let doomed: Vec<SnapshotId> = {
        let list = open(&storage).snapshots().unwrap().snapshots;
        list.into_iter().map(|(id, _)| id).take(1).collect()
    };
    let swap = Swap::new(&storage);
    let writer = open(&swap.shared()).into_indexed().unwrap();
    let other_side = Swap::new(&storage);
    let other = Arc::new(open(&other_side.shared()).into_indexed().unwrap());
    let (mut refused, mut published) = (0, 0);
    for minutes in STOPPED {
        for at in 1.. {
            let memory = Arc::new(filled.duplicate());
            let shared: SharedStorage = Arc::clone(&memory) as SharedStorage;
            other_side.set(&shared);
            let hands = Hands::at(start);
            let count = Arc::new(AtomicU64::new(0));
            let gate = {
                let (count, hands, doomed) = (Arc::clone(&count), hands.clone(), doomed.clone());
                let (memory, other, shared) = (memory, Arc::clone(&other), Arc::clone(&shared));
                move |_call| {
                    if count.fetch_add(1, Ordering::SeqCst) + 1 == at {
                        hands.pass_minutes(minutes);
                        let now = start + jiff::SignedDuration::from_mins(minutes);
                        memory.set_clock(now.into());
                        delete_snapshots(&shared, &doomed);
                        // With a lock of the writer that still lives it is refused.
                        drop(prune_at(&other, thorough(), now));
                    }
                    Ok(())
                }
            };
            let gated = Intercepted::new(Arc::clone(&shared), Box::new(gate));
            swap.set(&(Arc::new(gated.with_connections(1)) as SharedStorage));
            // Files of the point that is forgotten meanwhile, and new ones.
            let ended = back_up(&writer, &hands.clock(), &files(30..130));
            if count.load(Ordering::SeqCst) < at {
                break;
            }
            let what = format!("stopped for {minutes} minutes at call {at}: {ended:?}");
            match &ended {
                Ok(_) => published += 1,
                Err(_) => refused += 1,
            }
            let judge = ZeroLoss::default();
            let _report = judge.judge(&other, &what);
            if let Ok(id) = ended {
                let listed = shared.list(FileKind::Snapshot).unwrap();
                assert!(listed.iter().any(|file| *file.key.id() == id.0), "{what}");
            }
        }
    }
    let what = format!(
        "{} pauses: {refused} refused, {published} published",
        refused + published
    );
    tier::report("W3 stopped writers", &what, started);
    assert!(refused >= 50 && published >= 20, "{what}");
}

#[test]
fn our_writer_keeps_restics_prune_out_and_restics_writer_ours() {
    if !has_restic() {
        return;
    }
    for turn in 0..tier::by_tier(2, 50, 50) {
        let folder = tempfile::tempdir().unwrap();
        let storage: SharedStorage = Arc::new(LocalStorage::new(folder.path()));
        let repository = init(&storage, ChunkerChoice::Rabin).into_indexed().unwrap();
        let first = Files::from([("a".to_owned(), (1, noise(40_000, turn)))]);
        let id = backup(&storage, &first).id;

        // Our writer stands still in the middle of its work.
        let lock = shared_lock(&repository);
        let archiver = archiver(&repository.reload().unwrap());
        let mut builder = archiver.tree(Vec::new());
        push(&mut builder, &first, &Arc::default());
        delete_snapshots(&storage, &[id]);
        let refused = restic(folder.path(), &["prune", "--max-unused", "0"]).unwrap_err();
        assert!(refused.contains("already locked"), "{refused}");
        let tree = builder.finish().unwrap();
        let root = archiver.store_directory(tree.nodes).unwrap();
        let id = archiver
            .finish()
            .unwrap()
            .publish(&lock, &snapshot(root))
            .unwrap();
        drop(lock);
        let sound = ZeroLoss::of(&repository.reload().unwrap());
        assert_eq!(sound.snapshots().collect::<Vec<_>>(), [id]);

        // restic's writer waits for its input; it has its lock and has written nothing.
        let mut writer = Command::new("restic")
            .args(["--no-cache", "-r"])
            .arg(folder.path())
            .args(["backup", "--stdin", "--stdin-filename", "stream"])
            .env("RESTIC_PASSWORD", PASSWORD)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        await_lock(&storage);
        let refused = repository.lock(LockMode::Exclusive, owner("prune"), clock());
        assert!(
            matches!(refused, Err(RepositoryError::Locked { .. })),
            "{refused:?}"
        );
        // Beside it we write.
        let second = Files::from([("b".to_owned(), (2, noise(50_000, turn + 1_000)))]);
        let _id = backup(&storage, &second).id;
        let mut input = writer.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, &noise(300_000, turn)).unwrap();
        drop(input);
        assert!(writer.wait().unwrap().success());
        let sound = ZeroLoss::of(&repository.reload().unwrap());
        assert_eq!(sound.snapshots().count(), 3);
        next_prune(&repository, jiff::Timestamp::now(), None).unwrap();
        let _report = sound.judge(&repository, "after restic");
        let said = restic(folder.path(), &["check", "--read-data"]).unwrap();
        assert!(said.contains("no errors were found"), "{said}");
    }
}

fn await_lock(storage: &SharedStorage) {
    let begin = Instant::now();
    while storage.list(FileKind::Lock).unwrap().is_empty() {
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "restic took no lock"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// W5, and K1 for locks: whoever is alive keeps its lock, and a dead one's is gone within 35 minutes,
/// whatever the clocks show.
#[test]
fn no_clock_kills_a_living_lock_or_keeps_a_dead_one() {
    const HOUR: i64 = 60;
    let made: SharedStorage = Arc::new(MemoryStorage::new());
    drop(init(&made, ChunkerChoice::Gear));
    let swap = Swap::new(&made);
    let repository = open(&swap.shared());
    let mut cases = 0;
    for holder_ahead in [0, 4, -4, HOUR, -HOUR, 24 * HOUR, -24 * HOUR, 87_600 * HOUR] {
        for ours_ahead in [0, 4, -4, HOUR, -HOUR, 24 * HOUR, -24 * HOUR] {
            let memory = Arc::new(MemoryStorage::new());
            let start: jiff::Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
            memory.set_clock(start.into());
            let storage: SharedStorage = Arc::clone(&memory) as SharedStorage;
            swap.set(&storage);
            let at = |minutes: i64| start + jiff::SignedDuration::from_mins(minutes);
            let held = repository.lock(
                LockMode::Shared,
                owner("holder"),
                Hands::at(at(holder_ahead)).clock(),
            );
            let held = held.unwrap();
            let what = format!("holder {holder_ahead} ahead, ours {ours_ahead}");
            let try_at = |minutes: i64| {
                memory.set_clock(at(minutes).into());
                let clock = Hands::at(at(minutes + ours_ahead)).clock();
                repository.lock(LockMode::Exclusive, owner("prune"), clock)
            };
            // Twenty-nine minutes after its last refresh it may still be alive.
            for minutes in [1, 15, 29] {
                let refused = try_at(minutes);
                assert!(
                    matches!(refused, Err(RepositoryError::Locked { .. })),
                    "{what}"
                );
                assert_eq!(storage.list(FileKind::Lock).unwrap().len(), 1, "{what}");
            }
            std::mem::forget(held);
            let taken = try_at(35);
            cases += 1;
            if ours_ahead < -4 && holder_ahead.abs() <= 4 {
                // By our clock it was refreshed just now: one of the clocks is wrong, and as long
                // as they differ nothing is deleted; a prune would refuse as well.
                assert!(
                    matches!(taken, Err(RepositoryError::Locked { .. })),
                    "{what}"
                );
                continue;
            }
            assert!(taken.is_ok(), "{what}: {taken:?}");
            drop(taken);
            assert_eq!(storage.list(FileKind::Lock).unwrap(), [], "{what}");
        }
    }
    assert!(cases >= 30, "{cases}");
}
