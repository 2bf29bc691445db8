//! Protection of what points need: whole, in the right order, and honest about what it could not
//! keep.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_model::time::Timestamp;
use refloat_repository::protect::{ProtectReport, protect, protected_until};
use refloat_repository::{ChunkerChoice, RepositoryError};
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{
    FileKey, FileKind, Listed, Protection, SharedStorage, Storage, StorageError, StorageErrorKind,
};
use refloat_testkit::intercept::{Call, Intercepted};

use crate::support::*;

const PERIOD: Duration = Duration::from_secs(10_000);

fn now() -> Timestamp {
    jiff::Timestamp::now().into()
}

fn later(time: Timestamp, seconds: i64) -> Timestamp {
    Timestamp {
        seconds: time.seconds + seconds,
        ..time
    }
}

/// A repository with two snapshots, and the time when it was filled.
fn filled() -> (Arc<MemoryStorage>, SharedStorage, Timestamp) {
    let memory = Arc::new(MemoryStorage::protecting(PERIOD));
    let storage: SharedStorage = Arc::clone(&memory) as _;
    let start = now();
    memory.set_clock(start);
    drop(init(&storage, ChunkerChoice::Gear));
    for number in 1..=2_i64 {
        let files = [
            ("same".to_owned(), (7, noise(900_000, 7))),
            (
                "changed".to_owned(),
                (number, noise(300_000, number.unsigned_abs())),
            ),
        ];
        let _made = backup(&storage, &files.into());
    }
    (memory, storage, start)
}

fn files(storage: &SharedStorage) -> Vec<FileKey> {
    let kinds = FileKind::FOLDERS.into_iter();
    let kinds = kinds.filter(|kind| *kind != FileKind::Lock);
    let listed = kinds.flat_map(|kind| storage.list(kind).unwrap());
    let mut files: Vec<FileKey> = listed.map(|file| file.key).collect();
    files.push(FileKey::CONFIG);
    files
}

fn protect_at(storage: &SharedStorage, time: Timestamp) -> ProtectReport {
    let (counters, cancel) = (Counters::default(), Cancel::default());
    let report = protect(open(storage), time, &counters, &cancel).unwrap();
    report.unwrap()
}

#[test]
fn everything_that_is_needed_is_kept_once_half_of_the_period_is_over() {
    let (_memory, storage, start) = filled();
    let fresh = protect_at(&storage, later(start, 1_000));
    assert_eq!(fresh.extended, 0);
    assert_eq!(fresh.until, Some(later(start, 10_000)));
    let due = protect_at(&storage, later(start, 6_000));
    assert_eq!(
        (due.needed, due.extended),
        (files(&storage).len() as u64, due.needed)
    );
    assert_eq!(due.until, Some(later(start, 16_000)));
    assert!(due.failures.is_empty());
    for file in files(&storage) {
        let until = storage.protected_until(&file).unwrap();
        assert_eq!(until, Some(later(start, 16_000)), "{file}");
    }
}

#[test]
fn what_cannot_be_kept_is_named_and_keeps_nothing_else_from_it() {
    let (memory, storage, start) = filled();
    let mut packs = storage.list(FileKind::Pack).unwrap();
    packs.sort_unstable_by_key(|pack| pack.size);
    let refused = packs[packs.len() - 1].key;
    let snapshots = storage.list(FileKind::Snapshot).unwrap();
    let damaged = snapshots[0].key;
    memory.write(&damaged, b"damaged").unwrap();
    let gate = move |call: Call| match call {
        Call::Protect(key) if key == refused => Err(StorageError::new(
            StorageErrorKind::Denied,
            "extend the protection of",
            &key,
            "the test",
            None,
        )),
        _ => Ok(()),
    };
    let gated: SharedStorage = Arc::new(Intercepted::new(Arc::clone(&storage), Box::new(gate)));
    let time = later(start, 6_000);
    let report = protect_at(&gated, time);
    assert_eq!(report.until, None, "not everything is kept");
    let named: BTreeSet<&str> = report.failures.iter().map(|f| f.subject.as_str()).collect();
    let paths = [refused.path(), damaged.path()];
    assert_eq!(named, paths.iter().map(String::as_str).collect());
    // What the other snapshot needs, and every file that is there, is kept.
    let mut kept = 0;
    for file in files(&storage).into_iter().filter(|file| *file != refused) {
        let until = storage.protected_until(&file).unwrap();
        kept += u64::from(until == Some(later(start, 16_000)));
    }
    assert_eq!(kept, report.extended);
    assert!(kept + 1 >= report.needed, "{kept} of {}", report.needed);
}

