//! Memory of backing up, backing up unchanged, and restoring many small files.
//!
//! One test in a process of its own: what is measured is the peak of the whole process. With
//! `REFLOAT_MEMORY_FILES=1000000` it is the large tier (limit 512 MiB, some minutes, 10 GB of disk).
//!
//! Invariant: memory follows queues and the index, not the number of files.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::io;
use std::sync::Arc;

use refloat_localfs::FolderWriter;
use refloat_model::cancel::Cancel;
use refloat_model::entry::{Entry, EntryKind, Metadata, TreeSink};
use refloat_model::progress::Counters;
use refloat_model::secret::Secret;
use refloat_model::time::Timestamp;
use refloat_repository::archive::{ArchiveOptions, Archiver, ParentTree, TreeStatistics};
use refloat_repository::restore::{RestoreOptions, restore};
use refloat_repository::{BlobReader as _, InitOptions, Node, Repository};
use refloat_storage::SharedStorage;
use refloat_storage::local::LocalStorage;

const FILES_USUAL: u64 = 100_000;
const FILES_PER_DIRECTORY: u64 = 250;

/// What the process may have had at most, in MiB, for so many files.
const fn limit_mib(files: u64) -> u64 {
    if files <= FILES_USUAL { 160 } else { 512 }
}

/// The peak of the process so far, in MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib >> 10
}

fn content(number: u64) -> Vec<u8> {
    let length = usize::try_from(100 + number.wrapping_mul(2_654_435_761) % 8092).unwrap();
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Half of the files compress.
        if number.is_multiple_of(2) {
            (state >> 32) as u8
        } else {
            (state >> 61) as u8
        }
    };
    (0..length).map(|_| byte()).collect()
}

fn entry(name: String, kind: EntryKind, inode: u64) -> Entry {
    let changed = Timestamp {
        seconds: 1_700_000_000,
        nanoseconds: 5,
    };
    let metadata = Metadata {
        changed,
        modified: changed,
        inode,
        links: 1,
        uid: own_uid(),
        ..Metadata::synthetic(&kind)
    };
    Entry {
        name: name.into_bytes(),
        kind,
        metadata,
    }
}

/// Files that are restored must be ours.
fn own_uid() -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").unwrap().uid()
}

fn push(sink: &mut dyn TreeSink, files: u64) {
    for directory in 0..files.div_ceil(FILES_PER_DIRECTORY) {
        let name = format!("directory{directory:06}");
        sink.enter(entry(name, EntryKind::Directory, 10_000_000 + directory))
            .unwrap();
        let first = directory * FILES_PER_DIRECTORY;
        for number in first..files.min(first + FILES_PER_DIRECTORY) {
            let size = 100 + number.wrapping_mul(2_654_435_761) % 8092;
            let file = entry(
                format!("file{number}"),
                EntryKind::File { size },
                1 + number,
            );
            let open = move || Ok::<_, io::Error>(io::Cursor::new(content(number)));
            sink.file(file, Box::new(open)).unwrap();
        }
        sink.leave().unwrap();
    }
}

fn backup(storage: &SharedStorage, parent: Vec<Node>, files: u64) -> (Vec<Node>, TreeStatistics) {
    let repository = Repository::open(Arc::clone(storage), &Secret::new("x")).unwrap();
    let options = ArchiveOptions {
        workers: 2,
        ..ArchiveOptions::default()
    };
    let (counters, cancel) = (Arc::new(Counters::default()), Cancel::default());
    let indexed = repository.into_indexed().unwrap();
    let archiver = Archiver::start(indexed, options, counters, cancel).unwrap();
    let begun = Timestamp {
        seconds: i64::MAX,
        nanoseconds: 0,
    };
    let parent = ParentTree {
        nodes: parent,
        begun,
    };
    let mut builder = archiver.tree(vec![parent]);
    push(&mut builder, files);
    let tree = builder.finish().unwrap();
    let _root = archiver.store_directory(tree.nodes.clone()).unwrap();
    let _archived = archiver.finish().unwrap();
    (tree.nodes, tree.statistics)
}

#[test]
fn many_small_files_stay_within_the_limit() {
    let files =
        std::env::var("REFLOAT_MEMORY_FILES").map_or(FILES_USUAL, |text| text.parse().unwrap());
    let limit = limit_mib(files);
    let folder = tempfile::tempdir().unwrap();
    let local = LocalStorage::new(folder.path().join("repository"));
    let storage: SharedStorage = Arc::new(local);
    let _made = Repository::init(
        Arc::clone(&storage),
        &Secret::new("x"),
        InitOptions::default(),
    )
    .unwrap();

    let (nodes, statistics) = backup(&storage, Vec::new(), files);
    let first = peak_mib();
    assert_eq!(statistics.files_new, files);
    let (again, statistics) = backup(&storage, nodes.clone(), files);
    let unchanged = peak_mib();
    assert_eq!(statistics.files_unmodified, files);
    assert_eq!(again, nodes);

    let target = folder.path().join("target");
    std::fs::create_dir(&target).unwrap();
    let repository = Repository::open(storage, &Secret::new("x")).unwrap();
    let repository = repository.into_indexed().unwrap();
    let tree = nodes.first().and_then(|node| node.subtree).unwrap();
    assert!(!repository.read_tree(tree).unwrap().is_empty());
    let options = RestoreOptions {
        workers: 2,
        ..RestoreOptions::default()
    };
    let writer = FolderWriter::open(&target).unwrap();
    let (counters, cancel) = (Arc::new(Counters::default()), Cancel::default());
    let report = restore(&repository, nodes, None, &writer, options, counters, cancel).unwrap();
    assert_eq!(report.failure_count, 0);
    let some = files / 2 + 1;
    let name = format!("directory{:06}/file{some}", some / FILES_PER_DIRECTORY);
    assert!(std::fs::read(target.join(name)).unwrap() == content(some));
    let restored = peak_mib();

    println!(
        "{files} files, peak so far in MiB: first {first}, unchanged {unchanged}, restore {restored}"
    );
    assert!(restored <= limit, "{restored} MiB are more than {limit}");
}
