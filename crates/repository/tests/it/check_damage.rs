//! Every damage of testkit to every kind of file: found, and the lost paths exact.

use std::collections::BTreeSet;
use std::sync::Arc;

use refloat_repository::check::{CheckFinding, LostEntry, ReadData};
use refloat_repository::format::index::IndexFile;
use refloat_repository::{
    BlobKind, BlobReader as _, ChunkerChoice, IndexedRepository, Repository, SnapshotId,
};
use refloat_storage::{FileKey, FileKind, Listed, SharedStorage};
use refloat_testkit::damage::Damage;
use refloat_testkit::random::Random;

use crate::check::{fill, memory, reported};
use crate::oracle::*;
use crate::support::*;

/// The paths of all snapshots that need a blob of which `is_lost` says so: found the slow way.
fn paths_that_need(
    repository: &IndexedRepository,
    is_lost: &dyn Fn(BlobKind, &refloat_repository::BlobId) -> bool,
) -> BTreeSet<(SnapshotId, String, LostEntry)> {
    let mut lost = BTreeSet::new();
    for (id, snapshot) in repository.snapshots().unwrap().snapshots {
        let mut open = vec![(String::new(), snapshot.tree.unwrap())];
        while let Some((prefix, tree)) = open.pop() {
            if is_lost(BlobKind::Tree, &tree) {
                let path = if prefix.is_empty() { "/" } else { &prefix };
                lost.insert((id, path.to_owned(), LostEntry::Directory));
                continue;
            }
            for node in repository.read_tree(tree).unwrap() {
                let path = format!("{prefix}/{}", String::from_utf8_lossy(node.name()));
                if node
                    .content
                    .iter()
                    .any(|blob| is_lost(BlobKind::Data, blob))
                {
                    lost.insert((id, path.clone(), LostEntry::File));
                }
                open.extend(node.subtree.map(|subtree| (path, subtree)));
            }
        }
    }
    lost
}

#[test]
fn every_damage_of_every_kind_is_found_and_the_lost_paths_are_exact() {
    let (original, storage) = memory();
    fill(&storage);
    let sound = open(&storage).into_indexed().unwrap();
    let swap = Swap::new(&storage);
    let opened = open(&swap.shared());
    for kind in [
        FileKind::Key,
        FileKind::Snapshot,
        FileKind::Index,
        FileKind::Pack,
    ] {
        let files = storage.list(kind).unwrap();
        for (case, damage) in Damage::ALL.into_iter().enumerate() {
            for seed in 0..3 {
                let mut random = Random::new((case * 100 + seed) as u64);
                let victim = files[random.index(files.len())].key;
                let donor = donor(&storage, &files, victim);
                let copy: SharedStorage = Arc::new(original.duplicate());
                damage.inflict(&*copy, &victim, &donor, &mut random);
                swap.set(&copy);
                judge(&sound, &opened, &copy, victim, damage);
            }
        }
    }
}

/// Another file of the kind; there is only one key.
fn donor(storage: &SharedStorage, files: &[Listed], victim: FileKey) -> Vec<u8> {
    let other = files.iter().find(|file| file.key != victim);
    other.map_or_else(|| b"{}".to_vec(), |file| storage.read(&file.key).unwrap())
}

