//! Simulated storage and time: one actor moves at a time, by one call.
//!
//! Invariant: who moves, when somebody pauses, fails or dies, and how much time passes depends on
//! the seed and on the number of calls only.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use refloat_model::time::Timestamp;
use refloat_repository::lock::{Clock, Repetition, Timekeeper, Work};
use refloat_storage::memory::MemoryStorage;
use refloat_storage::{
    FileKey, FileKind, Listed, Protection, SETTLING, SharedStorage, Storage, StorageError,
    StorageErrorKind,
};
use refloat_testkit::random::Random;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// Who moves and what time it is.
pub struct World {
    memory: Arc<MemoryStorage>,
    start: jiff::Timestamp,
    /// Of its storage, whose listings never lag: whether anybody waits for them all the same.
    settling: Duration,
    state: Mutex<State>,
    turn: Condvar,
}

struct State {
    random: Random,
    /// Milliseconds since the start, by the storage's clock.
    now: i64,
    /// Who may move next, and who is moving.
    granted: Option<usize>,
    moving: Option<usize>,
    actors: Vec<Actor>,
    trace: Vec<String>,
}

struct Actor {
    alive: bool,
    paused_until: i64,
    calls: u64,
    dies_at: Option<u64>,
    is_dead: bool,
    /// Of a thousand calls so many find a pause, or no storage.
    pauses: u64,
    failures: u64,
    /// How far its clock is ahead, in milliseconds.
    skew: i64,
    refreshes: Vec<Refresh>,
    is_refreshing: bool,
}

struct Refresh {
    id: usize,
    due: i64,
    period: i64,
    work: Arc<Work>,
}

impl World {
    pub fn new(
        seed: u64,
        memory: Arc<MemoryStorage>,
        start: jiff::Timestamp,
        actors: usize,
    ) -> Arc<Self> {
        let mut random = Random::new(seed ^ 0x5717);
        let actor = |random: &mut Random| Actor {
            alive: true,
            paused_until: 0,
            calls: 0,
            dies_at: random.chance(150).then(|| 1 + random.below(60)),
            is_dead: false,
            pauses: [0, 0, 5, 30][random.index(4)],
            failures: [0, 0, 0, 8][random.index(4)],
            skew: match random.below(8) {
                0 => 24 * HOUR,
                1 => -24 * HOUR,
                2 => 4 * MINUTE,
                3 => -4 * MINUTE,
                _ => 0,
            },
            refreshes: Vec::new(),
            is_refreshing: false,
        };
        let actors = (0..actors).map(|_| actor(&mut random)).collect();
        let settles = Random::new(seed ^ 0x5e77).chance(500);
        Arc::new(Self {
            memory,
            start,
            settling: if settles { SETTLING } else { Duration::ZERO },
            state: Mutex::new(State {
                random,
                now: 0,
                granted: None,
                moving: None,
                actors,
                trace: Vec::new(),
            }),
            turn: Condvar::new(),
        })
    }

    /// Lets the first actor move.
    pub fn begin(&self) {
        let mut state = self.state();
        if state.moving.is_none() && state.granted.is_none() {
            state.grant();
        }
        drop(state);
        self.turn.notify_all();
    }

    /// The actor has nothing more to do.
    pub fn leave(&self, actor: usize) {
        let mut state = self.state();
        state.actors[actor].alive = false;
        if state.moving == Some(actor) {
            state.moving = None;
        }
        if state.granted == Some(actor) {
            state.granted = None;
        }
        if state.moving.is_none() && state.granted.is_none() {
            state.grant();
        }
        drop(state);
        self.turn.notify_all();
    }

    /// The storage's time.
    pub fn now(&self) -> jiff::Timestamp {
        self.start + jiff::SignedDuration::from_millis(self.state().now)
    }

    pub fn trace(&self) -> Vec<String> {
        self.state().trace.clone()
    }

    /// Whether an actor died.
    pub fn is_dead(&self, actor: usize) -> bool {
        self.state().actors[actor].is_dead
    }

