//! Copy: the same snapshots in another repository, whatever happens on the way.

use std::sync::Arc;

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_repository::copy::{CopyReport, copy};
use refloat_repository::format::index::IndexFile;
use refloat_repository::format::snapshot::SnapshotFile;
use refloat_repository::{BlobKind, ChunkerChoice, IndexedRepository, RepositoryError, SnapshotId};
use refloat_storage::local::LocalStorage;
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKey, FileKind, SharedStorage};
use refloat_testkit::faults::{FaultyStorage, MutationEffect};

use crate::oracle::*;
use crate::pruning::{at, generations};
use crate::support::*;

fn memory() -> SharedStorage {
    Arc::new(MemoryStorage::new())
}

pub fn copy_at(
    from: &IndexedRepository,
    to: &IndexedRepository,
    snapshots: &[SnapshotId],
    now: jiff::Timestamp,
) -> Result<CopyReport, RepositoryError> {
    let mode = refloat_repository::lock::LockMode::Shared;
    let lock = to.lock(mode, owner("copy"), at(now))?;
    let counters = Arc::new(Counters::default());
    copy(from, to, snapshots, &lock, &counters, &Cancel::default())
}

pub fn copy_now(
    from: &SharedStorage,
    to: &SharedStorage,
    snapshots: &[SnapshotId],
) -> Result<CopyReport, RepositoryError> {
    let [from, to] = [from, to].map(|storage| open(storage).into_indexed().unwrap());
    copy_at(&from, &to, snapshots, jiff::Timestamp::now())
}

/// Gives a snapshot the tags of a recovery point.
fn tag(storage: &SharedStorage, id: SnapshotId) -> SnapshotId {
    let repository = open(storage);
    let file = FileKey::new(FileKind::Snapshot, id.0);
    let mut snapshot: SnapshotFile = repository.read_json(&file).unwrap();
    snapshot.tags = Some(vec![
        "refloat".into(),
        "point:abc".into(),
        "policy:web".into(),
    ]);
    storage.delete(&file).unwrap();
    let file = repository.write_json(FileKind::Snapshot, "a snapshot", &snapshot);
    SnapshotId(*file.unwrap().id())
}

#[test]
fn a_copy_holds_the_same_and_names_where_it_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let from = memory();
    let to: SharedStorage = Arc::new(LocalStorage::new(folder.path()));
    let mut ids = generations(&from);
    ids[0] = tag(&from, ids[0]);
    drop(init(&to, ChunkerChoice::Rabin));
    let report = copy_now(&from, &to, &ids).unwrap();
    assert!(!report.same_chunker);
    assert_eq!((report.copied.len(), report.present.len()), (2, 0));
    let (there, here) = (all_snapshots(&from), all_snapshots(&to));
    for (old, new) in &report.copied {
        assert!(there[old] == here[new]);
    }
    let copied = open(&to).snapshots().unwrap().snapshots;
    for (id, snapshot) in &copied {
        let (old, _) = report.copied.iter().find(|(_, new)| new == id).unwrap();
        assert_eq!(snapshot.original, Some(*old));
        assert_eq!(snapshot.parent, None);
        let point = (*old == ids[0]).then_some("abc");
        assert_eq!(snapshot.tag_value("point"), point);
    }
    require_spotless(&to);

    let again = copy_now(&from, &to, &ids).unwrap();
    assert_eq!((again.copied.len(), again.added.packed_bytes), (0, 0));
    assert_eq!(again.present.len(), 2);
    // On to a third: the first repository stays the original.
    let third = memory();
    drop(init(&third, ChunkerChoice::Gear));
    let here: Vec<SnapshotId> = here.into_keys().collect();
    copy_now(&to, &third, &here).unwrap();
    for (_, snapshot) in open(&third).snapshots().unwrap().snapshots {
        assert!(ids.contains(&snapshot.original.unwrap()));
    }
    if has_restic() {
        let said = restic(folder.path(), &["check", "--read-data"]).unwrap();
        assert!(said.contains("no errors were found"), "{said}");
    }
}

