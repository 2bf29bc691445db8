//! The same question to a registry, many times at once.
//!
//! Invariant: answers come in the order of the questions, and no thread outlives the call.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Applies `ask` to every item on at most `at_once` threads.
pub(crate) fn map<T: Sync, R: Send>(
    items: &[T],
    at_once: usize,
    ask: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let threads = at_once.clamp(1, items.len().max(1));
    if threads == 1 {
        return items.iter().map(ask).collect();
    }
    let mut answers: Vec<(usize, R)> = std::thread::scope(|scope| {
        let work = || {
            let mut answers = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(number) else {
                    return answers;
                };
                answers.push((number, ask(item)));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(|worker| {
            // A panic is a bug of ours and goes on where it would have without threads.
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        joined.flatten().collect()
    });
    answers.sort_by_key(|(number, _)| *number);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn answers_are_in_order() {
        let items: Vec<u32> = (0..1000).collect();
        let doubled: Vec<u32> = items.iter().map(|item| item * 2).collect();
        assert_eq!(super::map(&items, 7, |item| item * 2), doubled);
        assert_eq!(
            super::map(&[] as &[u32], 7, |item| *item),
            Vec::<u32>::new()
        );
    }
}
