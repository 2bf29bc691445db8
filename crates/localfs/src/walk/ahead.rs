//! Threads that look ahead of a walk.
//!
//! The walk asks for what it will need, in the order in which it comes to it, and later waits for
//! the answers. Half of what a walk costs are system calls that tell of entries, and these can be
//! made on other threads; only the walk itself decides and calls the sink.
//!
//! What nobody has begun when the walk needs it, the walk does itself, and while somebody is at
//! it, the walk does what comes next. So nothing depends on the threads: fewer than wanted, or
//! none, only make it slower.
//!
//! Invariant: no thread outlives its [`Ahead`], and no answer is waited for that nobody is at.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use refloat_model::cancel::Cancel;

use super::LookAhead;
use super::listing::Place;
use super::look::Looker;

/// More gain little beside the one thread that calls the sink, even where each call goes over a
/// network.
const THREADS_MAX: usize = 4;

/// Answers that are older tell of what may be gone or replaced by now. They are dropped, which costs little: a walk
/// that is so slow waits for something else.
const ANSWER_AGE_MAX: Duration = Duration::from_millis(250);

/// Entries of directories that the walk has not come to, looked at ahead: some megabytes.
const ENTRIES_MAX: usize = 4096;

/// What the walk needs sooner is less.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Turn {
    /// Of the directories that lead to it from the root of the walk, itself included: compared
    /// one after the other, as a walk goes.
    places: Vec<Place>,
    index: usize,
}

impl Turn {
    /// Of entries of the directory that the walk is in, from this one on: before all else.
    pub(super) fn of_entries(index: usize) -> Self {
        Self {
            places: Vec::new(),
            index,
        }
    }

    pub(super) fn of_directory(places: Vec<Place>) -> Self {
        Self { places, index: 0 }
    }

    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }
}

type Job = Box<dyn FnOnce(&mut Looker) + Send>;

/// What the walk and the threads share.
struct Shared {
    queue: Mutex<Queue>,
    /// A job was added, or the end has come.
    changed: Condvar,
    stop: Stop,
    room: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    /// What nobody has begun.
    jobs: BTreeMap<Turn, Job>,
    /// Threads that wait for a job and were not woken yet.
    idle: usize,
}

/// Says when to leave a job unfinished.
#[derive(Clone)]
pub(super) struct Stop {
    ended: Arc<AtomicBool>,
    cancel: Cancel,
}

impl Stop {
    pub(super) fn is_wanted(&self) -> bool {
        self.ended.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }
}

/// See the module.
pub(super) struct Ahead {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    threads_max: usize,
}

/// Something that was asked for.
pub(super) struct Asked<T> {
    turn: Turn,
    answer: Receiver<(Instant, T)>,
    arrived: Option<(Instant, T)>,
}

/// A share of [`ENTRIES_MAX`], given back when it is dropped.
pub(super) struct Room {
    shared: Arc<Shared>,
    count: usize,
}

impl Ahead {
    pub(super) fn new(wanted: LookAhead, cancel: &Cancel) -> Self {
        let threads_max = match wanted {
            LookAhead::Processors => {
                let processors = std::thread::available_parallelism().map_or(1, usize::from);
                processors.saturating_sub(1).min(THREADS_MAX)
            }
            LookAhead::Threads(threads) => threads.min(THREADS_MAX),
        };
        let stop = Stop {
            ended: Arc::new(AtomicBool::new(false)),
            cancel: cancel.clone(),
        };
        Self {
            shared: Arc::new(Shared {
                queue: Mutex::default(),
                changed: Condvar::new(),
                stop,
                room: AtomicUsize::new(ENTRIES_MAX),
            }),
            threads: Vec::new(),
            threads_max,
        }
    }

    /// Whether asking is of any use.
    pub(super) fn is_on(&self) -> bool {
        self.threads_max > 0
    }

    pub(super) fn stop(&self) -> Stop {
        self.shared.stop.clone()
    }

    /// Room for at most so many entries.
    pub(super) fn room(&self) -> Room {
        Room {
            shared: Arc::clone(&self.shared),
            count: 0,
        }
    }

