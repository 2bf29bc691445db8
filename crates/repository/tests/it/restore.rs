//! Restoring: what comes back is what was there, or it is named.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use refloat_localfs::{FolderWriter, WalkOptions, walk_contents};
use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_repository::restore::{RestoreOptions, RestoreReport, restore, survey};
use refloat_repository::{BlobReader as _, ChunkerChoice, Repository};
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKind, SharedStorage};
use refloat_testkit::manifest::Manifest;
use refloat_testkit::tree::{TreeSpec, build};

use crate::support::*;

fn memory() -> SharedStorage {
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    drop(init(&storage, ChunkerChoice::Gear));
    storage
}

fn backup_folder(storage: &SharedStorage, folder: &Path) -> Backup {
    backup_with(storage, |sink| {
        let walked = walk_contents(folder, &WalkOptions::default(), sink, &Cancel::default());
        drop(walked.unwrap());
    })
}

pub fn restore_newest(repository: Repository, target: &Path) -> RestoreReport {
    let tree = newest_tree(&repository);
    let repository = repository.into_indexed().unwrap();
    let nodes = repository.read_tree(tree).unwrap();
    restore(
        &repository,
        nodes,
        None,
        &FolderWriter::open(target).unwrap(),
        RestoreOptions::default(),
        Arc::new(Counters::default()),
        Cancel::default(),
    )
    .unwrap()
}

fn write(folder: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for (path, content) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

/// Names and contents, without the top directory's own metadata.
fn read(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path
                    .strip_prefix(folder)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                drop(files.insert(name, std::fs::read(path).unwrap()));
            }
        }
    }
    files
}

#[test]
fn a_nasty_tree_comes_back_in_every_detail() {
    let (home, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = home.path().join("source");
    let _tree = build(&source, &TreeSpec::small(42));
    let storage = memory();
    let backup = backup_folder(&storage, &source);
    assert_eq!(backup.tree.failures, []);
    let (inside, out) = (target.path().join("out"), Manifest::of(&source));
    std::fs::create_dir(&inside).unwrap();
    let repository = open(&storage);
    let tree = newest_tree(&repository);
    let repository = repository.into_indexed().unwrap();
    let metadata = walked_metadata(&source);
    let report = restore(
        &repository,
        repository.read_tree(tree).unwrap(),
        Some(metadata),
        &FolderWriter::open(&inside).unwrap(),
        RestoreOptions::default(),
        Arc::new(Counters::default()),
        Cancel::default(),
    )
    .unwrap();
    assert_eq!((report.failures, report.findings), (Vec::new(), Vec::new()));
    out.assert_same(&Manifest::of(&inside), &[]);
}

fn walked_metadata(folder: &Path) -> refloat_model::entry::Metadata {
    let (parent, name) = (folder.parent().unwrap(), folder.file_name().unwrap());
    let path = refloat_localfs::RelativePath::parse(name.as_encoded_bytes()).unwrap();
    FolderWriter::open(parent)
        .unwrap()
        .existing(&path)
        .unwrap()
        .unwrap()
        .metadata
}

#[test]
fn a_repeated_restore_writes_only_what_differs() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = BTreeMap::from([
        ("a/large".to_owned(), noise(80 << 20, 1)),
        ("a/small".to_owned(), b"small".to_vec()),
        ("b/medium".to_owned(), noise(5 << 20, 2)),
        ("empty".to_owned(), Vec::new()),
    ]);
    write(source.path(), &files);
    let storage = memory();
    let _backup = backup_folder(&storage, source.path());
    let total: u64 = files.values().map(|content| content.len() as u64).sum();
    let first = restore_newest(open(&storage), target.path());
    assert_eq!(
        (
            first.bytes_written,
            first.bytes_verified,
            first.failure_count
        ),
        (total, total, 0)
    );
    let again = restore_newest(open(&storage), target.path());
    assert_eq!(
        (again.bytes_written, again.bytes_kept, again.failure_count),
        (0, total, 0)
    );
    assert_eq!((first.entries, again.entries), (6, 6));

    let large = target.path().join("a/large");
    let mut damaged = std::fs::read(&large).unwrap();
    damaged[40 << 20] ^= 1;
    std::fs::write(&large, damaged).unwrap();
    std::fs::write(target.path().join("a/small"), b"other").unwrap();
    std::fs::remove_file(target.path().join("b/medium")).unwrap();
    std::fs::create_dir(target.path().join("b/medium")).unwrap();
    std::fs::write(target.path().join("stranger"), b"stays").unwrap();
    let third = restore_newest(open(&storage), target.path());
    assert_eq!(third.failure_count, 0, "{:?}", third.failures);
    assert!(
        third.bytes_written < 15 << 20,
        "one chunk of the large file is written, not all"
    );
    let mut expected = files;
    expected.insert("stranger".to_owned(), b"stays".to_vec());
    assert!(read(target.path()) == expected);
}