/// What is compressed here is not there, which has no compressed blobs.
#[test]
fn a_copy_into_a_repository_of_version_1_is_one_that_restic_reads() {
    if !has_restic() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    restic(folder.path(), &["init", "--repository-version", "1"]).unwrap();
    let (from, to) = (memory(), LocalStorage::new(folder.path()));
    let to: SharedStorage = Arc::new(to);
    let ids = generations(&from);
    let report = copy_now(&from, &to, &ids).unwrap();
    assert_eq!((report.copied.len(), report.damaged.len()), (ids.len(), 0));
    let is_compressed = |storage: &SharedStorage| {
        let repository = open(storage).into_indexed().unwrap();
        let blobs = |kind| repository.index().iter(kind);
        let mut blobs = blobs(BlobKind::Data).chain(blobs(BlobKind::Tree));
        blobs.any(|place| place.blob.uncompressed_length.is_some())
    };
    assert_eq!((is_compressed(&from), is_compressed(&to)), (true, false));
    let (there, here) = (all_snapshots(&from), all_snapshots(&to));
    for (old, new) in &report.copied {
        assert!(there[old] == here[new]);
    }
    let said = restic(folder.path(), &["check", "--read-data"]).unwrap();
    assert!(said.contains("no errors were found"), "{said}");
}

#[test]
fn only_what_is_missing_is_copied() {
    let (from, to) = (memory(), memory());
    let ids = generations(&from);
    drop(init(&to, ChunkerChoice::Gear));
    let first = copy_now(&from, &to, &ids[..1]).unwrap().added;
    let second = copy_now(&from, &to, &ids).unwrap();
    assert_eq!((second.present.len(), second.copied.len()), (1, 1));
    let whole = memory();
    drop(init(&whole, ChunkerChoice::Gear));
    let both = copy_now(&from, &whole, &ids).unwrap().added;
    assert_eq!(first.data_blobs + second.added.data_blobs, both.data_blobs);
    assert_eq!(first.tree_blobs + second.added.tree_blobs, both.tree_blobs);
}

#[test]
fn damage_in_the_first_repository_is_not_copied() {
    let (from, to) = (memory(), memory());
    let ids = generations(&from);
    drop(init(&to, ChunkerChoice::Gear));
    let repository = open(&from).into_indexed().unwrap();
    let newest = newest_tree(&repository);
    let needed = read_files(&repository, newest).len();
    assert!(needed > 0);
    for place in repository.index().iter(BlobKind::Data) {
        let file = FileKey::new(FileKind::Pack, place.pack.0);
        let mut bytes = from.read(&file).unwrap();
        bytes[place.blob.offset as usize + 20] ^= 1;
        from.delete(&file).unwrap();
        from.write(&file, &bytes).unwrap();
    }
    // Named one by one, instead of an error that would keep whole ones from going there.
    let report = copy_now(&from, &to, &ids).unwrap();
    let damaged: Vec<SnapshotId> = report.damaged.iter().map(|(id, _)| *id).collect();
    assert_eq!((damaged, report.copied), (ids, Vec::new()));
    for (_, error) in &report.damaged {
        assert!(
            matches!(error, RepositoryError::DamagedBlob { .. }),
            "{error:?}"
        );
    }
    assert_eq!(open(&to).snapshots().unwrap().snapshots.len(), 0);
    require_clean(&to);
    let unknown = copy_now(&from, &to, &[SnapshotId([1; 32])]);
    assert!(
        matches!(unknown, Err(RepositoryError::Storage(_))),
        "{unknown:?}"
    );
}

#[test]
fn after_a_crash_at_any_step_a_repetition_finishes() {
    let from = memory();
    let ids = generations(&from);
    let expected: Vec<Content> = all_snapshots(&from).into_values().collect();
    let from = open(&from).into_indexed().unwrap();
    let original = Arc::new(MemoryStorage::new());
    let start = jiff::Timestamp::now();
    original.set_clock(start.into());
    let empty: SharedStorage = Arc::clone(&original) as SharedStorage;
    drop(init(&empty, ChunkerChoice::Gear));
    let swap = Swap::new(&empty);
    let to = open(&swap.shared()).into_indexed().unwrap();
    for effect in MutationEffect::ALL {
        for number in 1.. {
            let memory = Arc::new(original.duplicate());
            let copy: SharedStorage = Arc::clone(&memory) as SharedStorage;
            let faulty = FaultyStorage::crashing(Arc::clone(&copy), number, effect);
            let faulty = Arc::new(faulty);
            swap.set(&(Arc::clone(&faulty) as SharedStorage));
            let crashed = copy_at(&from, &to, &ids, start);
            let reached = faulty.is_crashed();
            swap.set(&copy);
            let what = format!("{effect:?} at {number}: {crashed:?}");
            let torn = effect == MutationEffect::Torn
                && matches!(faulty.mutations().last(), Some(last) if is_torn_record(last));
            if torn {
                // A torn index or snapshot is found; what it was for is not published.
                assert!(!check_with(&to, refloat_repository::check::ReadData::None).is_clean());
                continue;
            }
            let found = check_with(&to, refloat_repository::check::ReadData::All);
            assert!(found.is_clean(), "{what}: {:?}", found.findings);
            let later = start + jiff::SignedDuration::from_mins(31);
            memory.set_clock(later.into());
            copy_at(&from, &to.reload().unwrap(), &ids, later).unwrap();
            let mut here: Vec<Content> = all_of(&to).into_values().collect();
            here.sort();
            let mut expected = expected.clone();
            expected.sort();
            assert!(here == expected, "{what}");
            if !reached {
                assert!(number > 5, "{what}");
                break;
            }
        }
    }
}

