//! Every storage and every decorator keeps the contract.

use std::sync::Arc;
use std::time::Duration;

use refloat_model::cancel::Cancel;
use refloat_storage::SharedStorage;
use refloat_storage::cache::CachedStorage;
use refloat_storage::concurrency::LimitedStorage;
use refloat_storage::counting::CountingStorage;
use refloat_storage::local::LocalStorage;
use refloat_storage::memory::MemoryStorage;
use refloat_storage::pace::{Pace, PacedStorage, Traffic};
use refloat_storage::retry::{RetryLimits, RetryStorage, SystemWorld};
use refloat_testkit::conformance;
use refloat_testkit::faults::{
    BadRead, BadReads, FaultPlan, FaultyStorage, Lie, Lies, Selection, ShortLists,
};
use refloat_testkit::latency::{Latency, SlowStorage};

fn memory() -> SharedStorage {
    Arc::new(MemoryStorage::new())
}

#[test]
fn memory_keeps_the_contract() {
    conformance::run(memory);
}

#[test]
fn a_local_folder_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let number = std::cell::Cell::new(0);
    conformance::run(|| {
        number.set(number.get() + 1);
        let root = folder.path().join(format!("{}/repository", number.get()));
        Arc::new(LocalStorage::new(root))
    });
    let root = folder.path().join("twice");
    conformance::run_two_openings(&LocalStorage::new(&root), &LocalStorage::new(&root));
}

#[test]
fn counting_keeps_the_contract() {
    conformance::run(|| Arc::new(CountingStorage::new(memory())));
}

#[test]
fn limiting_keeps_the_contract() {
    conformance::run(|| Arc::new(LimitedStorage::new(memory(), 3)));
}

#[test]
fn pacing_keeps_the_contract() {
    conformance::run(|| {
        let pace = || Some(Arc::new(Pace::new(1_000_000_000)));
        let traffic = Traffic {
            upload: pace(),
            download: pace(),
        };
        Arc::new(PacedStorage::new(memory(), traffic))
    });
}

#[test]
fn caching_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let number = std::cell::Cell::new(0);
    let cached = |storage| {
        number.set(number.get() + 1);
        let copies = LocalStorage::new(folder.path().join(number.get().to_string()));
        CachedStorage::new(storage, copies)
    };
    conformance::run(|| Arc::new(cached(memory())));
    let shared = memory();
    let (first, second) = (cached(Arc::clone(&shared)), cached(shared));
    conformance::run_two_openings(&first, &second);
}

#[test]
fn retrying_keeps_the_contract() {
    conformance::run(|| {
        let world = Arc::new(SystemWorld::new(Cancel::default()));
        Arc::new(RetryStorage::new(memory(), RetryLimits::default(), world))
    });
}

#[test]
fn retrying_hides_faults_that_pass() {
    conformance::run(|| {
        let plan = FaultPlan {
            reads: Some(BadReads {
                reads: Selection::Sample {
                    seed: 1,
                    per_mille: 200,
                },
                kinds: refloat_storage::FileKind::FOLDERS.to_vec(),
                how: BadRead::Error(refloat_storage::StorageErrorKind::Unavailable),
            }),
            ..FaultPlan::default()
        };
        let faulty = Arc::new(FaultyStorage::new(memory(), plan));
        let limits = RetryLimits {
            attempts_max: 20,
            first_pause_max: Duration::from_micros(10),
            pause_max: Duration::from_micros(50),
            deadline: Duration::from_mins(5),
            first_deadline: Duration::from_mins(5),
        };
        let world = Arc::new(SystemWorld::new(Cancel::default()));
        Arc::new(RetryStorage::new(faulty, limits, world))
    });
}

#[test]
fn slowness_keeps_the_contract() {
    conformance::run(|| {
        let latency = Latency {
            per_call: Duration::from_micros(20),
            bytes_per_second: Some(10_000_000_000),
            connections: 4,
        };
        Arc::new(SlowStorage::new(memory(), latency))
    });
}

#[test]
fn faults_that_do_not_strike_keep_the_contract() {
    conformance::run(|| Arc::new(FaultyStorage::new(memory(), FaultPlan::default())));
}

/// The suite is no good if storages that break the contract pass it.
#[test]
fn the_suite_finds_storages_that_break_the_contract() {
    let kinds = refloat_storage::FileKind::FOLDERS.to_vec();
    let lies = |lie| FaultPlan {
        lies: Some(Lies {
            writes: Selection::All,
            kinds: kinds.clone(),
            lie,
        }),
        ..FaultPlan::default()
    };
    let reads = |how| FaultPlan {
        reads: Some(BadReads {
            reads: Selection::All,
            kinds: kinds.clone(),
            how,
        }),
        ..FaultPlan::default()
    };
    let lists = FaultPlan {
        lists: Some(ShortLists {
            lists: Selection::All,
            kinds: kinds.clone(),
            seed: 1,
            per_mille: 100,
        }),
        ..FaultPlan::default()
    };
    let broken = [
        lies(Lie::Absent),
        lies(Lie::Cut),
        lies(Lie::FlippedBit),
        reads(BadRead::FlippedBit),
        reads(BadRead::Cut),
        lists,
    ];
    for plan in broken {
        let suite = std::panic::catch_unwind(|| {
            conformance::run(|| Arc::new(FaultyStorage::new(memory(), plan.clone())));
        });
        assert!(suite.is_err(), "the suite passed with {plan:?}");
    }
}
