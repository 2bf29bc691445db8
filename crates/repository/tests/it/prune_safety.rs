//! Prune against damage, lies and clocks: whatever storage does, nothing needed goes.

use std::sync::Arc;

use refloat_repository::check::ReadData;
use refloat_repository::format::index::IndexFile;
use refloat_repository::prune::PruneError;
use refloat_repository::{BlobKind, ChunkerChoice, PackId, RepositoryError};
use refloat_storage::counting::{CountingStorage, Operation};
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKey, FileKind, SharedStorage, StorageErrorKind};
use refloat_testkit::damage::Damage;
use refloat_testkit::faults::{
    BadRead, BadReads, FaultPlan, FaultyStorage, MutationFault, Selection, ShortLists,
};
use refloat_testkit::intercept::{Call, Intercepted};
use refloat_testkit::random::Random;

use crate::oracle::*;
use crate::pruning::*;
use crate::support::*;

fn memory() -> (Arc<MemoryStorage>, SharedStorage) {
    let memory = Arc::new(MemoryStorage::new());
    let storage: SharedStorage = Arc::clone(&memory) as SharedStorage;
    (memory, storage)
}

#[test]
fn whatever_cannot_be_read_ends_the_plan_and_nothing_is_deleted() {
    // restic PR 2068: a load error during prune was not returned.
    let (original, storage) = memory();
    generations(&storage);
    let swap = Swap::new(&storage);
    let repository = open(&swap.shared()).into_indexed().unwrap();
    for kind in [FileKind::Snapshot, FileKind::Index, FileKind::Pack] {
        let files = storage.list(kind).unwrap();
        for (seed, damage) in Damage::ALL.into_iter().enumerate() {
            if kind == FileKind::Snapshot && damage == Damage::Deleted {
                continue;
            }
            let victim = files[seed % files.len()].key;
            let donor = storage.read(&files[(seed + 1) % files.len()].key).unwrap();
            let copy: SharedStorage = Arc::new(original.duplicate());
            damage.inflict(&*copy, &victim, &donor, &mut Random::new(seed as u64));
            let faulty = Arc::new(FaultyStorage::new(copy, FaultPlan::default()));
            swap.set(&(Arc::clone(&faulty) as SharedStorage));
            let ended = plan_at(&repository, frugal(), jiff::Timestamp::now());
            assert_eq!(faulty.mutations(), [], "planning writes nothing");
            let blames = match (kind, &ended) {
                (FileKind::Snapshot, Err(PruneError::UnreadableSnapshot { .. })) => true,
                // Without a needed index something needed is missing.
                (FileKind::Index, Err(error)) => matches!(
                    error,
                    PruneError::UnreadableTree { .. } | PruneError::MissingBlob { .. }
                ),
                (FileKind::Pack, Err(PruneError::MissingPacks { count, .. })) => {
                    *count == 1 && damage == Damage::Deleted
                }
                (FileKind::Pack, Err(PruneError::WrongSize { pack, .. })) => pack.0 == *victim.id(),
                (FileKind::Pack, Err(PruneError::UnreadableTree { .. })) => true,
                // Neither data nor headers are read to plan; what is copied is verified then.
                (FileKind::Pack, Ok(_)) => {
                    check_with(&repository, ReadData::None).is_clean() && !damage.changes_size()
                }
                _ => false,
            };
            assert!(blames, "{damage:?} of {victim}: {ended:?}");
        }
    }
}

#[test]
fn damaged_data_is_never_copied_and_ends_the_prune_with_everything_still_there() {
    let flip: fn(&mut Vec<u8>) = |bytes| bytes.iter_mut().step_by(1000).for_each(|byte| *byte ^= 1);
    let cut: fn(&mut Vec<u8>) = |bytes| bytes.truncate(60_000);
    for spoil in [flip, cut] {
        let (_, storage) = memory();
        generations(&storage);
        let now = jiff::Timestamp::now();
        let repository = open(&storage);
        let prepared = plan_at(&repository, thorough(), now).unwrap();
        for pack in &prepared.plan().repack {
            let file = FileKey::new(FileKind::Pack, pack.0);
            let mut bytes = storage.read(&file).unwrap();
            spoil(&mut bytes);
            storage.delete(&file).unwrap();
            storage.write(&file, &bytes).unwrap();
        }
        let listed = storage.list(FileKind::Pack).unwrap();
        let ended = execute_at(prepared, &repository, now);
        assert!(
            matches!(
                ended,
                Err(PruneError::Repository(RepositoryError::DamagedBlob { .. }))
            ),
            "{ended:?}"
        );
        let left = storage.list(FileKind::Pack).unwrap();
        assert!(listed.iter().all(|file| left.contains(file)));
    }
}

