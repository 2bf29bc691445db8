//! A local copy of what every command reads: indexes, snapshots, and packs of trees.
//!
//! Their names are the SHA-256 of their bytes, so a copy proves by itself that it is right; what is
//! there is decided by the storage's own listing alone, never by the copies. A pack is proven when
//! a process first takes something from its copy.
//!
//! Trees are small and many: over a slow line a backup of what did not change would wait for each
//! of them. A pack is copied whole when the first of its trees is wanted. Whoever verifies what is
//! in storage does not say that a pack [holds trees](FileKey::holding_trees), and reads it there.
//!
//! Invariant: without the cache, with a damaged one, and where it cannot be written, every answer
//! is the same.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use refloat_model::time::Timestamp;

use crate::local::LocalStorage;
use crate::{FileKey, FileKind, Listed, Protection, SharedStorage, Storage, StorageError};

/// Keeps copies of files that were read or written in a folder.
///
/// Copies of files that a listing no longer shows are removed.
pub struct CachedStorage {
    inner: SharedStorage,
    copies: LocalStorage,
    /// Packs, and whether their copies are right. Whoever looks for another one holds the lock until it is
    /// there, so that no pack is fetched twice.
    packs: [Mutex<HashMap<FileKey, bool>>; PACK_LOCKS],
}

/// Packs that are fetched at once.
const PACK_LOCKS: usize = 8;
/// Larger packs are not ours, and hold more than trees.
const PACK_BYTES_MAX: u64 = 64 << 20;

impl CachedStorage {
    /// Keeps copies in a folder, which need not exist yet.
    #[must_use]
    pub fn new(inner: SharedStorage, copies: LocalStorage) -> Self {
        Self {
            inner,
            copies,
            packs: Default::default(),
        }
    }

    fn packs(&self, key: &FileKey) -> MutexGuard<'_, HashMap<FileKey, bool>> {
        let lock = &self.packs[usize::from(key.id()[0]) % PACK_LOCKS];
        lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a copy of a pack that is right; it is fetched if there is none. What could
    /// not be kept once is not fetched again.
    fn has_pack(&self, key: &FileKey) -> bool {
        let mut packs = self.packs(key);
        if let Some(is_right) = packs.get(key) {
            return *is_right;
        }
        let fits = || matches!(self.inner.size(key), Ok(Some(size)) if size <= PACK_BYTES_MAX);
        let fetch = || {
            self.inner
                .read(key)
                .is_ok_and(|bytes| self.keep(key, &bytes))
        };
        let is_right = self.copy(key).is_some() || fits() && fetch();
        packs.insert(*key, is_right);
        is_right
    }

    fn copy(&self, key: &FileKey) -> Option<Vec<u8>> {
        let bytes = self.copies.read(key).ok()?;
        if key.names(&bytes) {
            return Some(bytes);
        }
        // A damaged copy is replaced by the next read.
        let _removed = self.copies.delete(key);
        None
    }

    /// Whether a copy is there now.
    fn keep(&self, key: &FileKey, bytes: &[u8]) -> bool {
        if !is_kept(key) || !key.names(bytes) {
            return false;
        }
        // A cache that cannot be written costs time only.
        let kept = self.copies.write(key, bytes);
        kept.is_ok() || self.copies.create().is_ok() && self.copies.write(key, bytes).is_ok()
    }
}

/// Kinds of which some files are kept.
const fn has_copies(kind: FileKind) -> bool {
    matches!(kind, FileKind::Index | FileKind::Snapshot | FileKind::Pack)
}

const fn is_kept(key: &FileKey) -> bool {
    matches!(key.kind(), FileKind::Index | FileKind::Snapshot) || key.holds_trees()
}

