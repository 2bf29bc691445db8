//! What the conformance suite cannot see from outside: modes, names, links, leftovers.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use super::*;

const PACK: FileKey = FileKey::new(FileKind::Pack, [0xab; 32]);
const SNAPSHOT: FileKey = FileKey::new(FileKind::Snapshot, [0x0c; 32]);

fn created() -> (tempfile::TempDir, LocalStorage) {
    let folder = tempfile::tempdir().unwrap();
    let storage = LocalStorage::new(folder.path().join("deep/er/repository"));
    storage.create().unwrap();
    (folder, storage)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn file_names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<_> = entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn kind<T: std::fmt::Debug>(result: Result<T, StorageError>) -> StorageErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn the_layout_and_its_modes_are_restics() {
    let (_folder, storage) = created();
    storage.write(&FileKey::CONFIG, b"config").unwrap();
    storage.write(&PACK, b"pack").unwrap();
    storage.create().unwrap();
    let root = storage.root();
    let names = ["config", "data", "index", "keys", "locks", "snapshots"];
    assert_eq!(file_names(root), names);
    assert_eq!(file_names(&root.join("data")).len(), 256);
    assert_eq!(mode(root), 0o700);
    assert_eq!(mode(&root.join("data/ab")), 0o700);
    assert_eq!(mode(&root.join("config")), 0o600);
    let pack = root.join(PACK.path());
    assert_eq!(
        (mode(&pack), fs::read(pack).unwrap()),
        (0o600, b"pack".into())
    );
}

#[test]
fn nothing_but_the_final_name_is_left() {
    let (_folder, storage) = created();
    storage.write(&FileKey::CONFIG, b"first").unwrap();
    assert_eq!(
        kind(storage.write(&FileKey::CONFIG, b"second")),
        StorageErrorKind::AlreadyExists
    );
    assert_eq!(storage.read(&FileKey::CONFIG).unwrap(), b"first");
    storage.write(&SNAPSHOT, b"snapshot").unwrap();
    storage.write(&SNAPSHOT, b"snapshot").unwrap();
    assert_eq!(file_names(storage.root()).len(), 6);
    assert_eq!(
        file_names(&storage.root().join("snapshots")),
        [SNAPSHOT.name()]
    );
}

#[test]
fn a_second_write_heals_a_damaged_file_and_leaves_a_good_one_alone() {
    let (_folder, storage) = created();
    let path = storage.root().join(PACK.path());
    storage.write(&PACK, b"good bytes").unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    fs::File::open(&path)
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    storage.write(&PACK, b"good bytes").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), long_ago);
    fs::write(&path, b"good b?tes").unwrap();
    storage.write(&PACK, b"good bytes").unwrap();
    assert_eq!(storage.read(&PACK).unwrap(), b"good bytes");
}

#[test]
fn listings_pass_over_everything_that_is_no_file_of_the_kind() {
    let (_folder, storage) = created();
    storage.write(&PACK, b"pack").unwrap();
    let data = storage.root().join("data");
    let misplaced = "cd".repeat(32);
    fs::write(data.join("ab").join(&misplaced), b"in a wrong folder").unwrap();
    fs::write(data.join("ab").join("AB".repeat(32)), b"upper case").unwrap();
    fs::write(data.join("ab/.refloat-tmp-0123456789abcdef"), b"").unwrap();
    symlink("x", data.join("ab/notes")).unwrap();
    fs::create_dir_all(data.join("lost+found/ab")).unwrap();
    let listed = storage.list(FileKind::Pack).unwrap();
    assert_eq!((listed.len(), listed[0].key, listed[0].size), (1, PACK, 4));
    let modified = fs::metadata(data.join("ab").join(PACK.name())).unwrap();
    let modified = modified.modified().unwrap();
    let since_epoch = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let shown = listed[0].modified.unwrap();
    assert_eq!(
        (shown.seconds, shown.nanoseconds),
        (
            since_epoch.as_secs().cast_signed(),
            since_epoch.subsec_nanos()
        )
    );
}

