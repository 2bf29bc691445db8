//! What blocks and the cache spare a backup: calls to storage for trees.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_repository::check::{CheckOptions, check};
use refloat_repository::format::pack::BlobKind;
use refloat_repository::{
    BlobId, BlobReader as _, ChunkerChoice, IndexedRepository, RepositoryError,
};
use refloat_storage::cache::CachedStorage;
use refloat_storage::counting::{CountingStorage, Operation};
use refloat_storage::local::LocalStorage;
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{FileKey, FileKind, SharedStorage, Storage as _};
use refloat_testkit::intercept::{Call, Intercepted};

use crate::support::{Backup, Files, backup, init, newest_tree, noise, open};

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
    for (name, calls) in [(None, 2..12), (Some("a"), 0..1), (Some("b"), 1..2)] {
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
    assert!((2..12).contains(&pack_reads()));
}

/// A repository with these files, and the backup that brought them.
fn stored() -> (Arc<MemoryStorage>, SharedStorage, Backup) {
    let memory = Arc::new(MemoryStorage::new());
    let direct = Arc::clone(&memory) as SharedStorage;
    drop(init(&direct, ChunkerChoice::Gear));
    let first = backup(&direct, &files());
    (memory, direct, first)
}

/// How many trees are below this one, and it.
fn trees_below(repository: &IndexedRepository, tree: BlobId) -> Result<usize, RepositoryError> {
    let nodes = repository.read_tree(tree)?;
    let mut below = nodes.iter().filter_map(|node| node.subtree);
    below.try_fold(1, |sum, tree| Ok(sum + trees_below(repository, tree)?))
}

#[test]
fn a_block_that_is_damaged_on_its_way_hides_no_tree() {
    let (memory, direct, first) = stored();
    let tree = newest_tree(&open(&direct));
    let packs = direct.list(FileKind::Pack).unwrap();
    let packs = packs
        .iter()
        .map(|pack| (pack.key, memory.read(&pack.key).unwrap()));
    let packs: BTreeMap<FileKey, Vec<u8>> = packs.collect();
    // The first read is of one tree, the second of a block. (which are damaged, all trees come back)
    for (damaged, comes_back) in [(2..3, true), (2..4, false), (1..2, false)] {
        let (calls, inner) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&memory));
        let (counted, whole) = (Arc::clone(&calls), packs.clone());
        let gate = move |call| {
            let Call::Read(file) = call else {
                return Ok(());
            };
            let Some(pack) = whole.get(&file) else {
                return Ok(());
            };
            let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
            let flip = u8::from(damaged.contains(&number));
            let answer: Vec<u8> = pack.iter().map(|byte| byte ^ flip).collect();
            inner.write(&file, &answer)
        };
        let storage = Intercepted::new(Arc::clone(&direct), Box::new(gate));
        let repository = open(&(Arc::new(storage) as SharedStorage));
        let repository = repository.into_indexed().unwrap();
        let found = trees_below(&repository, tree);
        assert_eq!(found.is_ok(), comes_back, "{found:?}");
        if let Ok(found) = found {
            assert_eq!(found as u64, first.added.tree_blobs);
            let read = calls.load(Ordering::SeqCst);
            assert!(read > 100, "each at its own place: {read}");
        }
    }
}

#[test]
fn a_flipped_bit_in_any_tree_is_found_without_reading_data() {
    let (memory, direct, _first) = stored();
    // One repository for all, as a process has that looks twice.
    let repository = open(&direct);
    let judge = || {
        let (options, counters) = (CheckOptions::default(), Counters::default());
        let report = check(&repository, &options, &counters, &Cancel::default()).unwrap();
        report.findings
    };
    assert!(judge().is_empty());
    let indexed = open(&direct).into_indexed().unwrap();
    let trees: Vec<_> = indexed.index().iter(BlobKind::Tree).collect();
    assert!(trees.len() > 100, "{}", trees.len());
    for tree in trees.iter().step_by(7) {
        let pack = FileKey::new(FileKind::Pack, tree.pack.0);
        let whole = memory.read(&pack).unwrap();
        let mut damaged = whole.clone();
        damaged[(tree.blob.offset + tree.blob.length / 2) as usize] ^= 4;
        memory.write(&pack, &damaged).unwrap();
        let findings = judge();
        let named = findings
            .iter()
            .any(|found| format!("{found:?}").contains(&tree.blob.id.to_string()));
        assert!(named, "{}: {findings:?}", tree.blob.id);
        memory.write(&pack, &whole).unwrap();
        assert!(judge().is_empty(), "mended");
    }
}
