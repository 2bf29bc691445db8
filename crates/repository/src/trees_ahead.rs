//! Reading trees ahead of a walk that goes depth first.
//!
//! One thread walks, in order, and says of each directory which trees below it will come; others read and
//! decode the next few of them, the deepest first, since those come soonest.
//!
//! Invariant: only ever a help. A tree that nobody has begun is read by whoever asks for it, and memory
//! is bounded by levels, never by the number of trees.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use crate::blobs::BlobReader as _;
use crate::error::RepositoryError;
use crate::format::tree::Node;
use crate::id::BlobId;
use crate::parallel::{lock, threads};
use crate::repository::IndexedRepository;

/// Trees of one directory that are read ahead: some are in use while the next are decoded.
const AHEAD_MAX: usize = 8;
/// Trees that can be begun before a thread that waits is woken for them: to wake one for each would cost more
/// than a tree does.
const WAKING_MIN: usize = AHEAD_MAX / 2;
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
    /// Threads that wait for trees to come.
    idle: usize,
    /// The tree that is being read and that the walk waits for.
    awaited: Option<u64>,
    is_closed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// For threads: there is more to be read.
    more: Condvar,
    /// For the walk: a tree was read.
    arrived: Condvar,
}

/// See the module.
pub struct TreesAhead {
    repository: IndexedRepository,
    shared: Arc<Shared>,
    /// Started when the first tree is expected: many walks read a single one.
    threads: OnceLock<Vec<JoinHandle<()>>>,
    threads_max: usize,
}

impl std::fmt::Debug for TreesAhead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreesAhead")
            .field("threads_max", &self.threads_max)
            .finish_non_exhaustive()
    }
}

impl TreesAhead {
    /// For a walk of a repository's trees: no threads help where storage takes one call at a time, which has
    /// nothing to win by more.
    #[must_use]
    pub fn new(repository: &IndexedRepository) -> Self {
        let threads_max = match repository.storage().connections() {
            0 | 1 => 0,
            _ => threads(repository.storage()).min(THREADS_MAX),
        };
        Self {
            repository: repository.clone(),
            shared: Arc::default(),
            threads: OnceLock::new(),
            threads_max,
        }
    }

    fn start_threads(&self) -> Vec<JoinHandle<()>> {
        let spawn = |number| {
            let (repository, shared) = (self.repository.clone(), Arc::clone(&self.shared));
            let thread = std::thread::Builder::new().name(format!("trees {number}"));
            thread.spawn(move || read_all(&repository, &shared)).ok()
        };
        (0..self.threads_max).filter_map(spawn).collect()
    }

    /// Says which trees come next, in this order and before all that were said earlier.
    pub fn expect(&self, trees: impl IntoIterator<Item = BlobId>) {
        if self.threads_max == 0 {
            return;
        }
        let mut state = lock(&self.shared.state);
        if !state.expect(trees) {
            return;
        }
        self.shared.wake(state, WAKING_MIN);
        let _started = self.threads.get_or_init(|| self.start_threads());
    }

    /// The entries of a directory. What should have come before it is forgotten. For one thread, the walk's:
    /// only one is woken when a tree was read.
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
                    // The walk reads it itself, and may wait long for it: others can do the next meanwhile.
                    self.shared.wake(state, 1);
                    return None;
                }
                (_, _, Slot::Read(read)) => {
                    state.nodes -= count(&read);
                    self.shared.wake(state, WAKING_MIN);
                    return Some(read);
                }
                slot @ (number, _, Slot::Reading) => {
                    state.awaited = Some(number);
                    state.levels.last_mut()?.push_front(slot);
                }
            }
            let waited = self.shared.arrived.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for TreesAhead {
    fn drop(&mut self) {
        lock(&self.shared.state).is_closed = true;
        self.shared.more.notify_all();
        for thread in self.threads.take().into_iter().flatten() {
            // One that panicked has said so; nothing of it is missing.
            drop(thread.join());
        }
    }
}

impl Shared {
    /// Wakes threads if there are so many trees for them.
    fn wake(&self, state: MutexGuard<'_, State>, wanted_min: usize) {
        let is_due = state.idle > 0 && state.wanted() >= wanted_min;
        drop(state);
        if is_due {
            self.more.notify_all();
        }
    }
}

impl State {
    /// Adds a level; false if there is nothing in it.
    fn expect(&mut self, trees: impl IntoIterator<Item = BlobId>) -> bool {
        let slots = (self.next..).zip(trees);
        let level: Level = slots
            .map(|(number, tree)| (number, tree, Slot::Wanted))
            .collect();
        if level.is_empty() {
            return false;
        }
        self.next += level.len() as u64;
        self.levels.push(level);
        true
    }

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

