//! Writing: what was pushed is there, once, and restic agrees.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use refloat_model::cancel::Cancel;
use refloat_model::entry::{Entry, EntryKind, Metadata, TreeSink};
use refloat_model::progress::Counters;
use refloat_repository::archive::{ArchiveOptions, Archiver, Checkpoint};
use refloat_repository::format::pack::BlobKind;
use refloat_repository::{BlobId, BlobReader as _, ChunkerChoice, RepositoryError};
use refloat_storage::local::LocalStorage;
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKind, SharedStorage, StorageError, StorageErrorKind};
use refloat_testkit::intercept::{Call, Intercepted};

use crate::support::*;

fn memory() -> SharedStorage {
    Arc::new(MemoryStorage::new())
}

/// Sizes around every border: empty, one chunk, the minimum, several chunks, and duplicates.
fn sample() -> Files {
    let mut files = Files::new();
    for (index, size) in [
        0,
        1,
        100,
        524_287,
        524_288,
        524_289,
        1 << 20,
        3_000_000,
        20_000_000,
    ]
    .into_iter()
    .enumerate()
    {
        files.insert(
            format!("d{}/noise-{size}", index % 3),
            (100, noise(size, index as u64)),
        );
        files.insert(
            format!("d{}/deep/er/text-{size}", index % 2),
            (100, vec![b'x'; size]),
        );
    }
    files.insert("copy".to_owned(), (100, noise(3_000_000, 7)));
    files.insert(
        "a\u{e4} \"quoted\"\n<&>".to_owned(),
        (100, b"odd name".to_vec()),
    );
    files
}

#[test]
fn what_was_pushed_is_read_back() {
    for chunker in [ChunkerChoice::Gear, ChunkerChoice::Rabin] {
        let storage = memory();
        drop(init(&storage, chunker));
        let files = sample();
        let backup = backup(&storage, &files);
        assert_eq!(backup.tree.failure_count, 0);
        assert_eq!(backup.tree.statistics.files_new, files.len() as u64);
        let total: usize = files.values().map(|(_, content)| content.len()).sum();
        assert_eq!(backup.tree.statistics.bytes, total as u64);
        let repository = open(&storage).into_indexed().unwrap();
        assert_eq!(
            read_files(&repository, newest_tree(&repository)),
            contents(&files)
        );
        assert_eq!(storage.list(FileKind::Lock).unwrap(), []);
    }
}

#[test]
fn a_second_run_reads_only_what_changed_and_adds_only_that() {
    let storage = memory();
    drop(init(&storage, ChunkerChoice::Gear));
    let mut files = sample();
    let first = backup(&storage, &files);
    let again = backup(&storage, &files);
    assert_eq!(
        (again.reads, again.tree.statistics.files_unmodified),
        (0, files.len() as u64)
    );
    assert_eq!(again.added.packed_bytes, 0);
    assert_eq!(again.tree.nodes, first.tree.nodes);
    files.insert("d0/new".to_owned(), (200, b"new".to_vec()));
    files.insert("copy".to_owned(), (200, noise(3_000_000, 8)));
    let third = backup(&storage, &files);
    let statistics = third.tree.statistics;
    assert_eq!(
        (third.reads, statistics.files_new, statistics.files_changed),
        (2, 1, 1)
    );
    assert_eq!(
        (statistics.directories_changed, statistics.directories_new),
        (1, 0)
    );
    let repository = open(&storage).into_indexed().unwrap();
    assert_eq!(
        read_files(&repository, newest_tree(&repository)),
        contents(&files)
    );
}

#[test]
fn packs_close_before_a_blob_that_has_no_room_and_not_before_they_are_half_full() {
    let storage = memory();
    drop(init(&storage, ChunkerChoice::Gear));
    // Of 1 MiB two fit, and a third does not.
    let blob_bytes = 400_000;
    let files: Files = (0..40)
        .map(|n| (format!("f{n:02}"), (100, noise(blob_bytes, 1000 + n))))
        .collect();
    let backed_up = backup(&storage, &files);
    assert_eq!(backed_up.tree.failure_count, 0);
    let mut sizes: Vec<u64> = storage
        .list(FileKind::Pack)
        .unwrap()
        .iter()
        .map(|pack| pack.size)
        .collect();
    sizes.sort_unstable();
    // Each of 40 blobs is in a pack of two, but for the open ones at the end and that of trees.
    let of_two = |size: &u64| (2 * blob_bytes as u64..1 << 20).contains(size);
    assert!(
        sizes.iter().filter(|size| of_two(size)).count() >= 19,
        "{sizes:?}"
    );
    assert!(sizes.last().is_some_and(of_two), "{sizes:?}");
    let repository = open(&storage).into_indexed().unwrap();
    assert_eq!(
        read_files(&repository, newest_tree(&repository)),
        contents(&files)
    );
}

