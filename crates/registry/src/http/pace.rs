//! Patience: pauses between attempts, for all threads together.
//!
//! Invariant: when a registry asks to wait, no thread sends before the time is over.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use refloat_model::cancel::{Cancel, Cancelled};

use crate::error::RegistryError;
use crate::options::RetryLimits;

/// How long a cancelled run may go on waiting.
const SLICE: Duration = Duration::from_millis(50);

/// See the module.
pub(crate) struct Pace {
    limits: RetryLimits,
    not_before: Mutex<Option<Instant>>,
}

impl Pace {
    pub(crate) const fn new(limits: RetryLimits) -> Self {
        Self {
            limits,
            not_before: Mutex::new(None),
        }
    }

    /// Repeats what fails for reasons that may pass.
    pub(crate) fn repeat<T>(
        &self,
        cancel: &Cancel,
        mut attempt: impl FnMut() -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut failures = 0;
        loop {
            self.wait_for_all(cancel)?;
            match attempt() {
                Err(error) if error.is_retryable() => {
                    failures += 1;
                    self.pause(failures, error, cancel)?;
                }
                other => return other,
            }
        }
    }

    /// Pauses after the given number of failures; gives the error back when it is the last one.
    pub(crate) fn pause(
        &self,
        failures: u32,
        error: RegistryError,
        cancel: &Cancel,
    ) -> Result<(), RegistryError> {
        if failures >= self.limits.attempts_max {
            return Err(error);
        }
        if let RegistryError::Busy {
            wait: Some(wait), ..
        } = &error
        {
            if *wait > self.limits.pause_max {
                return Err(error);
            }
            let until = Instant::now() + *wait;
            let mut not_before = self
                .not_before
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *not_before = Some(not_before.map_or(until, |other| other.max(until)));
        }
        Ok(sleep(self.drawn(failures), cancel)?)
    }

    /// Drawn evenly from zero to the bound ("full jitter"): threads that were cut off at once do
    /// not come back at once. Without randomness the pause is as long as it may be.
    fn drawn(&self, failures: u32) -> Duration {
        let factor = 1_u32
            .checked_shl(failures.saturating_sub(1))
            .unwrap_or(u32::MAX);
        let bound = self
            .limits
            .first_pause_max
            .saturating_mul(factor)
            .min(self.limits.pause_max);
        let random = getrandom::u32().unwrap_or(u32::MAX);
        bound.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    fn wait_for_all(&self, cancel: &Cancel) -> Result<(), Cancelled> {
        let until = *self
            .not_before
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        sleep(left.unwrap_or_default(), cancel)
    }
}

fn sleep(pause: Duration, cancel: &Cancel) -> Result<(), Cancelled> {
    let end = Instant::now() + pause;
    loop {
        cancel.check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(SLICE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_and_long_waits_end_them() {
        let limits = RetryLimits {
            attempts_max: 3,
            first_pause_max: Duration::from_millis(1),
            pause_max: Duration::from_millis(5),
        };
        let pace = Pace::new(limits);
        let attempts = |wait: Option<Duration>| {
            let mut count = 0;
            let result = pace.repeat::<()>(&Cancel::default(), || {
                count += 1;
                Err(RegistryError::Busy { status: 429, wait })
            });
            assert!(matches!(result, Err(RegistryError::Busy { .. })));
            count
        };
        assert_eq!(attempts(None), 3);
        assert_eq!(attempts(Some(Duration::from_millis(2))), 3);
        assert_eq!(attempts(Some(Duration::from_hours(1))), 1);
    }
}
