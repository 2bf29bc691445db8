//! Doing one thing for every item of a list on several threads.
//!
//! Invariant: memory is bounded by what each thread holds for its one item, and no thread outlives
//! the call.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use refloat_storage::SharedStorage;

use crate::error::RepositoryError;

/// How many threads read a storage: one a core, more where the storage takes more calls at once,
/// and one where it takes one at a time.
pub fn threads(storage: &SharedStorage) -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    match storage.connections() {
        0 | 1 => 1,
        connections => cores.max(connections),
    }
}

/// The content of a mutex: no holder of ours leaves it half changed, so a panic spoils nothing.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` on up to `count` threads at once, the caller's among them, and waits for all.
///
/// # Errors
/// The first error; the others are told to stop by [`Team::is_stopped`].
pub fn on_threads(
    count: usize,
    work: impl Fn(&Team) -> Result<(), RepositoryError> + Sync,
) -> Result<(), RepositoryError> {
    let team = Team::default();
    let member = || work(&team).unwrap_or_else(|error| team.fail(error));
    std::thread::scope(|scope| {
        for number in 1..count.max(1) {
            let thread = std::thread::Builder::new().name(format!("read {number}"));
            // With fewer threads than wanted the work is done all the same.
            if thread.spawn_scoped(scope, member).is_err() {
                break;
            }
        }
        member();
    });
    match team.failure.into_inner() {
        Ok(Some(error)) => Err(error),
        Ok(None) => Ok(()),
        Err(poisoned) => poisoned.into_inner().map_or(Ok(()), Err),
    }
}

/// What the threads of one call share.
#[derive(Default)]
pub struct Team {
    stopped: AtomicBool,
    failure: Mutex<Option<RepositoryError>>,
}

impl Team {
    fn fail(&self, error: RepositoryError) {
        lock(&self.failure).get_or_insert(error);
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Whether another thread failed.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// Runs `work` for every item, in no order.
///
/// # Errors
/// The first error; items not begun by then are left out.
pub fn for_each<T: Sync>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> Result<(), RepositoryError> + Sync,
) -> Result<(), RepositoryError> {
    for_each_with(items, threads, |item, ()| work(item))
}

/// As [`for_each`], where each thread has memory of its own that it keeps from item to item.
pub fn for_each_with<T: Sync, Memory: Default>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T, &mut Memory) -> Result<(), RepositoryError> + Sync,
) -> Result<(), RepositoryError> {
    let next = AtomicUsize::new(0);
    on_threads(threads.min(items.len()), |team| {
        let mut memory = Memory::default();
        while !team.is_stopped() {
            match items.get(next.fetch_add(1, Ordering::Relaxed)) {
                Some(item) => work(item, &mut memory)?,
                None => break,
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_done_once_and_the_first_error_ends_it() {
        let items: Vec<usize> = (0..1000).collect();
        let sum = AtomicUsize::new(0);
        for_each(&items, 8, |item| {
            sum.fetch_add(*item, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
        assert_eq!(sum.into_inner(), 499_500);
        let failed = for_each(&items, 8, |_| Err(RepositoryError::LostLock));
        assert!(matches!(failed, Err(RepositoryError::LostLock)));
        for_each(&[], 8, |_: &usize| Err(RepositoryError::LostLock)).unwrap();
    }
}
