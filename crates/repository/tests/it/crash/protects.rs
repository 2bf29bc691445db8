//! Extending protection: a pass that dies at any file is repeated, and then everything is protected.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_model::time::Timestamp;
use refloat_repository::protect::{protect, protected_until};
use refloat_storage::{
    FileKey, FileKind, Listed, Protection, SharedStorage, Storage, StorageError, StorageErrorKind,
};

use super::commands::two_points;
use crate::support::*;

const PERIOD: Duration = Duration::from_hours(30 * 24);

/// Storage that protects, and whose process dies at the n-th extension.
struct Protecting {
    inner: SharedStorage,
    until: Mutex<HashMap<FileKey, Timestamp>>,
    /// Extensions until it dies; negative: never.
    left: AtomicI64,
    /// Whether the one at which it dies is done.
    last_is_done: AtomicBool,
}

impl Protecting {
    /// Nothing is protected, and it dies at the n-th extension.
    fn begin(&self, left: i64, last_is_done: bool) {
        self.until.lock().unwrap().clear();
        self.left.store(left, Ordering::SeqCst);
        self.last_is_done.store(last_is_done, Ordering::SeqCst);
    }

    fn extend(&self, key: &FileKey, until: Timestamp) {
        let mut all = self.until.lock().unwrap();
        let known = all.entry(*key).or_insert(until);
        *known = until.max(*known);
    }

    fn dead(&self) -> StorageError {
        StorageError::new(
            StorageErrorKind::Unavailable,
            "protect",
            &FileKey::CONFIG,
            self.inner.location(),
            None,
        )
    }
}

impl Storage for Protecting {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn create(&self) -> Result<(), StorageError> {
        self.inner.create()
    }
    fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), StorageError> {
        self.inner.write(key, bytes)
    }
    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
        self.inner.read(key)
    }
    fn read_range(
        &self,
        key: &FileKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        self.inner.read_range(key, offset, length)
    }
    fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError> {
        self.inner.size(key)
    }
    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError> {
        self.inner.list(kind)
    }
    fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        self.inner.delete(key)
    }
    fn connections(&self) -> usize {
        1
    }
    fn settling(&self) -> Duration {
        self.inner.settling()
    }
    fn protection(&self) -> Option<Protection> {
        Some(Protection { period: PERIOD })
    }
    fn protected_until(&self, key: &FileKey) -> Result<Option<Timestamp>, StorageError> {
        if self.left.load(Ordering::SeqCst) == 0 {
            return Err(self.dead());
        }
        Ok(self.until.lock().unwrap().get(key).copied())
    }
    fn protect_until(&self, key: &FileKey, until: Timestamp) -> Result<(), StorageError> {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            1 => {
                if self.last_is_done.load(Ordering::SeqCst) {
                    self.extend(key, until);
                }
                Err(self.dead())
            }
            0 => {
                self.left.store(0, Ordering::SeqCst);
                Err(self.dead())
            }
            _ => {
                self.extend(key, until);
                Ok(())
            }
        }
    }
}

#[test]
fn a_protect_that_dies_anywhere_is_repeated_and_then_everything_is_kept() {
    let started = Instant::now();
    let (_memory, inner, start) = two_points();
    let place = Arc::new(Protecting {
        inner,
        until: Mutex::default(),
        left: AtomicI64::new(-1),
        last_is_done: AtomicBool::new(true),
    });
    let storage: SharedStorage = Arc::clone(&place) as SharedStorage;
    let repository = open(&storage).into_indexed().unwrap();
    let (counters, cancel) = (Counters::default(), Cancel::default());
    let run = || protect(open(&storage), start.into(), &counters, &cancel);
    let needed = run().unwrap().unwrap().extended;
    let end = Some((start + jiff::SignedDuration::try_from(PERIOD).unwrap()).into());
    let mut states = 0;
    // Each costs two key derivations, so not every one.
    for at in (1..=i64::try_from(needed).unwrap()).step_by(5) {
        for last_is_done in [false, true] {
            let what = format!("dies at {at}, done: {last_is_done}");
            place.begin(at, last_is_done);
            let ended = run();
            assert!(ended.is_err(), "{what}: reported as done");
            let before = place.until.lock().unwrap().len() as u64;
            place.left.store(-1, Ordering::SeqCst);
            let again = run().unwrap().unwrap();
            let extended = needed - before;
            assert_eq!(
                again.extended, extended,
                "{what}: what was done is not repeated"
            );
            assert_eq!(again.until, end, "{what}");
            let points = repository.snapshots().unwrap().snapshots;
            let ends = protected_until(&repository, &points, &cancel)
                .unwrap()
                .unwrap();
            assert!(ends.values().all(|until| *until == end), "{what}");
            states += 1;
        }
    }
    refloat_testkit::tier::report("C1 protect", &format!("{states} states"), started);
    assert!(states >= 20, "{states}");
}

#[test]
fn every_key_is_protected_and_what_cannot_be_read_is_not_called_kept() {
    let (_memory, inner, start) = two_points();
    let second = open(&inner)
        .add_key(
            &refloat_model::secret::Secret::new("second"),
            Default::default(),
        )
        .unwrap();
    let place = Arc::new(Protecting {
        inner: Arc::clone(&inner),
        until: Mutex::default(),
        left: AtomicI64::new(-1),
        last_is_done: AtomicBool::new(true),
    });
    let storage: SharedStorage = Arc::clone(&place) as SharedStorage;
    let repository = open(&storage).into_indexed().unwrap();
    let (counters, cancel) = (Counters::default(), Cancel::default());
    let run = || protect(open(&storage), start.into(), &counters, &cancel);
    let _report = run().unwrap().unwrap();
    let protected = |key: &FileKey| place.until.lock().unwrap().contains_key(key);
    for id in [second, repository.key_id()] {
        assert!(protected(&FileKey::new(FileKind::Key, id.0)), "{id}");
    }
    // A record that cannot be read: what it needs is not known, so not all is kept, but all else is.
    place.begin(-1, true);
    let victim = inner.list(FileKind::Snapshot).unwrap().remove(0).key;
    inner.delete(&victim).unwrap();
    inner.write(&victim, b"torn").unwrap();
    let report = run().unwrap().unwrap();
    assert!(!report.failures.is_empty(), "{report:?}");
    assert_eq!(report.until, None, "{report:?}");
    assert!(protected(&victim), "it may be mended");
    for listed in inner.list(FileKind::Key).unwrap() {
        assert!(protected(&listed.key));
    }
}
