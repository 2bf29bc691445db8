//! Check: silent about what is sound, exact about what is not.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use refloat_model::entry::{Entry, TreeSink as _};
use refloat_model::time::Timestamp;
use refloat_repository::check::{BlobLoss, CheckFinding, LostEntry, PackDamage, ReadData};
use refloat_repository::format::index::IndexFile;
use refloat_repository::{BlobKind, BlobReader as _, ChunkerChoice, SnapshotId};
use refloat_storage::local::LocalStorage;
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{
    FileKey, FileKind, Listed, Protection, SharedStorage, Storage, StorageError,
};
use refloat_testkit::faults::{BadRead, BadReads, FaultPlan, FaultyStorage, Selection, ShortLists};

use crate::oracle::*;
use crate::support::*;

/// Two snapshots that share most of their content, in packs of about 1 MiB.
fn sample() -> Vec<Files> {
    let mut files = Files::new();
    for number in 0..12_usize {
        let path = format!("d{}/sub/file-{number}", number % 3);
        files.insert(path, (1, noise(150_000 + number * 40_000, number as u64)));
    }
    files.insert("empty".to_owned(), (1, Vec::new()));
    files.insert("twin".to_owned(), (1, noise(150_000, 0)));
    let mut later = files.clone();
    later.insert("d1/new".to_owned(), (2, noise(400_000, 99)));
    later.remove("d0/sub/file-3");
    vec![files, later]
}

pub fn fill(storage: &SharedStorage) -> Vec<SnapshotId> {
    drop(init(storage, ChunkerChoice::Gear));
    let ids = sample().into_iter().map(|files| backup(storage, &files).id);
    ids.collect()
}

pub fn memory() -> (Arc<MemoryStorage>, SharedStorage) {
    let memory = Arc::new(MemoryStorage::new());
    let storage: SharedStorage = Arc::clone(&memory) as SharedStorage;
    (memory, storage)
}

pub fn reported(
    report: &refloat_repository::check::CheckReport,
) -> BTreeSet<(SnapshotId, String, LostEntry)> {
    let lost = report.lost.iter();
    lost.map(|lost| (lost.snapshot, lost.path.to_string(), lost.entry))
        .collect()
}

#[test]
fn a_sound_repository_has_no_findings() {
    let folder = tempfile::tempdir().unwrap();
    for storage in [memory().1, Arc::new(LocalStorage::new(folder.path()))] {
        let storage: SharedStorage = storage;
        fill(&storage);
        let report = check_all(&storage);
        assert_eq!((report.findings, report.lost), (vec![], vec![]));
        let packs = storage.list(FileKind::Pack).unwrap();
        let counts = report.counts;
        assert_eq!(counts.snapshots, 2);
        assert_eq!(counts.index_files, 2);
        assert_eq!(counts.packs, packs.len() as u64);
        assert_eq!(counts.bytes_read, stored_bytes(&storage, FileKind::Pack));
        assert_eq!(counts.bytes_listed, counts.bytes_read);
        assert_eq!(counts.trees, 7 + 4, "shared ones count once");
        let structure = check_with(&open(&storage), ReadData::None);
        assert_eq!(
            (structure.findings, structure.counts.bytes_read),
            (vec![], 0)
        );
        let share = ReadData::Share {
            per_mille: 1,
            seed: 7,
        };
        let read = check_with(&open(&storage), share).counts.bytes_read;
        assert!(packs.iter().any(|pack| pack.size == read), "one pack");
    }
}

