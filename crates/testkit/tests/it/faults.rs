//! Faults strike where the plan says, and nowhere else.

use std::sync::Arc;

use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKey, FileKind, SharedStorage, Storage, StorageErrorKind};
use refloat_testkit::faults::{
    BadRead, BadReads, FaultPlan, FaultyStorage, Lie, Lies, MutationEffect, MutationFault,
    Selection, ShortLists,
};

const fn pack(number: u8) -> FileKey {
    FileKey::new(FileKind::Pack, [number; 32])
}

fn memory() -> Arc<MemoryStorage> {
    Arc::new(MemoryStorage::new())
}

fn faulty(inner: &Arc<MemoryStorage>, plan: FaultPlan) -> FaultyStorage {
    FaultyStorage::new(Arc::clone(inner) as SharedStorage, plan)
}

#[test]
fn a_crash_leaves_what_its_effect_says_and_ends_everything() {
    let table = [
        (MutationEffect::NotDone, None),
        (
            MutationEffect::DoneUnacknowledged,
            Some(b"12345678".to_vec()),
        ),
        (MutationEffect::Torn, Some(b"1234".to_vec())),
    ];
    for (effect, left) in table {
        let inner = memory();
        let storage = FaultyStorage::crashing(Arc::clone(&inner) as _, 3, effect);
        storage.create().unwrap();
        storage.write(&pack(1), b"first").unwrap();
        assert!(!storage.is_crashed());
        let error = storage.write(&pack(2), b"12345678").unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::Failed);
        assert!(storage.is_crashed());
        assert_eq!(inner.read(&pack(2)).ok(), left, "{effect:?}");

        storage.read(&pack(1)).unwrap_err();
        storage.read_range(&pack(1), 0, 1).unwrap_err();
        storage.size(&pack(1)).unwrap_err();
        storage.list(FileKind::Pack).unwrap_err();
        storage.delete(&pack(1)).unwrap_err();
        storage.write(&pack(3), b"late").unwrap_err();
        storage.create().unwrap_err();
        assert_eq!(inner.read(&pack(1)).unwrap(), b"first");
        assert_eq!(inner.size(&pack(3)).unwrap(), None);
        let log: Vec<_> = storage
            .mutations()
            .iter()
            .map(ToString::to_string)
            .collect();
        let (first, second) = (pack(1), pack(2));
        assert_eq!(
            log,
            [
                "create".to_owned(),
                format!("write {first}"),
                format!("write {second}")
            ]
        );
    }
}

#[test]
fn a_crash_may_hit_a_deletion() {
    for (effect, size) in [
        (MutationEffect::NotDone, Some(4)),
        (MutationEffect::DoneUnacknowledged, None),
        (MutationEffect::Torn, None),
    ] {
        let inner = memory();
        inner.write(&pack(1), b"pack").unwrap();
        let storage = FaultyStorage::crashing(Arc::clone(&inner) as _, 1, effect);
        storage.delete(&pack(1)).unwrap_err();
        assert_eq!(inner.size(&pack(1)).unwrap(), size, "{effect:?}");
    }
}

#[test]
fn refusals_pass_or_stay() {
    let kind = StorageErrorKind::Full;
    let attempt = |fault| {
        let plan = FaultPlan {
            mutation: Some(fault),
            ..FaultPlan::default()
        };
        let storage = faulty(&memory(), plan);
        [1, 2, 3, 4].map(|number| storage.write(&pack(number), b"x").map_err(|e| e.kind()))
    };
    assert_eq!(
        attempt(MutationFault::refuse_once(2, kind)),
        [Ok(()), Err(kind), Ok(()), Ok(())]
    );
    assert_eq!(
        attempt(MutationFault::refuse_from(3, kind)),
        [Ok(()), Ok(()), Err(kind), Err(kind)]
    );
}

#[test]
fn short_lists_hide_the_same_share_every_time() {
    let inner = memory();
    for number in 0..=u8::MAX {
        inner.write(&pack(number), b"pack").unwrap();
    }
    let plan = FaultPlan {
        lists: Some(ShortLists {
            lists: Selection::First(2),
            kinds: vec![FileKind::Pack],
            seed: 42,
            per_mille: 100,
        }),
        ..FaultPlan::default()
    };
    let storage = faulty(&inner, plan);
    let first = storage.list(FileKind::Pack).unwrap();
    assert_eq!(first.len(), 228);
    assert_eq!(storage.list(FileKind::Pack).unwrap(), first);
    assert_eq!(storage.list(FileKind::Pack).unwrap().len(), 256);
    assert_eq!(storage.read(&pack(0)).unwrap(), b"pack");
}

#[test]
fn bad_reads_strike_the_chosen_kind_only() {
    let inner = memory();
    let lock = FileKey::new(FileKind::Lock, [1; 32]);
    let good = vec![0; 1_000];
    inner.write(&pack(1), &good).unwrap();
    inner.write(&lock, &good).unwrap();
    let with = |how| {
        let reads = Some(BadReads {
            reads: Selection::Nth(2),
            kinds: vec![FileKind::Pack],
            how,
        });
        let storage = faulty(
            &inner,
            FaultPlan {
                reads,
                ..FaultPlan::default()
            },
        );
        assert_eq!(storage.read(&lock).unwrap(), good);
        assert_eq!(storage.read(&pack(1)).unwrap(), good);
        let second = storage.read_range(&pack(1), 0, 1_000);
        assert_eq!(storage.read(&pack(1)).unwrap(), good);
        second
    };
    let flipped = with(BadRead::FlippedBit).unwrap();
    let ones: u32 = flipped.iter().map(|byte| byte.count_ones()).sum();
    assert_eq!((flipped.len(), ones), (1_000, 1));
    assert_eq!(with(BadRead::Cut).unwrap().len(), 500);
    let denied = with(BadRead::Error(StorageErrorKind::Denied)).unwrap_err();
    assert_eq!(denied.kind(), StorageErrorKind::Denied);
}

#[test]
fn lies_report_success() {
    for (lie, stored) in [
        (Lie::Absent, None),
        (Lie::Cut, Some(b"ab".to_vec())),
        (Lie::FlippedBit, Some(b"abbd".to_vec())),
    ] {
        let inner = memory();
        let lies = Some(Lies {
            writes: Selection::Nth(2),
            kinds: vec![FileKind::Pack],
            lie,
        });
        let storage = faulty(
            &inner,
            FaultPlan {
                lies,
                ..FaultPlan::default()
            },
        );
        storage.write(&FileKey::CONFIG, b"not counted").unwrap();
        storage.write(&pack(1), b"true").unwrap();
        storage.write(&pack(2), b"abcd").unwrap();
        assert_eq!(inner.read(&pack(1)).unwrap(), b"true");
        assert_eq!(inner.read(&pack(2)).ok(), stored, "{lie:?}");
    }
}