impl Storage for CachedStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Result<(), StorageError> {
        self.inner.create()
    }

    fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), StorageError> {
        self.inner.write(key, bytes)?;
        let _kept = self.keep(key, bytes);
        Ok(())
    }

    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
        if is_kept(key)
            && let Some(copy) = self.copy(key)
        {
            return Ok(copy);
        }
        let bytes = self.inner.read(key)?;
        let _kept = self.keep(key, &bytes);
        Ok(bytes)
    }

    fn read_range(
        &self,
        key: &FileKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        if key.holds_trees()
            && self.has_pack(key)
            && let Ok(bytes) = self.copies.read_range(key, offset, length)
        {
            return Ok(bytes);
        }
        self.inner.read_range(key, offset, length)
    }

    fn read_range_into(
        &self,
        key: &FileKey,
        offset: u64,
        memory: &mut [u8],
    ) -> Result<(), StorageError> {
        if key.holds_trees() && self.has_pack(key) {
            let copy = self.copies.read_range_into(key, offset, memory);
            if copy.is_ok() {
                return copy;
            }
        }
        self.inner.read_range_into(key, offset, memory)
    }

    fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError> {
        self.inner.size(key)
    }

    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError> {
        let listed = self.inner.list(kind)?;
        if has_copies(kind)
            && let Ok(copies) = self.copies.list(kind)
        {
            let there: HashSet<FileKey> = listed.iter().map(|file| file.key).collect();
            for copy in copies.iter().filter(|copy| !there.contains(&copy.key)) {
                let _removed = self.copies.delete(&copy.key);
            }
        }
        Ok(listed)
    }

    fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        self.inner.delete(key)?;
        if has_copies(key.kind()) {
            self.packs(key).remove(key);
            let _removed = self.copies.delete(key);
        }
        Ok(())
    }

    fn connections(&self) -> usize {
        self.inner.connections()
    }

    fn settling(&self) -> Duration {
        self.inner.settling()
    }

    fn now(&self) -> Option<Timestamp> {
        self.inner.now()
    }

    fn protection(&self) -> Option<Protection> {
        self.inner.protection()
    }

    fn protected_until(&self, key: &FileKey) -> Result<Option<Timestamp>, StorageError> {
        self.inner.protected_until(key)
    }

    fn protect_until(&self, key: &FileKey, until: Timestamp) -> Result<(), StorageError> {
        self.inner.protect_until(key, until)
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};
    use std::sync::Arc;

    use super::*;
    use crate::counting::{CountingStorage, Operation};
    use crate::memory::MemoryStorage;

    fn key(kind: FileKind, bytes: &[u8]) -> FileKey {
        FileKey::new(kind, Sha256::digest(bytes).into())
    }

    struct Setup {
        folder: tempfile::TempDir,
        memory: Arc<MemoryStorage>,
        counting: Arc<CountingStorage>,
    }

    impl Setup {
        fn new() -> Self {
            let memory = Arc::new(MemoryStorage::new());
            Self {
                folder: tempfile::tempdir().unwrap(),
                counting: Arc::new(CountingStorage::new(Arc::clone(&memory) as SharedStorage)),
                memory,
            }
        }

        fn cached(&self) -> CachedStorage {
            let copies = LocalStorage::new(self.folder.path().join("copies"));
            CachedStorage::new(Arc::clone(&self.counting) as SharedStorage, copies)
        }

        fn reads(&self) -> u64 {
            self.counting.take().calls_of(Operation::Read)
        }
    }

    #[test]
    fn what_was_read_or_written_is_not_read_again() {
        let setup = Setup::new();
        let (index, lock) = (key(FileKind::Index, b"index"), key(FileKind::Lock, b"lock"));
        setup.memory.write(&index, b"index").unwrap();
        setup.memory.write(&lock, b"lock").unwrap();
        for reads in [2, 1] {
            assert_eq!(setup.cached().read(&index).unwrap(), b"index");
            assert_eq!(setup.cached().read(&lock).unwrap(), b"lock");
            assert_eq!(setup.reads(), reads, "locks are always read");
        }
        let snapshot = key(FileKind::Snapshot, b"snapshot");
        setup.cached().write(&snapshot, b"snapshot").unwrap();
        assert_eq!(setup.cached().read(&snapshot).unwrap(), b"snapshot");
        assert_eq!(setup.reads(), 0);
    }

    #[test]
    fn damaged_copies_are_replaced_and_old_ones_removed() {
        let setup = Setup::new();
        let index = key(FileKind::Index, b"index");
        setup.memory.write(&index, b"index").unwrap();
        setup.cached().read(&index).unwrap();
        let copy = setup.folder.path().join("copies").join(index.path());
        for damage in [b"indey".as_slice(), b""] {
            std::fs::write(&copy, damage).unwrap();
            assert_eq!(setup.cached().read(&index).unwrap(), b"index");
            assert_eq!(std::fs::read(&copy).unwrap(), b"index");
        }
        setup.memory.delete(&index).unwrap();
        assert_eq!(setup.cached().list(FileKind::Index).unwrap(), []);
        assert!(!copy.exists());
        setup.cached().read(&index).unwrap_err();
    }

    #[test]
    fn a_pack_of_trees_is_fetched_once_and_one_of_data_is_not_kept() {
        let setup = Setup::new();
        let pack = key(FileKind::Pack, b"a pack of trees");
        setup.memory.write(&pack, b"a pack of trees").unwrap();
        let trees = pack.holding_trees();
        for reads in [1, 0] {
            let cached = setup.cached();
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| assert_eq!(cached.read_range(&trees, 2, 4).unwrap(), b"pack"));
                }
            });
            assert_eq!(
                setup.reads(),
                reads,
                "a second process has the first one's copy"
            );
        }
        // Whoever verifies says nothing of trees, and sees what is in storage.
        let cached = setup.cached();
        assert_eq!(cached.read_range(&pack, 2, 4).unwrap(), b"pack");
        assert_eq!(cached.read(&pack).unwrap(), b"a pack of trees");
        assert_eq!(setup.reads(), 2);
        // A copy that was damaged before this process is fetched again.
        let copy = setup.folder.path().join("copies").join(pack.path());
        std::fs::write(&copy, b"a pact of trees").unwrap();
        assert_eq!(setup.cached().read_range(&trees, 2, 4).unwrap(), b"pack");
        assert_eq!(setup.reads(), 1);
        // Past its end is an error as in storage, and a pack that is gone takes its copy along.
        cached.read_range(&trees, 14, 2).unwrap_err();
        setup.memory.delete(&pack).unwrap();
        assert_eq!(setup.cached().list(FileKind::Pack).unwrap(), []);
        assert!(!copy.exists());
        setup.cached().read_range(&trees, 2, 4).unwrap_err();
        // Into memory it goes the same ways.
        setup.memory.write(&pack, b"a pack of trees").unwrap();
        let (cached, mut memory) = (setup.cached(), *b"????");
        let _before = setup.reads();
        for (file, reads) in [(&trees, 1), (&trees, 0), (&pack, 1)] {
            memory.fill(b'?');
            cached.read_range_into(file, 2, &mut memory).unwrap();
            assert_eq!((&memory, setup.reads()), (b"pack", reads));
        }
        cached.read_range_into(&trees, 14, &mut memory).unwrap_err();
        let written = key(FileKind::Pack, b"written").holding_trees();
        setup.cached().write(&written, b"written").unwrap();
        let _before = setup.reads();
        assert_eq!(setup.cached().read_range(&written, 0, 4).unwrap(), b"writ");
        assert_eq!(setup.reads(), 0);
    }

    #[test]
    fn a_damaged_original_is_handed_on_and_not_kept() {
        let setup = Setup::new();
        let index = key(FileKind::Index, b"index");
        setup.memory.write(&index, b"indey").unwrap();
        for _time in 0..2 {
            assert_eq!(setup.cached().read(&index).unwrap(), b"indey");
        }
        assert_eq!(setup.reads(), 2);
    }

    #[test]
    fn a_cache_that_cannot_be_written_changes_nothing() {
        let setup = Setup::new();
        std::fs::write(setup.folder.path().join("copies"), "a file in the way").unwrap();
        let index = key(FileKind::Index, b"index");
        setup.cached().write(&index, b"index").unwrap();
        assert_eq!(setup.cached().read(&index).unwrap(), b"index");
        assert_eq!(setup.cached().list(FileKind::Index).unwrap().len(), 1);
        let trees = key(FileKind::Pack, b"trees").holding_trees();
        let cached = setup.cached();
        cached.write(&trees, b"trees").unwrap();
        let _before = setup.reads();
        for _tree in 0..3 {
            assert_eq!(cached.read_range(&trees, 0, 4).unwrap(), b"tree");
        }
        assert_eq!(
            setup.reads(),
            4,
            "three trees, and once the whole pack in vain"
        );
        setup.cached().delete(&index).unwrap();
        assert_eq!(setup.memory.size(&index).unwrap(), None);
    }
}
