//! Parts of packs of trees that are read at once.
//!
//! A backup writes the trees of neighbours side by side, so a walk wants most of a pack's, a KiB or two
//! each. Where two of a block were wanted, the others come with it: one call for eighty trees. A tree
//! whose neighbours nobody wants is read alone.
//!
//! Invariant: only ever a help. What is not in a block, cannot be read with it, or does not open is read at
//! its own place, as if there were no blocks.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use refloat_storage::{FileKey, Storage};

use crate::error::RepositoryError;
use crate::format::pack::PackedBlob;
use crate::pack_reading::open_sealed;
use crate::parallel::lock;
use crate::repository::Repository;

/// Bytes of a block, the last one of a pack excepted.
const BLOCK_BYTES: u64 = 128 << 10;
/// Blocks that are kept, those last used: 2 MiB.
const KEPT_MAX: usize = 16;
/// Blocks of which one tree was wanted that are remembered.
const TOUCHED_MAX: usize = 64;

/// A pack, whether a cache may answer for it, and the block's number in it.
type BlockId = ([u8; 32], bool, u64);
/// What a block holds; none if it could not be read. Whoever comes first reads, others wait.
type Block = Arc<OnceLock<Option<Vec<u8>>>>;

/// Blocks that were read, and places that were asked for.
#[derive(Default)]
pub struct TreeBlocks(Mutex<State>);

#[derive(Default)]
struct State {
    touched: VecDeque<BlockId>,
    /// The last used at the end.
    kept: VecDeque<(BlockId, Block)>,
}

impl TreeBlocks {
    /// The sealed bytes of a tree, if they lie in a block that is worth reading. The trees of the pack end at
    /// `end`.
    fn sealed(
        &self,
        storage: &dyn Storage,
        file: &FileKey,
        tree: &PackedBlob,
        end: u64,
    ) -> Option<Vec<u8>> {
        let (number, within) = place(tree)?;
        let block = lock(&self.0).want((*file.id(), file.holds_trees(), number))?;
        let bytes = block.get_or_init(|| {
            let start = number * BLOCK_BYTES;
            let length = end.checked_sub(start)?.min(BLOCK_BYTES);
            let length = usize::try_from(length).ok()?;
            storage.read_range(file, start, length).ok()
        });
        Some(bytes.as_ref()?.get(within)?.to_vec())
    }
}

impl State {
    /// The block, from the second time that it is wanted.
    fn want(&mut self, id: BlockId) -> Option<Block> {
        let kept = self.kept.iter().position(|(known, _)| *known == id);
        let touched = self.touched.iter().position(|known| *known == id);
        let block = match (kept, touched) {
            (Some(at), _) => self.kept.remove(at)?.1,
            (None, Some(at)) => {
                self.touched.remove(at);
                Block::default()
            }
            (None, None) => {
                push_bounded(&mut self.touched, id, TOUCHED_MAX);
                return None;
            }
        };
        push_bounded(&mut self.kept, (id, Arc::clone(&block)), KEPT_MAX);
        Some(block)
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, max: usize) {
    if queue.len() >= max {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// The number of the block that holds a whole blob, and where it lies in it.
fn place(blob: &PackedBlob) -> Option<(u64, Range<usize>)> {
    let (number, start) = (
        u64::from(blob.offset) / BLOCK_BYTES,
        u64::from(blob.offset) % BLOCK_BYTES,
    );
    let end = start + u64::from(blob.length);
    if end > BLOCK_BYTES {
        return None;
    }
    Some((
        number,
        usize::try_from(start).ok()?..usize::try_from(end).ok()?,
    ))
}

impl Repository {
    /// Reads a tree from one place in a pack whose trees end at `end`.
    ///
    /// # Errors
    /// The pack is out of reach, or its bytes are not that tree.
    pub(crate) fn read_tree_place(
        &self,
        file: &FileKey,
        tree: &PackedBlob,
        end: u64,
    ) -> Result<Vec<u8>, RepositoryError> {
        let storage = self.storage().as_ref();
        if let Some(mut sealed) = self.tree_blocks().sealed(storage, file, tree, end) {
            let mut plaintext = Vec::new();
            if open_sealed(self.codec(), tree, &mut sealed, &mut plaintext).is_ok() {
                return Ok(plaintext);
            }
        }
        self.read_place(file, tree)
    }
}

#[cfg(test)]
mod tests {
    use refloat_storage::FileKind;
    use refloat_storage::counting::{CountingStorage, Operation};
    use refloat_storage::memory::MemoryStorage;

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

    #[test]
    fn from_the_second_tree_on_a_block_is_read_once_and_cut() {
        let (storage, pack) = storage();
        let blocks = TreeBlocks::default();
        let end = pack.len() as u64;
        let reads = || storage.take().calls_of(Operation::Read);
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
            assert_eq!(
                sealed,
                expected.then(|| bytes.unwrap().to_vec()),
                "{offset}"
            );
            assert_eq!(reads(), calls, "{offset}");
        }
        // A cache's answers stand apart from the storage's own.
        let cached = FILE.holding_trees();
        assert!(
            blocks
                .sealed(&storage, &cached, &tree(0, 10), end)
                .is_none()
        );
    }

    #[test]
    fn what_cannot_be_read_is_tried_once_and_left_to_others() {
        let (storage, pack) = storage();
        let blocks = TreeBlocks::default();
        // An index that says more than the pack has.
        let end = pack.len() as u64 + 1;
        let wanted = tree(2 * BLOCK_BYTES + 5, 7);
        for calls in [0, 1, 0] {
            assert!(blocks.sealed(&storage, &FILE, &wanted, end).is_none());
            assert_eq!(storage.take().calls_of(Operation::Read), calls);
        }
        // One that says less, and one that says nothing.
        for end in [2 * BLOCK_BYTES + 6, 0] {
            let blocks = TreeBlocks::default();
            for _ in 0..3 {
                assert!(blocks.sealed(&storage, &FILE, &wanted, end).is_none());
            }
        }
    }

    #[test]
    fn memory_is_bounded_and_what_was_used_last_stays() {
        let mut state = State::default();
        let id = |number| ([0; 32], true, number);
        let mut twice = |number| {
            let first = state.want(id(number)).is_some();
            assert!(state.want(id(number)).is_some());
            first
        };
        assert!(!twice(0));
        for number in 1..100 {
            assert!(!twice(number));
            assert!(twice(0), "used each time, so kept");
        }
        assert!(twice(99));
        assert!(!twice(50), "long ago");
        assert_eq!(state.kept.len(), KEPT_MAX);
        for number in 1_000..2_000 {
            assert!(state.want(id(number)).is_none());
        }
        assert_eq!(state.touched.len(), TOUCHED_MAX);
        assert_eq!(state.kept.len(), KEPT_MAX);
    }
}
