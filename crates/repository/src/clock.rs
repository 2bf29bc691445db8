//! Time as the engine meets it: the moment, a pause, and work that comes back every few minutes.
//!
//! Invariant: nothing else in this crate looks at a clock, sleeps, or waits for a time; so a
//! simulation can own all three.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Tells the time and lets it pass; injected. A function that tells the time is one that lets it
/// pass in reality.
pub trait Timekeeper: Send + Sync {
    /// The moment.
    fn now(&self) -> jiff::Timestamp;

    /// Waits.
    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }

    /// Does `work` every `period`, until the result is dropped.
    ///
    /// # Errors
    /// The system has no thread for it.
    fn every(&self, period: Duration, work: Work) -> std::io::Result<Box<dyn Repetition>> {
        Ok(Box::new(Ticker::start(period, work)?))
    }
}

/// Work that is repeated.
pub type Work = Box<dyn Fn() + Send + Sync>;

/// Repeated work; dropping it ends it and waits for what is under way.
pub trait Repetition: Send + Sync {}

/// A shared [`Timekeeper`].
pub type Clock = Arc<dyn Timekeeper>;

impl<F: Fn() -> jiff::Timestamp + Send + Sync> Timekeeper for F {
    fn now(&self) -> jiff::Timestamp {
        self()
    }
}

struct Ticker {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(period: Duration, work: Work) -> std::io::Result<Self> {
        let stop = Arc::<(Mutex<bool>, Condvar)>::default();
        let heard = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("lock refresh".to_owned())
            .spawn(move || {
                let (stopped, wake) = &*heard;
                let mut stop = stopped.lock().unwrap_or_else(PoisonError::into_inner);
                while !*stop {
                    let waited = wake.wait_timeout_while(stop, period, |stop| !*stop);
                    let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    stop = guard;
                    if timeout.timed_out() {
                        work();
                    }
                }
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Repetition for Ticker {}

impl Drop for Ticker {
    fn drop(&mut self) {
        let (stopped, wake) = &*self.stop;
        *stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // Work that panicked has nothing left to undo.
            drop(thread.join());
        }
    }
}
