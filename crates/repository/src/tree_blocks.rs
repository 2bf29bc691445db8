//! Parts of packs of trees that are read at once.
//!
//! A backup writes the trees of neighbours side by side, so a walk wants most of a pack's, a KiB or two
//! each. Where two of a block were wanted, the others come with it: one call for eighty trees. A tree
//! whose neighbours nobody wants is read alone, and no block is read twice: what lies scattered would
//! otherwise cost many times its bytes.
//!
//! Blocks belong to a walk or to an index that was loaded, never to a repository: whoever looks again
//! reads again.
//!
//! Invariant: only ever a help. What is not in a block, cannot be read with it, or does not open is read at
//! its own place, as if there were no blocks.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use refloat_storage::{FileKey, Storage, StorageError, StorageErrorKind};

use crate::codec::Codec;
use crate::error::RepositoryError;
use crate::format::pack::PackedBlob;
use crate::pack_reading::open_sealed;
use crate::parallel::lock;
use crate::repository::Repository;

/// Bytes of a block, the last one of a pack excepted.
const BLOCK_BYTES: u64 = 128 << 10;
/// Blocks that are kept, those last used: 4 MiB.
const KEPT_MAX: usize = 32;

/// A pack and a block's number in it.
type BlockId = ([u8; 32], u64);
/// What a block holds, or why it could not be read. Whoever comes first reads, others wait.
type Block = Arc<OnceLock<Result<Vec<u8>, StorageErrorKind>>>;

/// Blocks that were read, and those of which trees were wanted.
#[derive(Default)]
pub struct TreeBlocks(Mutex<State>);

impl std::fmt::Debug for TreeBlocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeBlocks").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    /// Blocks of which trees were wanted, and whether they were read: one entry for a tree at most.
    known: HashMap<BlockId, bool>,
    /// The last used at the end.
    kept: VecDeque<(BlockId, Block)>,
}

impl TreeBlocks {
    /// The plaintext of a tree at one place, in a pack whose trees end at `end`.
    ///
    /// # Errors
    /// The pack is out of reach, or its bytes are not that tree.
    pub fn read(
        &self,
        repository: &Repository,
        file: &FileKey,
        tree: &PackedBlob,
        end: u64,
    ) -> Result<Vec<u8>, RepositoryError> {
        let sealed = self.sealed(repository.storage().as_ref(), file, tree, end)?;
        if let Some(plaintext) = sealed.and_then(|sealed| open(repository.codec(), tree, sealed)) {
            return Ok(plaintext);
        }
        repository.read_place(file, tree)
    }

    /// The sealed bytes of a tree, if they lie in a block that is worth reading.
    ///
    /// # Errors
    /// Storage itself is out of reach: it was waited for, and would be once more at the tree's own place.
    fn sealed(
        &self,
        storage: &dyn Storage,
        file: &FileKey,
        tree: &PackedBlob,
        end: u64,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        let Some((number, within)) = place(tree) else {
            return Ok(None);
        };
        let id = (*file.id(), number);
        let Some(block) = lock(&self.0).want(id) else {
            return Ok(None);
        };
        let mut failure = None;
        let read = block.get_or_init(|| {
            let start = number * BLOCK_BYTES;
            let length = end.saturating_sub(start).min(BLOCK_BYTES);
            // It fits: a block is small.
            let length = usize::try_from(length).unwrap_or(0);
            storage.read_range(file, start, length).map_err(|error| {
                let kind = error.kind();
                failure = Some(error);
                kind
            })
        });
        let kind = match read {
            Ok(bytes) => return Ok(bytes.get(within).map(<[u8]>::to_vec)),
            Err(kind) => *kind,
        };
        // Whoever waited for the thread that met it gets the like.
        let error = failure
            .unwrap_or_else(|| StorageError::new(kind, "read", file, storage.location(), None));
        if error.is_of_the_storage() {
            lock(&self.0).forget(id);
            return Err(error);
        }
        Ok(None)
    }
}