#[test]
fn a_blob_that_breaks_on_its_way_is_read_again_and_no_other() {
    let (original, storage) = memory();
    generations(&storage);
    let before = all_snapshots(&storage);
    let now = jiff::Timestamp::now();
    let reads_with = |reads: Selection| {
        let copy: SharedStorage = Arc::new(original.duplicate());
        let counting = Arc::new(CountingStorage::new(Arc::clone(&copy)));
        let swap = Swap::new(&copy);
        let repository = open(&swap.shared());
        let prepared = plan_at(&repository, thorough(), now).unwrap();
        let reads = BadReads {
            reads,
            kinds: vec![FileKind::Pack],
            how: BadRead::FlippedBit,
        };
        let plan = FaultPlan {
            reads: Some(reads),
            ..FaultPlan::default()
        };
        let faulty = FaultyStorage::new(Arc::clone(&counting) as SharedStorage, plan);
        swap.set(&(Arc::new(faulty) as SharedStorage));
        let report = execute_at(prepared, &repository, now).unwrap();
        assert!(report.packs_written > 0);
        swap.set(&copy);
        assert!(all_snapshots(&copy) == before);
        assert!(check_with(&repository, ReadData::All).is_clean());
        counting.counts().of(Operation::Read, FileKind::Pack).calls
    };
    let undisturbed = reads_with(Selection::First(0));
    assert_eq!(reads_with(Selection::First(1)), undisturbed + 1);
}

#[test]
fn a_prune_reads_of_its_packs_what_it_copies() {
    let (_, storage) = memory();
    drop(init(&storage, ChunkerChoice::Gear));
    let back_up = |kept: &dyn Fn(u64) -> bool| {
        let files = (0..24).filter(|number| kept(*number));
        let files = files.map(|number| (format!("file-{number}"), (1, noise(900_000, number))));
        let files: Files = files.collect();
        backup_into_packs(&storage, 8 << 20, |builder| {
            push(builder, &files, &Arc::default())
        })
        .id
    };
    let first = back_up(&|_| true);
    back_up(&|number| number % 3 == 0);
    delete_snapshots(&storage, &[first]);
    let counting = Arc::new(CountingStorage::new(storage));
    let repository = open(&(Arc::clone(&counting) as SharedStorage));
    let now = jiff::Timestamp::now();
    let prepared = plan_at(&repository, thorough(), now).unwrap();
    drop(counting.take());
    let report = execute_at(prepared, &repository, now).unwrap();
    let read = counting.counts().of(Operation::Read, FileKind::Pack);
    // Some gaps between them are short enough to be read.
    assert!(report.bytes_written > 0);
    assert!(
        report.bytes_deleted > report.bytes_written + (8 << 20),
        "{report:?}"
    );
    assert!(read.bytes <= report.bytes_written + (4 << 20), "{read:?}");
}

#[test]
fn a_short_listing_never_deletes_anything() {
    let (original, storage) = memory();
    generations(&storage);
    let before = all_snapshots(&storage);
    let swap = Swap::new(&storage);
    let repository = open(&swap.shared()).into_indexed().unwrap();
    let now = jiff::Timestamp::now();
    let (mut refused, mut done) = (0, 0);
    for seed in 0..150 {
        let copy: SharedStorage = Arc::new(original.duplicate());
        let kinds = match seed % 3 {
            0 => vec![FileKind::Pack],
            1 => vec![FileKind::Index],
            _ => vec![FileKind::Pack, FileKind::Index],
        };
        let lists = ShortLists {
            lists: Selection::All,
            kinds,
            seed,
            per_mille: 100,
        };
        let plan = FaultPlan {
            lists: Some(lists),
            ..FaultPlan::default()
        };
        swap.set(&(Arc::new(FaultyStorage::new(Arc::clone(&copy), plan)) as SharedStorage));
        match prune_at(&repository, frugal(), now) {
            Ok(_) => done += 1,
            Err(_) => refused += 1,
        }
        swap.set(&copy);
        assert!(all_of(&repository) == before, "seed {seed}");
    }
    assert!(refused > 30 && done > 30, "{refused} refused, {done} done");
}

