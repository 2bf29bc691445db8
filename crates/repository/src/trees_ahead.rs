//! Reading trees ahead of a walk that goes depth first.
//!
//! One thread walks, in order, and says of each directory which trees below it will come; others read and
//! decode the next few of them, the deepest first, since those come soonest.
//!
//! Invariant: only ever a help. A tree that nobody has begun is read by whoever asks for it, and memory
//! is bounded by levels, never by the number of trees.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::blobs::BlobReader as _;
use crate::error::RepositoryError;
use crate::format::tree::Node;
use crate::id::BlobId;
use crate::parallel::{lock, threads};
use crate::repository::IndexedRepository;

/// Trees of one directory that are read ahead: one is in use while the next are decoded.
const AHEAD_MAX: usize = 4;
/// Levels, from the deepest, that are read ahead.
const LEVELS_MAX: usize = 16;
/// Entries that wait to be asked for, in all: no more is begun beyond.
const NODES_MAX: usize = 200_000;
/// A walk takes trees more slowly than so many threads read them.
const THREADS_MAX: usize = 8;

type Read = Result<Vec<Node>, RepositoryError>;

/// Where a tree is that was said to come.
enum Slot {
    Wanted,
    Reading,
    Read(Read),
}

/// What a directory holds that is still to come, in order.
type Level = VecDeque<(u64, BlobId, Slot)>;

#[derive(Default)]
struct State {
    levels: Vec<Level>,
    /// Numbers slots, so that a thread finds the one that it read for.
    next: u64,
    nodes: usize,
    is_closed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// See the module.
pub struct TreesAhead {
    repository: IndexedRepository,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for TreesAhead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreesAhead")
            .field("threads", &self.threads.len())
            .finish_non_exhaustive()
    }
}

impl TreesAhead {
    /// Starts the threads: none where storage takes one call at a time, which has nothing to win by more.
    #[must_use]
    pub fn new(repository: &IndexedRepository) -> Self {
        let shared = Arc::new(Shared::default());
        let count = match repository.storage().connections() {
            0 | 1 => 0,
            _ => threads(repository.storage()).min(THREADS_MAX),
        };
        let spawn = |number| {
            let (repository, shared) = (repository.clone(), Arc::clone(&shared));
            let thread = std::thread::Builder::new().name(format!("trees {number}"));
            thread.spawn(move || read_all(&repository, &shared)).ok()
        };
        Self {
            threads: (0..count).filter_map(spawn).collect(),
            repository: repository.clone(),
            shared,
        }
    }

    /// Says which trees come next, in this order and before all that were said earlier.
    pub fn expect(&self, trees: impl IntoIterator<Item = BlobId>) {
        if self.threads.is_empty() {
            return;
        }
        let mut state = lock(&self.shared.state);
        let first = state.next;
        let level: Level = (first..)
            .zip(trees)
            .map(|(number, tree)| (number, tree, Slot::Wanted))
            .collect();
        if level.is_empty() {
            return;
        }
        state.next += level.len() as u64;
        state.levels.push(level);
        drop(state);
        self.shared.changed.notify_all();
    }

    /// The entries of a directory. What should have come before it is forgotten.
    ///
    /// # Errors
    /// As [`BlobReader::read_tree`](crate::BlobReader::read_tree).
    pub fn read_tree(&self, tree: BlobId) -> Result<Vec<Node>, RepositoryError> {
        match self.take(tree) {
            Some(read) => read,
            None => self.repository.read_tree(tree),
        }
    }

