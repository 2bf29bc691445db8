//! What a single caller may rely on.
//!
//! Invariant: every check asserts whole values: bytes, sizes, kinds of errors.

use refloat_storage::{FileKey, FileKind, Storage, StorageError, StorageErrorKind};

use super::{PACK_BYTES, keys, named};
use crate::random::Random;

fn kind_of<T: std::fmt::Debug>(result: Result<T, StorageError>) -> StorageErrorKind {
    result.expect_err("the call must fail").kind()
}

pub(super) fn create_is_idempotent(storage: &dyn Storage) {
    for kind in FileKind::FOLDERS {
        assert_eq!(keys(storage, kind), [], "a new place has no {kind:?}");
    }
    let key = named(FileKind::Index, b"index");
    storage.write(&key, b"index").expect("written");
    storage.create().expect("created again");
    assert_eq!(storage.read(&key).expect("still there"), b"index");
    assert!(storage.connections() >= 1);
    assert!(!storage.location().is_empty());
}

pub(super) fn files_of_all_kinds_and_sizes(storage: &dyn Storage, bytes_min: usize) {
    let mut random = Random::new(1);
    for kind in FileKind::FOLDERS {
        let mut expected = Vec::new();
        let sizes = [0, 1, 31, 4_095, 4_096, 4_097, 65_537, 1_048_577];
        for length in sizes.into_iter().filter(|size| *size >= bytes_min) {
            let bytes = random.bytes(length);
            let key = named(kind, &bytes);
            storage.write(&key, &bytes).expect("written");
            assert_eq!(storage.read(&key).expect("read"), bytes, "{key}");
            let size = storage.size(&key).expect("answered");
            assert_eq!(size, Some(length as u64), "{key}");
            expected.push((key, length as u64));
        }
        let listing = storage.list(kind).expect("listed");
        let mut listed: Vec<_> = listing.iter().map(|file| (file.key, file.size)).collect();
        listed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(listed, expected, "{kind:?} are listed with their sizes");
    }
}

pub(super) fn big_files(storage: &dyn Storage) {
    let bytes = Random::new(2).bytes(PACK_BYTES);
    let key = named(FileKind::Pack, &bytes);
    storage.write(&key, &bytes).expect("written");
    assert!(
        storage.read(&key).expect("read") == bytes,
        "a big file comes back"
    );
    let (offset, length) = (PACK_BYTES - 3 * 1024 * 1024 - 7, 3 * 1024 * 1024);
    let range = storage
        .read_range(&key, offset as u64, length)
        .expect("read");
    assert!(
        range == bytes[offset..offset + length],
        "a big range comes back"
    );
    let mut memory = vec![1; length];
    storage
        .read_range_into(&key, offset as u64, &mut memory)
        .expect("read");
    assert!(memory == range, "and into memory of the caller");
    let size = storage.size(&key).expect("answered");
    assert_eq!(size, Some(PACK_BYTES as u64));
}

pub(super) fn ranges_are_exact(storage: &dyn Storage, bytes_min: usize) {
    let bytes = Random::new(3).bytes(10_000);
    let smallest = vec![7; bytes_min];
    let small = named(FileKind::Pack, &smallest);
    let key = named(FileKind::Pack, &bytes);
    storage.write(&key, &bytes).expect("written");
    storage.write(&small, &smallest).expect("written");
    for (offset, length) in [
        (0, 0),
        (0, 1),
        (0, 10_000),
        (1, 9_999),
        (4_095, 2),
        (4_096, 4_096),
        (9_999, 1),
        (9_999, 0),
        (10_000, 0),
    ] {
        let range = storage.read_range(&key, offset as u64, length);
        assert_eq!(
            range.expect("within the file"),
            bytes[offset..offset + length],
            "{length} bytes at {offset}"
        );
        let mut memory = vec![0; length];
        let read = storage.read_range_into(&key, offset as u64, &mut memory);
        read.expect("within the file");
        assert_eq!(memory, bytes[offset..offset + length]);
    }
    let none = storage.read_range(&small, 0, 0).expect("read");
    assert!(none.is_empty());
}

pub(super) fn short_reads_are_told(storage: &dyn Storage) {
    let key = named(FileKind::Pack, b"0123456789");
    storage.write(&key, b"0123456789").expect("written");
    for (offset, length) in [
        (0, 11),
        (1, 10),
        (9, 2),
        (10, 1),
        (11, 0),
        (11, 1),
        (u64::MAX, 1),
        (u64::MAX - 1, 5),
        (0, 1 << 40),
    ] {
        assert_eq!(
            kind_of(storage.read_range(&key, offset, length)),
            StorageErrorKind::ShortRead,
            "{length} bytes at {offset}"
        );
        if length < 100 {
            let read = storage.read_range_into(&key, offset, &mut vec![0; length]);
            assert_eq!(kind_of(read), StorageErrorKind::ShortRead);
        }
    }
}

