//! Limits of bandwidth: so many bytes in a second, for all who share the limit.
//!
//! Invariant: over any longer time no more passes than the limit allows and one burst.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use refloat_model::time::Timestamp;

use crate::{FileKey, FileKind, Listed, Protection, SharedStorage, Storage, StorageError};

/// What may pass at once after a silence, as the time it would take.
const BURST: Duration = Duration::from_millis(100);

/// Lets so many bytes pass in a second and makes the rest wait.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: u64,
    /// When everything that was let pass will have passed.
    free_at: Mutex<Instant>,
}

impl Pace {
    /// A limit; zero counts as one byte a second.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            free_at: Mutex::new(Instant::now()),
        }
    }

    /// Waits until so many bytes may pass.
    pub fn pass(&self, bytes: usize) {
        let pause = self.book(bytes, Instant::now());
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }

    /// Books the bytes, and tells how long their owner has to wait.
    fn book(&self, bytes: usize, now: Instant) -> Duration {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        *free_at = (*free_at).max(earliest) + cost;
        free_at.saturating_duration_since(now)
    }
}

/// The limits of both directions; none by default.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// Towards the storage.
    pub upload: Option<Arc<Pace>>,
    /// From the storage.
    pub download: Option<Arc<Pace>>,
}

impl Traffic {
    /// Waits until so many bytes may be sent.
    pub fn up(&self, bytes: usize) {
        if let Some(pace) = &self.upload {
            pace.pass(bytes);
        }
    }

    /// Waits until so many more bytes may be received.
    pub fn down(&self, bytes: usize) {
        if let Some(pace) = &self.download {
            pace.pass(bytes);
        }
    }
}

/// Limits a storage whose client cannot do so on its way: calls wait before they write and after
/// they read.
pub struct PacedStorage {
    inner: SharedStorage,
    traffic: Traffic,
}

impl PacedStorage {
    /// Limits a storage.
    #[must_use]
    pub const fn new(inner: SharedStorage, traffic: Traffic) -> Self {
        Self { inner, traffic }
    }

    fn received(&self, bytes: Vec<u8>) -> Vec<u8> {
        self.traffic.down(bytes.len());
        bytes
    }
}

impl Storage for PacedStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Result<(), StorageError> {
        self.inner.create()
    }

    fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), StorageError> {
        self.traffic.up(bytes.len());
        self.inner.write(key, bytes)
    }

    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
        self.inner.read(key).map(|bytes| self.received(bytes))
    }

    fn read_range(
        &self,
        key: &FileKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        let read = self.inner.read_range(key, offset, length);
        read.map(|bytes| self.received(bytes))
    }

    fn read_range_into(
        &self,
        key: &FileKey,
        offset: u64,
        memory: &mut [u8],
    ) -> Result<(), StorageError> {
        self.inner.read_range_into(key, offset, memory)?;
        self.traffic.down(memory.len());
        Ok(())
    }

    fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError> {
        self.inner.size(key)
    }

    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError> {
        self.inner.list(kind)
    }

    fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        self.inner.delete(key)
    }

    fn connections(&self) -> usize {
        self.inner.connections()
    }

    fn settling(&self) -> Duration {
        self.inner.settling()
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
    use super::*;

    #[test]
    fn bytes_wait_for_those_before_them_and_a_silence_saves_up_one_burst() {
        let pace = Pace::new(1_000);
        let start = Instant::now() + Duration::from_secs(10);
        let wait = |bytes, after: u64| pace.book(bytes, start + Duration::from_millis(after));
        assert_eq!(wait(100, 0), Duration::ZERO, "the burst");
        assert_eq!(wait(500, 0), Duration::from_millis(500));
        assert_eq!(wait(500, 0), Duration::from_millis(1_000));
        assert_eq!(wait(500, 1_000), Duration::from_millis(500));
        assert_eq!(wait(200, 60_000), Duration::from_millis(100));
    }

    #[test]
    fn all_that_is_read_passes_the_limit() {
        let memory = Arc::new(crate::memory::MemoryStorage::new());
        let pack = FileKey::new(FileKind::Pack, [1; 32]);
        memory.write(&pack, &[7; 1_000]).unwrap();
        let pace = Arc::new(Pace::new(1_000_000));
        let traffic = Traffic {
            download: Some(Arc::clone(&pace)),
            ..Traffic::default()
        };
        let storage = PacedStorage::new(memory, traffic);
        let booked = |read: &dyn Fn()| {
            let before = *pace.free_at.lock().unwrap();
            read();
            pace.free_at.lock().unwrap().duration_since(before)
        };
        let whole = booked(&|| drop(storage.read(&pack).unwrap()));
        let range = booked(&|| drop(storage.read_range(&pack, 0, 1_000).unwrap()));
        let into = booked(&|| {
            storage.read_range_into(&pack, 0, &mut [0; 1_000]).unwrap();
        });
        assert!(
            [whole, range, into]
                .iter()
                .all(|it| *it >= Duration::from_millis(1))
        );
    }

    #[test]
    fn many_threads_share_one_limit() {
        let pace = Pace::new(1_000_000);
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _thread in 0..4 {
                scope.spawn(|| (0..10).for_each(|_| pace.pass(10_000)));
            }
        });
        let took = start.elapsed();
        assert!(
            took >= Duration::from_millis(290),
            "400,000 bytes in {took:?}"
        );
    }
}
