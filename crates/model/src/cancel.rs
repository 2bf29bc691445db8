//! Asking a run to stop.
//!
//! Invariant: once cancelled, for ever cancelled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A shared flag: the front-end raises it, long loops look at it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Flag>);

#[derive(Debug, Default)]
struct Flag {
    raised: AtomicBool,
    /// Whoever stops this one, too.
    above: Option<Cancel>,
}

/// Somebody asked the run to stop.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Cancelled;

impl Cancel {
    /// Asks everybody who holds this flag to stop.
    pub fn cancel(&self) {
        self.0.raised.store(true, Ordering::SeqCst);
    }

    /// A flag for a part of the work: raised by itself, or with this one.
    #[must_use]
    pub fn below(&self) -> Self {
        Self(Arc::new(Flag {
            raised: AtomicBool::new(false),
            above: Some(self.clone()),
        }))
    }

    /// Whether somebody asked.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        let Flag { raised, above } = &*self.0;
        raised.load(Ordering::Relaxed) || above.as_ref().is_some_and(Self::is_cancelled)
    }

    /// For `?` inside loops.
    ///
    /// # Errors
    /// The run was cancelled.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() {
            Err(Cancelled)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_stops_with_the_whole_and_not_the_other_way_round() {
        let whole = Cancel::default();
        let (one, other) = (whole.below(), whole.below());
        one.cancel();
        assert!(one.is_cancelled() && !whole.is_cancelled() && !other.is_cancelled());
        whole.cancel();
        assert!(other.is_cancelled());
    }
}
