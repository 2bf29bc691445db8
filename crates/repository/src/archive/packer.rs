//! Open packs, uploads, and the index of what was uploaded.
//!
//! Invariant: a blob is in the new index only after its pack was stored and seen there.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use refloat_model::progress::Counters;
use refloat_storage::FileKind;

use super::claims::{Claims, Progress};
use super::{ArchiveOptions, Shared, stored};
use crate::codec::{Codec, Prepared};
use crate::crypto::random_bytes;
use crate::error::RepositoryError;
use crate::flips::{self, Stage};
use crate::format::index::{IndexFile, IndexPack};
use crate::format::pack::{BlobKind, PackedBlob, finish_pack, is_intact};
use crate::hash::Sha256;
use crate::id::{BlobId, PackId};
use crate::pack_reading::pack_file_of;
use crate::pack_writing::{INDEX_BLOBS_MAX, has_no_room, usual_bytes};
use crate::parallel::lock;
use crate::repository::Repository;

/// Data blobs go at random into one of so many open packs, so that the order and the sizes of
/// blobs in a pack do not show where one file's content begins (eprint 2025/532). A blob is sealed
/// in its pack, so this is one more than there are workers: then there is a choice, but for the moments
/// in which the memory of one is on its way to storage. Beyond the limit, for memory's sake, workers may
/// wait for each other.
const OPEN_DATA_PACKS_MAX: usize = 8;
/// How often whoever waits for memory looks whether the run has failed.
const MEMORY_TICK: Duration = Duration::from_millis(100);

/// The memory of packs that are not in use: taken when a pack is begun, given back when it was stored.
/// A bound on memory, and what workers wait for when storage is slow.
///
/// Invariant: there is at least as much as packs can be open at a time, so whenever an open one lacks it
/// some is on its way to storage or here.
struct Memory {
    given_back: Sender<Vec<u8>>,
    free: Receiver<Vec<u8>>,
}

impl Memory {
    fn of(packs: usize) -> Self {
        let (given_back, free) = bounded(packs);
        for _ in 0..packs {
            drop(given_back.send(Vec::new()));
        }
        Self { given_back, free }
    }
}

#[derive(Default)]
struct OpenPack {
    bytes: Vec<u8>,
    blobs: Vec<PackedBlob>,
    /// Of all bytes.
    hash: Sha256,
}

/// A pack on its way to storage.
pub struct SealedPack {
    kind: BlobKind,
    id: PackId,
    bytes: Vec<u8>,
    blobs: Vec<PackedBlob>,
}

/// A pack that was stored, with its size in bytes.
pub type StoredPack = (PackId, u64);

/// Stored packs that no index names yet.
#[derive(Default)]
struct Waiting {
    file: IndexFile,
    stored: Vec<StoredPack>,
    blobs: usize,
}

#[derive(Default)]
struct NewIndex {
    waiting: Waiting,
    stored: Vec<StoredPack>,
}

/// See the module.
pub struct Packer {
    pack_bytes_min: usize,
    data: Vec<Mutex<OpenPack>>,
    trees: Mutex<OpenPack>,
    claims: Claims,
    uploads: Mutex<Option<Sender<SealedPack>>>,
    data_memory: Memory,
    /// Trees have their own: most backups fill less than a pack with them, and touch less of it.
    tree_memory: Memory,
    random: AtomicU64,
    packed_bytes: AtomicU64,
    index: Mutex<NewIndex>,
    /// Held while an index file is being written.
    writing: Mutex<()>,
    stopped: AtomicBool,
}

impl Packer {
    pub fn new(
        options: &ArchiveOptions,
        uploaders: usize,
        uploads: Sender<SealedPack>,
    ) -> Result<Self, RepositoryError> {
        let open_data_packs = (options.workers + 1).min(OPEN_DATA_PACKS_MAX);
        // For two uploaders nothing more is held: whoever finds no memory waits for one of them (ADR 0026).
        let uploading = uploaders.saturating_sub(2);
        let seed = match options.placement_seed {
            Some(seed) => seed,
            None => u64::from_le_bytes(random_bytes()?),
        };
        Ok(Self {
            pack_bytes_min: options.pack_bytes_min,
            data: (0..open_data_packs).map(|_| Mutex::default()).collect(),
            trees: Mutex::default(),
            claims: Claims::new()?,
            uploads: Mutex::new(Some(uploads)),
            data_memory: Memory::of(open_data_packs + uploading),
            tree_memory: Memory::of(1 + uploading),
            random: AtomicU64::new(seed | 1),
            packed_bytes: AtomicU64::new(0),
            index: Mutex::default(),
            writing: Mutex::default(),
            stopped: AtomicBool::new(false),
        })
    }

