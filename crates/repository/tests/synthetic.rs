//! An index of many blobs and many snapshots, without their data: sizes that would take days to
//! back up.
//!
//! Usually 100,000 blobs and 200 snapshots. The large tier is set by
//! `REFLOAT_SYNTHETIC_BLOBS=10000000`, `REFLOAT_SYNTHETIC_SNAPSHOTS=10000` and, to keep the
//! repository for measuring commands, `REFLOAT_SYNTHETIC_FOLDER` (the password is "x"). Packs are
//! sparse files of the sizes that the index asks for.
//!
//! Invariant: everything that is read without reading packs is as in a real repository.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::error::Error;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use refloat_model::secret::Secret;
use refloat_repository::format::index::{IndexBlob, IndexFile, IndexPack};
use refloat_repository::format::snapshot::SnapshotFile;
use refloat_repository::id::sha256;
use refloat_repository::{BlobId, BlobKind, InitOptions, PackId, Repository};
use refloat_storage::local::LocalStorage;
use refloat_storage::{FileKey, FileKind};

const BLOBS_PER_PACK: u64 = 4000;
const PACKS_PER_INDEX: u64 = 12;
/// Sealed bytes of each blob; the plaintext is twice as long.
const BLOB_BYTES: u32 = 4096;
/// What a pack takes beside its blobs: an entry of 41 bytes for each, and the frame of 36.
const ENTRY_BYTES: u64 = 41;
const FRAME_BYTES: u64 = 36;

fn pack(folder: &Path, number: u64, blobs: u64) -> Result<IndexPack, Box<dyn Error>> {
    let id = PackId(sha256(format!("pack {number}").as_bytes()));
    let path = folder.join(FileKey::new(FileKind::Pack, id.0).path());
    let size = blobs * (u64::from(BLOB_BYTES) + ENTRY_BYTES) + FRAME_BYTES;
    File::create(path)?.set_len(size)?;
    let mut listed = Vec::new();
    for blob in 0..blobs {
        listed.push(IndexBlob {
            id: BlobId(sha256(format!("blob {number} {blob}").as_bytes())),
            kind: BlobKind::Data,
            offset: u32::try_from(blob)? * BLOB_BYTES,
            length: BLOB_BYTES,
            uncompressed_length: Some(2 * BLOB_BYTES),
        });
    }
    Ok(IndexPack { id, blobs: listed })
}

fn write_index(repository: &Repository, packs: Vec<IndexPack>) -> Result<(), Box<dyn Error>> {
    let file = IndexFile {
        supersedes: Vec::new(),
        packs,
    };
    let _name = repository.write_json(FileKind::Index, "an index", &file)?;
    Ok(())
}

fn snapshot(number: u64) -> Result<SnapshotFile, Box<dyn Error>> {
    let time = jiff::Timestamp::from_second(1_600_000_000 + i64::try_from(number)? * 3600)?;
    let point = refloat_repository::SnapshotId(sha256(&number.to_le_bytes())).short();
    Ok(serde_json::from_value(serde_json::json!({
        "time": time.to_string(),
        "tree": BlobId::of(b"{\"nodes\":[]}\n"),
        "paths": ["/"],
        "hostname": "synthetic",
        "tags": ["refloat", format!("point:{point}"), "policy:synthetic"],
    }))?)
}

/// A number from the environment.
fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

fn make(folder: &Path, blobs: u64, snapshots: u64) -> Result<(), Box<dyn Error>> {
    let storage = Arc::new(LocalStorage::new(folder));
    let repository = Repository::init(storage, &Secret::new("x"), InitOptions::default())?;
    let mut waiting = Vec::new();
    for number in 0..blobs.div_ceil(BLOBS_PER_PACK) {
        let count = BLOBS_PER_PACK.min(blobs - number * BLOBS_PER_PACK);
        waiting.push(pack(folder, number, count)?);
        if waiting.len() as u64 == PACKS_PER_INDEX {
            write_index(&repository, std::mem::take(&mut waiting))?;
        }
    }
    if !waiting.is_empty() {
        write_index(&repository, waiting)?;
    }
    for number in 0..snapshots {
        let _name = repository.write_json(FileKind::Snapshot, "a snapshot", &snapshot(number)?)?;
    }
    Ok(())
}

#[test]
fn a_large_index_and_many_snapshots_load_whole_and_in_time() {
    let blobs = setting("REFLOAT_SYNTHETIC_BLOBS", 100_000);
    let snapshots = setting("REFLOAT_SYNTHETIC_SNAPSHOTS", 200);
    let temporary = tempfile::tempdir().unwrap();
    let folder = std::env::var("REFLOAT_SYNTHETIC_FOLDER")
        .map_or_else(|_unset| temporary.path().join("repository"), Into::into);
    make(&folder, blobs, snapshots).unwrap();

    let storage = Arc::new(LocalStorage::new(&folder));
    let repository = Repository::open(storage, &Secret::new("x")).unwrap();
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
        let id = BlobId(sha256(format!("blob {pack} {blob}").as_bytes()));
        let found = index.get(BlobKind::Data, &id).unwrap();
        assert_eq!(
            found.pack,
            PackId(sha256(format!("pack {pack}").as_bytes()))
        );
        assert_eq!(u64::from(found.blob.offset), blob * u64::from(BLOB_BYTES));
    }
    println!("{blobs} blobs loaded in {loading:?}, {snapshots} snapshots listed in {listing:?}");
    // Bounds for what this is about, not for the machine: a test build takes a few times as long.
    assert!(loading < Duration::from_secs(60), "{loading:?}");
    assert!(listing < Duration::from_secs(20), "{listing:?}");
}
