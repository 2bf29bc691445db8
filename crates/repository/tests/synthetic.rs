//! An index of many blobs and many snapshots, without their data.
//!
//! Usually 100,000 blobs and 200 snapshots. The large tier is set by
//! `REFLOAT_SYNTHETIC_BLOBS=10000000`, `REFLOAT_SYNTHETIC_SNAPSHOTS=10000` and, to keep the
//! repository for measuring commands, `REFLOAT_SYNTHETIC_FOLDER` (the password is "x"). What commands take over it is held
//! in the program's tests (`ceilings`).
#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use refloat_model::secret::Secret;
use refloat_repository::format::snapshot::SnapshotFile;
use refloat_repository::{BlobKind, Repository};
use refloat_storage::local::LocalStorage;
use refloat_testkit::synthetic::{BLOB_BYTES, BLOBS_PER_PACK, PASSWORD, blob_id, make, pack_id};

/// How many times longer an unoptimised build may take.
const SLOWER: u64 = if cfg!(debug_assertions) { 10 } else { 1 };

/// A number from the environment.
fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

#[test]
fn a_large_index_and_many_snapshots_load_whole_and_in_time() {
    let blobs = setting("REFLOAT_SYNTHETIC_BLOBS", 100_000);
    let snapshots = setting("REFLOAT_SYNTHETIC_SNAPSHOTS", 200);
    let temporary = tempfile::tempdir().unwrap();
    let folder = std::env::var("REFLOAT_SYNTHETIC_FOLDER")
        .map_or_else(|_unset| temporary.path().join("repository"), Into::into);
    make(&folder, blobs, snapshots);

    let storage = Arc::new(LocalStorage::new(&folder));
    let repository = Repository::open(storage, &Secret::new(PASSWORD)).unwrap();
    let start = Instant::now();
    let listed = repository.snapshots().unwrap();
    let listing = start.elapsed();
    assert_eq!(listed.snapshots.len() as u64, snapshots);
    assert!(listed.unreadable.is_empty());
    let in_order = |pair: &[(_, SnapshotFile)]| pair[0].1.time.instant() < pair[1].1.time.instant();
    assert!(listed.snapshots.windows(2).all(in_order));
    drop(listed);

    let start = Instant::now();
    let repository = repository.into_indexed().unwrap();
    let loading = start.elapsed();
    let index = repository.index();
    assert_eq!(index.count(BlobKind::Data) as u64, blobs);
    for number in [0, blobs / 2, blobs - 1] {
        let (pack, blob) = (number / BLOBS_PER_PACK, number % BLOBS_PER_PACK);
        let found = index.get(BlobKind::Data, &blob_id(pack, blob)).unwrap();
        assert_eq!(found.pack, pack_id(pack));
        assert_eq!(u64::from(found.blob.offset), blob * u64::from(BLOB_BYTES));
    }
    println!("{blobs} blobs loaded in {loading:?}, {snapshots} snapshots listed in {listing:?}");
    // Bounds for what this is about, not for the machine: a test build takes a few times as long.
    assert!(loading < Duration::from_secs(60), "{loading:?}");
    assert!(listing < Duration::from_secs(2 * SLOWER), "{listing:?}");
}
