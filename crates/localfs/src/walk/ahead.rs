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

use std::cmp::Reverse;
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

/// Answers that are older tell of what may be gone by now, and a file that is gone when it is
/// read counts as failed. They are dropped, which costs little: a walk that is so slow waits for
/// something else.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(1);

/// Entries of directories that the walk has not come to, looked at ahead: some megabytes.
const ENTRIES_MAX: usize = 4096;

/// What the walk needs sooner is less.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Turn {
    depth: Reverse<usize>,
    place: Option<Place>,
    index: usize,
}

impl Turn {
    /// Of entries of the directory that the walk is in, from this one on.
    pub(super) fn of_entries(index: usize) -> Self {
        Self {
            depth: Reverse(usize::MAX),
            place: None,
            index,
        }
    }

    /// Of a subdirectory of the directory so many levels deep: deeper ones come first, because
    /// the walk comes back to the upper ones later.
    pub(super) fn of_subdirectory(depth: usize, place: Place) -> Self {
        Self {
            depth: Reverse(depth),
            place: Some(place),
            index: 0,
        }
    }

    pub(super) fn depth(&self) -> usize {
        self.depth.0
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
        queue.jobs.insert(turn, job);
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
    pub(super) fn depth(&self) -> usize {
        self.turn.depth()
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
