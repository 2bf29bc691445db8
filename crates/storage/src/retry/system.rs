//! The clock, randomness and sleep of this machine, for front-ends to inject.
//!
//! Invariant: a sleep ends soon after the run was asked to stop.

use std::time::{Duration, Instant};

use refloat_model::cancel::Cancel;

use super::RetryWorld;

/// How long a stopped run may go on sleeping.
const SLICE: Duration = Duration::from_millis(100);

/// The real world, until the run is cancelled.
pub struct SystemWorld {
    start: Instant,
    cancel: Cancel,
}

impl SystemWorld {
    /// Sleeps until `cancel` is raised.
    #[must_use]
    pub fn new(cancel: Cancel) -> Self {
        Self {
            start: Instant::now(),
            cancel,
        }
    }
}

impl RetryWorld for SystemWorld {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn random_fraction(&self) -> f64 {
        // Without randomness the pause is as long as it may be, which is safe.
        let random = getrandom::u32().unwrap_or(u32::MAX);
        f64::from(random) / (f64::from(u32::MAX) + 1.0)
    }

    fn sleep(&self, pause: Duration) -> bool {
        let end = self.start.elapsed().saturating_add(pause);
        loop {
            if self.cancel.is_cancelled() {
                return false;
            }
            let rest = end.saturating_sub(self.start.elapsed());
            if rest.is_zero() {
                return true;
            }
            std::thread::sleep(rest.min(SLICE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_run_does_not_sleep() {
        let cancel = Cancel::default();
        let world = SystemWorld::new(cancel.clone());
        assert!(world.sleep(Duration::from_millis(1)));
        assert!(world.now() >= Duration::from_millis(1));
        cancel.cancel();
        assert!(!world.sleep(Duration::from_hours(1)));
        assert!((0.0..1.0).contains(&world.random_fraction()));
    }
}