#[test]
fn what_a_damaged_pack_loses_is_named_exactly_and_the_rest_comes_back() {
    let (source, files) = (tempfile::tempdir().unwrap(), {
        let mut files = BTreeMap::new();
        for number in 0..60_u64 {
            files.insert(format!("d{}/f{number}", number % 3), noise(200_000, number));
        }
        files
    });
    write(source.path(), &files);
    let storage = memory();
    let _backup = backup_folder(&storage, source.path());
    let repository = open(&storage).into_indexed().unwrap();
    let mut lost = 0;
    let packs = storage.list(FileKind::Pack).unwrap();
    for (number, pack) in packs
        .iter()
        .enumerate()
        .filter(|(_, pack)| pack.size > 500_000)
    {
        let mut bytes = storage.read(&pack.key).unwrap();
        match number % 3 {
            0 => bytes.truncate(bytes.len() / 2),
            _ => bytes[1000] ^= 1,
        }
        storage.delete(&pack.key).unwrap();
        storage.write(&pack.key, &bytes).unwrap();
        lost += 1;
    }
    assert!(lost > 3);
    // The oracle: a file is lost if one of its blobs can no longer be read.
    let tree = newest_tree(&repository);
    let mut expected = files.clone();
    let mut named = Vec::new();
    for directory in repository.read_tree(tree).unwrap() {
        for node in repository.read_tree(directory.subtree.unwrap()).unwrap() {
            let kind = refloat_repository::BlobKind::Data;
            if node
                .content
                .iter()
                .any(|blob| repository.read_blob(kind, *blob).is_err())
            {
                let names = [directory.name(), node.name()].map(String::from_utf8_lossy);
                named.push(names.join("/"));
                drop(expected.remove(&names.join("/")));
            }
        }
    }
    assert!(!named.is_empty() && !expected.is_empty());
    let target = tempfile::tempdir().unwrap();
    let report = restore_newest(open(&storage), target.path());
    let mut failed: Vec<String> = report
        .failures
        .iter()
        .map(|f| String::from_utf8(f.path.clone()).unwrap())
        .collect();
    failed.sort();
    named.sort();
    assert_eq!(failed, named);
    assert!(read(target.path()) == expected);
}

#[test]
fn more_files_than_may_be_open_come_back() {
    // Every file has its first blob in common with all others, so all would be open at once.
    let common = noise(600_000, 9);
    let files: BTreeMap<String, Vec<u8>> = (0..700_u32)
        .map(|number| {
            let tail = noise(1_300_000, 1).into_iter().chain(number.to_le_bytes());
            (
                format!("f{number}"),
                common.iter().copied().chain(tail).collect(),
            )
        })
        .collect();
    let source = tempfile::tempdir().unwrap();
    write(source.path(), &files);
    let storage = memory();
    let _backup = backup_folder(&storage, source.path());
    let target = tempfile::tempdir().unwrap();
    let report = restore_newest(open(&storage), target.path());
    assert_eq!((report.failure_count, report.entries), (0, 700));
    assert!(read(target.path()) == files);
}

#[test]
fn a_tree_is_counted_without_reading_a_tree_twice() {
    let storage = memory();
    let repository = open(&storage).into_indexed().unwrap();
    let archiver = archiver(&repository);
    let file = archiver.tree(Vec::new());
    let mut nodes = file.finish().unwrap().nodes;
    assert_eq!(nodes, []);
    let lock = shared_lock(&repository);
    // Forty trees, each holding the one below twice: 2^40 paths.
    for _ in 0..40 {
        let tree = archiver.store_directory(nodes.clone()).unwrap();
        nodes = ["a", "b"].map(|name| directory(name, tree)).to_vec();
    }
    let root = archiver.store_directory(nodes).unwrap();
    let archived = archiver.finish().unwrap();
    let _id = archived.publish(&lock, &snapshot(root)).unwrap();
    let repository = open(&storage).into_indexed().unwrap();
    let nodes = repository.read_tree(root).unwrap();
    let counted = survey(&repository, &nodes, &Cancel::default()).unwrap();
    assert_eq!(counted.total().directories, (1 << 41) - 2);
    // Of what is below as well: itself and all that it holds.
    assert_eq!(
        counted.of(&nodes[1], &mut HashSet::new()).directories,
        (1 << 40) - 1
    );
    let below = repository.read_tree(nodes[0].subtree.unwrap()).unwrap();
    assert_eq!(
        counted.of(&below[0], &mut HashSet::new()).directories,
        (1 << 39) - 1
    );
}

fn directory(name: &str, tree: refloat_repository::BlobId) -> refloat_repository::Node {
    refloat_repository::Node {
        entry: refloat_model::entry::Entry::synthetic_directory(name),
        content: Arc::default(),
        subtree: Some(tree),
        foreign: None,
    }
}

#[test]
fn a_cancelled_restore_says_so() {
    let storage = memory();
    let _backup = backup(
        &storage,
        &Files::from([("a".to_owned(), (1, b"x".to_vec()))]),
    );
    let target = tempfile::tempdir().unwrap();
    let repository = open(&storage);
    let tree = newest_tree(&repository);
    let repository = repository.into_indexed().unwrap();
    let cancel = Cancel::default();
    cancel.cancel();
    let result = restore(
        &repository,
        repository.read_tree(tree).unwrap(),
        None,
        &FolderWriter::open(target.path()).unwrap(),
        RestoreOptions::default(),
        Arc::new(Counters::default()),
        cancel,
    );
    assert!(matches!(
        result,
        Err(refloat_repository::RepositoryError::Cancelled(_))
    ));
}
