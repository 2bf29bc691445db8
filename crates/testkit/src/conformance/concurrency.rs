//! What callers on many threads may rely on.
//!
//! Invariant: nothing here depends on which thread is faster.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use refloat_storage::{FileKey, FileKind, Storage, StorageErrorKind};

use super::{keys, named};
use crate::random::Random;

const WRITERS: usize = 8;

pub(super) fn many_writers(storage: &dyn Storage) {
    const FILES_EACH: usize = 12;
    let written = std::thread::scope(|scope| {
        let writer = |seed: usize| {
            let mut random = Random::new(seed as u64);
            let mut written = Vec::new();
            for number in 0..FILES_EACH {
                let bytes = random.bytes(1_000 + 7_919 * number);
                let key = named(FileKind::Pack, &bytes);
                storage.write(&key, &bytes).expect("written");
                // Whatever was written before a listing began must be in it.
                let listed = keys(storage, FileKind::Pack);
                assert!(listed.binary_search(&key).is_ok(), "{key} is listed");
                written.push((key, bytes));
            }
            written
        };
        let threads: Vec<_> = (0..WRITERS)
            .map(|seed| scope.spawn(move || writer(seed)))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    let mut expected: Vec<_> = written.iter().map(|(key, _)| *key).collect();
    expected.sort_unstable();
    assert_eq!(keys(storage, FileKind::Pack), expected);
    for (key, bytes) in written {
        assert!(storage.read(&key).expect("read") == bytes, "{key}");
    }
}

pub(super) fn many_writers_of_one_file(storage: &dyn Storage) {
    let bytes = Random::new(5).bytes(500_000);
    let key = named(FileKind::Index, &bytes);
    let barrier = Barrier::new(WRITERS);
    std::thread::scope(|scope| {
        for _writer in 0..WRITERS {
            scope.spawn(|| {
                barrier.wait();
                storage.write(&key, &bytes).expect("written");
                assert!(storage.read(&key).expect("visible") == bytes);
            });
        }
    });
    assert_eq!(keys(storage, FileKind::Index), [key]);
}

pub(super) fn one_config_wins(storage: &dyn Storage) {
    let (barrier, winner, winners) = (
        Barrier::new(WRITERS),
        AtomicUsize::new(usize::MAX),
        AtomicUsize::new(0),
    );
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (barrier, winner, winners) = (&barrier, &winner, &winners);
            scope.spawn(move || {
                let bytes = vec![u8::try_from(writer).unwrap(); 10_000];
                barrier.wait();
                match storage.write(&FileKey::CONFIG, &bytes) {
                    Ok(()) => {
                        winner.store(writer, Ordering::SeqCst);
                        winners.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(error) => assert_eq!(error.kind(), StorageErrorKind::AlreadyExists),
                }
            });
        }
    });
    assert_eq!(winners.load(Ordering::SeqCst), 1, "one config is written");
    let winner = u8::try_from(winner.load(Ordering::SeqCst)).unwrap();
    let config = storage.read(&FileKey::CONFIG).expect("read");
    assert!(config == [winner; 10_000], "the config is the winner's");
}

/// A reader beside a writer sees each file absent or complete, never torn.
pub(super) fn files_appear_whole(storage: &dyn Storage) {
    let mut random = Random::new(6);
    let files: Vec<_> = (0..24).map(|_| random.bytes(400_000)).collect();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _done = RaiseOnDrop(&is_done);
            for bytes in &files {
                let key = named(FileKind::Pack, bytes);
                storage.write(&key, bytes).expect("written");
            }
        });
        scope.spawn(|| {
            while !is_done.load(Ordering::SeqCst) {
                for file in storage.list(FileKind::Pack).expect("listed") {
                    assert_eq!(file.size, 400_000, "a listed file is complete");
                }
            }
        });
        scope.spawn(|| {
            while !is_done.load(Ordering::SeqCst) {
                for bytes in &files {
                    check_absent_or_whole(storage, &named(FileKind::Pack, bytes), bytes);
                }
            }
        });
    });
    assert_eq!(keys(storage, FileKind::Pack).len(), files.len());
}

/// Ends the readers also when the writer panics.
struct RaiseOnDrop<'flag>(&'flag AtomicBool);

impl Drop for RaiseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn check_absent_or_whole(storage: &dyn Storage, key: &FileKey, bytes: &[u8]) {
    match storage.read(key) {
        Ok(read) => assert!(read == bytes, "{key} is read whole"),
        Err(error) => assert_eq!(error.kind(), StorageErrorKind::NotFound),
    }
    match storage.read_range(key, 399_990, 10) {
        Ok(read) => assert_eq!(read, bytes[399_990..]),
        Err(error) => assert_eq!(error.kind(), StorageErrorKind::NotFound),
    }
}