#[test]
fn restic_reads_what_we_wrote() {
    if !has_restic() {
        return;
    }
    for chunker in [ChunkerChoice::Gear, ChunkerChoice::Rabin] {
        let folder = tempfile::tempdir().unwrap();
        let storage: SharedStorage = Arc::new(LocalStorage::new(folder.path()));
        drop(init(&storage, chunker));
        let mut files = sample();
        let _first = backup(&storage, &files);
        files.insert("d0/new".to_owned(), (200, b"new".to_vec()));
        let _second = backup(&storage, &files);
        let report = restic(folder.path(), &["check", "--read-data"]).unwrap();
        assert!(report.contains("no errors were found"), "{report}");
        let target = tempfile::tempdir().unwrap();
        let out = target.path().to_str().unwrap();
        let _restored = restic(folder.path(), &["restore", "latest", "--target", out]).unwrap();
        for (path, (_, content)) in &files {
            assert!(
                std::fs::read(target.path().join(path)).unwrap() == *content,
                "{path}"
            );
        }
    }
}

#[test]
fn we_continue_what_restic_began() {
    if !has_restic() {
        return;
    }
    for version in ["1", "2"] {
        let (folder, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = sample();
        for (path, (_, content)) in &files {
            let path = source.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        restic(folder.path(), &["init", "--repository-version", version]).unwrap();
        restic(folder.path(), &["backup", source.path().to_str().unwrap()]).unwrap();
        let storage: SharedStorage = Arc::new(LocalStorage::new(folder.path()));
        let repository = open(&storage).into_indexed().unwrap();
        let prefix = format!(
            "{}/",
            source.path().to_str().unwrap().trim_start_matches('/')
        );
        let found: BTreeMap<String, Vec<u8>> = read_files(&repository, newest_tree(&repository))
            .into_iter()
            .map(|(path, content)| (path.strip_prefix(&prefix).unwrap().to_owned(), content))
            .collect();
        assert!(found == contents(&files), "version {version}");
        trees_are_encoded_as_restic_did(&repository);
        // The same content again: only trees are new, because the inodes and times are not the same.
        let ours = backup(&storage, &files);
        assert_eq!(
            ours.added.data_blobs, 0,
            "version {version}: Rabin cuts where restic cut"
        );
        let total: u64 = files
            .values()
            .map(|(_, content)| content.len() as u64)
            .sum();
        assert!(ours.added.packed_bytes * 100 < total);
        let report = restic(folder.path(), &["check", "--read-data"]).unwrap();
        assert!(report.contains("no errors were found"), "{report}");
    }
}

fn trees_are_encoded_as_restic_did(repository: &refloat_repository::IndexedRepository) {
    use refloat_repository::BlobKind;
    use refloat_repository::format::tree;
    let mut count = 0;
    for location in repository.index().iter(BlobKind::Tree) {
        let json = repository
            .read_blob(BlobKind::Tree, location.blob.id)
            .unwrap();
        let again = tree::encode(&tree::decode(&json).unwrap());
        assert_eq!(
            String::from_utf8(again).unwrap(),
            String::from_utf8(json).unwrap()
        );
        count += 1;
    }
    assert!(count > 5, "{count} trees compared");
}

#[test]
fn content_is_taken_over_by_its_digest_in_any_tree_and_only_if_it_came_whole() {
    struct Broken(usize);
    impl io::Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(self.0);
            self.0 -= count;
            if count == 0 {
                return Err(io::Error::other("cut"));
            }
            Ok(count)
        }
    }
    let storage = memory();
    drop(init(&storage, ChunkerChoice::Gear));
    let (small, large) = (noise(1000, 1), noise(5_000_000, 2));
    let backup = backup_with(&storage, |sink| {
        for (key, name, content) in [(1, "small", &small), (2, "large", &large)] {
            let first = Entry::synthetic_file(name, content.len() as u64);
            let second = Entry::synthetic_file(format!("{name}-again"), 0);
            assert!(!sink.reuse_content(&second, &[key; 32]).unwrap());
            assert!(
                sink.stream_by_digest(first, &[key; 32], &mut content.as_slice())
                    .unwrap()
            );
            // Chunks of large files are stored by other threads.
            let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
            while !sink.reuse_content(&second, &[key; 32]).unwrap() {
                assert!(std::time::Instant::now() < end, "{name} is never known");
                std::thread::yield_now();
            }
        }
        let broken = Entry::synthetic_file("broken", 3_000_000);
        sink.stream_by_digest(broken, &[3; 32], &mut Broken(3_000_000))
            .unwrap();
        let other = Entry::synthetic_file("other", 3_000_000);
        assert!(!sink.reuse_content(&other, &[3; 32]).unwrap());
    });
    assert_eq!(backup.tree.failure_count, 1);
    let repository = open(&storage).into_indexed().unwrap();
    let found = read_files(&repository, newest_tree(&repository));
    assert_eq!(found.len(), 4);
    assert!(found["small"] == small && found["small-again"] == small);
    assert!(found["large"] == large && found["large-again"] == large);
}