    /// How many trees could be begun.
    fn wanted(&self) -> usize {
        if self.nodes > NODES_MAX {
            return 0;
        }
        let levels = self.levels.iter().rev().take(LEVELS_MAX);
        let slots = levels.flat_map(|level| level.iter().take(AHEAD_MAX));
        slots
            .filter(|(_, _, slot)| matches!(slot, Slot::Wanted))
            .count()
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
            state.idle += 1;
            let waited = shared.more.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
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
        let mut state = lock(&self.shared.state);
        state.end(self.number, read);
        let is_awaited = state.awaited == Some(self.number);
        drop(state);
        if is_awaited {
            self.shared.arrived.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> BlobId {
        BlobId([number; 32])
    }

    #[test]
    fn the_deepest_level_is_read_first_and_only_so_far() {
        let mut state = State::default();
        state.expect([1, 2, 3].map(id));
        state.expect([10, 11, 12, 13, 14, 15, 16, 17, 18, 19].map(id));
        assert_eq!(state.wanted(), 11);
        let mut begun = Vec::new();
        while let Some((number, tree)) = state.begin() {
            begun.push(tree.0[0]);
            state.end(number, Ok(Vec::new()));
        }
        let first = [10, 11, 12, 13, 14, 15, 16, 17, 1, 2, 3];
        assert_eq!(begun, first, "eight of each level");
        assert_eq!(state.wanted(), 0);
        // The walk comes to 11: what is before is forgotten, and the next may be begun.
        assert!(state.forget_before(id(11)));
        assert_eq!(state.wanted(), 1);
        assert_eq!(state.begin().map(|(_, tree)| tree), Some(id(18)));
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
        state.expect([1, 2].map(id));
        let (number, _) = state.begin().unwrap();
        let entry = refloat_model::entry::Entry::synthetic_directory("d");
        let node = Node {
            entry,
            content: Arc::default(),
            subtree: None,
            foreign: None,
        };
        state.end(number, Ok(vec![node; NODES_MAX + 1]));
        assert_eq!(state.wanted(), 0);
        assert_eq!(state.begin(), None);
        assert!(state.forget_before(id(2)));
        assert_eq!(state.nodes, 0);
        assert_eq!(state.begin().map(|(_, tree)| tree), Some(id(2)));
    }

    fn archiver() -> (IndexedRepository, crate::archive::Archiver) {
        let storage = Arc::new(refloat_storage::memory::MemoryStorage::new());
        let password = refloat_model::secret::Secret::new("trees");
        let options = crate::repository::InitOptions::default();
        let repository = crate::repository::Repository::init(storage, &password, options).unwrap();
        let repository = repository.into_indexed().unwrap();
        let archiver = crate::archive::Archiver::start(
            repository.clone(),
            crate::archive::ArchiveOptions::default(),
            Arc::default(),
            refloat_model::cancel::Cancel::default(),
        )
        .unwrap();
        (repository, archiver)
    }

    fn directory(name: String, subtree: BlobId) -> Node {
        Node {
            entry: refloat_model::entry::Entry::synthetic_directory(name),
            content: Arc::default(),
            subtree: Some(subtree),
            foreign: None,
        }
    }

    /// Whether something comes to be within ten seconds.
    fn becomes(holds: impl Fn(&State) -> bool, trees: &TreesAhead) -> bool {
        (0..10_000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            holds(&lock(&trees.shared.state))
        })
    }

    #[test]
    fn threads_that_wait_are_woken_for_several_trees_or_when_the_walk_reads_itself() {
        let (repository, archiver) = archiver();
        let empty = archiver.store_directory(Vec::new()).unwrap();
        let ids: Vec<BlobId> = (0..20)
            .map(|number| {
                let nodes = vec![directory(format!("{number}"), empty)];
                archiver.store_directory(nodes).unwrap()
            })
            .collect();
        drop(archiver.finish().unwrap());
        let repository = repository.reload().unwrap();
        let trees = TreesAhead::new(&repository);
        let threads = trees.threads_max;
        assert!(threads > 0);
        trees.expect(ids[..WAKING_MIN].iter().copied());
        let all_wait = |state: &State| state.idle == threads && state.wanted() == 0;
        assert!(becomes(all_wait, &trees), "what starts them");
        trees.expect(ids[WAKING_MIN..2 * WAKING_MIN].iter().copied());
        assert!(becomes(all_wait, &trees), "enough for them");
        // Too few to wake anybody for, until the walk comes to the first of them.
        trees.expect(ids[10..13].iter().copied());
        assert_eq!(lock(&trees.shared.state).wanted(), 3);
        assert_eq!(trees.read_tree(ids[10]).unwrap()[0].name(), b"10");
        assert!(becomes(all_wait, &trees), "the others, meanwhile");
        for (number, tree) in ids.iter().enumerate().take(13).skip(11) {
            let nodes = trees.read_tree(*tree).unwrap();
            assert_eq!(nodes[0].name(), number.to_string().as_bytes());
        }
    }

    #[test]
    fn a_walk_finds_what_it_would_without_threads_and_starts_them_only_for_trees_to_come() {
        let (repository, archiver) = archiver();
        // Each level holds the one below several times, and one tree that is lost.
        let mut tree = archiver.store_directory(Vec::new()).unwrap();
        for level in 0..5 {
            let mut nodes: Vec<Node> = (0..5)
                .map(|n| directory(format!("{level}{n}"), tree))
                .collect();
            nodes.push(directory("lost".to_owned(), id(level)));
            tree = archiver.store_directory(nodes).unwrap();
        }
        drop(archiver.finish().unwrap());
        let repository = repository.reload().unwrap();
        let trees = TreesAhead::new(&repository);
        let root = trees.read_tree(tree).unwrap();
        assert!(trees.threads.get().is_none(), "nothing is to come yet");
        let (mut found, mut lost, mut open) = (0, 0, vec![root]);
        while let Some(nodes) = open.pop() {
            let below: Vec<BlobId> = nodes.iter().filter_map(|node| node.subtree).collect();
            found += 1;
            trees.expect(below.iter().copied());
            // The walk passes one of them over.
            let mut read: Vec<_> = Vec::new();
            for tree in below.iter().skip(1) {
                match trees.read_tree(*tree) {
                    Ok(nodes) => {
                        assert_eq!(nodes, repository.read_tree(*tree).unwrap());
                        read.push(nodes);
                    }
                    Err(_lost) => lost += 1,
                }
            }
            open.extend(read);
        }
        assert_eq!(trees.threads.get().map(Vec::len), Some(trees.threads_max));
        // Four of five are entered at each level, and a lost one is met in each that holds some.
        let inner = (0..5).map(|level| 4_usize.pow(level)).sum::<usize>();
        assert_eq!((found, lost), (inner + 4_usize.pow(5), inner));
    }
}