    /// Whether the caller is the first to bring this blob.
    pub fn claim(&self, kind: BlobKind, id: &BlobId) -> bool {
        self.claims.claim(kind, id)
    }

    /// Whether this run brings a data blob.
    pub fn is_claimed(&self, id: &BlobId) -> bool {
        self.claims.progress(BlobKind::Data, id).is_some()
    }

    /// Whether this run brought a data blob and its pack is stored.
    pub fn is_stored(&self, id: &BlobId) -> bool {
        self.claims.progress(BlobKind::Data, id) == Some(Progress::Stored)
    }

    /// Bytes of all sealed blobs so far.
    pub fn packed_bytes(&self) -> u64 {
        Counters::get(&self.packed_bytes)
    }

    /// Seals a blob and puts it into an open pack; hands the pack over when it is full. How long
    /// its sealed form is.
    pub fn add(
        &self,
        codec: &Codec,
        kind: BlobKind,
        prepared: Prepared<'_>,
    ) -> Result<u64, RepositoryError> {
        let id = prepared.id();
        let mut open = self.open_pack(kind)?;
        while has_no_room(
            self.pack_bytes_min,
            open.bytes.len(),
            prepared.sealed_length(),
        ) {
            let full = std::mem::take(&mut *open);
            drop(open);
            self.hand_over(codec, kind, full)?;
            open = self.open_pack(kind)?;
        }
        let offset =
            u32::try_from(open.bytes.len()).map_err(|e| RepositoryError::encode("a pack", e))?;
        open.bytes.reserve_exact(prepared.sealed_length());
        let OpenPack { bytes, hash, .. } = &mut *open;
        let sealed = codec.seal(prepared, bytes, hash)?;
        let too_large = |_| RepositoryError::encode("a blob", "it is larger than 4 GiB");
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
        let length = u64::from(blob.length);
        if open.bytes.len() < self.pack_bytes_min {
            return Ok(length);
        }
        let full = std::mem::take(&mut *open);
        drop(open);
        self.hand_over(codec, kind, full).map(|()| length)
    }

