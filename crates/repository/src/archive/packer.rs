//! Open packs, uploads, and the index of what was uploaded.
//!
//! Invariant: a blob is in the new index only after its pack was stored.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender};
use refloat_model::progress::Counters;
use refloat_storage::{FileKey, FileKind};

use super::{ArchiveOptions, Shared};
use crate::codec::{Codec, Compression};
use crate::crypto::random_bytes;
use crate::error::RepositoryError;
use crate::flips::{self, Stage};
use crate::format::index::{IndexFile, IndexPack};
use crate::format::pack::{BlobKind, PackedBlob, finish_pack, is_intact};
use crate::hash::Sha256;
use crate::id::{BlobId, PackId};
use crate::repository::Repository;

/// Data blobs go at random into one of so many open packs, so that the order and the sizes of
/// blobs in a pack do not show where one file's content begins (eprint 2025/532). A blob is sealed
/// in its pack, so this is one more than there are workers: then there is always a choice. Beyond
/// the limit, for memory's sake, workers may wait for each other.
const OPEN_DATA_PACKS_MAX: usize = 8;
/// An index file is written when so many blobs wait for one, as restic does: what a crash leaves
/// behind is then reused and not uploaded again.
const INDEX_BLOBS_MAX: usize = 50_000;
/// What a pack's last blob and its header usually take beyond the size at which it is closed.
const PACK_BYTES_OVER: usize = 1536 << 10;
/// Packs whose memory is kept for the next ones.
const SPARE_PACKS_MAX: usize = 2;
/// Locks of the set of claimed blobs, so that workers rarely meet.
const CLAIM_SHARDS: usize = 16;

/// Ids are hashes already: their first bytes serve as they are.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 ^= u64::from_le_bytes(*first);
        }
    }
}

type IdSet = HashSet<(BlobId, BlobKind), BuildHasherDefault<IdHasher>>;

#[derive(Default)]
struct OpenPack {
    bytes: Vec<u8>,
    blobs: Vec<PackedBlob>,
    /// Of all bytes.
    hash: Sha256,
}

/// A pack on its way to storage.
pub struct SealedPack {
    id: PackId,
    bytes: Vec<u8>,
    blobs: Vec<PackedBlob>,
}

/// A pack that was stored, with its size in bytes.
pub type StoredPack = (PackId, u64);

#[derive(Default)]
struct NewIndex {
    waiting: Vec<IndexPack>,
    waiting_blobs: usize,
    stored: Vec<StoredPack>,
}

/// See the module.
pub struct Packer {
    pack_bytes_min: usize,
    data: Vec<Mutex<OpenPack>>,
    trees: Mutex<OpenPack>,
    claimed: [Mutex<IdSet>; CLAIM_SHARDS],
    uploads: Mutex<Option<Sender<SealedPack>>>,
    spare: Mutex<Vec<Vec<u8>>>,
    /// Memory of packs that were stored.
    spare_packs: Mutex<Vec<Vec<u8>>>,
    random: AtomicU64,
    packed_bytes: AtomicU64,
    index: Mutex<NewIndex>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Packer {
    pub fn new(
        options: &ArchiveOptions,
        uploads: Sender<SealedPack>,
    ) -> Result<Self, RepositoryError> {
        let open_data_packs = (options.workers + 1).min(OPEN_DATA_PACKS_MAX);
        let seed = match options.placement_seed {
            Some(seed) => seed,
            None => u64::from_le_bytes(random_bytes()?),
        };
        Ok(Self {
            pack_bytes_min: options.pack_bytes_min,
            data: (0..open_data_packs).map(|_| Mutex::default()).collect(),
            trees: Mutex::default(),
            claimed: Default::default(),
            uploads: Mutex::new(Some(uploads)),
            spare: Mutex::default(),
            spare_packs: Mutex::default(),
            random: AtomicU64::new(seed | 1),
            packed_bytes: AtomicU64::new(0),
            index: Mutex::default(),
        })
    }

    /// Whether the caller is the first to bring this blob.
    pub fn claim(&self, kind: BlobKind, id: BlobId) -> bool {
        let shard = usize::from(id.0[31]) % CLAIM_SHARDS;
        lock(&self.claimed[shard]).insert((id, kind))
    }

    /// Bytes of all sealed blobs so far.
    pub fn packed_bytes(&self) -> u64 {
        Counters::get(&self.packed_bytes)
    }

    /// Seals a blob and puts it into an open pack; hands the pack over when it is full.
    pub fn add(
        &self,
        codec: &Codec,
        kind: BlobKind,
        id: BlobId,
        plaintext: &[u8],
        compression: Compression,
    ) -> Result<(), RepositoryError> {
        let prepared = codec.prepare(id, plaintext, compression)?;
        let mut open = self.open_pack(kind);
        let offset = u32::try_from(open.bytes.len()).map_err(|e| RepositoryError::Encode {
            what: "a pack",
            cause: e.into(),
        })?;
        if open.bytes.capacity() == 0 {
            open.bytes = lock(&self.spare_packs).pop().unwrap_or_default();
            // Exactly what a pack takes: doubling would waste as much again, five times over.
            open.bytes
                .reserve_exact(self.pack_bytes_min + PACK_BYTES_OVER);
        }
        open.bytes.reserve_exact(prepared.sealed_length());
        let OpenPack { bytes, hash, .. } = &mut *open;
        let sealed = codec.seal(prepared, bytes, hash)?;
        let too_large = |_| RepositoryError::Encode {
            what: "a blob",
            cause: "it is larger than 4 GiB".into(),
        };
        let uncompressed = sealed.uncompressed.map(u32::try_from).transpose();
        let blob = PackedBlob {
            id,
            kind,
            offset,
            length: u32::try_from(sealed.sealed).map_err(too_large)?,
            uncompressed_length: uncompressed.map_err(too_large)?,
        };
        Counters::add(&self.packed_bytes, u64::from(blob.length));
        open.blobs.push(blob);
        flips::touch(Stage::Proven, &mut open.bytes);
        if open.bytes.len() < self.pack_bytes_min {
            return Ok(());
        }
        let full = std::mem::take(&mut *open);
        drop(open);
        self.hand_over(codec, full)
    }

    /// A pack at random among those that nobody is using; if all are in use, one at random.
    fn open_pack(&self, kind: BlobKind) -> MutexGuard<'_, OpenPack> {
        if kind == BlobKind::Tree {
            return lock(&self.trees);
        }
        let first = self.random_below(self.data.len());
        let (before, from_first) = self.data.split_at(first);
        let mut packs = from_first.iter().chain(before);
        packs
            .find_map(|pack| pack.try_lock().ok())
            .unwrap_or_else(|| lock(&self.data[first]))
    }

