//! Findings of one walk or restore, bounded.
//!
//! Invariant: memory does not grow with the number of findings, and none goes uncounted.

use refloat_model::finding::Finding;

/// How many findings are kept in full: enough to see what is wrong.
pub const FINDINGS_MAX: usize = 100;

/// The first findings and the number of all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    count: u64,
}

impl Findings {
    /// Adds a warning about `subject`, made only if it is kept.
    pub(crate) fn warn(&mut self, subject: &[u8], message: impl FnOnce() -> String) {
        self.count += 1;
        if self.kept.len() < FINDINGS_MAX {
            let subject = String::from_utf8_lossy(subject);
            self.kept.push(Finding::warning(subject, message()));
        }
    }

    pub(crate) fn append(&mut self, other: Self) {
        self.count += other.count;
        let room = FINDINGS_MAX - self.kept.len();
        self.kept.extend(other.kept.into_iter().take(room));
    }

    /// How many there were in all.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first [`FINDINGS_MAX`].
    #[must_use]
    pub fn first(&self) -> &[Finding] {
        &self.kept
    }

    /// As a list for a report; where some were not kept, the last one says how many.
    #[must_use]
    pub fn into_list(self, subject: &str) -> Vec<Finding> {
        let mut list = self.kept;
        let dropped = self.count - list.len() as u64;
        if dropped > 0 {
            let message = format!("{dropped} more findings like the ones before");
            list.push(Finding::warning(subject, message));
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_beyond_the_bound_are_counted() {
        let mut findings = Findings::default();
        for n in 0..103 {
            findings.warn(b"f\xff", || format!("number {n}"));
        }
        assert_eq!(findings.count(), 103);
        let list = findings.into_list("volume");
        assert_eq!(list.len(), 101);
        assert_eq!(list[99], Finding::warning("f\u{fffd}", "number 99"));
        let more = Finding::warning("volume", "3 more findings like the ones before");
        assert_eq!(list[100], more);
    }
}