fn is_torn_record(mutation: &refloat_testkit::faults::Mutation) -> bool {
    use refloat_testkit::faults::Mutation;
    matches!(
        mutation,
        Mutation::Write(file) if matches!(file.kind(), FileKind::Index | FileKind::Snapshot)
    )
}

/// The other repository lost a pack, and its index was repaired: the snapshot there is listed and
/// not whole.
#[test]
fn a_copy_that_lost_something_is_completed() {
    let (from, to) = (memory(), memory());
    let ids = generations(&from);
    drop(init(&to, ChunkerChoice::Gear));
    copy_now(&from, &to, &ids).unwrap();
    let before = all_snapshots(&to);
    let mut packs = to.list(FileKind::Pack).unwrap();
    packs.sort_unstable_by_key(|pack| pack.size);
    to.delete(&packs[packs.len() - 1].key).unwrap();
    let report = copy_now(&from, &to, &ids).unwrap();
    assert!(report.copied.is_empty(), "no second snapshot: {report:?}");
    assert!(!report.completed.is_empty(), "{report:?}");
    assert_eq!(report.completed.len() + report.present.len(), ids.len());
    let again = copy_now(&from, &to, &ids).unwrap();
    assert_eq!(again.present.len(), ids.len(), "{again:?}");
    assert!(all_snapshots(&to) == before, "whole, and none twice");
}

/// What cannot be read here cannot be compared: that is said of this one, and others go on.
#[test]
fn a_copy_that_cannot_be_compared_is_named() {
    let (from, to) = (memory(), memory());
    let ids = generations(&from);
    drop(init(&to, ChunkerChoice::Gear));
    copy_now(&from, &to, &ids[..1]).unwrap();
    let repository = open(&from).into_indexed().unwrap();
    let file = FileKey::new(FileKind::Snapshot, ids[0].0);
    let snapshot: SnapshotFile = repository.read_json(&file).unwrap();
    let root = snapshot.tree.unwrap();
    let pack = repository.index().get(BlobKind::Tree, &root).unwrap().pack;
    let key = FileKey::new(FileKind::Pack, pack.0);
    let damaged = vec![0; from.read(&key).unwrap().len()];
    from.write(&key, &damaged).unwrap();
    let report = copy_now(&from, &to, &ids[..1]).unwrap();
    assert_eq!(report.unknown.len(), 1, "{report:?}");
    assert_eq!((report.present.len(), report.copied.len()), (0, 0));
}

/// The pack with the root tree of a snapshot.
fn root_pack(repository: &IndexedRepository, id: SnapshotId) -> FileKey {
    let file = FileKey::new(FileKind::Snapshot, id.0);
    let snapshot: SnapshotFile = repository.read_json(&file).unwrap();
    let root = snapshot.tree.unwrap();
    let pack = repository.index().get(BlobKind::Tree, &root).unwrap().pack;
    FileKey::new(FileKind::Pack, pack.0)
}

/// Cuts a file off in its middle.
fn truncate(storage: &SharedStorage, file: &FileKey) {
    let bytes = storage.read(file).unwrap();
    storage.write(file, &bytes[..bytes.len() / 2]).unwrap();
}