fn open(codec: &Codec, tree: &PackedBlob, mut sealed: Vec<u8>) -> Option<Vec<u8>> {
    let mut plaintext = Vec::new();
    open_sealed(codec, tree, &mut sealed, &mut plaintext).ok()?;
    Some(plaintext)
}

impl State {
    /// Lets a block be read as if it never was.
    fn forget(&mut self, id: BlockId) {
        self.kept.retain(|(kept, _)| *kept != id);
        let _was = self.known.insert(id, false);
    }

    /// The block, from the second time that it is wanted and for as long as it is kept.
    fn want(&mut self, id: BlockId) -> Option<Block> {
        let block = match self.kept.iter().position(|(kept, _)| *kept == id) {
            Some(at) => self.kept.remove(at)?.1,
            None => self.begin(id)?,
        };
        if self.kept.len() >= KEPT_MAX {
            let _oldest = self.kept.pop_front();
        }
        self.kept.push_back((id, Arc::clone(&block)));
        Some(block)
    }

    /// One that is to be read: it was wanted once, and never read.
    fn begin(&mut self, id: BlockId) -> Option<Block> {
        match self.known.entry(id) {
            Entry::Vacant(first) => {
                first.insert(false);
                None
            }
            Entry::Occupied(known) if *known.get() => None,
            Entry::Occupied(mut known) => {
                known.insert(true);
                Some(Block::default())
            }
        }
    }
}

