//! How many requests are under way at once: as many as the server bears.
//!
//! A server that says "too many requests" gets one fewer at a time for each such answer, down to
//! one; after a row of good answers it gets one more, up to where we began.
//!
//! Invariant: at least one request may be under way, or nothing would ever be sent again.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// More would only queue in a server with two cores.
const AT_ONCE_MAX: u32 = 16;

/// How many good answers earn one more request at a time.
const GOOD_ANSWERS: u32 = 64;

pub(super) struct Pace {
    places: Semaphore,
    limit: AtomicU32,
    good: AtomicU32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            places: Semaphore::new(AT_ONCE_MAX as usize),
            limit: AtomicU32::new(AT_ONCE_MAX),
            good: AtomicU32::new(0),
        }
    }
}

impl Pace {
    /// Waits for a place.
    pub(super) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed; without it nothing would limit us, and nothing breaks.
        self.places.acquire().await.ok()
    }

    /// The server asked for patience: the place is not given out again, unless it is the last.
    pub(super) fn slow_down(&self, place: Option<SemaphorePermit<'_>>) {
        self.good.store(0, Ordering::Relaxed);
        let fewer = |limit: u32| (limit > 1).then(|| limit - 1);
        let changed = self
            .limit
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
        if let (Ok(_), Some(place)) = (changed, place) {
            place.forget();
        }
    }

    /// The server answered as usual.
    pub(super) fn good_answer(&self) {
        if self.good.fetch_add(1, Ordering::Relaxed) + 1 < GOOD_ANSWERS {
            return;
        }
        self.good.store(0, Ordering::Relaxed);
        let more = |limit: u32| (limit < AT_ONCE_MAX).then(|| limit + 1);
        let changed = self
            .limit
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if changed.is_ok() {
            self.places.add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_server_gets_less_and_a_good_one_more_again() {
        let pace = Pace::default();
        let take = || pace.places.try_acquire().ok();
        for _ in 0..100 {
            pace.slow_down(take());
        }
        assert_eq!(pace.places.available_permits(), 1);
        for _ in 0..GOOD_ANSWERS {
            pace.good_answer();
        }
        assert_eq!(pace.places.available_permits(), 2);
        for _ in 0..10_000 {
            pace.good_answer();
        }
        assert_eq!(pace.places.available_permits(), AT_ONCE_MAX as usize);
    }
}