#[test]
fn a_pack_that_is_gone_is_named_and_its_points_are_not_protected() {
    let (memory, storage, start) = filled();
    let pack = storage.list(FileKind::Pack).unwrap()[0].key;
    memory.set_clock(later(start, 20_000));
    storage.delete(&pack).unwrap();
    let report = protect_at(&storage, later(start, 20_000));
    let named: Vec<&str> = report.failures.iter().map(|f| f.subject.as_str()).collect();
    assert!(!named.is_empty(), "{report:?}");
    assert_eq!(report.until, None);
    let repository = open(&storage).into_indexed().unwrap();
    let list = repository.snapshots().unwrap().snapshots;
    let ends = protected_until(&repository, &list, &Cancel::default());
    let ends = ends.unwrap().unwrap();
    assert_eq!(ends.len(), list.len());
    assert!(ends.values().any(Option::is_none), "{ends:?}");
}

/// A storage out of reach is no matter of one file.
#[test]
fn storage_that_is_gone_ends_the_pass() {
    let (_memory, storage, start) = filled();
    let gate = |call: Call| match call {
        Call::LookUpProtection(key) => Err(StorageError::new(
            StorageErrorKind::Unavailable,
            "look up the protection of",
            &key,
            "the test",
            None,
        )),
        _ => Ok(()),
    };
    let gated: SharedStorage = Arc::new(Intercepted::new(storage, Box::new(gate)));
    let (counters, cancel) = (Counters::default(), Cancel::default());
    let time = later(start, 6_000);
    protect(open(&gated), time, &counters, &cancel).unwrap_err();
}

/// A snapshot that appears in between would need packs that an index read before does not know.
#[test]
fn snapshots_are_listed_before_indexes() {
    let (_memory, storage, start) = filled();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let gate = move |call: Call| {
        if let Call::List(kind @ (FileKind::Snapshot | FileKind::Index)) = call {
            noted.lock().unwrap().push(kind);
        }
        Ok(())
    };
    let gated: SharedStorage = Arc::new(Intercepted::new(storage, Box::new(gate)));
    let _report = protect_at(&gated, later(start, 6_000));
    let seen = seen.lock().unwrap();
    let last = seen.iter().rposition(|kind| *kind == FileKind::Snapshot);
    let first = seen.iter().position(|kind| *kind == FileKind::Index);
    assert!(last < first, "{seen:?}");
}

/// Credentials that may not extend anything: that is said after some refusals, not once for each
/// of a million files.
#[test]
fn credentials_that_may_protect_nothing_end_the_pass_early() {
    let (_memory, storage, start) = filled();
    for number in 0..15_u32 {
        let files = [(
            "own".to_owned(),
            (number.into(), noise(1_000, 100 + u64::from(number))),
        )];
        let _made = backup(&storage, &files.into());
    }
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let gate = move |call: Call| match call {
        Call::Protect(key) => {
            count.fetch_add(1, Ordering::Relaxed);
            Err(StorageError::new(
                StorageErrorKind::Denied,
                "extend the protection of",
                &key,
                "the test",
                None,
            ))
        }
        _ => Ok(()),
    };
    let gated: SharedStorage = Arc::new(Intercepted::new(storage, Box::new(gate)));
    let (counters, cancel) = (Counters::default(), Cancel::default());
    let ended = protect(open(&gated), later(start, 6_000), &counters, &cancel);
    let error = ended.unwrap_err();
    assert!(
        matches!(&error, RepositoryError::Storage(e) if e.kind() == StorageErrorKind::Denied),
        "{error:?}"
    );
    let asked = asked.load(Ordering::Relaxed);
    assert!((24..50).contains(&asked), "{asked}");
}

/// Says that it protects, and does not.
struct Forgetful(Arc<MemoryStorage>);

impl Storage for Forgetful {
    fn location(&self) -> String {
        self.0.location()
    }
    fn create(&self) -> Result<(), StorageError> {
        self.0.create()
    }
    fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), StorageError> {
        self.0.write(key, bytes)
    }
    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
        self.0.read(key)
    }
    fn read_range(&self, key: &FileKey, from: u64, count: usize) -> Result<Vec<u8>, StorageError> {
        self.0.read_range(key, from, count)
    }
    fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError> {
        self.0.size(key)
    }
    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError> {
        self.0.list(kind)
    }
    fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        self.0.delete(key)
    }
    fn connections(&self) -> usize {
        self.0.connections()
    }
    fn settling(&self) -> Duration {
        self.0.settling()
    }
    fn protection(&self) -> Option<Protection> {
        self.0.protection()
    }
    fn protected_until(&self, key: &FileKey) -> Result<Option<Timestamp>, StorageError> {
        self.0.protected_until(key)
    }
    fn protect_until(&self, _key: &FileKey, _until: Timestamp) -> Result<(), StorageError> {
        Ok(())
    }
}

/// The file is there and whole; only its protection is not what the storage said.
#[test]
fn a_protection_that_did_not_move_is_told_as_such() {
    let (memory, _storage, start) = filled();
    let forgetful: SharedStorage = Arc::new(Forgetful(memory));
    let report = protect_at(&forgetful, later(start, 6_000));
    assert_eq!((report.extended, report.until), (0, None));
    assert_eq!(report.failures.len() as u64, report.needed);
    for failure in &report.failures {
        let told = failure.error.to_string();
        assert!(told.contains("did not extend the protection"), "{told}");
    }
}