    /// The tree, if a thread has read it or is at it.
    fn take(&self, tree: BlobId) -> Option<Read> {
        let mut state = lock(&self.shared.state);
        if !state.forget_before(tree) {
            return None;
        }
        loop {
            let level = state.levels.last_mut()?;
            match level.pop_front()? {
                (_, _, Slot::Wanted) => {
                    // What was forgotten may have made room for others.
                    self.shared.changed.notify_all();
                    return None;
                }
                (_, _, Slot::Read(read)) => {
                    state.nodes -= count(&read);
                    drop(state);
                    self.shared.changed.notify_all();
                    return Some(read);
                }
                slot @ (_, _, Slot::Reading) => level.push_front(slot),
            }
            let waited = self.shared.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for TreesAhead {
    fn drop(&mut self) {
        lock(&self.shared.state).is_closed = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // One that panicked has said so; nothing of it is missing.
            drop(thread.join());
        }
    }
}

impl State {
    /// Makes a tree the next one, if it is expected.
    fn forget_before(&mut self, tree: BlobId) -> bool {
        let place = |level: &Level| level.iter().position(|(_, wanted, _)| *wanted == tree);
        let found = (0..self.levels.len())
            .rev()
            .find_map(|number| Some((number, place(&self.levels[number])?)));
        let Some((number, at)) = found else {
            return false;
        };
        let above = self.levels.split_off(number + 1);
        let before: Level = self.levels[number].drain(..at).collect();
        for (_, _, slot) in above.into_iter().flatten().chain(before) {
            if let Slot::Read(read) = slot {
                self.nodes -= count(&read);
            }
        }
        true
    }

    /// A tree to be read: of the deepest level that has few read, the next.
    fn begin(&mut self) -> Option<(u64, BlobId)> {
        if self.nodes > NODES_MAX {
            return None;
        }
        let levels = self.levels.iter_mut().rev().take(LEVELS_MAX);
        let mut first = levels.flat_map(|level| level.iter_mut().take(AHEAD_MAX));
        let (number, tree, slot) = first.find(|(_, _, slot)| matches!(slot, Slot::Wanted))?;
        *slot = Slot::Reading;
        Some((*number, *tree))
    }

    /// Keeps what was read, unless nobody wants it any more.
    fn end(&mut self, number: u64, read: Read) {
        let mut slots = self
            .levels
            .iter_mut()
            .flat_map(|level| level.iter_mut().take(AHEAD_MAX));
        if let Some((_, _, slot)) = slots.find(|(known, _, _)| *known == number) {
            self.nodes += count(&read);
            *slot = Slot::Read(read);
        }
    }
}

fn count(read: &Read) -> usize {
    read.as_ref().map_or(0, Vec::len)
}

/// A thread: reads what comes next until the walk has ended.
fn read_all(repository: &IndexedRepository, shared: &Shared) {
    let mut state = lock(&shared.state);
    while !state.is_closed {
        let Some((number, tree)) = state.begin() else {
            let waited = shared.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        drop(state);
        let mut answer = Answer {
            shared,
            number,
            read: None,
        };
        answer.read = Some(repository.read_tree(tree));
        drop(answer);
        state = lock(&shared.state);
    }
}

/// What was read is kept when this is dropped, after a panic an error: somebody may wait for it.
struct Answer<'s> {
    shared: &'s Shared,
    number: u64,
    read: Option<Read>,
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        let read = self.read.take().unwrap_or(Err(RepositoryError::Stopped));
        lock(&self.shared.state).end(self.number, read);
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> BlobId {
        BlobId([number; 32])
    }

    fn expect(state: &mut State, trees: &[u8]) {
        let first = state.next;
        state.next += trees.len() as u64;
        let slots = (first..).zip(trees);
        let level = slots.map(|(number, tree)| (number, id(*tree), Slot::Wanted));
        state.levels.push(level.collect());
    }

    #[test]
    fn the_deepest_level_is_read_first_and_only_so_far() {
        let mut state = State::default();
        expect(&mut state, &[1, 2, 3]);
        expect(&mut state, &[10, 11, 12, 13, 14, 15]);
        let mut begun = Vec::new();
        while let Some((number, tree)) = state.begin() {
            begun.push(tree.0[0]);
            state.end(number, Ok(Vec::new()));
        }
        assert_eq!(begun, [10, 11, 12, 13, 1, 2, 3], "four of each level");
        // The walk comes to 12: what is before is forgotten, and the next may be begun.
        assert!(state.forget_before(id(12)));
        assert_eq!(state.begin().map(|(_, tree)| tree), Some(id(14)));
        // It goes up without having entered the others.
        assert!(state.forget_before(id(2)));
        assert_eq!((state.levels.len(), state.levels[0].len()), (1, 2));
        assert!(!state.forget_before(id(99)));
        assert_eq!(
            state.levels[0].len(),
            2,
            "an unexpected tree changes nothing"
        );
    }

    #[test]
    fn no_more_is_begun_than_memory_is_for() {
        let mut state = State::default();
        expect(&mut state, &[1, 2]);
        let (number, _) = state.begin().unwrap();
        let entry = refloat_model::entry::Entry::synthetic_directory("d");
        let node = Node {
            entry,
            content: Arc::default(),
            subtree: None,
            foreign: None,
        };
        state.end(number, Ok(vec![node; NODES_MAX + 1]));
        assert_eq!(state.begin(), None);
        assert!(state.forget_before(id(2)));
        assert_eq!(state.nodes, 0);
        assert_eq!(state.begin().map(|(_, tree)| tree), Some(id(2)));
    }
}
