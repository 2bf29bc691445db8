//! Disk images: zeros are set apart, stored once a length, and come back as holes.

use std::io::{self, Read};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;

use refloat_localfs::{FolderWriter, WalkOptions, walk_contents};
use refloat_model::cancel::Cancel;
use refloat_model::entry::TreeSink as _;
use refloat_model::progress::Counters;
use refloat_repository::restore::{RestoreOptions, RestoreReport, restore};
use refloat_repository::{BlobId, BlobReader as _, ChunkerChoice};
use refloat_storage::SharedStorage;
use refloat_storage::memory::MemoryStorage;

use crate::support::*;

const UNIT: usize = 64 << 10;

fn memory(chunker: ChunkerChoice) -> SharedStorage {
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    drop(init(&storage, chunker));
    storage
}

/// An image, and the lengths of its chunks: islands of less than the shortest chunk are never cut.
fn image() -> (Vec<u8>, Vec<usize>) {
    let bytes = [
        &vec![0; 9 * UNIT][..],
        &noise(4096, 1),
        &vec![0; UNIT - 1],
        &noise(10_000, 2),
        &vec![0; (20 << 20) + 5],
        &noise(100, 3),
        &vec![0; 2 * UNIT],
        &noise(300_000, 4),
        &vec![0; 2 * UNIT + 77],
    ]
    .concat();
    let lengths = vec![
        9 * UNIT,
        4096 + UNIT - 1 + 10_000,
        8 << 20,
        8 << 20,
        4 << 20,
        5 + 100,
        2 * UNIT,
        300_000,
        2 * UNIT,
        77,
    ];
    (bytes, lengths)
}

/// Gives at most so many bytes a call.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.1.min(buffer.len());
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn an_image_is_cut_at_its_zeros_however_it_is_read() {
    let (bytes, lengths) = image();
    let mut rest = bytes.as_slice();
    let mut expected = Vec::new();
    for length in lengths {
        let (chunk, behind) = rest.split_at(length);
        expected.push(BlobId::of(chunk));
        rest = behind;
    }
    assert!(rest.is_empty());
    let storage = memory(ChunkerChoice::Gear);
    for (turn, piece) in [usize::MAX, 77_777, 4096, 1 << 20].into_iter().enumerate() {
        let backup = backup_with(&storage, |sink| {
            let entry = real_file("disk", turn as i64, 0);
            sink.stream(entry, &mut Pieces(&bytes, piece)).unwrap();
        });
        let node = &backup.tree.nodes[0];
        assert_eq!(*node.content, expected, "{piece} at once");
        assert_eq!(node.size(), bytes.len() as u64);
        // Two chunks are equal, and two more: 8 MiB, and twice the unit.
        let new = if turn == 0 { 8 } else { 0 };
        assert_eq!(backup.added.data_blobs, new, "{piece} at once");
    }
    let repository = open(&storage).into_indexed().unwrap();
    let files = read_files(&repository, newest_tree(&repository));
    assert!(files["disk"] == bytes);
}

fn restore_newest(storage: &SharedStorage, target: &Path) -> RestoreReport {
    let repository = open(storage);
    let tree = newest_tree(&repository);
    let repository = repository.into_indexed().unwrap();
    let nodes = repository.read_tree(tree).unwrap();
    let report = restore(
        &repository,
        nodes,
        None,
        &FolderWriter::open(target).unwrap(),
        RestoreOptions::default(),
        Arc::new(Counters::default()),
        Cancel::default(),
    );
    let report = report.unwrap();
    assert_eq!(report.failure_count, 0, "{:?}", report.failures);
    report
}

fn digest(path: &Path) -> BlobId {
    BlobId::of(&std::fs::read(path).unwrap())
}

#[test]
fn zeros_come_back_as_holes_and_what_took_their_place_goes() {
    const LARGE: u64 = 200 << 20;
    for chunker in [ChunkerChoice::Gear, ChunkerChoice::Rabin] {
        let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (bytes, _) = image();
        std::fs::write(source.path().join("image"), &bytes).unwrap();
        let large = std::fs::File::create(source.path().join("large")).unwrap();
        large.set_len(LARGE).unwrap();
        large.write_all_at(&noise(3 << 20, 9), 100 << 20).unwrap();
        let zeros = std::fs::File::create(source.path().join("zeros")).unwrap();
        zeros.set_len(3 << 20).unwrap();
        let names = ["image", "large", "zeros"];
        let total = LARGE + bytes.len() as u64 + (3 << 20);
        let storage = memory(chunker);
        let _backup = backup_with(&storage, |sink| {
            let options = WalkOptions::default();
            walk_contents(source.path(), &options, sink, &Cancel::default()).unwrap();
        });
        let check = || {
            for name in names {
                let (from, to) = (source.path().join(name), target.path().join(name));
                assert_eq!(digest(&from), digest(&to), "{name}, {chunker:?}");
                let used = std::fs::metadata(&to).unwrap().blocks() * 512;
                assert!(used < 5 << 20, "{name} takes {used} bytes, {chunker:?}");
            }
        };
        let first = restore_newest(&storage, target.path());
        assert_eq!(
            (first.bytes_written, first.bytes_verified),
            (total, total),
            "{chunker:?}"
        );
        check();
        let again = restore_newest(&storage, target.path());
        assert_eq!((again.bytes_written, again.bytes_kept), (0, total));

        // In place, where holes have to be punched, and in one that is written anew.
        for (name, at) in [
            ("large", 7 << 20),
            ("large", 150 << 20),
            ("image", 20 << 20),
        ] {
            let path = target.path().join(name);
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.write_all_at(&noise(100_000, at), at).unwrap();
        }
        let third = restore_newest(&storage, target.path());
        assert!(third.bytes_kept > LARGE / 2, "{third:?}");
        assert!(third.bytes_written < 60 << 20, "{third:?}");
        check();
    }
}

/// The longest chunk of zeros is known without its pack: there is nothing in it that a restore wants.
#[test]
fn zeros_come_back_although_their_blob_cannot_be_read() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = std::fs::File::create(source.path().join("disk")).unwrap();
    file.set_len(40 << 20).unwrap();
    let storage = memory(ChunkerChoice::Gear);
    let _backup = backup_with(&storage, |sink| {
        let options = WalkOptions::default();
        walk_contents(source.path(), &options, sink, &Cancel::default()).unwrap();
    });
    let blob = BlobId::of(&vec![0; 8 << 20]);
    let repository = open(&storage).into_indexed().unwrap();
    let held = repository
        .index()
        .get(refloat_repository::BlobKind::Data, &blob);
    let pack = held.unwrap().pack;
    let key = refloat_storage::FileKey::new(refloat_storage::FileKind::Pack, pack.0);
    let length = storage.size(&key).unwrap().unwrap();
    storage.delete(&key).unwrap();
    storage.write(&key, &vec![0; length as usize]).unwrap();
    let report = restore_newest(&storage, target.path());
    assert_eq!(report.bytes_written, 40 << 20);
    assert_eq!(
        digest(&target.path().join("disk")),
        digest(&source.path().join("disk"))
    );
}
