//! S6: a bit that flips in memory between cutting and uploading is caught before the upload.

use std::sync::{Arc, Mutex, PoisonError};

use refloat_model::cancel::Cancel;
use refloat_model::entry::{Entry, TreeSink as _};
use refloat_model::progress::Counters;
use refloat_model::secret::Secret;
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKind, SharedStorage};

use super::Stage;
use crate::archive::{ArchiveOptions, Archiver};
use crate::check::{CheckOptions, ReadData, check};
use crate::codec::Compression;
use crate::copy::copy;
use crate::format::pack::BlobKind;
use crate::hash::Sha256;
use crate::lock::{Lock, LockMode, LockOwner};
use crate::{BlobId, IndexedRepository, InitOptions, Repository, RepositoryError, SnapshotFile};

/// The flip that is armed: at which turn of a stage, and which bit.
static ARMED: Mutex<Option<Flip>> = Mutex::new(None);

#[derive(Clone, Copy)]
struct Flip {
    stage: Stage,
    turns_left: u64,
    bit: u64,
}

/// How many turns of a stage pass before one panics.
static PANIC: Mutex<Option<(Stage, u64)>> = Mutex::new(None);
/// Set where a test runs in a process of its own.
const ALONE: &str = "REFLOAT_FLIPS_ALONE";

/// Whether this is a process in which nothing but this test runs; if not, the test has passed in one. What is
/// armed concerns all of a process, and `cargo test` runs others beside it.
fn is_alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let name = format!("flips::tests::{test}");
    let ended = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stdout) + String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
    false
}

fn panic_if_armed(stage: Stage) {
    let mut panic = PANIC.lock().unwrap_or_else(PoisonError::into_inner);
    match panic.as_mut().filter(|(at, _)| *at == stage) {
        None => {}
        Some((_, 0)) => {
            *panic = None;
            drop(panic);
            panic!("on purpose, by the test");
        }
        Some((_, turns_left)) => *turns_left -= 1,
    }
}

pub fn touch(stage: Stage, bytes: &mut [u8]) {
    panic_if_armed(stage);
    let mut armed = ARMED.lock().unwrap();
    let Some(flip) = armed.as_mut().filter(|flip| flip.stage == stage) else {
        return;
    };
    if bytes.is_empty() {
        return;
    }
    if flip.turns_left > 0 {
        flip.turns_left -= 1;
        return;
    }
    let bit = usize::try_from(flip.bit).unwrap() % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    *armed = None;
}

fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn empty_repository() -> IndexedRepository {
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    let repository = Repository::init(storage, &Secret::new("x"), InitOptions::default());
    repository.unwrap().into_indexed().unwrap()
}

fn shared_lock(repository: &Repository) -> Result<Lock, RepositoryError> {
    let owner = LockOwner {
        host: "refloat-flips".to_owned(),
        user: "test".to_owned(),
        process: 1,
    };
    repository.lock(LockMode::Shared, owner, Arc::new(jiff::Timestamp::now))
}

/// Backs some files up, compressible ones and others.
fn back_up(repository: &IndexedRepository, seed: u64) -> Result<(), RepositoryError> {
    let lock = shared_lock(repository)?;
    let options = ArchiveOptions {
        workers: 1,
        pack_bytes_min: 8 << 10,
        ..ArchiveOptions::default()
    };
    let counters = Arc::new(Counters::default());
    let archiver = Archiver::start(repository.reload()?, options, counters, Cancel::default())?;
    let mut builder = archiver.tree(Vec::new());
    let mut state = seed;
    for number in 0..6 {
        let bytes: Vec<u8> = if number % 2 == 0 {
            format!("{seed} {number} compresses well ")
                .repeat(200)
                .into()
        } else {
            (0..500)
                .flat_map(|_| mix(&mut state).to_le_bytes())
                .collect()
        };
        let entry = Entry::synthetic_file(format!("file-{number}"), bytes.len() as u64);
        let content = move || Ok::<_, std::io::Error>(std::io::Cursor::new(bytes));
        if builder.file(entry, Box::new(content)).is_err() {
            break;
        }
    }
    let root = archiver.store_directory(builder.finish()?.nodes)?;
    let snapshot = serde_json::json!({
        "time": jiff::Timestamp::now().to_string(), "tree": root, "paths": ["/x"],
    });
    let snapshot: SnapshotFile = serde_json::from_value(snapshot).unwrap();
    archiver.finish()?.publish(&lock, &snapshot).map(drop)
}

