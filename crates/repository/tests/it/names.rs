//! Several names of one file, files whose numbers only meet by chance, and entries whose names do.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use refloat_localfs::FolderWriter;
use refloat_localfs::write::DirectoryState;
use refloat_model::cancel::Cancel;
use refloat_model::entry::{Entry, EntryKind, Metadata, TreeSink as _, Xattr};
use refloat_model::progress::Counters;
use refloat_repository::restore::{RestoreOptions, restore, survey};
use refloat_repository::{BlobReader as _, ChunkerChoice, IndexedRepository, Node};
use refloat_storage::SharedStorage;
use refloat_storage::memory::MemoryStorage;

use crate::support::*;

/// A directory, and what its entries have of their own.
type Stored<'n> = (&'n str, fn(&mut Metadata));

/// Files of 1,000 equal bytes and pipes, each said to be inode 7 of device 5 with two names, in
/// directories of their own.
fn stored(names: &[Stored]) -> (IndexedRepository, Vec<Node>) {
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    drop(init(&storage, ChunkerChoice::Gear));
    let _backup = backup_with(&storage, |builder| {
        for (directory, change) in names {
            builder
                .enter(Entry::synthetic_directory(*directory))
                .unwrap();
            let mut file = real_file("f", 100, 1000);
            let metadata = &mut file.metadata;
            (metadata.device_id, metadata.inode, metadata.links) = (5, 7, 2);
            metadata.mode = 0o600;
            change(metadata);
            let pipe = Entry {
                name: b"pipe".to_vec(),
                kind: EntryKind::Fifo,
                metadata: file.metadata.clone(),
            };
            let open = || Ok::<_, std::io::Error>(std::io::Cursor::new(vec![b'x'; 1000]));
            builder.file(file, Box::new(open)).unwrap();
            builder.node(pipe).unwrap();
            builder.leave().unwrap();
        }
    });
    let repository = open(&storage);
    let tree = newest_tree(&repository);
    let repository = repository.into_indexed().unwrap();
    let nodes = repository.read_tree(tree).unwrap();
    (repository, nodes)
}

fn restored(names: &[Stored]) -> (tempfile::TempDir, usize, u64) {
    let (repository, nodes) = stored(names);
    let counted = survey(&repository, &nodes, &Cancel::default()).unwrap();
    let target = tempfile::tempdir().unwrap();
    let report = restore(
        &repository,
        nodes,
        None,
        &FolderWriter::open(target.path()).unwrap(),
        RestoreOptions::default(),
        Arc::new(Counters::default()),
        Cancel::default(),
    )
    .unwrap();
    assert_eq!(report.failures, []);
    let inodes = |name: &str| {
        let inode = |(directory, _): &(&str, _)| {
            let path = target.path().join(directory).join(name);
            fs::symlink_metadata(path).unwrap().ino()
        };
        names.iter().map(inode).collect::<BTreeSet<_>>().len()
    };
    let files = inodes("f");
    assert_eq!(inodes("pipe"), files);
    // Bytes are counted as they are written.
    assert_eq!(counted.total().files, names.len() as u64);
    assert_eq!(counted.total().bytes, report.bytes_written);
    (target, files, report.bytes_written)
}

#[test]
fn names_of_one_file_are_linked_and_counted_once() {
    // A name more came while the run looked at one after the other.
    let names: [Stored; 3] = [
        ("a", |_| {}),
        ("b", |_| {}),
        ("c", |metadata| metadata.links = 3),
    ];
    let (_target, files, bytes) = restored(&names);
    assert_eq!((files, bytes), (1, 1000));
}

#[test]
fn files_whose_numbers_meet_by_chance_keep_what_each_is() {
    let (target, files, bytes) = restored(&[
        ("a", |_| {}),
        ("mode", |metadata| metadata.mode = 0o644),
        ("time", |metadata| metadata.modified.seconds = 200),
        ("attributes", |metadata| {
            metadata.xattrs = vec![Xattr {
                name: b"user.own".to_vec(),
                value: b"1".to_vec(),
            }];
        }),
    ]);
    assert_eq!((files, bytes), (4, 4000));
    let metadata = |directory: &str| fs::metadata(target.path().join(directory).join("f")).unwrap();
    assert_eq!(metadata("a").mode() & 0o7777, 0o600);
    assert_eq!(metadata("mode").mode() & 0o7777, 0o644);
    assert_eq!(
        (metadata("a").mtime(), metadata("time").mtime()),
        (100, 200)
    );
}

/// An entry of a kind, without content.
fn entry(kind: EntryKind) -> Node {
    let mut entry = real_file("same", 100, 0);
    if kind == EntryKind::Directory {
        entry.metadata.mode = 0o700;
    }
    entry.kind = kind;
    Node {
        entry,
        content: Arc::default(),
        subtree: None,
        foreign: None,
    }
}

/// As on a file system that takes two names for the same, which this one may not be.
#[test]
fn of_two_entries_with_the_same_name_one_is_restored_and_the_other_named() {
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    drop(init(&storage, ChunkerChoice::Gear));
    let repository = open(&storage).into_indexed().unwrap();
    let link = EntryKind::Symlink {
        target: b"elsewhere".to_vec(),
    };
    let file = EntryKind::File { size: 0 };
    let kinds = [file, EntryKind::Directory, EntryKind::Fifo, link];
    for (first, second) in kinds.iter().flat_map(|a| kinds.iter().map(move |b| (a, b))) {
        let target = tempfile::tempdir().unwrap();
        let options = RestoreOptions {
            folder: DirectoryState::Created,
            ..RestoreOptions::default()
        };
        let report = restore(
            &repository,
            vec![entry(first.clone()), entry(second.clone())],
            None,
            &FolderWriter::open(target.path()).unwrap(),
            options,
            Arc::new(Counters::default()),
            Cancel::default(),
        )
        .unwrap();
        let what = format!("{first:?}, {second:?}");
        let counts = (report.entries, report.failure_count);
        assert_eq!(counts, (1, 1), "{what}");
        let failure = &report.failures[0];
        assert_eq!(failure.path, b"same", "{what}");
        let reason = &failure.reason;
        assert!(reason.starts_with("same is taken: "), "{what}: {reason}");
        let there = fs::read_dir(target.path()).unwrap().count();
        assert_eq!(there, 1, "{what}");
    }
}
