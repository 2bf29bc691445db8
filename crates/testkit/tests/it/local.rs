//! The local storage under failing system calls and kill -9 (S2 and C2 of the catalogue, for this
//! layer). `strace` makes the k-th call of one sort fail, for every k.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use refloat_storage::local::LocalStorage;
use refloat_storage::temporaries::Temporaries as _;
use refloat_storage::{FileKey, FileKind, Storage};
use refloat_testkit::random::Random;
use refloat_testkit::storage_child::{PACK, PACK_LENGTH, SNAPSHOT, content};

const CHILD: &str = env!("CARGO_BIN_EXE_storage-child");

/// Writes, whether they go through the page cache or past it.
const WRITES: &str = "/^p?write(64)?$";

/// The child's exit codes.
const SUCCESS: i32 = 0;
const DENIED: i32 = 12;
const FULL: i32 = 13;
const UNAVAILABLE: i32 = 15;

fn has_strace() -> bool {
    let mut command = Command::new("strace");
    command.arg("-V").stdout(Stdio::null());
    let works = command.status().is_ok_and(|status| status.success());
    if !works {
        refloat_testkit::skip("strace is not installed: system calls cannot be made to fail");
    }
    works
}

/// Runs the child with failing calls; its exit code, and whether a call was made to fail.
fn run_with(fault: &str, root: &Path, verb: &str) -> (Option<i32>, bool) {
    let output = Command::new("strace")
        .args([
            "-f",
            "-e",
            "trace=write,pwrite64,fsync,renameat,renameat2,unlinkat",
        ])
        .args(["-e", &format!("inject={fault}")])
        .args([CHILD.as_ref(), root.as_os_str(), verb.as_ref()])
        .output()
        .unwrap();
    let trace = String::from_utf8_lossy(&output.stderr);
    (output.status.code(), trace.contains("(INJECTED)"))
}

fn created(folder: &Path) -> LocalStorage {
    let storage = LocalStorage::new(folder);
    storage.create().unwrap();
    storage
}

fn packs(storage: &LocalStorage) -> Vec<FileKey> {
    let listing = storage.list(FileKind::Pack).unwrap();
    listing.iter().map(|file| file.key).collect()
}

#[test]
fn a_write_under_failing_calls_is_absent_or_whole_and_works_afterwards() {
    if !has_strace() {
        return;
    }
    let calls = [WRITES, "fsync", "/^renameat2?$"];
    let errors = [
        ("ENOSPC", FULL),
        ("EDQUOT", FULL),
        ("EIO", UNAVAILABLE),
        ("EROFS", DENIED),
        ("EACCES", DENIED),
        ("EINTR", SUCCESS),
    ];
    let mut injected = 0;
    for call in calls {
        for (errno, code) in errors {
            for number in 1.. {
                let folder = tempfile::tempdir().unwrap();
                let storage = created(folder.path());
                let fault = format!("{call}:error={errno}:when={number}");
                let (ended, was_injected) = run_with(&fault, folder.path(), "pack");
                if !was_injected {
                    assert!(number > 1, "{call} is called");
                    assert_eq!(ended, Some(SUCCESS), "{fault}");
                    break;
                }
                injected += 1;
                assert_eq!(ended, Some(code), "{fault}");
                if let Some(bytes) = stored(&storage) {
                    assert!(bytes == content(PACK_LENGTH), "{fault}: whole");
                    assert_eq!(packs(&storage), [PACK], "{fault}");
                }
                let (again, _) = run_with(
                    &format!("{WRITES}:error=EIO:when=99"),
                    folder.path(),
                    "pack",
                );
                assert_eq!(again, Some(SUCCESS), "{fault}: works afterwards");
                assert_eq!(packs(&storage), [PACK], "{fault}");
                let names = std::fs::read_dir(folder.path().join("data/ab")).unwrap();
                assert_eq!(names.count(), 1, "{fault}: nothing is left");
            }
        }
    }
    // Two fsyncs, one rename, and one write of all or, past the page cache, one of each MiB; six
    // errors each.
    let pieces = PACK_LENGTH.div_ceil(1 << 20);
    let expected = [6 * (3 + 1), 6 * (3 + pieces)];
    assert!(expected.contains(&injected), "{injected}");
}