pub(super) fn absent_files(storage: &dyn Storage) {
    let folders = FileKind::FOLDERS.map(|kind| named(kind, b"never written"));
    for key in [FileKey::CONFIG].into_iter().chain(folders) {
        let error = storage.read(&key).expect_err("there is no such file");
        assert_eq!(error.kind(), StorageErrorKind::NotFound, "{key}");
        assert!(!error.is_retryable());
        let text = error.to_string();
        assert!(
            text.contains(&key.path()) && text.contains(&storage.location()),
            "an error names its subject and place: {text}"
        );
        for length in [0, 1] {
            assert_eq!(
                kind_of(storage.read_range(&key, 0, length)),
                StorageErrorKind::NotFound,
                "{length} bytes of {key}"
            );
            let read = storage.read_range_into(&key, 0, &mut vec![0; length]);
            assert_eq!(kind_of(read), StorageErrorKind::NotFound);
        }
        assert_eq!(storage.size(&key).expect("answered"), None, "{key}");
    }
}

pub(super) fn deletion_is_idempotent(storage: &dyn Storage) {
    storage.write(&FileKey::CONFIG, b"config").expect("written");
    let folders = FileKind::FOLDERS.map(|kind| named(kind, b"deleted"));
    for key in &folders {
        storage.delete(key).expect("nothing to delete");
        storage.write(key, b"deleted").expect("written");
        storage.delete(key).expect("deleted");
        storage.delete(key).expect("deleted again");
        assert_eq!(kind_of(storage.read(key)), StorageErrorKind::NotFound);
        assert_eq!(storage.size(key).expect("answered"), None, "{key}");
        assert_eq!(keys(storage, key.kind()), [], "{key}");
        storage.write(key, b"deleted").expect("written once more");
        assert_eq!(storage.read(key).expect("read"), b"deleted", "{key}");
    }
    storage.delete(&FileKey::CONFIG).expect("deleted");
    storage.write(&FileKey::CONFIG, b"other").expect("written");
    assert_eq!(storage.read(&FileKey::CONFIG).expect("read"), b"other");
}

pub(super) fn second_writes_change_nothing(storage: &dyn Storage) {
    let bytes = Random::new(4).bytes(300_000);
    for kind in FileKind::FOLDERS {
        let key = named(kind, &bytes);
        storage.write(&key, &bytes).expect("written");
        let before = storage.list(kind).expect("listed");
        storage.write(&key, &bytes).expect("written again");
        let after = storage.list(kind).expect("listed");
        assert_eq!(after, before, "{kind:?}: size, time and number stay");
        assert!(storage.read(&key).expect("read") == bytes, "{kind:?}");
    }
}

pub(super) fn the_config_is_written_once(storage: &dyn Storage) {
    storage.write(&FileKey::CONFIG, b"first").expect("written");
    for bytes in [b"first".as_slice(), b"second", b""] {
        assert_eq!(
            kind_of(storage.write(&FileKey::CONFIG, bytes)),
            StorageErrorKind::AlreadyExists
        );
    }
    assert_eq!(storage.read(&FileKey::CONFIG).expect("read"), b"first");
    let size = storage.size(&FileKey::CONFIG).expect("answered");
    assert_eq!(size, Some(5));
}

pub(super) fn kinds_do_not_mix(storage: &dyn Storage) {
    let all = FileKind::FOLDERS.map(|kind| FileKey::new(kind, [0x5a; 32]));
    for key in &all {
        storage.write(key, key.path().as_bytes()).expect("written");
    }
    for gone in &all {
        storage.delete(gone).expect("deleted");
        assert_eq!(keys(storage, gone.kind()), []);
        for other in all.iter().filter(|key| *key != gone) {
            assert_eq!(keys(storage, other.kind()), [*other]);
            let bytes = storage.read(other).expect("read");
            assert_eq!(bytes, other.path().as_bytes());
        }
        storage
            .write(gone, gone.path().as_bytes())
            .expect("written");
    }
}

pub(super) fn lists_are_complete(storage: &dyn Storage) {
    // Two packs in each of the 256 folders, and more than one page of most object stores.
    let mut expected = Vec::new();
    for (folder, number) in (0..=u8::MAX).flat_map(|folder| [(folder, 1), (folder, 2)]) {
        let mut id = [number; 32];
        id[0] = folder;
        let key = FileKey::new(FileKind::Pack, id);
        storage.write(&key, &[number]).expect("written");
        expected.push(key);
    }
    assert_eq!(keys(storage, FileKind::Pack), expected);
    let (gone, kept) = expected.split_at(400);
    for key in gone {
        storage.delete(key).expect("deleted");
    }
    assert_eq!(keys(storage, FileKind::Pack), kept);
}