/// Everything that is told is in the index as another program would load it now.
fn assert_indexed(storage: &SharedStorage, checkpoint: &Checkpoint) {
    let repository = open(storage).into_indexed().unwrap();
    for known in checkpoint.contents().values() {
        for blob in known.content.iter() {
            assert!(repository.index().contains(BlobKind::Data, blob), "{blob}");
        }
    }
}

/// One worker, and packs of a mebibyte.
fn archiver_of_small_packs(storage: &SharedStorage, cancel: &Cancel) -> Archiver {
    Archiver::start(
        open(storage).into_indexed().unwrap(),
        ArchiveOptions {
            pack_bytes_min: 1 << 20,
            workers: 1,
            ..ArchiveOptions::default()
        },
        Arc::new(Counters::default()),
        cancel.clone(),
    )
    .unwrap()
}

#[test]
fn a_checkpoint_tells_what_is_indexed_and_a_cancelled_run_keeps_all_that_came_whole() {
    let storage = memory();
    drop(init(&storage, ChunkerChoice::Gear));
    let cancel = Cancel::default();
    let archiver = archiver_of_small_packs(&storage, &cancel);
    let mut sink = archiver.tree(Vec::new());
    let mut bring = |numbers: std::ops::Range<u8>| {
        for number in numbers {
            let content = noise(300_000, number.into());
            let file = Entry::synthetic_file([number], 300_000);
            let came = sink.stream_by_digest(file, &[number; 32], &mut content.as_slice());
            assert!(came.unwrap());
        }
    };
    bring(1..11);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let told = loop {
        let checkpoint = archiver.checkpoint().unwrap();
        assert_indexed(&storage, &checkpoint);
        if !checkpoint.contents().is_empty() {
            break checkpoint.contents().len();
        }
        assert!(std::time::Instant::now() < end, "nothing is ever stored");
    };
    assert!(told < 10, "what is in open packs is not told: {told}");
    bring(11..21);
    cancel.cancel();
    drop(sink);
    let kept = archiver.keep().unwrap();
    assert_eq!(kept.contents().len(), 20);
    assert_indexed(&storage, &kept);
}

#[test]
fn a_run_cancelled_at_its_end_is_not_published_and_what_it_stored_can_be_kept() {
    let storage = memory();
    drop(init(&storage, ChunkerChoice::Gear));
    let cancel = Cancel::default();
    let mut archiver = archiver_of_small_packs(&storage, &cancel);
    let mut sink = archiver.tree(Vec::new());
    let file = Entry::synthetic_file("file", 4);
    sink.stream(file, &mut &b"data"[..]).unwrap();
    sink.finish().unwrap();
    cancel.cancel();
    let ended = archiver.complete().map(drop);
    assert!(matches!(ended, Err(RepositoryError::Cancelled(_))));
    drop(archiver.keep().unwrap());
    let repository = open(&storage).into_indexed().unwrap();
    let id = BlobId::of(b"data");
    assert!(repository.index().contains(BlobKind::Data, &id));
}