fn stored(storage: &LocalStorage) -> Option<Vec<u8>> {
    let size = storage.size(&PACK).unwrap();
    size.map(|_| storage.read(&PACK).unwrap())
}

#[test]
fn a_write_without_progress_is_an_error() {
    if !has_strace() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let storage = created(folder.path());
    // The kernel says that it wrote nothing: that must not become a loop.
    let (ended, was_injected) = run_with(&format!("{WRITES}:retval=0"), folder.path(), "pack");
    assert_eq!((ended, was_injected), (Some(UNAVAILABLE), true));
    assert_eq!(packs(&storage), []);
}

#[test]
fn the_config_is_written_where_exclusive_renames_are_unknown() {
    if !has_strace() {
        return;
    }
    for errno in ["EINVAL", "ENOSYS"] {
        let folder = tempfile::tempdir().unwrap();
        let storage = created(folder.path());
        let fault = format!("renameat2:error={errno}");
        let (first, was_injected) = run_with(&fault, folder.path(), "config");
        assert_eq!((first, was_injected), (Some(SUCCESS), true));
        assert_eq!(storage.read(&FileKey::CONFIG).unwrap(), b"config");
        let (second, _) = run_with(&fault, folder.path(), "config");
        assert_eq!(second, Some(11), "already there");
        let names = std::fs::read_dir(folder.path()).unwrap();
        assert_eq!(names.count(), 6, "no temporary file is left");
    }
}

#[test]
fn a_deletion_that_fails_says_so() {
    if !has_strace() {
        return;
    }
    let table = [
        ("unlinkat:error=EPERM", DENIED, true),
        ("unlinkat:error=EROFS", DENIED, true),
        ("unlinkat:error=EIO", UNAVAILABLE, true),
        ("unlinkat:error=ENOENT", SUCCESS, true),
        ("fsync:error=EIO", UNAVAILABLE, false),
    ];
    for (fault, code, is_there) in table {
        let folder = tempfile::tempdir().unwrap();
        let storage = created(folder.path());
        storage.write(&SNAPSHOT, b"snapshot").unwrap();
        let (ended, was_injected) = run_with(fault, folder.path(), "delete");
        assert_eq!((ended, was_injected), (Some(code), true), "{fault}");
        let size = storage.size(&SNAPSHOT).unwrap();
        assert_eq!(size.is_some(), is_there, "{fault}");
    }
}

#[test]
fn a_killed_writer_leaves_whole_files_and_removable_leftovers() {
    const KILLS: usize = 25;
    /// Which of them hit a write is chance.
    const KILLS_MAX: usize = 500;
    let mut random = Random::new(11);
    let mut leftovers = 0;
    for kill in 0..KILLS_MAX {
        if kill >= KILLS && leftovers > 0 {
            break;
        }
        let folder = tempfile::tempdir().unwrap();
        let storage = created(folder.path());
        let mut child = Command::new(CHILD)
            .args([folder.path().as_os_str(), "endless".as_ref()])
            .spawn()
            .unwrap();
        // Not waiting for a condition: the moment of the kill is the case, and any moment is one.
        std::thread::sleep(Duration::from_millis(5 + random.below(80)));
        child.kill().unwrap();
        child.wait().unwrap();
        for pack in storage.list(FileKind::Pack).unwrap() {
            let bytes = storage.read(&pack.key).unwrap();
            assert!(bytes == content(bytes.len()), "{} is whole", pack.key);
        }
        let removed = storage.remove_stale(Duration::ZERO).unwrap();
        leftovers += removed.files;
        let left = storage.remove_stale(Duration::ZERO).unwrap();
        assert_eq!(left.files, 0);
    }
    assert!(
        leftovers > 0,
        "no kill hit a write: the test proves nothing"
    );
}