    /// A pack at random among those that nobody is using and that have memory; if there is none,
    /// one at random.
    fn open_pack(&self, kind: BlobKind) -> Result<MutexGuard<'_, OpenPack>, RepositoryError> {
        let mut open = match kind {
            BlobKind::Tree => lock(&self.trees),
            BlobKind::Data => {
                let first = self.random_below(self.data.len());
                let (before, from_first) = self.data.split_at(first);
                for pack in from_first.iter().chain(before) {
                    let Ok(mut open) = pack.try_lock() else {
                        continue;
                    };
                    if open.bytes.capacity() > 0 {
                        return Ok(open);
                    }
                    if let Ok(memory) = self.data_memory.free.try_recv() {
                        self.begin(&mut open, memory);
                        return Ok(open);
                    }
                }
                lock(&self.data[first])
            }
        };
        if open.bytes.capacity() == 0 {
            let memory = self.wait_for_memory(kind)?;
            self.begin(&mut open, memory);
        }
        Ok(open)
    }

    const fn memory(&self, kind: BlobKind) -> &Memory {
        match kind {
            BlobKind::Data => &self.data_memory,
            BlobKind::Tree => &self.tree_memory,
        }
    }

    /// Waits until somebody gives memory back. A thread that panicked may never do that.
    fn wait_for_memory(&self, kind: BlobKind) -> Result<Vec<u8>, RepositoryError> {
        while !self.stopped.load(Ordering::SeqCst) {
            if let Ok(memory) = self.memory(kind).free.recv_timeout(MEMORY_TICK) {
                return Ok(memory);
            }
        }
        Err(RepositoryError::Stopped)
    }

    /// The run failed: nobody waits for memory any more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Exactly what a pack takes: doubling would waste as much again, several times over.
    fn begin(&self, open: &mut OpenPack, mut memory: Vec<u8>) {
        memory.reserve_exact(usual_bytes(self.pack_bytes_min));
        open.bytes = memory;
    }

    fn give_back(&self, kind: BlobKind, mut memory: Vec<u8>) {
        memory.clear();
        // One huge blob must not hold its memory for the rest of the run.
        if memory.capacity() > 2 * usual_bytes(self.pack_bytes_min) {
            memory = Vec::new();
        }
        // There is room for all that were ever taken.
        drop(self.memory(kind).given_back.try_send(memory));
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

    fn hand_over(
        &self,
        codec: &Codec,
        kind: BlobKind,
        mut pack: OpenPack,
    ) -> Result<(), RepositoryError> {
        let blobs_end = pack.bytes.len();
        if let Err(error) = finish_pack(codec.cipher(), &mut pack.bytes, &pack.blobs) {
            self.give_back(kind, pack.bytes);
            return Err(error.into());
        }
        pack.hash.update(&pack.bytes[blobs_end..]);
        let sealed = SealedPack {
            kind,
            id: PackId(pack.hash.finish()),
            bytes: pack.bytes,
            blobs: pack.blobs,
        };
        let uploads = lock(&self.uploads).clone();
        let uploads = uploads.ok_or(RepositoryError::Stopped)?;
        uploads.send(sealed).map_err(|all_uploaders_ended| {
            self.give_back(kind, all_uploaders_ended.into_inner().bytes);
            RepositoryError::Stopped
        })
    }

    /// Hands all open packs over.
    pub fn flush(&self, codec: &Codec) -> Result<(), RepositoryError> {
        let data = self.data.iter().map(|open| (BlobKind::Data, open));
        for (kind, open) in data.chain([(BlobKind::Tree, &self.trees)]) {
            let pack = std::mem::take(&mut *lock(open));
            if !pack.blobs.is_empty() {
                self.hand_over(codec, kind, pack)?;
            }
        }
        Ok(())
    }

    /// Lets the uploaders end when they have done what waits.
    pub fn close(&self) {
        drop(lock(&self.uploads).take());
    }

    /// Records a stored pack; writes an index file when enough wait for one.
    fn stored(
        &self,
        repository: &Repository,
        (id, size): StoredPack,
        blobs: Vec<PackedBlob>,
    ) -> Result<(), RepositoryError> {
        let waiting_blobs = {
            let mut index = lock(&self.index);
            // Under this lock: what counts as stored is in the next index at the latest.
            for blob in &blobs {
                self.claims.stored(blob.kind, &blob.id);
            }
            index.stored.push((id, size));
            let waiting = &mut index.waiting;
            waiting.stored.push((id, size));
            waiting.blobs += blobs.len();
            let blobs = blobs.into_iter().map(Into::into).collect();
            waiting.file.packs.push(IndexPack { id, blobs });
            waiting.blobs
        };
        if waiting_blobs >= INDEX_BLOBS_MAX {
            self.write_waiting(repository, INDEX_BLOBS_MAX)?;
        }
        Ok(())
    }

    /// Writes an index file of the packs that wait for one, if so many blobs do.
    fn write_waiting(
        &self,
        repository: &Repository,
        blobs_min: usize,
    ) -> Result<(), RepositoryError> {
        // Whoever comes next finds either nothing that waits, or nothing that is in no index.
        let _writing = lock(&self.writing);
        let waiting = {
            let mut index = lock(&self.index);
            if index.waiting.blobs < blobs_min {
                return Ok(());
            }
            std::mem::take(&mut index.waiting)
        };
        write_index(repository, &waiting).inspect_err(|_not_written| {
            let index = &mut lock(&self.index).waiting;
            index.blobs += waiting.blobs;
            index.stored.extend(waiting.stored);
            index.file.packs.extend(waiting.file.packs);
        })
    }

    /// Writes the index of what is stored so far; all packs that are, with their sizes.
    pub fn write_index(&self, repository: &Repository) -> Result<Vec<StoredPack>, RepositoryError> {
        let stored = lock(&self.index).stored.clone();
        self.write_waiting(repository, 1)?;
        Ok(stored)
    }
}

fn write_index(repository: &Repository, waiting: &Waiting) -> Result<(), RepositoryError> {
    stored::require(repository, &waiting.stored)?;
    let _name = repository.write_json(FileKind::Index, "an index", &waiting.file)?;
    Ok(())
}

/// An uploader: stores packs until there are no more.
pub fn upload(shared: &Shared, queue: &Receiver<SealedPack>) {
    for pack in queue {
        let SealedPack {
            kind,
            id,
            mut bytes,
            blobs,
        } = pack;
        // After a failure packs are only taken from the queue, so that nobody waits for ever. A run
        // that is cancelled may still keep what it has: contents that are complete lie in them.
        if !shared.stopped.load(Ordering::SeqCst) {
            flips::touch(Stage::Pack, &mut bytes);
            shared.guard(|| store(shared, id, &bytes, blobs));
        }
        shared.packer.give_back(kind, bytes);
    }
}

fn store(
    shared: &Shared,
    id: PackId,
    bytes: &[u8],
    blobs: Vec<PackedBlob>,
) -> Result<(), RepositoryError> {
    // Memory may have changed since the blobs were proven; what is named by its hash must open.
    if !is_intact(shared.repository.codec().cipher(), bytes, &blobs) {
        return Err(RepositoryError::NotReadBack { what: "a pack" });
    }
    let key = pack_file_of(id, &blobs);
    shared.repository.storage().write(&key, bytes)?;
    let size = bytes.len() as u64;
    Counters::add(&shared.counters.bytes_stored, size);
    shared.packer.stored(&shared.repository, (id, size), blobs)
}