/// `opened` was opened before the damage: with a damaged key nobody gets in.
fn judge(
    sound: &IndexedRepository,
    opened: &Repository,
    damaged: &SharedStorage,
    victim: FileKey,
    damage: Damage,
) {
    let what = format!("{damage:?} of {victim}");
    let report = check_with(opened, ReadData::All);
    if victim.kind() == FileKind::Key {
        let expected = damage != Damage::Deleted;
        let found = report.findings.len();
        assert_eq!(found, usize::from(expected), "{what}: {report:?}");
        return;
    }
    match (victim.kind(), damage) {
        // Only a ledger outside can tell that a snapshot was deleted.
        (FileKind::Snapshot, Damage::Deleted) => {
            assert!(report.is_clean(), "{what}");
            return;
        }
        _ => assert!(!report.is_clean(), "{what} was not found"),
    }
    let bytes = damaged.read(&victim).unwrap_or_default();
    let expected = match victim.kind() {
        FileKind::Pack => paths_that_need(sound, &|kind, blob| {
            let place = sound.index().get(kind, blob).unwrap();
            let start = place.blob.offset as usize;
            let sealed = bytes.get(start..start + place.blob.length as usize);
            place.pack.0 == *victim.id()
                && sealed.is_none_or(|sealed| {
                    let mut out = Vec::new();
                    let opened = sound.open_located(&place, &mut sealed.to_vec(), &mut out);
                    opened.is_err()
                })
        }),
        FileKind::Index => {
            let file: IndexFile = sound.read_json(&victim).unwrap();
            let ids: BTreeSet<_> = file
                .packs
                .iter()
                .flat_map(|pack| pack.blobs.iter().map(|blob| (blob.kind, blob.id)))
                .collect();
            paths_that_need(sound, &|kind, blob| ids.contains(&(kind, *blob)))
        }
        _ => BTreeSet::new(),
    };
    assert_eq!(
        reported(&report),
        expected,
        "{what}: {:#?}",
        report.findings
    );
    if damage == Damage::Deleted || damage.changes_size() {
        let structure = check_with(opened, ReadData::None);
        assert!(
            !structure.is_clean(),
            "{what} was not found without reading data"
        );
        assert_eq!(
            reported(&structure),
            expected,
            "{what} without reading data"
        );
    }
}

#[test]
fn a_pack_that_is_read_in_pieces_is_proven_to_its_last_byte() {
    let (_, storage) = memory();
    let repository = init(&storage, ChunkerChoice::Gear).into_indexed().unwrap();
    let archiver = archiver_of_packs(&repository, 16 << 20);
    let mut builder = archiver.tree(Vec::new());
    // More than a pack holds, so that one is full.
    let files = (0..60_u64).map(|number| (format!("file-{number}"), (1, noise(700_000, number))));
    push(&mut builder, &files.collect(), &Arc::default());
    builder.finish().unwrap();
    drop(archiver.finish().unwrap());
    assert!(check_with(&open(&storage), ReadData::All).is_clean());
    let packs = storage.list(FileKind::Pack).unwrap();
    let pack = packs.iter().max_by_key(|pack| pack.size).unwrap();
    assert!(pack.size > 15 << 20, "{}", pack.size);
    let sound = storage.read(&pack.key).unwrap();
    let last = sound.len() - 1;
    // A blob at the beginning, at the border of the pieces and at the end; the header and its length.
    for at in [0, last / 4, last / 2, last * 9 / 10, last - 100, last] {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        storage.delete(&pack.key).unwrap();
        storage.write(&pack.key, &bytes).unwrap();
        let report = check_with(&open(&storage), ReadData::All);
        let is_named = |finding: &CheckFinding| matches!(finding, CheckFinding::DamagedPack { pack: named, .. } if named.0 == *pack.key.id());
        assert!(report.findings.iter().any(is_named), "{at}: {report:?}");
        assert!(report.findings.iter().all(is_named), "{at}: {report:?}");
    }
}

#[test]
fn a_config_that_is_damaged_does_not_open() {
    let (original, storage) = memory();
    fill(&storage);
    let other = memory().1;
    drop(init(&other, ChunkerChoice::Gear));
    let donor = other.read(&FileKey::CONFIG).unwrap();
    for (seed, damage) in Damage::ALL.into_iter().enumerate() {
        let copy: SharedStorage = Arc::new(original.duplicate());
        damage.inflict(
            &*copy,
            &FileKey::CONFIG,
            &donor,
            &mut Random::new(seed as u64),
        );
        let secret = refloat_model::secret::Secret::new(PASSWORD);
        let opened = refloat_repository::Repository::open(copy, &secret);
        assert!(opened.is_err(), "{damage:?}");
    }
}