    /// The clock of an actor.
    pub fn clock(self: &Arc<Self>, actor: usize) -> Clock {
        Arc::new(ActorClock {
            world: Arc::clone(self),
            actor,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Waits for the actor's turn; time passes meanwhile.
    fn await_turn(&self, actor: usize) -> MutexGuard<'_, State> {
        let mut state = self.state();
        loop {
            if state.moving == Some(actor) {
                state.moving = None;
                state.grant();
                self.turn.notify_all();
            }
            while state.granted != Some(actor) {
                let waited = self.turn.wait_timeout(state, Duration::from_millis(20));
                let (guard, timeout) = waited.unwrap();
                state = guard;
                // Another thread of the same actor moved, and waits for this one now.
                if timeout.timed_out() && state.moving == Some(actor) {
                    break;
                }
            }
            state.granted = None;
            state.moving = Some(actor);
            state.pass_time();
            if !state.pauses(actor) {
                return state;
            }
        }
    }

    /// One call of an actor: waits for its turn, and says what becomes of the call.
    fn call(&self, actor: usize, what: &str, is_lock: bool) -> Verdict {
        let mut state = self.await_turn(actor);
        if !is_lock {
            drop(state);
            self.refresh(actor);
            state = self.state();
        }
        let now = self.start + jiff::SignedDuration::from_millis(state.now);
        self.memory.set_clock(now.into());
        let verdict = state.verdict(actor);
        state.trace.push(format!("{actor} {what} {verdict:?}"));
        verdict
    }

    /// Refreshes the locks of an actor that are due. Not within a call that concerns locks: that
    /// one may hold what a refresh waits for, which in reality happens on another thread.
    fn refresh(&self, actor: usize) {
        let due: Vec<Arc<Work>> = {
            let mut state = self.state();
            let now = state.now;
            let this = &mut state.actors[actor];
            if this.is_refreshing {
                return;
            }
            let due = this
                .refreshes
                .iter_mut()
                .filter(|refresh| refresh.due <= now);
            let work = due.map(|refresh| {
                refresh.due = now + refresh.period;
                Arc::clone(&refresh.work)
            });
            let work = work.collect();
            this.is_refreshing = true;
            work
        };
        for work in due {
            work();
        }
        self.state().actors[actor].is_refreshing = false;
    }
}

impl State {
    /// Chooses who moves next; if all pause, time goes on until somebody does not.
    fn grant(&mut self) {
        let alive = |actor: &&Actor| actor.alive;
        let Some(first) = self
            .actors
            .iter()
            .filter(alive)
            .map(|a| a.paused_until)
            .min()
        else {
            return;
        };
        self.now = self.now.max(first);
        let now = self.now;
        let ready = self.actors.iter().enumerate();
        let ready = ready.filter(|(_, actor)| actor.alive && actor.paused_until <= now);
        let ready: Vec<usize> = ready.map(|(number, _)| number).collect();
        self.granted = Some(ready[self.random.index(ready.len())]);
    }

    fn pass_time(&mut self) {
        self.now += match self.random.below(40) {
            0 => 3 * MINUTE,
            1..4 => 30_000,
            _ => 200,
        };
    }

    /// Whether the actor is stopped now: a laptop that sleeps, a frozen container.
    fn pauses(&mut self, actor: usize) -> bool {
        let (now, pauses) = (self.now, self.actors[actor].pauses);
        if !self.random.chance(pauses) {
            return false;
        }
        let choice = self.random.index(6);
        let long = [
            MINUTE,
            10 * MINUTE,
            24 * MINUTE,
            45 * MINUTE,
            3 * HOUR,
            26 * HOUR,
        ][choice];
        self.actors[actor].paused_until = now + long;
        true
    }

    fn verdict(&mut self, actor: usize) -> Verdict {
        let this = &mut self.actors[actor];
        if this.is_dead {
            return Verdict::Dead;
        }
        this.calls += 1;
        if this.dies_at == Some(this.calls) {
            this.is_dead = true;
            let done = self.random.chance(500);
            return if done {
                Verdict::LastWords
            } else {
                Verdict::Dead
            };
        }
        let failures = this.failures;
        if self.random.chance(failures) {
            return Verdict::Unreachable;
        }
        Verdict::Done
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Done,
    /// It is done, and the caller dies before it hears of it.
    LastWords,
    Dead,
    Unreachable,
}

/// The clock of an actor.
struct ActorClock {
    world: Arc<World>,
    actor: usize,
}

impl Timekeeper for ActorClock {
    fn now(&self) -> jiff::Timestamp {
        let state = self.world.state();
        let now = state.now + state.actors[self.actor].skew;
        self.world.start + jiff::SignedDuration::from_millis(now)
    }

    fn sleep(&self, duration: Duration) {
        let mut state = self.world.await_turn(self.actor);
        let until = state.now + i64::try_from(duration.as_millis()).unwrap();
        let actor = &mut state.actors[self.actor];
        actor.paused_until = actor.paused_until.max(until);
        drop(state);
        drop(self.world.await_turn(self.actor));
    }

    fn every(&self, period: Duration, work: Work) -> io::Result<Box<dyn Repetition>> {
        let mut state = self.world.state();
        let (now, period) = (state.now, i64::try_from(period.as_millis()).unwrap());
        let refreshes = &mut state.actors[self.actor].refreshes;
        let id = refreshes
            .iter()
            .map(|refresh| refresh.id + 1)
            .max()
            .unwrap_or(0);
        refreshes.push(Refresh {
            id,
            due: now + period,
            period,
            work: Arc::new(work),
        });
        Ok(Box::new(Registered {
            world: Arc::clone(&self.world),
            actor: self.actor,
            id,
        }))
    }
}

struct Registered {
    world: Arc<World>,
    actor: usize,
    id: usize,
}

impl Repetition for Registered {}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut state = self.world.state();
        let refreshes = &mut state.actors[self.actor].refreshes;
        let found = refreshes.iter().position(|refresh| refresh.id == self.id);
        let gone = found.map(|position| refreshes.swap_remove(position));
        drop(state);
        drop(gone);
    }
}

/// The storage as one actor sees it; outlives the worlds it is put into.
pub struct Cell {
    actor: usize,
    inside: Mutex<Inside>,
}

enum Inside {
    World(Arc<World>),
    Plain(SharedStorage),
    Nothing,
}

impl Cell {
    pub fn new(actor: usize) -> Arc<Self> {
        Arc::new(Self {
            actor,
            inside: Mutex::new(Inside::Nothing),
        })
    }

