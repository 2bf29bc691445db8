//! Repositories of many blobs and many snapshots, without the data: sizes that would take days to back up.
//!
//! Invariant: everything that is read without reading data packs is as in a real repository.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_model::secret::Secret;
use refloat_repository::archive::{ArchiveOptions, Archiver};
use refloat_repository::format::index::{IndexBlob, IndexFile, IndexPack};
use refloat_repository::format::snapshot::SnapshotFile;
use refloat_repository::id::sha256;
use refloat_repository::{BlobId, BlobKind, InitOptions, PackId, Repository, SnapshotId};
use refloat_storage::local::LocalStorage;
use refloat_storage::{FileKey, FileKind};

/// Blobs of a full pack.
pub const BLOBS_PER_PACK: u64 = 4000;
/// Sealed bytes of each blob; the plaintext is twice as long.
pub const BLOB_BYTES: u32 = 4096;
/// The password of what [`make`] makes.
pub const PASSWORD: &str = "x";

const PACKS_PER_INDEX: usize = 12;
/// What a pack takes beside its blobs: an entry of 41 bytes for each, and the frame of 36.
const ENTRY_BYTES: u64 = 41;
const FRAME_BYTES: u64 = 36;

/// The id of a pack.
#[must_use]
pub fn pack_id(number: u64) -> PackId {
    PackId(sha256(format!("pack {number}").as_bytes()))
}

/// The id of a blob of a pack.
#[must_use]
pub fn blob_id(pack: u64, blob: u64) -> BlobId {
    BlobId(sha256(format!("blob {pack} {blob}").as_bytes()))
}

/// A pack of the size that its index asks for, and nothing in it.
fn pack(folder: &Path, number: u64, blobs: u64) -> IndexPack {
    let id = pack_id(number);
    let path = folder.join(FileKey::new(FileKind::Pack, id.0).path());
    let size = blobs * (u64::from(BLOB_BYTES) + ENTRY_BYTES) + FRAME_BYTES;
    File::create(path).unwrap().set_len(size).unwrap();
    let blob = |blob: u64| IndexBlob {
        id: blob_id(number, blob),
        kind: BlobKind::Data,
        offset: u32::try_from(blob).unwrap() * BLOB_BYTES,
        length: BLOB_BYTES,
        uncompressed_length: Some(2 * BLOB_BYTES),
    };
    IndexPack {
        id,
        blobs: (0..blobs).map(blob).collect(),
    }
}

/// The `number`th snapshot, an hour after the one before it, of this tree.
fn snapshot(number: u64, tree: BlobId) -> SnapshotFile {
    let seconds = 1_600_000_000 + i64::try_from(number).unwrap() * 3600;
    let time = jiff::Timestamp::from_second(seconds).unwrap();
    let point = SnapshotId(sha256(&number.to_le_bytes())).short();
    serde_json::from_value(serde_json::json!({
        "time": time.to_string(),
        "tree": tree,
        "paths": ["/"],
        "hostname": "synthetic",
        "tags": ["refloat", format!("point:{point}"), "policy:synthetic"],
    }))
    .unwrap()
}

/// An empty tree, the only blob that is really there.
fn store_tree(repository: Repository) -> BlobId {
    let (counters, cancel) = (Arc::new(Counters::default()), Cancel::default());
    let options = ArchiveOptions::default();
    let repository = repository.into_indexed().unwrap();
    let archiver = Archiver::start(repository, options, counters, cancel).unwrap();
    let tree = archiver.store_directory(Vec::new()).unwrap();
    let _archived = archiver.finish().unwrap();
    tree
}

/// Makes a repository in `folder` with so many data blobs, which no snapshot uses, and so many snapshots, all of an
/// empty tree.
pub fn make(folder: &Path, blobs: u64, snapshots: u64) {
    let storage = Arc::new(LocalStorage::new(folder));
    let password = Secret::new(PASSWORD);
    let options = InitOptions::default();
    let made = Repository::init(Arc::clone(&storage) as _, &password, options).unwrap();
    let tree = store_tree(made);
    let repository = Repository::open(storage, &password).unwrap();
    let packs: Vec<u64> = (0..blobs.div_ceil(BLOBS_PER_PACK)).collect();
    for packs in packs.chunks(PACKS_PER_INDEX) {
        let count = |number: u64| BLOBS_PER_PACK.min(blobs - number * BLOBS_PER_PACK);
        let file = IndexFile {
            supersedes: Vec::new(),
            packs: packs.iter().map(|n| pack(folder, *n, count(*n))).collect(),
        };
        let _name = repository
            .write_json(FileKind::Index, "an index", &file)
            .unwrap();
    }
    for number in 0..snapshots {
        let file = snapshot(number, tree);
        let _name = repository
            .write_json(FileKind::Snapshot, "a snapshot", &file)
            .unwrap();
    }
}
