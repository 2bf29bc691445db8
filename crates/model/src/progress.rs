//! What a run tells while it works.
//!
//! Invariant: progress is for people; no decision is taken from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::outcome::Outcome;

/// Counters that workers raise and a front-end polls. Sizes are in bytes.
#[derive(Debug, Default)]
pub struct Counters {
    /// Entries finished.
    pub entries_done: AtomicU64,
    /// Content bytes read or written.
    pub bytes_done: AtomicU64,
    /// Entries expected; 0 when unknown.
    pub entries_expected: AtomicU64,
    /// Bytes expected; 0 when unknown.
    pub bytes_expected: AtomicU64,
    /// Bytes that storage received.
    pub bytes_stored: AtomicU64,
}

impl Counters {
    /// Adds to one counter.
    pub fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    /// Reads one counter.
    #[must_use]
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// Receives what happens, from any thread.
pub trait Progress: Send + Sync {
    /// A new phase began: "discovering web", "capturing volume db".
    fn phase(&self, what: &str);
    /// An item ended.
    fn item(&self, title: &str, outcome: &Outcome);
    /// Something a person should know now and not only in the report.
    fn warn(&self, message: &str);
    /// The counters of this run.
    fn counters(&self) -> &Arc<Counters>;
}

/// Tells nobody; counts all the same.
#[derive(Debug, Default)]
pub struct Silent(Arc<Counters>);

impl Progress for Silent {
    fn phase(&self, _: &str) {}
    fn item(&self, _: &str, _: &Outcome) {}
    fn warn(&self, _: &str) {}
    fn counters(&self) -> &Arc<Counters> {
        &self.0
    }
}
