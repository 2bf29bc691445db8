//! Trying failed calls again, a limited number of times and with growing pauses.
//!
//! Invariant: only errors that may pass are tried again, and no call outlives its deadline by
//! more than one attempt.

mod system;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use system::SystemWorld;

use refloat_model::time::Timestamp;

use crate::{
    FileKey, FileKind, Listed, Protection, SharedStorage, Storage, StorageError, StorageErrorKind,
};

/// Limits of trying again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryLimits {
    /// Attempts in all, the first included; 0 counts as 1.
    pub attempts_max: u32,
    /// Upper bound of the pause before the second attempt; it doubles from then on.
    pub first_pause_max: Duration,
    /// Upper bound of every pause of our own; a storage may ask for a longer one.
    pub pause_max: Duration,
    /// No attempt starts when this much time has passed since the first one.
    pub deadline: Duration,
    /// The same until a call succeeded for the first time: a wrong address must not cost minutes.
    pub first_deadline: Duration,
}

impl Default for RetryLimits {
    /// As many attempts as 15 minutes hold: an object store's upgrade or a router's restart passes.
    fn default() -> Self {
        Self {
            attempts_max: 60,
            first_pause_max: Duration::from_secs(1),
            pause_max: Duration::from_secs(60),
            deadline: Duration::from_mins(15),
            first_deadline: Duration::from_secs(20),
        }
    }
}

impl RetryLimits {
    /// The bound of the pause after this many failures.
    fn pause_bound(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1);
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.first_pause_max
            .saturating_mul(factor)
            .min(self.pause_max)
    }
}

/// The world that retrying needs, injected by the front-end.
pub trait RetryWorld: Send + Sync {
    /// Time since some fixed moment, never going back.
    fn now(&self) -> Duration;

    /// A number from 0 up to but not including 1.
    fn random_fraction(&self) -> f64;

    /// Waits; `false` if somebody asked the run to stop, which ends the trying.
    fn sleep(&self, pause: Duration) -> bool;
}

/// Repeats calls that failed for reasons that may pass.
///
/// Pauses are drawn evenly from zero to their bound ("full jitter"), so that many movers that
/// were cut off at once do not come back at once. What a storage asks to wait comes before that, unless it is longer
/// than the calls are repeated for.
///
/// A short read ends the trying once the storage confirms that the file is that short: a damaged
/// repository must not cost minutes per file.
///
/// A whole file whose content is not what its name says is read once more: what broke on its way
/// is right then, and what is damaged costs one call.
///
/// A config whose write is reported as taken on a later attempt, and that holds the bytes of this
/// very call, was written by an earlier attempt whose answer got lost: the write succeeded.
pub struct RetryStorage {
    inner: SharedStorage,
    limits: RetryLimits,
    world: Arc<dyn RetryWorld>,
    /// Whether any call succeeded yet.
    reached: AtomicBool,
}

impl RetryStorage {
    /// Repeats calls of a storage within limits.
    #[must_use]
    pub fn new(inner: SharedStorage, limits: RetryLimits, world: Arc<dyn RetryWorld>) -> Self {
        Self {
            inner,
            limits,
            world,
            reached: AtomicBool::new(false),
        }
    }

    fn repeat<T>(
        &self,
        mut call: impl FnMut() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        self.repeat_unless(|_failures| call(), |_error| false)
    }

    /// Calls with the number of earlier failures until success, a limit or a final error.
    fn repeat_unless<T>(
        &self,
        mut call: impl FnMut(u32) -> Result<T, StorageError>,
        is_final: impl Fn(&StorageError) -> bool,
    ) -> Result<T, StorageError> {
        let start = self.world.now();
        let mut failures = 0;
        loop {
            let error = match call(failures) {
                Ok(value) => {
                    self.reached.store(true, Ordering::Relaxed);
                    return Ok(value);
                }
                Err(error) => error,
            };
            failures += 1;
            if error.kind() != StorageErrorKind::Unavailable {
                self.reached.store(true, Ordering::Relaxed);
            }
            if !error.is_retryable() || failures >= self.limits.attempts_max || is_final(&error) {
                return Err(error);
            }
            let bound = self.limits.pause_bound(failures);
            let drawn = bound.mul_f64(self.world.random_fraction().clamp(0.0, 1.0));
            let spent = self.world.now().saturating_sub(start);
            let deadline = if self.reached.load(Ordering::Relaxed) {
                self.limits.deadline
            } else {
                self.limits.first_deadline
            };
            let left = deadline.saturating_sub(spent);
            let asked = error.retry_after().map(|asked| asked.saturating_add(drawn));
            let pause = asked.filter(|asked| *asked < left).unwrap_or(drawn);
            if pause >= left {
                return Err(error);
            }
            if !self.world.sleep(pause) {
                return Err(error.interrupted());
            }
        }
    }

    /// Whether a read failed because the file ends before it does.
    fn ends_before(&self, key: &FileKey, offset: u64, length: usize, error: &StorageError) -> bool {
        let end = offset.saturating_add(length as u64);
        error.kind() == StorageErrorKind::ShortRead
            && matches!(self.inner.size(key), Ok(Some(size)) if size < end)
    }

    fn is_own_config(&self, key: &FileKey, bytes: &[u8]) -> bool {
        key.kind() == FileKind::Config && self.inner.read(key).is_ok_and(|found| found == bytes)
    }
}

impl Storage for RetryStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Result<(), StorageError> {
        self.repeat(|| self.inner.create())
    }

    fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), StorageError> {
        let write = |failures| match self.inner.write(key, bytes) {
            Err(error)
                if failures > 0
                    && error.kind() == StorageErrorKind::AlreadyExists
                    && self.is_own_config(key, bytes) =>
            {
                Ok(())
            }
            other => other,
        };
        self.repeat_unless(write, |_error| false)
    }

    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
        let first = self.repeat(|| self.inner.read(key))?;
        if key.names(&first) {
            return Ok(first);
        }
        self.repeat(|| self.inner.read(key))
    }

    fn read_range(
        &self,
        key: &FileKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        let read = |_failures| self.inner.read_range(key, offset, length);
        self.repeat_unless(read, |error| self.ends_before(key, offset, length, error))
    }

    fn read_range_into(
        &self,
        key: &FileKey,
        offset: u64,
        memory: &mut [u8],
    ) -> Result<(), StorageError> {
        let length = memory.len();
        let read = |_failures| self.inner.read_range_into(key, offset, memory);
        self.repeat_unless(read, |error| self.ends_before(key, offset, length, error))
    }

    fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError> {
        self.repeat(|| self.inner.size(key))
    }

    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError> {
        self.repeat(|| self.inner.list(kind))
    }

    fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        self.repeat(|| self.inner.delete(key))
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
        self.repeat(|| self.inner.protected_until(key))
    }

    fn protect_until(&self, key: &FileKey, until: Timestamp) -> Result<(), StorageError> {
        self.repeat(|| self.inner.protect_until(key, until))
    }
}

#[cfg(test)]
mod tests;