/// The number of the block that holds a whole blob, and where it lies in it.
fn place(blob: &PackedBlob) -> Option<(u64, Range<usize>)> {
    let offset = u64::from(blob.offset);
    let (number, start) = (offset / BLOCK_BYTES, offset % BLOCK_BYTES);
    let end = start + u64::from(blob.length);
    if end > BLOCK_BYTES {
        return None;
    }
    Some((
        number,
        usize::try_from(start).ok()?..usize::try_from(end).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use refloat_storage::FileKind;
    use refloat_storage::counting::{CountingStorage, Operation};
    use refloat_storage::memory::MemoryStorage;
    use refloat_testkit::intercept::Intercepted;

    use super::*;
    use crate::format::pack::BlobKind;
    use crate::id::BlobId;

    const FILE: FileKey = FileKey::new(FileKind::Pack, [7; 32]);

    fn tree(offset: u64, length: u32) -> PackedBlob {
        PackedBlob {
            id: BlobId([1; 32]),
            kind: BlobKind::Tree,
            offset: u32::try_from(offset).unwrap(),
            length,
            uncompressed_length: None,
        }
    }

    /// A pack of three blocks, the last of 1,000 bytes.
    fn storage() -> (CountingStorage, Vec<u8>) {
        let pack: Vec<u8> = (0..2 * BLOCK_BYTES + 1_000)
            .map(|at| (at % 251) as u8)
            .collect();
        let memory = MemoryStorage::new();
        memory.write(&FILE, &pack).unwrap();
        (CountingStorage::new(Arc::new(memory)), pack)
    }

    fn reads(storage: &CountingStorage) -> u64 {
        storage.take().calls_of(Operation::Read)
    }

    #[test]
    fn from_the_second_tree_on_a_block_is_read_once_and_cut() {
        let (storage, pack) = storage();
        let blocks = TreeBlocks::default();
        let end = pack.len() as u64;
        for (offset, length, expected, calls) in [
            (0, 10, false, 0),
            (10, 20, true, 1),
            (0, 10, true, 0),
            (BLOCK_BYTES - 1, 1, true, 0),
            // It ends in the next block: alone, and no reason to read either.
            (BLOCK_BYTES - 1, 2, false, 0),
            (BLOCK_BYTES, 2, false, 0),
            // Up to the end of the last block, and beyond.
            (2 * BLOCK_BYTES, 1_000, false, 0),
            (2 * BLOCK_BYTES, 1_000, true, 1),
            (2 * BLOCK_BYTES + 1, 1_000, false, 0),
        ] {
            let place = usize::try_from(offset).unwrap()..;
            let sealed = blocks.sealed(&storage, &FILE, &tree(offset, length), end);
            let bytes = pack.get(place).unwrap().get(..length as usize);
            let expected = expected.then(|| bytes.unwrap().to_vec());
            assert_eq!(sealed.unwrap(), expected, "{offset}");
            assert_eq!(reads(&storage), calls, "{offset}");
        }
    }

    #[test]
    fn what_ends_before_the_index_says_is_tried_once_and_left_to_others() {
        let (storage, pack) = storage();
        let wanted = tree(2 * BLOCK_BYTES + 5, 7);
        // An index that says more than the pack has, one that says less, one that says nothing.
        for (end, tried) in [
            (pack.len() as u64 + 1, [0, 1, 0]),
            (2 * BLOCK_BYTES + 6, [0, 1, 0]),
            (0, [0, 1, 0]),
        ] {
            let blocks = TreeBlocks::default();
            for calls in tried {
                let sealed = blocks.sealed(&storage, &FILE, &wanted, end);
                assert_eq!(sealed.unwrap(), None);
                assert_eq!(reads(&storage), calls, "{end}");
            }
        }
    }

    #[test]
    fn storage_that_is_out_of_reach_is_waited_for_once_and_may_come_back() {
        let (storage, pack) = storage();
        let inner = Arc::new(storage);
        let is_down = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let down = Arc::clone(&is_down);
        let gate = move |_call| match down.load(std::sync::atomic::Ordering::SeqCst) {
            true => Err(StorageError::new(
                StorageErrorKind::Unavailable,
                "read",
                &FILE,
                "here",
                None,
            )),
            false => Ok(()),
        };
        let storage = Intercepted::new(Arc::clone(&inner) as _, Box::new(gate));
        let blocks = TreeBlocks::default();
        let sealed = |offset| blocks.sealed(&storage, &FILE, &tree(offset, 10), pack.len() as u64);
        assert_eq!(sealed(0).unwrap(), None, "the first is not for a block");
        let error = sealed(10).unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::Unavailable);
        is_down.store(false, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(sealed(10).unwrap().unwrap(), pack[10..20]);
        assert_eq!(reads(&inner), 1);
    }

    #[test]
    fn whoever_comes_while_a_block_is_read_waits_for_it() {
        const READERS: usize = 8;
        let (storage, pack) = storage();
        let inner = Arc::new(storage);
        // Held until all others have asked, or would have read for themselves.
        let slow = |_call| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            Ok(())
        };
        let storage = Intercepted::new(Arc::clone(&inner) as _, Box::new(slow));
        let (blocks, end) = (TreeBlocks::default(), pack.len() as u64);
        let first = blocks.sealed(&storage, &FILE, &tree(0, 1), end);
        assert_eq!(first.unwrap(), None);
        let all = Barrier::new(READERS);
        std::thread::scope(|scope| {
            for reader in 0..READERS {
                let (all, blocks, storage, pack) = (&all, &blocks, &storage, &pack);
                scope.spawn(move || {
                    all.wait();
                    let wanted = tree(reader as u64, 100);
                    let sealed = blocks.sealed(storage, &FILE, &wanted, end).unwrap();
                    assert_eq!(sealed.unwrap(), pack[reader..reader + 100]);
                });
            }
        });
        assert_eq!(reads(&inner), 1);
    }

    #[test]
    fn memory_is_bounded_and_no_block_is_read_twice() {
        let mut state = State::default();
        let id = |number| ([0; 32], number);
        let mut twice = |number| {
            let first = state.want(id(number)).is_some();
            (first, state.want(id(number)).is_some())
        };
        assert_eq!(twice(0), (false, true));
        for number in 1..100 {
            assert_eq!(twice(number), (false, true));
            assert_eq!(twice(0), (true, true), "used each time, so kept");
        }
        assert_eq!(twice(99), (true, true));
        assert_eq!(twice(50), (false, false), "read long ago");
        assert_eq!(state.kept.len(), KEPT_MAX);
    }
}