/// What a listing leaves out counts as deleted, and a prune goes by that.
#[test]
fn what_stands_in_a_files_place_and_is_none_is_named() {
    let (_folder, storage) = created();
    let root = storage.root();
    let check = |listed, path: &str, place: &dyn Fn(&Path), found: &str| {
        let at = root.join(path);
        let _missing = fs::remove_dir(&at);
        place(&at);
        let error = storage.list(listed).unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::Failed);
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(cause, format!("{path} is {found}; links are not followed"));
        fs::rename(&at, root.join("aside")).unwrap();
        storage.list(listed).unwrap();
        fs::rename(root.join("aside"), root.join(format!("aside-{found}"))).unwrap();
    };
    let file = root.join("real");
    fs::write(&file, b"snapshot").unwrap();
    let (pack, snapshot) = (PACK.path(), SNAPSHOT.path());
    let a_link = "a symbolic link in the place of a file";
    check(
        FileKind::Pack,
        &pack,
        &|at| symlink("x", at).unwrap(),
        a_link,
    );
    check(
        FileKind::Snapshot,
        &snapshot,
        &|at| symlink(&file, at).unwrap(),
        a_link,
    );
    let folder = |at: &Path| fs::create_dir(at).unwrap();
    check(
        FileKind::Snapshot,
        &snapshot,
        &folder,
        "a folder in the place of a file",
    );
    let shard = "in the place of a folder of packs";
    let linked = |at: &Path| symlink(root.join("data/01"), at).unwrap();
    check(
        FileKind::Pack,
        "data/00",
        &linked,
        &format!("a symbolic link {shard}"),
    );
    let file = |at: &Path| fs::write(at, b"x").unwrap();
    check(FileKind::Pack, "data/00", &file, &format!("a file {shard}"));
}

#[test]
fn an_empty_mount_point_is_no_empty_repository() {
    let folder = tempfile::tempdir().unwrap();
    let storage = LocalStorage::new(folder.path());
    for kind_listed in FileKind::FOLDERS {
        assert_eq!(kind(storage.list(kind_listed)), StorageErrorKind::NotFound);
    }
    assert_eq!(kind(storage.write(&PACK, b"")), StorageErrorKind::NotFound);
    assert_eq!(file_names(folder.path()), [""; 0]);
    let missing = LocalStorage::new(folder.path().join("missing"));
    assert_eq!(
        kind(missing.list(FileKind::Lock)),
        StorageErrorKind::NotFound
    );
    assert_eq!(kind(missing.write(&PACK, b"")), StorageErrorKind::NotFound);
}

#[test]
fn folders_lost_by_a_copying_tool_come_back() {
    let (_folder, storage) = created();
    storage.write(&FileKey::CONFIG, b"config").unwrap();
    fs::remove_dir_all(storage.root().join("data")).unwrap();
    fs::remove_dir(storage.root().join("locks")).unwrap();
    assert_eq!(storage.list(FileKind::Lock).unwrap(), []);
    assert_eq!(storage.list(FileKind::Pack).unwrap(), []);
    assert_eq!(kind(storage.read(&PACK)), StorageErrorKind::NotFound);
    assert_eq!(storage.size(&PACK).unwrap(), None);
    storage.delete(&PACK).unwrap();
    storage.write(&PACK, b"pack").unwrap();
    assert_eq!(storage.read(&PACK).unwrap(), b"pack");
}

#[test]
fn a_folder_that_cannot_be_listed_is_an_error() {
    let (_folder, storage) = created();
    storage.write(&SNAPSHOT, b"snapshot").unwrap();
    let snapshots = storage.root().join("snapshots");
    fs::rename(&snapshots, storage.root().join("elsewhere")).unwrap();
    symlink("elsewhere", &snapshots).unwrap();
    let error = storage.list(FileKind::Snapshot).unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Failed);
    assert_eq!(
        error.to_string(),
        format!("cannot list snapshots at {}", storage.location())
    );
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "Not a directory (os error 20)");
    assert_eq!(kind(storage.read(&SNAPSHOT)), StorageErrorKind::Failed);
    assert_eq!(kind(storage.delete(&SNAPSHOT)), StorageErrorKind::Failed);
    assert_eq!(
        file_names(&storage.root().join("elsewhere")),
        [SNAPSHOT.name()]
    );
}

#[test]
fn links_and_fifos_under_a_files_name_are_never_opened() {
    let (folder, storage) = created();
    let outside = folder.path().join("outside");
    fs::write(&outside, b"somebody else's").unwrap();
    let path = storage.root().join(PACK.path());
    symlink(&outside, &path).unwrap();
    assert_eq!(kind(storage.read(&PACK)), StorageErrorKind::Failed);
    assert_eq!(kind(storage.size(&PACK)), StorageErrorKind::Failed);
    storage.write(&PACK, b"pack").unwrap();
    assert_eq!(storage.read(&PACK).unwrap(), b"pack");
    assert_eq!(fs::read(&outside).unwrap(), b"somebody else's");

    let fifo = storage.root().join(SNAPSHOT.path());
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());
    assert_eq!(kind(storage.read(&SNAPSHOT)), StorageErrorKind::Failed);
    assert_eq!(
        kind(storage.list(FileKind::Snapshot)),
        StorageErrorKind::Failed
    );
}

