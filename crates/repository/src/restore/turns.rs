//! The order in which batches end that were executed at the same time.
//!
//! Invariant: a batch passes [`Turn::wait`] only after all with lower numbers have ended, however
//! they ended.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::parallel::lock;

/// Numbers count from 0, and each is taken once.
#[derive(Default)]
pub struct Turns {
    ended: Mutex<Ended>,
    changed: Condvar,
}

#[derive(Default)]
struct Ended {
    /// All below have ended.
    before: u64,
    /// Those that have ended beyond.
    early: BTreeSet<u64>,
}

/// A batch at work; it has ended when this is dropped, as a panic does too.
pub struct Turn<'t> {
    turns: &'t Turns,
    number: u64,
}

impl Turns {
    /// A batch begins.
    pub const fn take(&self, number: u64) -> Turn<'_> {
        Turn {
            turns: self,
            number,
        }
    }
}

impl Turn<'_> {
    /// Waits until all batches before this one have ended.
    pub fn wait(&self) {
        let mut ended = lock(&self.turns.ended);
        while ended.before < self.number {
            let waited = self.turns.changed.wait(ended);
            ended = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let ended = &mut *lock(&self.turns.ended);
        ended.early.insert(self.number);
        while ended.early.remove(&ended.before) {
            ended.before += 1;
        }
        self.turns.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_batch_waits_for_all_before_it_and_for_those_that_fail() {
        let turns = Turns::default();
        let (passed, order) = mpsc::channel();
        let third = turns.take(2);
        std::thread::scope(|scope| {
            let (first, second) = (turns.take(0), turns.take(1));
            scope.spawn(|| {
                third.wait();
                passed.send(2).unwrap();
            });
            drop(second);
            let early = order.recv_timeout(Duration::from_millis(50));
            assert!(early.is_err(), "the first has not ended");
            first.wait();
            let failed = scope.spawn(move || {
                let _first = first;
                std::panic::panic_any("on purpose");
            });
            assert!(failed.join().is_err());
            assert_eq!(order.recv_timeout(Duration::from_secs(60)), Ok(2));
        });
    }
}