#[test]
fn what_a_cancelled_run_has_stored_is_indexed_though_the_rest_cannot_be_sent() {
    let storage = memory();
    drop(init(&storage, ChunkerChoice::Gear));
    let cancel = Cancel::default();
    let away = cancel.clone();
    let gate = move |call: Call| match call {
        Call::Write(key) if key.kind() == FileKind::Pack && away.is_cancelled() => {
            let kind = StorageErrorKind::Interrupted;
            Err(StorageError::new(kind, "write", &key, "memory", None))
        }
        _ => Ok(()),
    };
    let gated = Intercepted::new(Arc::clone(&storage), Box::new(gate)).with_connections(1);
    let gated: SharedStorage = Arc::new(gated);
    let archiver = archiver_of_small_packs(&gated, &cancel);
    let mut sink = archiver.tree(Vec::new());
    for number in 1..21_u8 {
        let content = noise(300_000, number.into());
        let file = Entry::synthetic_file([number], 300_000);
        sink.stream(file, &mut content.as_slice()).unwrap();
    }
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    // The only uploader has noted the first when it has written the second.
    while storage.list(FileKind::Pack).unwrap().len() < 2 {
        assert!(std::time::Instant::now() < end, "nothing is ever stored");
        std::thread::yield_now();
    }
    cancel.cancel();
    drop(sink);
    let kept = archiver.keep().map(drop);
    let Err(RepositoryError::Storage(error)) = kept else {
        panic!("{kept:?}");
    };
    assert_eq!(error.kind(), StorageErrorKind::Interrupted);
    let repository = open(&storage).into_indexed().unwrap();
    assert!(repository.index().count(BlobKind::Data) > 0);
}

#[test]
fn a_file_that_cannot_be_read_to_its_end_is_named_and_not_stored() {
    let storage = memory();
    drop(init(&storage, ChunkerChoice::Gear));
    let backup = backup_with(&storage, |sink| {
        sink.enter(Entry::synthetic_directory("d")).unwrap();
        for (name, good_bytes) in [("small", 10), ("large", 5_000_000)] {
            let open = move || Ok::<_, io::Error>(Torn(good_bytes));
            sink.file(real_file(name, 1, good_bytes), Box::new(open))
                .unwrap();
        }
        let gone = || Err::<io::Empty, _>(io::ErrorKind::NotFound.into());
        sink.file(real_file("gone", 1, 3), Box::new(gone)).unwrap();
        sink.stream(Entry::synthetic_file("dump", 0), &mut Torn(2_000_000))
            .unwrap();
        sink.stream(Entry::synthetic_file("good", 0), &mut &b"fine"[..])
            .unwrap();
        sink.fail(b"hidden", "permission denied".to_owned());
        sink.leave().unwrap();
    });
    let mut failed: Vec<String> = backup
        .tree
        .failures
        .iter()
        .map(|f| String::from_utf8(f.path.clone()).unwrap())
        .collect();
    failed.sort();
    assert_eq!(
        failed,
        ["d/dump", "d/gone", "d/hidden", "d/large", "d/small"]
    );
    let repository = open(&storage).into_indexed().unwrap();
    let files = read_files(&repository, newest_tree(&repository));
    assert_eq!(
        files,
        BTreeMap::from([("d/good".to_owned(), b"fine".to_vec())])
    );
}

#[test]
fn names_that_are_hostile_or_there_twice_are_named_and_left_out() {
    let storage = memory();
    drop(init(&storage, ChunkerChoice::Gear));
    let backup = backup_with(&storage, |sink| {
        for name in ["..", "a/b", "", "nul\0", "twice", "twice"] {
            let content = || Ok::<_, io::Error>(io::Cursor::new(b"x".to_vec()));
            sink.file(real_file(name, 1, 1), Box::new(content)).unwrap();
        }
        sink.enter(Entry::synthetic_directory("..")).unwrap();
        sink.stream(Entry::synthetic_file("inside", 0), &mut &b"x"[..])
            .unwrap();
        sink.leave().unwrap();
        let kind = EntryKind::Symlink {
            target: b"/etc/passwd".to_vec(),
        };
        let metadata = Metadata::synthetic(&kind);
        sink.node(Entry {
            name: b"link".to_vec(),
            kind,
            metadata,
        })
        .unwrap();
        assert!(!sink.reuse(b"nothing").unwrap());
    });
    let names: Vec<&[u8]> = backup.tree.nodes.iter().map(|node| node.name()).collect();
    assert_eq!(names, [b"link".as_slice(), b"twice"]);
    assert_eq!(backup.tree.failure_count, 6);
}