#[test]
fn leftovers_of_dead_writers_are_removed_by_age() {
    let (_folder, storage) = created();
    storage.write(&PACK, b"pack").unwrap();
    let pack_folder = storage.root().join("data/ab");
    let ours = pack_folder.join(".refloat-tmp-0123456789abcdef");
    let restics = pack_folder.join(format!("{}-tmp-4711", PACK.name()));
    let live = storage.root().join("keys/.refloat-tmp-fedcba9876543210");
    for leftover in [&ours, &restics, &live] {
        fs::write(leftover, b"12345").unwrap();
    }
    let old = SystemTime::now() - Duration::from_hours(2);
    for leftover in [&ours, &restics, &storage.root().join(PACK.path())] {
        fs::File::open(leftover).unwrap().set_modified(old).unwrap();
    }
    let removed = |files, bytes| StaleTemporaries { files, bytes };
    let an_hour = Duration::from_hours(1);
    assert_eq!(storage.remove_stale(an_hour).unwrap(), removed(2, 10));
    assert_eq!(file_names(&pack_folder), [PACK.name()]);
    assert!(live.exists());
    assert_eq!(storage.remove_stale(Duration::ZERO).unwrap(), removed(1, 5));
    assert_eq!(file_names(storage.root()).len(), 5);
}

#[test]
fn what_is_no_file_of_a_repository_is_named_and_left_alone() {
    let (_folder, storage) = created();
    storage.write(&PACK, b"pack").unwrap();
    let root = storage.root();
    assert_eq!(storage.foreign().unwrap(), Vec::<String>::new());
    let elsewhere = format!("data/00/{}", PACK.name());
    fs::create_dir_all(root.join("data/00")).unwrap();
    fs::create_dir(root.join("lost+found")).unwrap();
    fs::create_dir(root.join("data/quarantine")).unwrap();
    let foreign = ["README", "data/ab/x", &elsewhere, "index/.DS_Store"];
    let temporary = "keys/.refloat-tmp-0123456789abcdef";
    for path in foreign.iter().chain([&temporary]) {
        fs::write(root.join(path), b"x").unwrap();
    }
    let mut expected = [&foreign[..], &["data/quarantine"]].concat();
    expected.sort_unstable();
    assert_eq!(storage.foreign().unwrap(), expected);
    assert!(root.join("README").exists());
    for number in 0..1_100 {
        fs::write(root.join(format!("index/file-{number}")), b"").unwrap();
    }
    assert_eq!(storage.foreign().unwrap().len(), 1_000);
}

#[test]
fn error_numbers_become_what_a_caller_can_tell_apart() {
    use StorageErrorKind::{AlreadyExists, Denied, Failed, Full, NotFound, Unavailable};
    let table = [
        (Errno::NOENT, NotFound),
        (Errno::EXIST, AlreadyExists),
        (Errno::ACCESS, Denied),
        (Errno::PERM, Denied),
        (Errno::ROFS, Denied),
        (Errno::NOSPC, Full),
        (Errno::DQUOT, Full),
        (Errno::IO, Unavailable),
        (Errno::STALE, Unavailable),
        (Errno::TIMEDOUT, Unavailable),
        (Errno::NOTDIR, Failed),
        (Errno::FBIG, Failed),
    ];
    for (errno, expected) in table {
        assert_eq!(errno::kind(errno), expected, "{errno:?}");
    }
}

/// /proc stands for what is not known: it is no disk of this machine. The folder for temporary
/// files and the one of the test's program are.
#[test]
fn only_what_is_known_to_be_of_this_machine_need_not_settle() {
    let program = std::env::current_exe().unwrap();
    let disk = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
    let (_folder, storage) = created();
    assert_eq!(storage.settling(), Duration::ZERO);
    let on_disk = LocalStorage::new(disk.path().join("repository"));
    on_disk.create().unwrap();
    assert_eq!(on_disk.settling(), Duration::ZERO);
    // Some copying tools leave empty folders out.
    fs::remove_dir(on_disk.root().join("locks")).unwrap();
    assert_eq!(on_disk.settling(), SETTLING);
    assert_eq!(LocalStorage::new("/not/there").settling(), SETTLING);
    let is_known =
        |folder: &Path| file_system::is_of_this_machine(&fs::File::open(folder).unwrap().into());
    assert!(is_known(disk.path()));
    assert!(!is_known(Path::new("/proc")));
}

#[test]
fn a_sector_that_a_disk_cannot_read_is_final_and_a_server_s_failure_is_not() {
    let (_folder, storage) = created();
    let key = FileKey::new(FileKind::Pack, [1; 32]);
    let failed = |storage: &LocalStorage, errno| storage.failed_to_read(&key, errno).kind();
    assert_eq!(failed(&storage, Errno::IO), StorageErrorKind::Failed);
    assert_eq!(
        failed(&storage, Errno::STALE),
        StorageErrorKind::Unavailable
    );
    let elsewhere = LocalStorage::new("/proc");
    assert_eq!(failed(&elsewhere, Errno::IO), StorageErrorKind::Unavailable);
}