    /// Has a thread do `work` in its turn; without a result the walk will do it over again.
    pub(super) fn ask<T: Send + 'static>(
        &mut self,
        turn: Turn,
        looker: &Looker,
        work: impl FnOnce(&mut Looker) -> Option<T> + Send + 'static,
    ) -> Asked<T> {
        let (reply, answer) = sync_channel(1);
        let job: Job = Box::new(move |looker| {
            if let Some(done) = work(looker) {
                // The walk may have lost its interest.
                drop(reply.try_send((Instant::now(), done)));
            }
        });
        let mut queue = self.shared.queue();
        queue.jobs.insert(turn.clone(), job);
        let has_idle = queue.idle > 0;
        queue.idle = queue.idle.saturating_sub(1);
        drop(queue);
        if has_idle {
            self.shared.changed.notify_one();
        } else if self.threads.len() < self.threads_max {
            self.start_thread(looker.another());
        }
        Asked {
            turn,
            answer,
            arrived: None,
        }
    }

    fn start_thread(&mut self, mut looker: Looker) {
        let shared = Arc::clone(&self.shared);
        let started = std::thread::Builder::new()
            .name("walk ahead".to_owned())
            .spawn(move || {
                looker.move_freely();
                while let Some(job) = shared.next() {
                    job(&mut looker);
                }
            });
        match started {
            Ok(thread) => self.threads.push(thread),
            // The system has no more of them: it goes with those that there are.
            Err(_refused) => self.threads_max = self.threads.len(),
        }
    }

    /// Gives up what was asked for.
    pub(super) fn forget<T>(&self, asked: Asked<T>) {
        let job = self.shared.queue().jobs.remove(&asked.turn);
        drop((job, asked));
    }

    /// The answer and its time, if it is still of use; without one the walk has to do it itself.
    pub(super) fn wait<T>(&self, mut asked: Asked<T>, looker: &mut Looker) -> Option<(Instant, T)> {
        loop {
            if asked.is_old() || self.shared.stop.is_wanted() {
                self.forget(asked);
                return None;
            }
            if asked.arrived.is_some() {
                return asked.arrived;
            }
            let mut queue = self.shared.queue();
            if queue.jobs.remove(&asked.turn).is_some() {
                return None;
            }
            let next = queue.jobs.pop_first();
            drop(queue);
            match next {
                Some((_, job)) => job(looker),
                None => match asked.answer.recv() {
                    Ok(arrived) => asked.arrived = Some(arrived),
                    Err(_unfinished) => return None,
                },
            }
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.shared.stop.ended.store(true, Ordering::Relaxed);
        let jobs = std::mem::take(&mut self.shared.queue().jobs);
        self.shared.changed.notify_all();
        drop(jobs);
        for thread in self.threads.drain(..) {
            // One that panicked has said so; what it was at, the walk did itself.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic is done under the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the most urgent job; none at the end of the walk.
    fn next(&self) -> Option<Job> {
        let mut queue = self.queue();
        loop {
            if self.stop.ended.load(Ordering::Relaxed) {
                return None;
            }
            if let Some((_, job)) = queue.jobs.pop_first() {
                return Some(job);
            }
            queue.idle += 1;
            queue = self
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> Asked<T> {
    /// Whether there was an answer when [`is_old`](Self::is_old) was asked last.
    pub(super) fn has_arrived(&self) -> bool {
        self.arrived.is_some()
    }

    /// That answer.
    pub(super) fn arrived_mut(&mut self) -> Option<&mut T> {
        self.arrived.as_mut().map(|(_, answer)| answer)
    }

    /// Whether there is an answer that is of no use any more.
    pub(super) fn is_old(&mut self) -> bool {
        if self.arrived.is_none() {
            self.arrived = match self.answer.try_recv() {
                Ok(arrived) => Some(arrived),
                Err(TryRecvError::Empty) => None,
                // It was left unfinished.
                Err(TryRecvError::Disconnected) => return true,
            };
        }
        self.arrived.as_ref().is_some_and(|(at, _)| is_old(*at))
    }
}

/// Whether what was told then may be true no more.
pub(super) fn is_old(at: Instant) -> bool {
    at.elapsed() > ANSWER_AGE_MAX
}

impl Room {
    /// Takes as much of it as there is, at most `wanted`; gives how much that is.
    pub(super) fn take(&mut self, wanted: usize) -> usize {
        let mut taken = 0;
        let room = &self.shared.room;
        // Both closures' results are always `Some`.
        let _before = room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
            taken = wanted.min(free);
            Some(free - taken)
        });
        self.count += taken;
        taken
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.room.fetch_add(self.count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::walk::{Caches, Mounts};

    fn looker() -> Looker {
        Looker::new(Mounts::Enter, Caches::Capture, 0)
    }

    fn ahead() -> Ahead {
        Ahead::new(LookAhead::Threads(1), &Cancel::default())
    }

    fn answer<T>(waited: Option<(Instant, T)>) -> Option<T> {
        waited.map(|(_, answer)| answer)
    }

    #[test]
    fn what_nobody_has_begun_is_left_to_the_walk() {
        let (mut ahead, mut looker) = (ahead(), looker());
        let ((begun, has_begun), (go_on, may_go_on)) = (channel(), channel::<()>());
        let first = ahead.ask(Turn::of_entries(0), &looker, move |_| {
            begun.send(()).unwrap();
            may_go_on.recv().ok()
        });
        has_begun.recv().unwrap();
        let second = ahead.ask(Turn::of_entries(1), &looker, |_| Some("by the thread"));
        assert_eq!(answer(ahead.wait(second, &mut looker)), None);
        // The walk goes on with this one while the thread is at the first.
        let third = ahead.ask(Turn::of_entries(2), &looker, move |_| {
            go_on.send(()).unwrap();
            Some(std::thread::current().id())
        });
        assert_eq!(answer(ahead.wait(first, &mut looker)), Some(()));
        let by = answer(ahead.wait(third, &mut looker));
        assert_eq!(by, Some(std::thread::current().id()));
    }

    #[test]
    fn thread_that_panics_hangs_nobody() {
        let (mut ahead, mut looker) = (ahead(), looker());
        let (begun, has_begun) = channel();
        let asked = ahead.ask::<()>(Turn::of_entries(0), &looker, move |_| {
            begun.send(()).unwrap();
            panic!("on purpose")
        });
        has_begun.recv().unwrap();
        assert_eq!(answer(ahead.wait(asked, &mut looker)), None);
        let asked = ahead.ask(Turn::of_entries(1), &looker, |_| Some(()));
        assert_eq!(answer(ahead.wait(asked, &mut looker)), None);
    }

    #[test]
    fn no_thread_outlives_the_walk() {
        let (mut ahead, looker) = (ahead(), looker());
        let ended = Arc::new(AtomicBool::new(false));
        let (stop, has_ended) = (ahead.stop(), Arc::clone(&ended));
        let (begun, has_begun) = channel();
        let asked = ahead.ask::<()>(Turn::of_entries(0), &looker, move |_| {
            begun.send(()).unwrap();
            while !stop.is_wanted() {
                std::thread::yield_now();
            }
            has_ended.store(true, Ordering::Relaxed);
            None
        });
        has_begun.recv().unwrap();
        drop(ahead);
        assert!(ended.load(Ordering::Relaxed));
        drop(asked);
    }

    /// Whether the system lets a thread have a current directory of its own.
    #[expect(deprecated, reason = "as in the looker")]
    fn may_move() -> bool {
        let unshared =
            std::thread::spawn(|| rustix::thread::unshare(rustix::thread::UnshareFlags::FS));
        unshared.join().unwrap().is_ok()
    }

    #[test]
    fn thread_goes_where_it_looks_and_nobody_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        std::fs::write(path.join("file"), b"").unwrap();
        let directory = std::fs::File::open(&path).unwrap().into();
        let before = std::env::current_dir().unwrap();
        let (mut ahead, mut looker) = (ahead(), looker());
        let (begun, has_begun) = channel();
        let asked = ahead.ask(Turn::of_entries(0), &looker, move |looker| {
            begun.send(()).unwrap();
            let mut names = crate::walk::listing::Names::default();
            names.push(1, b"file");
            let looks = looker.look_at(&directory, &names, 0, 1, || false);
            let rest = looks[0].rest.as_ref().is_some_and(Result::is_ok);
            Some((rest, std::env::current_dir()))
        });
        has_begun.recv().unwrap();
        let (found, there) = answer(ahead.wait(asked, &mut looker)).unwrap();
        assert!(found);
        // Some containers forbid it: then it stays where all are.
        let expected = if may_move() { &path } else { &before };
        assert_eq!(there.unwrap(), *expected);
        assert_eq!(std::env::current_dir().unwrap(), before);
    }

    #[test]
    fn turns_come_as_a_walk_goes() {
        let mut names = crate::walk::listing::Names::default();
        names.push(2, b"later");
        names.push(1, b"sooner");
        names.sort();
        let places: Vec<Place> = names.first(2).map(|(place, ..)| place).collect();
        let (sooner, later) = (places[0], places[1]);
        let directory = |places: &[Place]| Turn::of_directory(places.to_vec());
        let expected = [
            Turn::of_entries(0),
            Turn::of_entries(256),
            directory(&[sooner]),
            directory(&[sooner, sooner]),
            directory(&[sooner, later]),
            directory(&[later]),
        ];
        let mut turns = expected.to_vec();
        turns.reverse();
        turns.sort();
        assert_eq!(turns, expected);
    }

    #[test]
    fn room_is_given_back() {
        let ahead = ahead();
        let (mut one, mut other) = (ahead.room(), ahead.room());
        assert_eq!(one.take(ENTRIES_MAX - 5), ENTRIES_MAX - 5);
        assert_eq!(other.take(10), 5);
        assert_eq!(other.take(10), 0);
        drop(one);
        assert_eq!(other.take(10), 10);
    }
}