#[test]
fn a_plan_beside_a_prune_that_ends_says_that_the_repository_changed() {
    let (_, storage) = memory();
    generations(&storage);
    let before = all_snapshots(&storage);
    let inner = Arc::clone(&storage);
    let done = std::sync::atomic::AtomicBool::new(false);
    // The other prune ends between the reading of the indexes and the listing of packs.
    let gate = move |call: Call| {
        let is_now = matches!(call, Call::List(FileKind::Pack));
        if is_now && !done.swap(true, std::sync::atomic::Ordering::SeqCst) {
            drop(prune(&inner, thorough()));
        }
        Ok(())
    };
    let beside: SharedStorage = Arc::new(Intercepted::new(Arc::clone(&storage), Box::new(gate)));
    let refused = plan_at(&open(&beside), thorough(), jiff::Timestamp::now());
    assert!(
        matches!(refused, Err(PruneError::StateChanged)),
        "{refused:?}"
    );
    require_spotless(&storage);
    assert!(all_snapshots(&storage) == before);
}

#[test]
fn packs_without_index_go_when_both_clocks_say_that_they_are_old() {
    let (memory, storage) = memory();
    let start: jiff::Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
    let hours = |hours: i64| start + jiff::SignedDuration::from_hours(hours);
    let orphan = |byte: u8| {
        let file = FileKey::new(FileKind::Pack, [byte; 32]);
        storage.write(&file, b"orphan").unwrap();
        PackId([byte; 32])
    };
    generations(&storage);
    let ageless = orphan(1);
    memory.set_clock(start.into());
    let old = orphan(2);
    memory.set_clock(hours(20).into());
    let young = orphan(3);
    memory.set_clock(hours(25).into());
    let index = storage.list(FileKind::Index).unwrap()[0].key;
    let repository = open(&storage);
    let file: IndexFile = repository.read_json(&index).unwrap();
    storage.delete(&index).unwrap();
    repository
        .write_json(FileKind::Index, "an index", &file)
        .unwrap();

    let plan = |now| plan_at(&repository, frugal(), now).unwrap().plan().clone();
    let doomed = |now| plan(now).delete_unindexed.into_iter().collect::<Vec<_>>();
    assert_eq!(doomed(hours(25)), [old]);
    assert_eq!(plan(hours(25)).statistics.young_unindexed, 2);
    assert_eq!(doomed(hours(5)), [], "ours says that it is young");
    assert_eq!(
        doomed(hours(100_000)),
        [old],
        "a jump of ours alone deletes nothing more"
    );
    let report = prune_at(&repository, frugal(), hours(25)).unwrap();
    assert_eq!(report.packs_kept.len(), 0);
    let listed = storage.list(FileKind::Pack).unwrap();
    let is_there = |pack: PackId| listed.iter().any(|file| *file.key.id() == pack.0);
    assert_eq!(
        (is_there(ageless), is_there(old), is_there(young)),
        (true, false, true)
    );
}

#[test]
fn clocks_that_differ_by_more_than_five_minutes_end_a_prune() {
    let (memory, storage) = memory();
    generations(&storage);
    let now = jiff::Timestamp::now();
    let repository = open(&storage);
    for minutes in [-6, 6, 60 * 24 * 3650] {
        memory.set_clock((now + jiff::SignedDuration::from_mins(minutes)).into());
        for options in [thorough(), frugal()] {
            let refused = prune_at(&repository, options, now);
            assert!(
                matches!(refused, Err(PruneError::ClockSkew { seconds }) if seconds == -60 * minutes),
                "{refused:?}"
            );
        }
    }
    memory.set_clock((now + jiff::SignedDuration::from_mins(4)).into());
    let _report = prune_at(&repository, thorough(), now).unwrap();
    require_spotless(&storage);
}

#[test]
fn a_full_or_read_only_disk_at_any_step_loses_nothing() {
    let (original, storage) = memory();
    generations(&storage);
    let before = all_snapshots(&storage);
    let swap = Swap::new(&storage);
    let repository = open(&swap.shared()).into_indexed().unwrap();
    let now = jiff::Timestamp::now();
    for kind in [
        StorageErrorKind::Full,
        StorageErrorKind::Failed,
        StorageErrorKind::Denied,
    ] {
        for at in 1.. {
            let copy: SharedStorage = Arc::new(original.duplicate());
            let mutation = Some(MutationFault::refuse_from(at, kind));
            let plan = FaultPlan {
                mutation,
                ..FaultPlan::default()
            };
            let faulty = Arc::new(FaultyStorage::new(Arc::clone(&copy), plan));
            swap.set(&(Arc::clone(&faulty) as SharedStorage));
            let ended = prune_at(&repository, thorough(), now);
            let reached = faulty.mutations().len() as u64 >= at;
            swap.set(&copy);
            assert!(all_of(&repository) == before, "{kind:?} at {at}");
            let found = check_with(&repository, refloat_repository::check::ReadData::None);
            assert!(found.is_clean(), "{kind:?} at {at}: {:?}", found.findings);
            if !reached {
                assert!(ended.is_ok());
                break;
            }
            if let Ok(report) = ended {
                let kept = report.packs_kept.len() + report.indexes_kept.len();
                // Unlocking is tried three times.
                let only_lock_stayed = kept == 0 && at + 3 >= faulty.mutations().len() as u64;
                let denied = kind == StorageErrorKind::Denied && kept > 0;
                assert!(denied || only_lock_stayed, "{kind:?} at {at}: {report:?}");
            }
        }
    }
}