#[test]
fn one_flipped_bit_in_a_blob_names_hash_blob_and_paths() {
    let (_, storage) = memory();
    let ids = fill(&storage);
    let repository = open(&storage).into_indexed().unwrap();
    let tree = newest_tree(&repository);
    let twin = repository.read_tree(tree).unwrap();
    let twin = twin.iter().find(|node| node.name() == b"twin").unwrap();
    let blob = twin.content[0];
    let place = repository.index().get(BlobKind::Data, &blob).unwrap();
    let file = FileKey::new(FileKind::Pack, place.pack.0);
    let mut bytes = storage.read(&file).unwrap();
    bytes[place.blob.offset as usize + 20] ^= 1;
    storage.delete(&file).unwrap();
    storage.write(&file, &bytes).unwrap();

    assert!(check_with(&repository, ReadData::None).is_clean());
    let report = check_all(&storage);
    let pack = place.pack;
    let damaged = |damage| CheckFinding::DamagedPack { pack, damage };
    let cause = report.findings.iter().find_map(|finding| match finding {
        CheckFinding::DamagedPack {
            damage: PackDamage::Blob { cause, .. },
            ..
        } => Some(cause.clone()),
        _ => None,
    });
    let kind = BlobKind::Data;
    let cause = cause.unwrap();
    let expected = [
        damaged(PackDamage::Hash),
        damaged(PackDamage::Blob { kind, blob, cause }),
        CheckFinding::MissingBlob {
            kind,
            blob,
            loss: BlobLoss::Damaged,
            paths: 4,
            snapshots: 2,
        },
    ];
    assert_eq!(report.findings, expected);
    let paths: Vec<_> = report
        .lost
        .iter()
        .map(|lost| (lost.snapshot, lost.path.to_string()))
        .collect();
    let mut expected: Vec<_> = ids
        .iter()
        .flat_map(|id| ["/d0/sub/file-0", "/twin"].map(|path| (*id, path.to_owned())))
        .collect();
    expected.sort();
    assert_eq!(paths, expected);
}

#[test]
fn a_first_bad_transfer_is_no_damage() {
    // restic #5467.
    let (_, storage) = memory();
    fill(&storage);
    let reads = BadReads {
        reads: Selection::First(1),
        kinds: vec![FileKind::Pack],
        how: BadRead::FlippedBit,
    };
    let plan = FaultPlan {
        reads: Some(reads),
        ..FaultPlan::default()
    };
    let faulty: SharedStorage = Arc::new(FaultyStorage::new(storage, plan));
    assert_eq!(check_all(&faulty).findings, []);
}

#[test]
fn a_short_listing_is_no_loss() {
    let (_, storage) = memory();
    fill(&storage);
    let lists = ShortLists {
        lists: Selection::All,
        kinds: vec![FileKind::Pack],
        seed: 1,
        per_mille: 500,
    };
    let plan = FaultPlan {
        lists: Some(lists),
        ..FaultPlan::default()
    };
    let faulty: SharedStorage = Arc::new(FaultyStorage::new(storage, plan));
    assert_eq!(check_all(&faulty).findings, []);
}

/// Notes the kinds in the order in which they are listed.
struct Noting(SharedStorage, Mutex<Vec<FileKind>>);

impl Storage for Noting {
    fn location(&self) -> String {
        self.0.location()
    }
    fn create(&self) -> Result<(), StorageError> {
        self.0.create()
    }
    fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), StorageError> {
        self.0.write(key, bytes)
    }
    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
        self.0.read(key)
    }
    fn read_range(
        &self,
        key: &FileKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        self.0.read_range(key, offset, length)
    }
    fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError> {
        self.0.size(key)
    }
    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError> {
        self.1.lock().unwrap().push(kind);
        self.0.list(kind)
    }
    fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        self.0.delete(key)
    }
    fn connections(&self) -> usize {
        self.0.connections()
    }
    fn settling(&self) -> Duration {
        self.0.settling()
    }
    fn protection(&self) -> Option<Protection> {
        self.0.protection()
    }
    fn protected_until(&self, key: &FileKey) -> Result<Option<Timestamp>, StorageError> {
        self.0.protected_until(key)
    }
    fn protect_until(&self, key: &FileKey, until: Timestamp) -> Result<(), StorageError> {
        self.0.protect_until(key, until)
    }
}

#[test]
fn snapshots_are_listed_before_indexes_and_those_before_packs_each_once() {
    let (_, storage) = memory();
    fill(&storage);
    let noting = Arc::new(Noting(storage, Mutex::default()));
    let repository = open(&(Arc::clone(&noting) as SharedStorage));
    noting.1.lock().unwrap().clear();
    assert!(check_with(&repository, ReadData::None).is_clean());
    let order = [
        FileKind::Key,
        FileKind::Snapshot,
        FileKind::Index,
        FileKind::Pack,
    ];
    assert_eq!(*noting.1.lock().unwrap(), order);
}