#[test]
fn an_entry_is_taken_over_with_everything_below_it() {
    let storage = memory();
    drop(init(&storage, ChunkerChoice::Gear));
    let files = sample();
    let _first = backup(&storage, &files);
    let second = backup_with(&storage, |sink| {
        assert!(sink.reuse(b"d0").unwrap());
        sink.stream(Entry::synthetic_file("new", 0), &mut &b"new"[..])
            .unwrap();
    });
    assert_eq!(
        (second.tree.statistics.reused, second.added.data_blobs),
        (1, 1)
    );
    let repository = open(&storage).into_indexed().unwrap();
    let found = read_files(&repository, newest_tree(&repository));
    let mut expected = contents(&files);
    expected.retain(|path, _| path.starts_with("d0/"));
    expected.insert("new".to_owned(), b"new".to_vec());
    assert_eq!(found, expected);
}

#[test]
fn content_whose_pack_is_gone_is_stored_again() {
    let storage = memory();
    drop(init(&storage, ChunkerChoice::Gear));
    let files = sample();
    let _first = backup(&storage, &files);
    for pack in storage.list(FileKind::Pack).unwrap() {
        storage.delete(&pack.key).unwrap();
    }
    let again = backup(&storage, &files);
    assert_eq!(again.reads, files.len());
    assert!(again.added.data_blobs > 0);
}

#[test]
fn a_deep_tree_needs_no_deep_stack() {
    let storage = memory();
    drop(init(&storage, ChunkerChoice::Gear));
    let backup = backup_with(&storage, |sink| {
        (0..5000).for_each(|_| sink.enter(Entry::synthetic_directory("d")).unwrap());
        sink.stream(Entry::synthetic_file("bottom", 0), &mut &b"x"[..])
            .unwrap();
        (0..5000).for_each(|_| sink.leave().unwrap());
    });
    assert_eq!(backup.tree.statistics.directories_new, 5000);
    assert_eq!(backup.tree.failure_count, 0);
}

#[test]
fn several_trees_can_be_built_at_once() {
    let storage = memory();
    drop(init(&storage, ChunkerChoice::Gear));
    let repository = open(&storage).into_indexed().unwrap();
    let archiver = archiver(&repository);
    let files = sample();
    let reads = Arc::new(AtomicUsize::new(0));
    let trees: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let mut builder = archiver.tree(Vec::new());
                let (files, reads) = (&files, &reads);
                scope.spawn(move || {
                    push(&mut builder, files, reads);
                    builder.finish().unwrap()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(trees.windows(2).all(|pair| pair[0].nodes == pair[1].nodes));
    let unique: std::collections::BTreeSet<&Vec<u8>> = files.values().map(|(_, c)| c).collect();
    let total: u64 = unique.iter().map(|content| content.len() as u64).sum();
    let added = archiver.finish().unwrap().added();
    assert!(
        added.plaintext_bytes < total + 100_000,
        "each blob is stored once"
    );
}

/// Whole files and chunks of cut ones are stored two at a time, whoever comes together.
#[test]
fn files_of_all_lengths_side_by_side_are_stored_as_they_are() {
    let lengths = [
        3, 700_000, 400_000, 0, 524_287, 524_288, 1_900_000, 90_000, 2_500_000, 600_000, 1, 1,
    ];
    let files: Files = (0..60)
        .map(|number| {
            let content = noise(lengths[number % lengths.len()], number as u64 / 2);
            (format!("{:02}/{number:03}", number / 20), (1, content))
        })
        .collect();
    for workers in 1..=4 {
        let storage = memory();
        drop(init(&storage, ChunkerChoice::Gear));
        let repository = open(&storage).into_indexed().unwrap();
        let options = ArchiveOptions {
            workers,
            ..ArchiveOptions::default()
        };
        let counters = Arc::new(Counters::default());
        let archiver = Archiver::start(repository, options, counters, Cancel::default()).unwrap();
        let reads = Arc::default();
        let mut builder = archiver.tree(Vec::new());
        push(&mut builder, &files, &reads);
        let nodes = builder.finish().unwrap().nodes;
        let root = archiver.store_directory(nodes).unwrap();
        drop(archiver.finish().unwrap());
        assert_eq!(reads.load(Ordering::SeqCst), files.len());
        let repository = open(&storage).into_indexed().unwrap();
        assert!(
            read_files(&repository, root) == contents(&files),
            "{workers} workers"
        );
    }
}
