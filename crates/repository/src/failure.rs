//! Entries that could not be captured or restored, collected from many threads.
//!
//! Invariant: every failure is counted; only the texts of the first are kept.

use std::sync::{Mutex, PoisonError};

/// How many failures are kept with their text.
pub const FAILURES_KEPT_MAX: usize = 1000;

/// An entry that could not be captured or restored.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct EntryFailure {
    /// Its path below the tree's root.
    pub path: Vec<u8>,
    /// Operation and cause.
    pub reason: String,
}

/// Collected failures.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Failures {
    /// The first [`FAILURES_KEPT_MAX`].
    pub kept: Vec<EntryFailure>,
    /// How many there are in all.
    pub count: u64,
}

/// Collects from several threads.
#[derive(Debug, Default)]
pub struct FailureLog(Mutex<Failures>);

impl FailureLog {
    /// Records one; `path` is asked for only if its text is kept.
    pub fn record(&self, path: impl FnOnce() -> Vec<u8>, reason: String) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.count += 1;
        if failures.kept.len() < FAILURES_KEPT_MAX {
            failures.kept.push(EntryFailure {
                path: path(),
                reason,
            });
        }
    }

    /// Takes everything out.
    pub fn take(&self) -> Failures {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An error and its causes in one line: findings are data and keep no error objects.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |mut text, cause| {
        let cause = cause.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        text
    })
}
