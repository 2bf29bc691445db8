//! Blobs that are in two packs, of which one is damaged or withheld: the other one serves, and is what stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_repository::check::{CheckFinding, ReadData};
use refloat_repository::format::index::{IndexFile, IndexPack};
use refloat_repository::format::pack::{PackedBlob, finish_pack};
use refloat_repository::id::sha256;
use refloat_repository::repair::plan_snapshot_repair;
use refloat_repository::{
    BlobId, BlobKind, BlobReader as _, ChunkerChoice, IndexedRepository, PackId, Repository,
    RepositoryError,
};
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKey, FileKind, SharedStorage, StorageError, StorageErrorKind};
use refloat_testkit::intercept::{Call, Intercepted};

use crate::copy::copy_now;
use crate::oracle::*;
use crate::pruning::*;
use crate::restore::restore_newest;
use crate::support::*;

/// A repository of which each blob is in two packs.
fn doubled() -> SharedStorage {
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    generations(&storage);
    let repository = open(&storage).into_indexed().unwrap();
    let mut packs: BTreeMap<PackId, Vec<PackedBlob>> = BTreeMap::new();
    for kind in [BlobKind::Data, BlobKind::Tree] {
        for location in repository.index().iter(kind) {
            packs.entry(location.pack).or_default().push(location.blob);
        }
    }
    let twins = packs
        .iter()
        .map(|(pack, blobs)| twin(&repository, *pack, blobs));
    let file = IndexFile {
        supersedes: Vec::new(),
        packs: twins.collect(),
    };
    repository
        .write_json(FileKind::Index, "an index", &file)
        .unwrap();
    storage
}

/// As [`doubled`]. Of each kind one pack is damaged, a byte of one blob, in the place that the index in memory knows.
fn half_damaged() -> (SharedStorage, Vec<PackId>) {
    let storage = doubled();
    let known = open(&storage).into_indexed().unwrap();
    let mut damaged = Vec::new();
    let (root, data) = needed(&known);
    for (kind, id) in [(BlobKind::Data, data), (BlobKind::Tree, root)] {
        let place = known.index().get(kind, &id).unwrap();
        damage(&storage, place.pack, place.blob.offset);
        damaged.push(place.pack);
    }
    (storage, damaged)
}

fn damage(storage: &SharedStorage, pack: PackId, blob_offset: u32) {
    let key = FileKey::new(FileKind::Pack, pack.0);
    let mut bytes = storage.read(&key).unwrap();
    bytes[blob_offset as usize + 20] ^= 1;
    storage.delete(&key).unwrap();
    storage.write(&key, &bytes).unwrap();
}

/// The packs that hold a tree, and where in each.
fn places(repository: &Repository, tree: BlobId) -> Vec<(PackId, u32)> {
    let files = repository.storage().list(FileKind::Index).unwrap();
    let files = files.iter().map(|file| repository.read_json(&file.key));
    let mut places = BTreeSet::new();
    for file in files.map(Result::<IndexFile, _>::unwrap) {
        for pack in file.packs {
            let found = pack.blobs.iter().find(|blob| blob.id == tree);
            places.extend(found.map(|blob| (pack.id, blob.offset)));
        }
    }
    places.into_iter().collect()
}

/// The root of a snapshot, and a blob of a file below it.
fn needed(repository: &IndexedRepository) -> (BlobId, BlobId) {
    let root = newest_tree(repository);
    let mut trees = vec![root];
    while let Some(tree) = trees.pop() {
        for node in repository.read_tree(tree).unwrap() {
            if let Some(blob) = node.content.first() {
                return (root, *blob);
            }
            trees.extend(node.subtree);
        }
    }
    panic!("a snapshot without files");
}

/// A pack of the same blobs in another order.
fn twin(repository: &Repository, pack: PackId, blobs: &[PackedBlob]) -> IndexPack {
    let whole = repository
        .storage()
        .read(&FileKey::new(FileKind::Pack, pack.0))
        .unwrap();
    let (mut bytes, mut moved) = (vec![], vec![]);
    let mut blobs = blobs.to_vec();
    blobs.sort_by_key(|blob| std::cmp::Reverse(blob.offset));
    for blob in blobs {
        let start = blob.offset as usize;
        moved.push(PackedBlob {
            offset: u32::try_from(bytes.len()).unwrap(),
            ..blob
        });
        bytes.extend_from_slice(&whole[start..start + blob.length as usize]);
    }
    finish_pack(repository.codec().cipher(), &mut bytes, &moved).unwrap();
    let id = PackId(sha256(&bytes));
    let key = FileKey::new(FileKind::Pack, id.0);
    repository.storage().write(&key, &bytes).unwrap();
    IndexPack {
        id,
        blobs: moved.into_iter().map(Into::into).collect(),
    }
}

#[test]
fn the_whole_one_is_read_restored_and_copied_and_check_names_the_other() {
    let (storage, damaged) = half_damaged();
    let snapshots = all_snapshots(&storage);
    let ids: Vec<_> = snapshots.keys().copied().collect();
    let files: BTreeSet<Content> = snapshots.into_values().collect();
    assert_eq!(files.len(), 2);
    let target = tempfile::tempdir().unwrap();
    let report = restore_newest(open(&storage), target.path());
    assert_eq!(report.failures.len(), 0, "{report:?}");

    let other: SharedStorage = Arc::new(MemoryStorage::new());
    drop(init(&other, ChunkerChoice::Gear));
    let copied = copy_now(&storage, &other, &ids).unwrap();
    assert_eq!(copied.copied.len(), 2, "{copied:?}");
    require_spotless(&other);
    let there: BTreeSet<Content> = all_snapshots(&other).into_values().collect();
    assert!(there == files);

    for read in [ReadData::None, ReadData::All] {
        let report = check_with(&open(&storage), read);
        assert_eq!(report.lost, []);
        assert!(!report.is_clean());
        let named = |pack: &PackId| {
            let findings = &report.findings;
            let is_it = |finding: &CheckFinding| matches!(finding, CheckFinding::DamagedPack { pack: found, .. } if found == pack);
            findings.iter().any(is_it)
        };
        // Data is read only when asked.
        assert_eq!(named(&damaged[0]), read == ReadData::All);
        assert!(named(&damaged[1]), "{:#?}", report.findings);
    }
}

