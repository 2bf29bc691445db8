//! How slow the other side may be: one that sends a byte a second is never silent and never done.
//!
//! Invariant: only time that was spent waiting for the other side counts, so that limits of our own
//! trip nothing.

use std::time::Duration;

/// Bytes in a second that an honest line carries for each of its connections.
const BYTES_PER_SECOND_MIN: u64 = 1 << 10;

/// What came or went in the span that is judged next.
pub(super) struct Floor {
    span: Duration,
    waited: Duration,
    bytes: u64,
}

/// So little in a whole span.
#[derive(Debug, thiserror::Error)]
#[error("only {bytes} bytes in {} seconds", waited.as_secs())]
pub(super) struct TooSlow {
    bytes: u64,
    waited: Duration,
}

impl Floor {
    /// Judges every span of waiting by itself, and none that is shorter.
    pub(super) const fn new(span: Duration) -> Self {
        Self {
            span,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// Counts bytes, and how long they were waited for.
    pub(super) fn count(&mut self, bytes: usize, waited: Duration) -> Result<(), TooSlow> {
        self.bytes += bytes as u64;
        self.waited += waited;
        if self.waited < self.span {
            return Ok(());
        }
        let (bytes, waited) = (self.bytes, self.waited);
        *self = Self::new(self.span);
        if (bytes as f64) < BYTES_PER_SECOND_MIN as f64 * waited.as_secs_f64() {
            return Err(TooSlow { bytes, waited });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_span_of_waiting_is_judged_by_itself() {
        let mut floor = Floor::new(Duration::from_secs(4));
        let mut count = |bytes, seconds| {
            let counted = floor.count(bytes, Duration::from_secs(seconds));
            counted.map_err(|slow| slow.to_string())
        };
        assert_eq!(count(1_000_000, 0), Ok(()), "what is there at once");
        assert_eq!(count(0, 3), Ok(()));
        assert_eq!(count(0, 1), Ok(()), "its span is full");
        assert_eq!(count(100, 3), Ok(()), "not yet judged");
        assert_eq!(count(3_996, 1), Ok(()), "a KiB a second");
        assert_eq!(count(4_095, 3), Ok(()));
        let slow = Err("only 4095 bytes in 4 seconds".to_owned());
        assert_eq!(count(0, 1), slow);
        assert_eq!(count(0, 3), Ok(()), "a new span");
    }
}
