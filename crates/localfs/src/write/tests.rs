//! What cannot be seen from outside: the way of file systems without nameless files.

use std::fs;
use std::sync::atomic::Ordering;

use refloat_model::entry::{EntryKind, Metadata};

use super::*;

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| name(entry).into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn metadata() -> Metadata {
    Metadata {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        ..Metadata::synthetic(&EntryKind::Fifo)
    }
}

#[test]
fn file_with_a_temporary_name_replaces_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let writer = FolderWriter::open(folder.path()).unwrap();
    writer.nameless.store(false, Ordering::Relaxed);
    let path = RelativePath::parse(b"f").unwrap();
    fs::write(folder.path().join("f"), b"old").unwrap();

    let abandoned = writer.prepare_file(&path, 3, Landing::Atomic).unwrap();
    abandoned.write_at(0, b"bad").unwrap();
    let temporary = format!(".refloat-{}-0", std::process::id());
    assert_eq!(names(folder.path()), [temporary.as_str(), "f"]);
    drop(abandoned);
    assert_eq!(names(folder.path()), ["f"]);
    assert_eq!(fs::read(folder.path().join("f")).unwrap(), b"old");

    let file = writer.prepare_file(&path, 3, Landing::Atomic).unwrap();
    file.write_at(0, b"new").unwrap();
    writer.finish_file(file, &metadata()).unwrap();
    assert_eq!(names(folder.path()), ["f"]);
    assert_eq!(fs::read(folder.path().join("f")).unwrap(), b"new");
}

#[test]
fn temporary_name_that_somebody_took_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let canary = outside.path().join("canary");
    fs::write(&canary, b"alive").unwrap();
    let writer = FolderWriter::open(folder.path()).unwrap();
    writer.nameless.store(false, Ordering::Relaxed);
    let path = RelativePath::parse(b"f").unwrap();
    let file = writer.prepare_file(&path, 3, Landing::Atomic).unwrap();
    let temporary = folder.path().join(names(folder.path()).remove(0));
    fs::remove_file(&temporary).unwrap();
    std::os::unix::fs::symlink(&canary, &temporary).unwrap();
    let error = writer.finish_file(file, &metadata()).unwrap_err();
    assert!(matches!(error, WriteError::Replaced(_)), "{error}");
    assert_eq!(fs::read(&canary).unwrap(), b"alive");
    // What is not ours stays.
    assert!(temporary.is_symlink());
    assert!(!folder.path().join("f").exists());
}

#[test]
fn names_left_by_an_earlier_process_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let left = format!(".refloat-{}-0", std::process::id());
    fs::write(folder.path().join(&left), b"left").unwrap();
    fs::write(folder.path().join("p"), b"in the way").unwrap();
    let writer = FolderWriter::open(folder.path()).unwrap();
    let path = RelativePath::parse(b"p").unwrap();
    writer
        .create_node(&path, &EntryKind::Fifo, &metadata())
        .unwrap();
    assert_eq!(names(folder.path()), [left.as_str(), "p"]);
    let made = writer.existing(&path).unwrap().unwrap();
    assert_eq!((made.kind, made.metadata.mode), (EntryKind::Fifo, 0o600));
}

#[test]
fn no_more_directories_stay_open_than_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let writer = FolderWriter::open(folder.path()).unwrap();
    for number in 0..300 {
        let path = RelativePath::parse(format!("d{number}/e").as_bytes()).unwrap();
        assert_eq!(
            writer.create_directory(&path).unwrap(),
            DirectoryState::Created
        );
        assert!(lock(&writer.open).len() <= DIRECTORIES_OPEN_MAX);
    }
    assert_eq!(names(folder.path()).len(), 300);
}