#[test]
fn waste_is_a_remark() {
    let (_, storage) = memory();
    fill(&storage);
    let repository = open(&storage);
    let junk = FileKey::new(FileKind::Pack, [7; 32]);
    storage.write(&junk, b"of an interrupted backup").unwrap();
    let index = storage.list(FileKind::Index).unwrap()[0].key;
    let file: IndexFile = repository.read_json(&index).unwrap();
    repository
        .write_json(FileKind::Index, "an index", &file)
        .unwrap();
    let report = check_all(&storage);
    assert!(report.is_clean());
    let pack = refloat_repository::PackId([7; 32]);
    let mut expected = vec![CheckFinding::UnindexedPack { pack, bytes: 24 }];
    let mut packs: Vec<_> = file.packs.iter().map(|pack| pack.id).collect();
    packs.sort();
    expected.extend(
        packs
            .into_iter()
            .map(|pack| CheckFinding::DuplicateIndex { pack }),
    );
    assert_eq!(report.findings, expected);
}

#[test]
fn an_index_that_names_what_is_not_there_is_found() {
    // reliability.md, 3.9, A3: an index that claims blobs, so that others skip their upload.
    let (_, storage) = memory();
    fill(&storage);
    let repository = open(&storage);
    let index = storage.list(FileKind::Index).unwrap()[0].key;
    let mut file: IndexFile = repository.read_json(&index).unwrap();
    let invented = refloat_repository::BlobId([3; 32]);
    let pack = file.packs[0].id;
    file.packs[0].blobs[0].id = invented;
    file.packs.truncate(1);
    repository
        .write_json(FileKind::Index, "an index", &file)
        .unwrap();
    let structure = check_with(&repository, ReadData::None);
    let sizes = |finding: &&CheckFinding| matches!(finding, CheckFinding::PackSize { pack: p, .. } if *p == pack);
    assert_eq!(structure.errors().filter(sizes).count(), 1);
    let mismatch = CheckFinding::IndexMismatch {
        pack,
        index_only: 1,
        header_only: 0,
    };
    assert!(
        structure.findings.contains(&mismatch),
        "{:#?}",
        structure.findings
    );
    assert_eq!(structure.lost, [], "no snapshot needs the invented blob");
}

#[test]
fn a_deep_tree_needs_no_deep_stack() {
    let (_, storage) = memory();
    drop(init(&storage, ChunkerChoice::Gear));
    let made = backup_with(&storage, |sink| {
        (0..5000).for_each(|_| sink.enter(Entry::synthetic_directory("d")).unwrap());
        let open = || Ok::<_, io::Error>(io::Cursor::new(noise(100_000, 1)));
        sink.file(real_file("bottom", 1, 100_000), Box::new(open))
            .unwrap();
        (0..5000).for_each(|_| sink.leave().unwrap());
    });
    let report = check_all(&storage);
    assert_eq!((report.findings.len(), report.counts.trees), (0, 5001));
    let repository = open(&storage).into_indexed().unwrap();
    let data = repository.index().iter(BlobKind::Data).next().unwrap();
    storage
        .delete(&FileKey::new(FileKind::Pack, data.pack.0))
        .unwrap();
    let report = check_all(&storage);
    let path = format!("{}/bottom", "/d".repeat(5000));
    assert_eq!(
        reported(&report),
        BTreeSet::from([(made.id, path, LostEntry::File)])
    );
}

#[test]
fn forty_trees_with_a_trillion_paths_end() {
    // reliability.md, F4: each directory names the next one twice.
    let (_, storage) = memory();
    drop(init(&storage, ChunkerChoice::Gear));
    let repository = open(&storage).into_indexed().unwrap();
    let lock = shared_lock(&repository);
    let archiver = archiver(&repository);
    let mut tree = archiver.store_directory(Vec::new()).unwrap();
    for _ in 0..40 {
        let node = |name: &str| refloat_repository::Node {
            entry: Entry::synthetic_directory(name),
            content: Arc::default(),
            subtree: Some(tree),
            foreign: None,
        };
        tree = archiver
            .store_directory(vec![node("a"), node("b")])
            .unwrap();
    }
    let archived = archiver.finish().unwrap();
    archived.publish(&lock, &snapshot(tree)).unwrap();
    drop(lock);
    let report = check_all(&storage);
    assert_eq!((report.findings.len(), report.counts.trees), (0, 41));
}

#[test]
fn a_cancelled_check_is_an_error() {
    let (_, storage) = memory();
    fill(&storage);
    let cancel = refloat_model::cancel::Cancel::default();
    cancel.cancel();
    let options = refloat_repository::check::CheckOptions::default();
    let counters = refloat_model::progress::Counters::default();
    let ended = refloat_repository::check::check(&open(&storage), &options, &counters, &cancel);
    assert!(matches!(
        ended,
        Err(refloat_repository::RepositoryError::Cancelled(_))
    ));
}