    /// xorshift64 (Marsaglia, "Xorshift RNGs", 2003): spreading blobs needs no better one.
    fn random_below(&self, bound: usize) -> usize {
        let step = |mut state: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            Some(state ^ (state << 17))
        };
        let state = self
            .random
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step)
            .unwrap_or_else(|unchanged| unchanged);
        usize::try_from(state >> 33).unwrap_or(0) % bound
    }

    /// An empty buffer, with the memory of an earlier blob where there is one.
    pub fn spare_buffer(&self) -> Vec<u8> {
        let mut buffer = lock(&self.spare).pop().unwrap_or_default();
        buffer.clear();
        buffer
    }

    /// Keeps a few buffers of usual size for reuse.
    pub fn recycle(&self, buffer: Vec<u8>) {
        let mut spare = lock(&self.spare);
        if spare.len() < 4 && buffer.capacity() <= 9 << 20 {
            spare.push(buffer);
        }
    }

    fn hand_over(&self, codec: &Codec, mut pack: OpenPack) -> Result<(), RepositoryError> {
        let blobs_end = pack.bytes.len();
        finish_pack(codec.cipher(), &mut pack.bytes, &pack.blobs)?;
        pack.hash.update(&pack.bytes[blobs_end..]);
        let sealed = SealedPack {
            id: PackId(pack.hash.finish()),
            bytes: pack.bytes,
            blobs: pack.blobs,
        };
        let uploads = lock(&self.uploads)
            .clone()
            .ok_or(RepositoryError::Stopped)?;
        uploads
            .send(sealed)
            .map_err(|_all_uploaders_ended| RepositoryError::Stopped)
    }

    /// Hands all open packs over.
    pub fn flush(&self, codec: &Codec) -> Result<(), RepositoryError> {
        for open in self.data.iter().chain([&self.trees]) {
            let pack = std::mem::take(&mut *lock(open));
            if !pack.blobs.is_empty() {
                self.hand_over(codec, pack)?;
            }
        }
        Ok(())
    }

    /// Lets the uploaders end when they have done what waits.
    pub fn close(&self) {
        drop(lock(&self.uploads).take());
    }

    /// Records a stored pack; writes an index file when enough wait for one.
    fn stored(&self, repository: &Repository, pack: SealedPack) -> Result<(), RepositoryError> {
        let SealedPack {
            id,
            mut bytes,
            blobs,
        } = pack;
        let size = bytes.len() as u64;
        bytes.clear();
        let mut spare = lock(&self.spare_packs);
        if spare.len() < SPARE_PACKS_MAX {
            spare.push(bytes);
        }
        drop(spare);
        let full = {
            let mut index = lock(&self.index);
            index.stored.push((id, size));
            index.waiting_blobs += blobs.len();
            let blobs = blobs.into_iter().map(Into::into).collect();
            index.waiting.push(IndexPack { id, blobs });
            if index.waiting_blobs < INDEX_BLOBS_MAX {
                return Ok(());
            }
            index.waiting_blobs = 0;
            std::mem::take(&mut index.waiting)
        };
        write_index(repository, full)
    }

    /// Writes the last index file; all packs of the run with their sizes.
    pub fn finish_index(
        &self,
        repository: &Repository,
    ) -> Result<Vec<StoredPack>, RepositoryError> {
        let mut index = lock(&self.index);
        let waiting = std::mem::take(&mut index.waiting);
        if !waiting.is_empty() {
            write_index(repository, waiting)?;
        }
        Ok(std::mem::take(&mut index.stored))
    }
}

fn write_index(repository: &Repository, packs: Vec<IndexPack>) -> Result<(), RepositoryError> {
    let file = IndexFile {
        supersedes: Vec::new(),
        packs,
    };
    let _name = repository.write_json(FileKind::Index, "an index", &file)?;
    Ok(())
}

/// An uploader: stores packs until there are no more.
pub fn upload(shared: &Shared, queue: &Receiver<SealedPack>) {
    for mut pack in queue {
        // After a failure packs are only taken from the queue, so that nobody waits for ever.
        if shared.check().is_err() {
            continue;
        }
        flips::touch(Stage::Pack, &mut pack.bytes);
        let key = FileKey::new(FileKind::Pack, pack.id.0);
        let cipher = shared.repository.codec().cipher();
        let stored = if is_intact(cipher, &pack.bytes, &pack.blobs) {
            let stored = shared.repository.storage().write(&key, &pack.bytes);
            stored.map_err(RepositoryError::from)
        } else {
            Err(RepositoryError::NotReadBack { what: "a pack" })
        };
        Counters::add(&shared.counters.bytes_stored, pack.bytes.len() as u64);
        stored
            .and_then(|()| shared.packer.stored(&shared.repository, pack))
            .unwrap_or_else(|error| shared.fail(error));
    }
}
