//! Limits of bandwidth: so many bytes in a second, for all who share the limit.
//!
//! Invariant: over any longer time no more passes than the limit allows and one burst; whoever waits
//! sees soon that the run is stopped.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use refloat_model::cancel::{Cancel, Cancelled};
use refloat_model::time::Timestamp;

use crate::{FileKey, FileKind, Listed, Protection, SharedStorage, Storage, StorageError};

/// What may pass at once after a silence, as the time it would take.
const BURST: Duration = Duration::from_millis(100);
/// How long a wait goes on before it is looked whether the run was stopped.
const LOOK_AFTER: Duration = Duration::from_millis(50);

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
    ///
    /// # Errors
    /// The run was stopped meanwhile: then they do not pass.
    pub fn pass(&self, bytes: usize, cancel: &Cancel) -> Result<(), Cancelled> {
        let start = Instant::now();
        let pause = self.book(bytes, start);
        loop {
            let left = pause.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            if let Err(cancelled) = cancel.check() {
                self.give_back(bytes);
                return Err(cancelled);
            }
            std::thread::sleep(left.min(LOOK_AFTER));
        }
    }

    /// What passes in a second: larger pieces would come in jolts.
    #[must_use]
    pub fn piece_bytes(&self) -> usize {
        usize::try_from(self.bytes_per_second).unwrap_or(usize::MAX)
    }

    /// What these bytes take.
    fn cost(&self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64)
    }

    /// Bytes that were booked and do not pass hold up nobody: the last calls of a stopped run are
    /// yet to come.
    fn give_back(&self, bytes: usize) {
        let cost = self.cost(bytes);
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        *free_at = free_at.checked_sub(cost).unwrap_or(*free_at);
    }

    /// Books the bytes, and tells how long their owner has to wait.
    fn book(&self, bytes: usize, now: Instant) -> Duration {
        let cost = self.cost(bytes);
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
    ///
    /// # Errors
    /// The run was stopped meanwhile.
    pub fn up(&self, bytes: usize, cancel: &Cancel) -> Result<(), Cancelled> {
        let pace = self.upload.as_ref();
        pace.map_or(Ok(()), |pace| pace.pass(bytes, cancel))
    }

    /// Waits until so many more bytes may be received.
    ///
    /// # Errors
    /// The run was stopped meanwhile.
    pub fn down(&self, bytes: usize, cancel: &Cancel) -> Result<(), Cancelled> {
        let pace = self.download.as_ref();
        pace.map_or(Ok(()), |pace| pace.pass(bytes, cancel))
    }

    /// How many bytes are best sent at once.
    #[must_use]
    pub fn up_piece_bytes(&self) -> usize {
        let pace = self.upload.as_ref();
        pace.map_or(usize::MAX, |pace| pace.piece_bytes())
    }
}

/// Limits a storage whose client cannot do so on its way: calls wait before they write and after
/// they read.
pub struct PacedStorage {
    inner: SharedStorage,
    traffic: Traffic,
    cancel: Cancel,
}

impl PacedStorage {
    /// Limits a storage.
    #[must_use]
    pub fn new(inner: SharedStorage, traffic: Traffic) -> Self {
        Self {
            inner,
            traffic,
            cancel: Cancel::default(),
        }
    }

    /// Ends waits of a run that is stopped, once this is raised: what is left passes at once, since it is what the run
    /// keeps.
    #[must_use]
    pub fn stopped_by(self, cancel: Cancel) -> Self {
        Self { cancel, ..self }
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
        let _or_stopped = self.traffic.up(bytes.len(), &self.cancel);
        self.inner.write(key, bytes)
    }

    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
        let bytes = self.inner.read(key)?;
        let _or_stopped = self.traffic.down(bytes.len(), &self.cancel);
        Ok(bytes)
    }

    fn read_range(
        &self,
        key: &FileKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        let bytes = self.inner.read_range(key, offset, length)?;
        let _or_stopped = self.traffic.down(bytes.len(), &self.cancel);
        Ok(bytes)
    }

    fn read_range_into(
        &self,
        key: &FileKey,
        offset: u64,
        memory: &mut [u8],
    ) -> Result<(), StorageError> {
        self.inner.read_range_into(key, offset, memory)?;
        let _or_stopped = self.traffic.down(memory.len(), &self.cancel);
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
    fn a_stopped_run_waits_for_nothing_and_leaves_nothing_to_wait_for() {
        let cancel = Cancel::default();
        let storage = PacedStorage::new(
            Arc::new(crate::memory::MemoryStorage::new()),
            Traffic {
                upload: Some(Arc::new(Pace::new(10))),
                ..Traffic::default()
            },
        );
        let storage = storage.stopped_by(cancel.clone());
        let pack = FileKey::new(FileKind::Pack, [1; 32]);
        let start = Instant::now();
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| storage.write(&pack, &[7; 1_000])))
                .collect();
            std::thread::sleep(Duration::from_millis(100));
            cancel.cancel();
            for thread in waiting {
                thread.join().unwrap().unwrap();
            }
        });
        // 400 seconds were booked.
        assert!(start.elapsed() < Duration::from_secs(10));
        let upload = storage.traffic.upload.as_ref().unwrap();
        assert!(upload.book(0, Instant::now()) < Duration::from_secs(1));
        assert_eq!(storage.size(&pack).unwrap(), Some(1_000), "it is kept");
    }

    #[test]
    fn many_threads_share_one_limit() {
        let pace = Pace::new(1_000_000);
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _thread in 0..4 {
                scope.spawn(|| {
                    (0..10).for_each(|_| pace.pass(10_000, &Cancel::default()).unwrap());
                });
            }
        });
        let took = start.elapsed();
        assert!(
            took >= Duration::from_millis(290),
            "400,000 bytes in {took:?}"
        );
    }
}