/// A panic while a blob or chunk is stored ends the run as a failure; nobody waits for the thread
/// that had it.
#[test]
fn a_panic_while_something_is_stored_ends_the_run_and_nobody_waits() {
    if !is_alone("a_panic_while_something_is_stored_ends_the_run_and_nobody_waits") {
        return;
    }
    let repository = empty_repository();
    let mut seen = 0;
    for stage in [Stage::Compressed, Stage::Sealed, Stage::Proven, Stage::Pack] {
        for turns_left in 0..6 {
            for workers in [1, 3] {
                *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some((stage, turns_left));
                let (ended, answer) = std::sync::mpsc::channel();
                let repository = repository.clone();
                std::thread::spawn(move || ended.send(back_up_large_files(&repository, workers)));
                let limit = std::time::Duration::from_secs(60);
                let what = format!("{stage:?}, turn {turns_left}, {workers} workers");
                // A source's own thread stores directories, too: there the panic is its own.
                let ended = answer.recv_timeout(limit);
                let hung = matches!(ended, Err(std::sync::mpsc::RecvTimeoutError::Timeout));
                assert!(!hung, "{what}: hangs");
                let left = PANIC.lock().unwrap_or_else(PoisonError::into_inner).take();
                match ended {
                    Ok(Ok(())) => assert!(left.is_some(), "{what}: reported as saved"),
                    _failed => seen += 1,
                }
            }
        }
    }
    assert!(seen >= 24, "{seen}");
    assert_clean(&repository, 0);
}

/// Files of several chunks, so that workers hand chunks to one another.
fn back_up_large_files(
    repository: &IndexedRepository,
    workers: usize,
) -> Result<(), RepositoryError> {
    let options = ArchiveOptions {
        workers,
        pack_bytes_min: 1 << 20,
        ..ArchiveOptions::default()
    };
    let counters = Arc::new(Counters::default());
    let archiver = Archiver::start(repository.reload()?, options, counters, Cancel::default())?;
    let mut builder = archiver.tree(Vec::new());
    for number in 0..3_u64 {
        let (mut state, length) = (number, 3_000_000);
        let mut bytes: Vec<u8> = Vec::with_capacity(length);
        while bytes.len() < length {
            bytes.extend(mix(&mut state).to_le_bytes());
            bytes.extend([7; 8]);
        }
        let entry = Entry::synthetic_file(format!("large-{number}"), length as u64);
        let content = move || Ok::<_, std::io::Error>(std::io::Cursor::new(bytes));
        if builder.file(entry, Box::new(content)).is_err() {
            break;
        }
    }
    let _root = archiver.store_directory(builder.finish()?.nodes)?;
    archiver.finish().map(drop)
}

#[test]
fn a_bit_that_flips_in_memory_is_caught_before_the_upload() {
    if !is_alone("a_bit_that_flips_in_memory_is_caught_before_the_upload") {
        return;
    }
    let repository = empty_repository();
    let stages = [
        (Stage::Compressed, 4),
        (Stage::Sealed, 8),
        (Stage::Proven, 8),
        (Stage::Pack, 3),
        (Stage::File, 2),
    ];
    let count = match std::env::var("REFLOAT_TEST_TIER").as_deref() {
        Ok("N" | "R") => 10_000,
        _ => 1_000,
    };
    let (mut caught, mut not_reached, mut harmless) = (0, 0, 0);
    for seed in 0..count {
        let mut state = seed;
        let index = usize::try_from(seed).unwrap() % stages.len();
        let (stage, turns) = stages[index];
        let flip = Flip {
            stage,
            turns_left: mix(&mut state) % turns,
            bit: mix(&mut state),
        };
        *ARMED.lock().unwrap() = Some(flip);
        let before = repository.storage().list(FileKind::Snapshot).unwrap();
        let ended = back_up(&repository, seed);
        let reached = ARMED.lock().unwrap().take().is_none();
        match ended {
            // Who is stopped by another thread's failure is not told which.
            Err(
                RepositoryError::VerifyFailed { .. }
                | RepositoryError::NotReadBack { .. }
                | RepositoryError::Stopped,
            ) => caught += 1,
            Ok(()) if !reached => not_reached += 1,
            // Some bits of a compressed frame mean nothing: what is stored reads back all the same.
            Ok(()) if stage == Stage::Compressed => {
                harmless += 1;
                assert_clean(&repository, seed);
                continue;
            }
            other => panic!("seed {seed}, {stage:?}: {other:?}, reached: {reached}"),
        }
        if reached {
            let after = repository.storage().list(FileKind::Snapshot).unwrap();
            assert_eq!(before, after, "seed {seed}: a snapshot was published");
        }
        if seed % 100 == 99 {
            assert_clean(&repository, seed);
        }
    }
    assert!(
        not_reached * 10 < count,
        "{not_reached} of {count} were not reached"
    );
    assert!(harmless * 20 < count, "{harmless} of {count} did nothing");
    assert_eq!(caught + not_reached + harmless, count);
}

