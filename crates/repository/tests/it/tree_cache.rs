//! What the cache spares a backup: calls to storage for trees.

use std::sync::Arc;

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_repository::ChunkerChoice;
use refloat_repository::check::{CheckOptions, check};
use refloat_storage::cache::CachedStorage;
use refloat_storage::counting::{CountingStorage, Operation};
use refloat_storage::local::LocalStorage;
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKind, SharedStorage};

use crate::support::{Files, backup, init, noise, open};

/// Many directories, so many trees.
fn files() -> Files {
    let file = |n: u64| (format!("d{:02}/e{}/f", n % 40, n / 40), (7, noise(900, n)));
    (0..120).map(file).collect()
}

#[test]
fn trees_are_not_asked_for_one_by_one() {
    let (memory, folder) = (Arc::new(MemoryStorage::new()), tempfile::tempdir().unwrap());
    let counting = Arc::new(CountingStorage::new(memory as SharedStorage));
    let direct = Arc::clone(&counting) as SharedStorage;
    let through_cache = |name: &str| -> SharedStorage {
        let copies = LocalStorage::new(folder.path().join(name));
        Arc::new(CachedStorage::new(Arc::clone(&direct), copies))
    };
    let pack_reads = || counting.take().of(Operation::Read, FileKind::Pack).calls;
    drop(init(&direct, ChunkerChoice::Gear));
    let first = backup(&through_cache("a"), &files());
    assert!(
        first.reads == 120 && first.added.tree_blobs > 100,
        "{:?}",
        first.added
    );
    let _first = pack_reads();
    // (whose cache, calls): none; that of the machine that wrote them; an empty one.
    for (name, calls) in [(None, 100..1000), (Some("a"), 0..1), (Some("b"), 1..2)] {
        let storage = name.map_or_else(|| Arc::clone(&direct), through_cache);
        let again = backup(&storage, &files());
        assert_eq!(
            (again.reads, again.tree.nodes == first.tree.nodes),
            (0, true),
            "{name:?}"
        );
        let found = pack_reads();
        assert!(calls.contains(&found), "{name:?}: {found} calls");
    }
    // What verifies looks into storage itself.
    let checked = open(&through_cache("a"));
    let (options, counters) = (CheckOptions::default(), Counters::default());
    let report = check(&checked, &options, &counters, &Cancel::default()).unwrap();
    assert!(report.findings.is_empty(), "{report:?}");
    assert!(pack_reads() > 100);
}
