//! The contract of [`Storage`] as a suite: every sentence of the trait's documentation is a check.
//!
//! Invariant: a new storage adds one call of [`run`] to its tests and no check of its own for
//! what the contract says.

mod concurrency;
mod files;

use refloat_storage::{FileKey, FileKind, SharedStorage, Storage};
use sha2::{Digest, Sha256};

/// Files as big as packs become.
const PACK_BYTES: usize = 20 * 1024 * 1024;

/// How far a storage keeps a file that is there from a second write.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum WriteOnce {
    /// Not at all: an emulator that knows no conditions.
    Never,
    /// By looking first, which two writers at the same moment can pass.
    Checked,
    /// Always: one of many writers wins.
    Atomic,
}

/// Runs every check, each on a new place.
///
/// `make` returns an empty place on which `create` was not called yet.
///
/// # Panics
/// The storage breaks its contract; the message says which sentence.
pub fn run(make: impl Fn() -> SharedStorage) {
    run_as(WriteOnce::Atomic, make);
}

/// As [`run`], for a storage whose protocol cannot promise more.
///
/// # Panics
/// As for [`run`].
pub fn run_as(write_once: WriteOnce, make: impl Fn() -> SharedStorage) {
    run_with_files_from(0, write_once, make);
}

/// As [`run_as`], for an emulator that keeps no smaller files than of so many bytes.
///
/// # Panics
/// As for [`run`].
pub fn run_with_files_from(
    bytes_min: usize,
    write_once: WriteOnce,
    make: impl Fn() -> SharedStorage,
) {
    type Check<'a> = &'a dyn Fn(&dyn Storage);
    let sizes = |storage: &dyn Storage| files::files_of_all_kinds_and_sizes(storage, bytes_min);
    let ranges = |storage: &dyn Storage| files::ranges_are_exact(storage, bytes_min);
    let checks: [(&str, Check<'_>); 15] = [
        ("create", &files::create_is_idempotent),
        ("write, read", &sizes),
        ("big files", &files::big_files),
        ("ranges", &ranges),
        ("short reads", &files::short_reads_are_told),
        ("absent files", &files::absent_files),
        ("delete", &files::deletion_is_idempotent),
        ("second write", &files::second_writes_change_nothing),
        ("config", &files::the_config_is_written_once),
        ("kinds", &files::kinds_do_not_mix),
        ("list", &files::lists_are_complete),
        ("writers", &concurrency::many_writers),
        ("same file", &concurrency::many_writers_of_one_file),
        ("config race", &concurrency::one_config_wins),
        ("atomicity", &concurrency::files_appear_whole),
    ];
    let needed = |name: &str| match name {
        "second write" | "config" => WriteOnce::Checked,
        "config race" => WriteOnce::Atomic,
        _ => WriteOnce::Never,
    };
    for (name, check) in checks {
        if write_once < needed(name) {
            eprintln!("conformance: {name} is more than this storage promises");
            continue;
        }
        let storage = make();
        storage.create().unwrap_or_else(|error| {
            panic!("{name}: an empty place is created: {error}");
        });
        eprintln!("conformance of {}: {name}", storage.location());
        check(&*storage);
    }
}

/// Checks that two openings of one place see each other's changes at once.
///
/// # Panics
/// They do not.
pub fn run_two_openings(first: &dyn Storage, second: &dyn Storage) {
    first.create().expect("an empty place is created");
    let key = named(FileKind::Snapshot, b"by the first");
    first.write(&key, b"by the first").expect("written");
    assert_eq!(second.read(&key).expect("visible"), b"by the first");
    assert_eq!(keys(second, FileKind::Snapshot), [key]);
    second.delete(&key).expect("deleted");
    assert_eq!(first.size(&key).expect("answered"), None);
    assert_eq!(keys(first, FileKind::Snapshot), []);
    first.write(&FileKey::CONFIG, b"first").expect("written");
    second
        .write(&FileKey::CONFIG, b"second")
        .expect_err("the config is there already");
    assert_eq!(second.read(&FileKey::CONFIG).expect("visible"), b"first");
}

/// The key of a file by its content, as everything but the config is named.
#[must_use]
pub fn named(kind: FileKind, bytes: &[u8]) -> FileKey {
    FileKey::new(kind, Sha256::digest(bytes).into())
}

/// The keys of a listing in their order.
fn keys(storage: &dyn Storage, kind: FileKind) -> Vec<FileKey> {
    let listing = storage.list(kind).expect("listed");
    let mut keys: Vec<_> = listing.iter().map(|file| file.key).collect();
    keys.sort_unstable();
    keys
}