#[test]
fn a_pack_split_between_two_indexes_survives_their_rewriting() {
    // restic #21820: since 0.17 any rewriting of indexes could drop part of such a pack.
    let (_, storage) = memory();
    generations(&storage);
    let before = all_snapshots(&storage);
    let repository = open(&storage);
    for listed in storage.list(FileKind::Index).unwrap() {
        let file: IndexFile = repository.read_json(&listed.key).unwrap();
        let (mut odd, mut even) = (file.clone(), file);
        let halves = odd.packs.iter_mut().zip(&mut even.packs);
        for (first, second) in halves {
            second.blobs = first.blobs.split_off(first.blobs.len() / 2);
        }
        for half in [odd, even] {
            repository
                .write_json(FileKind::Index, "an index", &half)
                .unwrap();
        }
        storage.delete(&listed.key).unwrap();
    }
    require_spotless(&storage);
    let report = prune(&storage, thorough());
    assert!(report.indexes_deleted > 0);
    require_spotless(&storage);
    assert!(all_snapshots(&storage) == before);
}

#[test]
fn blobs_that_are_there_twice_keep_one_place_even_within_one_pack() {
    // rustic #392: packs that held a needed blob more than once were removed.
    let (_, storage) = memory();
    drop(init(&storage, ChunkerChoice::Gear));
    let zeros = Files::from([("zeros".to_owned(), (1, vec![0; 9 << 20]))]);
    let one = backup(&storage, &zeros).id;
    let before = all_snapshots(&storage);
    let repository = open(&storage).into_indexed().unwrap();
    let place = repository.index().iter(BlobKind::Data).next().unwrap();
    let packs: Vec<PackId> = (0..3)
        .map(|seed| pack_with_repeats(&repository, &place, seed))
        .collect();
    let original = FileKey::new(FileKind::Pack, place.pack.0);
    for options in [frugal(), thorough()] {
        let report = prune(&storage, options);
        assert_eq!(report.packs_kept.len(), 0);
        // The plan is right by itself, and not only because the last look mends it.
        assert!(report.packs_needed_again.is_empty());
        require_clean(&storage);
        assert!(all_snapshots(&storage) == before, "{options:?}");
    }
    assert!(one == *before.keys().next().unwrap());
    require_spotless(&storage);
    let left = storage.list(FileKind::Pack).unwrap();
    let places = packs
        .iter()
        .map(|pack| FileKey::new(FileKind::Pack, pack.0))
        .chain([original]);
    let left = places
        .filter(|place| left.iter().any(|file| file.key == *place))
        .count();
    assert!(left <= 1, "{left} of four places are left");
}

/// A pack that holds one blob three times, and its index.
fn pack_with_repeats(
    repository: &refloat_repository::IndexedRepository,
    place: &refloat_repository::index::Location,
    seed: usize,
) -> PackId {
    use refloat_repository::format::pack::{PackedBlob, finish_pack};
    let file = FileKey::new(FileKind::Pack, place.pack.0);
    let offset = place.blob.offset.into();
    let sealed = repository
        .storage()
        .read_range(&file, offset, place.blob.length as usize)
        .unwrap();
    let (mut bytes, mut blobs) = (Vec::new(), Vec::new());
    for _ in 0..2 + seed {
        let offset = u32::try_from(bytes.len()).unwrap();
        bytes.extend_from_slice(&sealed);
        blobs.push(PackedBlob {
            offset,
            ..place.blob
        });
    }
    finish_pack(repository.codec().cipher(), &mut bytes, &blobs).unwrap();
    let id = PackId(refloat_repository::id::sha256(&bytes));
    repository
        .storage()
        .write(&FileKey::new(FileKind::Pack, id.0), &bytes)
        .unwrap();
    let blobs = blobs.into_iter().map(Into::into).collect();
    let packs = vec![refloat_repository::format::index::IndexPack { id, blobs }];
    let file = IndexFile {
        supersedes: Vec::new(),
        packs,
    };
    repository
        .write_json(FileKind::Index, "an index", &file)
        .unwrap();
    id
}
