//! Several names of one file, and files whose numbers only meet by chance.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use refloat_localfs::FolderWriter;
use refloat_model::cancel::Cancel;
use refloat_model::entry::{Entry, EntryKind, Metadata, TreeSink as _, Xattr};
use refloat_model::progress::Counters;
use refloat_repository::restore::{RestoreOptions, restore, survey};
use refloat_repository::{BlobReader as _, ChunkerChoice, IndexedRepository, Node};
use refloat_storage::SharedStorage;
use refloat_storage::memory::MemoryStorage;

use crate::support::*;

/// Files of 1,000 equal bytes and pipes, each said to be inode 7 of device 5 with two names, in
/// directories of their own.
fn stored(names: &[(&str, fn(&mut Metadata))]) -> (IndexedRepository, Vec<Node>) {
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

fn restored(names: &[(&str, fn(&mut Metadata))]) -> (tempfile::TempDir, usize, u64) {
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
    let (_target, files, bytes) = restored(&[("a", |_| {}), ("b", |_| {})]);
    assert_eq!((files, bytes), (1, 1000));
}

#[test]
fn files_whose_numbers_meet_by_chance_keep_what_each_is() {
    let (target, files, bytes) = restored(&[
        ("a", |_| {}),
        ("mode", |metadata| metadata.mode = 0o644),
        ("time", |metadata| metadata.modified.seconds = 200),
        ("links", |metadata| metadata.links = 3),
        ("attributes", |metadata| {
            metadata.xattrs = vec![Xattr {
                name: b"user.own".to_vec(),
                value: b"1".to_vec(),
            }];
        }),
    ]);
    assert_eq!((files, bytes), (5, 5000));
    let metadata = |directory: &str| fs::metadata(target.path().join(directory).join("f")).unwrap();
    assert_eq!(metadata("a").mode() & 0o7777, 0o600);
    assert_eq!(metadata("mode").mode() & 0o7777, 0o644);
    assert_eq!(
        (metadata("a").mtime(), metadata("time").mtime()),
        (100, 200)
    );
}