    /// Shows a storage as it is, to open it.
    pub fn look_at(&self, storage: &SharedStorage) {
        *self.inside.lock().unwrap() = Inside::Plain(Arc::clone(storage));
    }

    pub fn enter(&self, world: &Arc<World>) {
        *self.inside.lock().unwrap() = Inside::World(Arc::clone(world));
    }

    pub fn leave(&self) {
        *self.inside.lock().unwrap() = Inside::Nothing;
    }

    fn through<T>(
        &self,
        operation: &'static str,
        kind: FileKind,
        call: impl FnOnce(&dyn Storage) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let world = match &*self.inside.lock().unwrap() {
            Inside::World(world) => Arc::clone(world),
            Inside::Plain(storage) => return call(&**storage),
            Inside::Nothing => return Err(refuse(StorageErrorKind::Failed, operation, kind)),
        };
        let what = format!("{operation} {}", kind.folder());
        match world.call(self.actor, &what, kind == FileKind::Lock) {
            Verdict::Done => call(&*world.memory),
            Verdict::LastWords => {
                let _unheard = call(&*world.memory);
                Err(refuse(StorageErrorKind::Failed, operation, kind))
            }
            Verdict::Dead => Err(refuse(StorageErrorKind::Failed, operation, kind)),
            Verdict::Unreachable => Err(refuse(StorageErrorKind::Unavailable, operation, kind)),
        }
    }
}

fn refuse(kind: StorageErrorKind, operation: &'static str, file: FileKind) -> StorageError {
    StorageError::on(kind, operation, file.folder(), "the simulation", None)
}

impl Storage for Cell {
    fn location(&self) -> String {
        "the simulation".to_owned()
    }
    fn create(&self) -> Result<(), StorageError> {
        Ok(())
    }
    fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), StorageError> {
        self.through("write", key.kind(), |storage| storage.write(key, bytes))
    }
    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
        self.through("read", key.kind(), |storage| storage.read(key))
    }
    fn read_range(
        &self,
        key: &FileKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        let read = |storage: &dyn Storage| storage.read_range(key, offset, length);
        self.through("read", key.kind(), read)
    }
    fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError> {
        self.through("size", key.kind(), |storage| storage.size(key))
    }
    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError> {
        self.through("list", kind, |storage| storage.list(kind))
    }
    fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        self.through("delete", key.kind(), |storage| storage.delete(key))
    }
    fn connections(&self) -> usize {
        1
    }
    fn settling(&self) -> Duration {
        match &*self.inside.lock().unwrap() {
            Inside::World(world) => world.settling,
            Inside::Plain(storage) => storage.settling(),
            Inside::Nothing => SETTLING,
        }
    }
    fn protection(&self) -> Option<Protection> {
        None
    }
    fn protected_until(&self, key: &FileKey) -> Result<Option<Timestamp>, StorageError> {
        self.through("look up the protection", key.kind(), |s| {
            s.protected_until(key)
        })
    }
    fn protect_until(&self, key: &FileKey, until: Timestamp) -> Result<(), StorageError> {
        self.through("protect", key.kind(), |s| s.protect_until(key, until))
    }
}