#[test]
fn prune_keeps_the_copy_of_a_tree_that_it_could_read() {
    for damaged in 0..2 {
        let storage = doubled();
        let before = all_snapshots(&storage);
        let repository = open(&storage).into_indexed().unwrap();
        let (root, _) = needed(&repository);
        let places = places(&repository, root);
        assert_eq!(places.len(), 2);
        let (pack, offset) = places[damaged];
        damage(&storage, pack, offset);
        for options in [frugal(), thorough()] {
            let report = prune(&storage, options);
            let text = format!("{damaged}: {report:?}");
            assert!(all_snapshots(&storage) == before, "{text}");
            let lost = check_with(&open(&storage), ReadData::None).lost;
            assert_eq!(lost, [], "{text}");
        }
    }
}

#[test]
fn what_nobody_may_read_is_not_lost_and_no_snapshot_is_rewritten_without_it() {
    for kind in [BlobKind::Data, BlobKind::Tree] {
        let storage: SharedStorage = Arc::new(MemoryStorage::new());
        generations(&storage);
        let index = open(&storage).into_indexed().unwrap();
        let (root, data) = needed(&index);
        let id = if kind == BlobKind::Tree { root } else { data };
        let place = index.index().get(kind, &id).unwrap();
        let withheld = FileKey::new(FileKind::Pack, place.pack.0);
        let gate = move |call: Call| match call {
            Call::Read(key) if *key.id() == *withheld.id() => Err(StorageError::new(
                StorageErrorKind::Denied,
                "read",
                &key,
                "here",
                None,
            )),
            _ => Ok(()),
        };
        let refusing: SharedStorage = Arc::new(Intercepted::new(storage, Box::new(gate)));
        let repository = open(&refusing);
        let report = check_with(&repository, ReadData::All);
        assert_eq!(report.lost, []);
        assert!(!report.is_clean());
        let told: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        let told = told.join("\n");
        assert!(told.contains("cannot be read now"), "{told}");
        assert!(!told.contains("damaged"), "{told}");
        let plan = plan_snapshot_repair(
            &repository,
            ReadData::All,
            &Counters::default(),
            &Cancel::default(),
        );
        match kind {
            BlobKind::Data => assert!(plan.unwrap().plan().rewrite.is_empty()),
            // Who knows what is below it.
            BlobKind::Tree => drop(plan.unwrap_err()),
        }
    }
}

#[test]
fn a_point_of_which_something_is_withheld_keeps_no_other_from_being_copied() {
    let storage: SharedStorage = Arc::new(MemoryStorage::new());
    drop(init(&storage, ChunkerChoice::Gear));
    let files = |seed: i64| {
        Files::from([(
            "file".to_owned(),
            (seed, noise(90_000, seed.unsigned_abs())),
        )])
    };
    let [first, second] = [1, 2].map(|seed| backup(&storage, &files(seed)).id);
    let index = open(&storage).into_indexed().unwrap();
    let (_, data) = needed(&index);
    let withheld = index.index().get(BlobKind::Data, &data).unwrap().pack;
    let gate = move |call: Call| match call {
        Call::Read(key) if *key.id() == withheld.0 => {
            let kind = StorageErrorKind::Failed;
            Err(StorageError::new(kind, "read", &key, "here", None))
        }
        _ => Ok(()),
    };
    let refusing: SharedStorage = Arc::new(Intercepted::new(storage, Box::new(gate)));
    let other: SharedStorage = Arc::new(MemoryStorage::new());
    drop(init(&other, ChunkerChoice::Gear));
    let report = copy_now(&refusing, &other, &[second, first]).unwrap();
    assert_eq!(report.copied.len(), 1, "{report:?}");
    assert_eq!(report.damaged.len(), 1, "{report:?}");
    require_clean(&other);
    assert_eq!(all_snapshots(&other).len(), 1);
}

#[test]
fn an_index_or_snapshot_that_storage_does_not_keep_is_noticed() {
    for swallowed in [FileKind::Index, FileKind::Snapshot] {
        let storage: SharedStorage = Arc::new(MemoryStorage::new());
        drop(init(&storage, ChunkerChoice::Gear));
        let kept = Arc::clone(&storage);
        // What a server accepted and dropped is not there when it is looked for.
        let gate = move |call: Call| match call {
            Call::Size(key) if key.kind() == swallowed => kept.delete(&key),
            _ => Ok(()),
        };
        let swallowing: SharedStorage = Arc::new(Intercepted::new(storage, Box::new(gate)));
        let repository = open(&swallowing).into_indexed().unwrap();
        let lock = shared_lock(&repository);
        let archiver = archiver(&repository);
        let mut builder = archiver.tree(Vec::new());
        let files = Files::from([("file".to_owned(), (1, noise(90_000, 1)))]);
        push(&mut builder, &files, &Arc::default());
        let root = archiver
            .store_directory(builder.finish().unwrap().nodes)
            .unwrap();
        let published = archiver
            .finish()
            .and_then(|archived| archived.publish(&lock, &snapshot(root)));
        let error = published.unwrap_err();
        let is_it =
            matches!(&error, RepositoryError::NotStored { file } if file.kind() == swallowed);
        assert!(is_it, "{error:?}");
    }
}