/// A pack here that is gone, or cut off, under an old point: what is new is copied all the same.
#[test]
fn a_lost_pack_under_a_copied_point_keeps_no_new_one_from_being_copied() {
    for how in ["deleted", "cut off", "empty"] {
        let (from, to) = (memory(), memory());
        let ids = generations(&from);
        drop(init(&to, ChunkerChoice::Gear));
        copy_now(&from, &to, &ids[..1]).unwrap();
        let key = root_pack(&open(&from).into_indexed().unwrap(), ids[0]);
        match how {
            "deleted" => from.delete(&key).unwrap(),
            "cut off" => truncate(&from, &key),
            _ => from.write(&key, b"").unwrap(),
        }
        let report = copy_now(&from, &to, &ids).unwrap();
        let unknown: Vec<SnapshotId> = report.unknown.iter().map(|(id, _)| *id).collect();
        let copied: Vec<SnapshotId> = report.copied.iter().map(|(id, _)| *id).collect();
        assert_eq!((unknown, copied), (vec![ids[0]], vec![ids[1]]), "{how}");
        assert!(report.present.is_empty() && report.completed.is_empty());
        assert_eq!(all_snapshots(&to).len(), 2, "{how}");
    }
}

/// Only the hash tells that two blobs took each other's place: both are authentic.
#[test]
fn a_blob_that_is_not_what_its_id_says_is_not_copied() {
    let (from, to) = (memory(), memory());
    let ids = generations(&from);
    drop(init(&to, ChunkerChoice::Gear));
    let repository = open(&from);
    let mut swapped = Vec::new();
    for listed in from.list(FileKind::Index).unwrap() {
        let mut index: IndexFile = repository.read_json(&listed.key).unwrap();
        for pack in &mut index.packs {
            let data = pack.blobs.iter_mut();
            let mut data = data.filter(|blob| blob.kind == BlobKind::Data);
            if let (Some(one), Some(other)) = (data.next(), data.next()) {
                std::mem::swap(&mut one.id, &mut other.id);
                swapped.extend([one.id, other.id]);
            }
        }
        from.delete(&listed.key).unwrap();
        let _file = repository
            .write_json(FileKind::Index, "an index", &index)
            .unwrap();
    }
    assert!(swapped.len() >= 2);
    // If a failed proof ended the archiver for good, this would be an error of it.
    let report = copy_now(&from, &to, &ids).unwrap();
    assert_eq!(report.copied.len() + report.damaged.len(), ids.len());
    assert!(!report.damaged.is_empty());
    for (_, error) in &report.damaged {
        let RepositoryError::DamagedBlob { blob, cause, .. } = error else {
            panic!("{error:?}");
        };
        assert!(swapped.contains(blob), "{error:?}");
        assert!(cause.to_string().starts_with("the content hashes to "));
    }
    let there = open(&to).snapshots().unwrap().snapshots;
    assert_eq!(there.len(), report.copied.len());
    require_clean(&to);
}

/// A point that was never copied and is damaged is named, time after time, and the others go there.
#[test]
fn a_damaged_point_that_was_never_copied_keeps_no_other_from_being_copied() {
    for how in ["deleted", "cut off", "flipped"] {
        let (from, to) = (memory(), memory());
        let ids = generations(&from);
        drop(init(&to, ChunkerChoice::Gear));
        let key = root_pack(&open(&from).into_indexed().unwrap(), ids[0]);
        match how {
            "deleted" => from.delete(&key).unwrap(),
            "cut off" => truncate(&from, &key),
            _ => {
                let mut bytes = from.read(&key).unwrap();
                bytes.iter_mut().for_each(|byte| *byte ^= 1);
                from.write(&key, &bytes).unwrap();
            }
        }
        for copied in [vec![ids[1]], Vec::new()] {
            let report = copy_now(&from, &to, &ids).unwrap();
            let damaged: Vec<SnapshotId> = report.damaged.iter().map(|(id, _)| *id).collect();
            assert_eq!(damaged, [ids[0]], "{how}");
            let done: Vec<SnapshotId> = report.copied.iter().map(|(id, _)| *id).collect();
            assert_eq!(done, copied, "{how}");
        }
        assert_eq!(all_snapshots(&to).len(), 1, "{how}");
        require_clean(&to);
    }
}