/// A copy's only proof is that of what it sealed: if memory fails there, no point may be called damaged.
#[test]
fn a_bit_that_flips_while_copying_ends_the_copy_and_blames_no_point() {
    if !is_alone("a_bit_that_flips_while_copying_ends_the_copy_and_blames_no_point") {
        return;
    }
    let from = empty_repository();
    back_up(&from, 1).unwrap();
    let from = from.reload().unwrap();
    let points = from.snapshots().unwrap().snapshots.into_iter();
    let points: Vec<_> = points.map(|(id, _)| id).collect();
    for seed in 0..24 {
        let to = empty_repository();
        let lock = shared_lock(&to).unwrap();
        let counters = Arc::new(Counters::default());
        let copy_now = || copy(&from, &to, &points, &lock, &counters, &Cancel::default());
        let mut state = seed;
        let stages = [Stage::Sealed, Stage::Proven, Stage::Pack];
        let stage = stages[usize::try_from(seed).unwrap() % stages.len()];
        *ARMED.lock().unwrap() = Some(Flip {
            stage,
            // Six files and a tree are copied, and there are at least a pack of data and one of trees.
            turns_left: mix(&mut state) % if stage == Stage::Pack { 2 } else { 7 },
            bit: mix(&mut state),
        });
        let ended = copy_now();
        let left = ARMED.lock().unwrap().take();
        assert!(left.is_none(), "seed {seed}, {stage:?}: not reached");
        match (stage, ended) {
            (Stage::Sealed, Err(RepositoryError::VerifyFailed { .. })) => {}
            (Stage::Proven | Stage::Pack, Err(RepositoryError::NotReadBack { .. })) => {}
            other => panic!("seed {seed}: {other:?}"),
        }
        assert_eq!(to.storage().list(FileKind::Snapshot).unwrap().len(), 0);
        let report = copy_now().unwrap();
        assert_eq!(
            (report.copied.len(), report.damaged.len()),
            (points.len(), 0)
        );
        drop(lock);
        assert_clean(&to, seed);
    }
}

/// Of two threads one may find damage first: that memory failed in the other ends the run all the same.
#[test]
fn failing_memory_ends_an_archiver_and_damage_elsewhere_does_not() {
    let (from, content) = (empty_repository(), b"something worth keeping");
    let codec = from.codec();
    let (mut sealed, mut pack) = (Vec::new(), Sha256::new());
    let blob = codec.prepare(BlobId::of(content), content, Compression::Off);
    codec.seal(blob.unwrap(), &mut sealed, &mut pack).unwrap();
    for memory_failed in [false, true] {
        let to = empty_repository();
        let (counters, cancel) = (Arc::new(Counters::default()), Cancel::default());
        let options = ArchiveOptions::default();
        let archiver = Archiver::start(to, options, counters, cancel).unwrap();
        let store = |byte, damage: Option<RepositoryError>| {
            let mut memory = sealed.clone();
            // It is another blob's.
            let blob = codec
                .decrypt(BlobId([byte; 32]), &mut memory, None)
                .unwrap();
            archiver.store_decrypted(BlobKind::Data, &blob, || damage)
        };
        let lost = || RepositoryError::NotReadBack { what: "the other" };
        let damaged = store(1, Some(lost()));
        assert!(matches!(damaged, Err(RepositoryError::NotReadBack { .. })));
        if memory_failed {
            let failed = store(2, None);
            assert!(matches!(failed, Err(RepositoryError::VerifyFailed { .. })));
        }
        match archiver.finish() {
            Ok(_archived) => assert!(!memory_failed),
            Err(RepositoryError::VerifyFailed { .. }) => assert!(memory_failed),
            Err(other) => panic!("{other:?}"),
        }
    }
}

fn assert_clean(repository: &IndexedRepository, seed: u64) {
    let (counters, cancel) = (Counters::default(), Cancel::default());
    let options = CheckOptions {
        read_data: ReadData::All,
    };
    let report = check(repository, &options, &counters, &cancel).unwrap();
    assert!(report.is_clean(), "seed {seed}: {:#?}", report.findings);
}