/// The other repository lost all data, and here that of one point is damaged: it is named, and
/// every other one goes there or is completed.
#[test]
fn what_is_lost_on_both_sides_keeps_nothing_else_from_being_copied() {
    for before in [1, 2] {
        let (from, to) = (memory(), memory());
        let ids = generations(&from);
        drop(init(&to, ChunkerChoice::Gear));
        copy_now(&from, &to, &ids[..1]).unwrap();
        let here = open(&from).into_indexed().unwrap();
        let there = open(&to).into_indexed().unwrap();
        for place in there.index().iter(BlobKind::Data) {
            let place = here.index().get(BlobKind::Data, &place.blob.id).unwrap();
            let file = FileKey::new(FileKind::Pack, place.pack.0);
            let mut bytes = from.read(&file).unwrap();
            bytes[place.blob.offset as usize + 20] ^= 1;
            from.write(&file, &bytes).unwrap();
        }
        copy_now(&from, &to, &ids[..before]).unwrap();
        let there = open(&to).into_indexed().unwrap();
        for place in there.index().iter(BlobKind::Data) {
            let file = FileKey::new(FileKind::Pack, place.pack.0);
            if to.size(&file).unwrap().is_some() {
                to.delete(&file).unwrap();
            }
        }
        let report = copy_now(&from, &to, &ids).unwrap();
        let [(unknown, error)] = report.unknown.as_slice() else {
            panic!("{report:?}");
        };
        assert_eq!(*unknown, ids[0]);
        assert!(matches!(error, RepositoryError::DamagedBlob { .. }));
        let done = if before == 1 {
            &report.copied
        } else {
            &report.completed
        };
        assert_eq!(done.len(), 1, "{report:?}");
        assert_eq!(done[0].0, ids[1]);
        let again = copy_now(&from, &to, &ids).unwrap();
        assert_eq!((again.present.len(), again.unknown.len()), (1, 1));
    }
}

/// Here a repair left a part of a point, there is the whole original: that one is looked at, and
/// nothing is written; only if it lost something as well does the part go there.
#[test]
fn the_whole_original_there_is_looked_at_and_not_the_repaired_tree() {
    let (from, to) = (memory(), memory());
    let ids = generations(&from);
    drop(init(&to, ChunkerChoice::Gear));
    copy_now(&from, &to, &ids[..1]).unwrap();
    let before = all_snapshots(&to);
    let repository = open(&from);
    let read = |id: SnapshotId| {
        let file = FileKey::new(FileKind::Snapshot, id.0);
        repository.read_json::<SnapshotFile>(&file).unwrap()
    };
    let repaired = SnapshotFile {
        tree: read(ids[1]).tree,
        original: Some(ids[0]),
        tags: Some(vec![refloat_repository::repair::REPAIRED_TAG.to_owned()]),
        ..read(ids[0])
    };
    let file = repository.write_json(FileKind::Snapshot, "a snapshot", &repaired);
    let repaired = SnapshotId(*file.unwrap().id());
    let report = copy_now(&from, &to, &[repaired]).unwrap();
    assert_eq!(report.present.len(), 1, "{report:?}");
    assert_eq!(report.added.packed_bytes, 0, "{report:?}");
    assert!(all_snapshots(&to) == before);

    let mut packs = to.list(FileKind::Pack).unwrap();
    packs.sort_unstable_by_key(|pack| pack.size);
    truncate(&to, &packs[packs.len() - 1].key);
    let report = copy_now(&from, &to, &[repaired]).unwrap();
    assert_eq!(report.copied.len(), 1, "{report:?}");
    assert!(report.completed.is_empty(), "nothing can complete it");
    let again = copy_now(&from, &to, &[repaired]).unwrap();
    assert_eq!(again.present, report.copied);
    assert_eq!(again.added.packed_bytes, 0, "{again:?}");
}

/// A pack there that was cut off holds only what lies before its end.
#[test]
fn what_a_pack_that_was_cut_off_there_lacks_is_completed() {
    let (from, to) = (memory(), memory());
    let ids = generations(&from);
    drop(init(&to, ChunkerChoice::Gear));
    copy_now(&from, &to, &ids).unwrap();
    let before = all_snapshots(&to);
    for pack in to.list(FileKind::Pack).unwrap() {
        truncate(&to, &pack.key);
    }
    let report = copy_now(&from, &to, &ids).unwrap();
    assert_eq!(report.completed.len(), 2, "{report:?}");
    assert!(all_snapshots(&to) == before, "whole again");
    let again = copy_now(&from, &to, &ids).unwrap();
    assert_eq!(again.present.len(), 2, "{again:?}");
    assert_eq!(again.added.packed_bytes, 0);
}
