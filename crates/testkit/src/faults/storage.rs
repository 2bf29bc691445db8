//! The decorator that carries a plan of faults out.
//!
//! Invariant: without a fault in the plan, every answer is the inner storage's.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use refloat_model::time::Timestamp;
use refloat_storage::{
    FileKey, FileKind, Listed, Protection, SharedStorage, Storage, StorageError, StorageErrorKind,
};

use super::plan::{Aftermath, BadRead, FaultPlan, Lie, MutationEffect, MutationFault};
use crate::random;

/// A call that changes the storage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutation {
    /// [`Storage::create`].
    Create,
    /// [`Storage::write`] of a file.
    Write(FileKey),
    /// [`Storage::delete`] of a file.
    Delete(FileKey),
    /// [`Storage::protect_until`] of a file.
    Protect(FileKey),
}

impl std::fmt::Display for Mutation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Create => f.write_str("create"),
            Self::Write(key) => write!(f, "write {key}"),
            Self::Delete(key) => write!(f, "delete {key}"),
            Self::Protect(key) => write!(f, "protect {key}"),
        }
    }
}

/// A storage with a plan of faults.
pub struct FaultyStorage {
    inner: SharedStorage,
    plan: FaultPlan,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    mutations: Vec<Mutation>,
    writes: u64,
    reads: u64,
    lists: u64,
    is_crashed: bool,
}

/// The cause of injected errors.
#[derive(Debug, thiserror::Error)]
#[error("injected by the test at mutation or read {number}")]
struct Injected {
    number: u64,
}

/// The cause of errors after a crash.
#[derive(Debug, thiserror::Error)]
#[error("the process is dead by order of the test")]
struct Dead;

/// What to do with a call.
enum Verdict {
    Pass,
    Fail(MutationFault, u64),
}

impl FaultyStorage {
    /// Wraps a storage; nothing was counted yet.
    #[must_use]
    pub fn new(inner: SharedStorage, plan: FaultPlan) -> Self {
        Self {
            inner,
            plan,
            state: Mutex::default(),
        }
    }

    /// A storage whose process dies during its n-th mutation.
    #[must_use]
    pub fn crashing(inner: SharedStorage, at: u64, effect: MutationEffect) -> Self {
        let mutation = Some(MutationFault::crash(at, effect));
        Self::new(
            inner,
            FaultPlan {
                mutation,
                ..FaultPlan::default()
            },
        )
    }

    /// The mutations that were tried before a crash, the failing one included.
    #[must_use]
    pub fn mutations(&self) -> Vec<Mutation> {
        self.state().mutations.clone()
    }

    /// Whether the crash has happened.
    #[must_use]
    pub fn is_crashed(&self) -> bool {
        self.state().is_crashed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self, operation: &'static str, subject: &str) -> Result<(), StorageError> {
        if self.is_crashed() {
            return Err(StorageError::on(
                StorageErrorKind::Failed,
                operation,
                subject,
                self.inner.location(),
                Some(Box::new(Dead)),
            ));
        }
        Ok(())
    }

    fn injected(
        &self,
        kind: StorageErrorKind,
        operation: &'static str,
        subject: &str,
        number: u64,
    ) -> StorageError {
        StorageError::on(
            kind,
            operation,
            subject,
            self.inner.location(),
            Some(Box::new(Injected { number })),
        )
    }

    fn count_mutation(&self, mutation: Mutation) -> Verdict {
        let mut state = self.state();
        state.mutations.push(mutation);
        let number = state.mutations.len() as u64;
        let Some(fault) = self.plan.mutation else {
            return Verdict::Pass;
        };
        if number == fault.at {
            state.is_crashed = fault.then == Aftermath::Crash;
            return Verdict::Fail(fault, number);
        }
        if number > fault.at && fault.then == Aftermath::Persistence {
            let effect = MutationEffect::NotDone;
            return Verdict::Fail(MutationFault { effect, ..fault }, number);
        }
        Verdict::Pass
    }

    fn mutate(
        &self,
        mutation: Mutation,
        whole: impl FnOnce() -> Result<(), StorageError>,
        torn: impl FnOnce() -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let (operation, subject) = match mutation {
            Mutation::Create => ("create", "folders".to_owned()),
            Mutation::Write(key) => ("write", key.path()),
            Mutation::Delete(key) => ("delete", key.path()),
            Mutation::Protect(key) => ("extend the protection of", key.path()),
        };
        self.alive(operation, &subject)?;
        let (fault, number) = match self.count_mutation(mutation) {
            Verdict::Pass => return whole(),
            Verdict::Fail(fault, number) => (fault, number),
        };
        match fault.effect {
            MutationEffect::NotDone => {}
            MutationEffect::DoneUnacknowledged => whole()?,
            MutationEffect::Torn => torn()?,
        }
        Err(self.injected(fault.kind, operation, &subject, number))
    }

    /// What a write of these bytes stores, if the plan says that it lies.
    fn lie(&self, key: &FileKey, bytes: &[u8]) -> Option<Option<Vec<u8>>> {
        let lies = self.plan.lies.as_ref()?;
        if !lies.kinds.contains(&key.kind()) {
            return None;
        }
        let number = {
            let mut state = self.state();
            state.writes += 1;
            state.writes
        };
        lies.writes.picks(number).then(|| match lies.lie {
            Lie::Absent => None,
            Lie::Cut => Some(first_half(bytes).to_vec()),
            Lie::FlippedBit => {
                let mut bytes = bytes.to_vec();
                let middle = bytes.len() / 2;
                if let Some(byte) = bytes.get_mut(middle) {
                    *byte ^= 1;
                }
                Some(bytes)
            }
        })
    }

    fn read_with(
        &self,
        key: &FileKey,
        read: impl FnOnce() -> Result<Vec<u8>, StorageError>,
    ) -> Result<Vec<u8>, StorageError> {
        self.alive("read", &key.path())?;
        let Some(bad) = &self.plan.reads else {
            return read();
        };
        if !bad.kinds.contains(&key.kind()) {
            return read();
        }
        let number = {
            let mut state = self.state();
            state.reads += 1;
            state.reads
        };
        if !bad.reads.picks(number) {
            return read();
        }
        if let BadRead::Error(kind) = bad.how {
            return Err(self.injected(kind, "read", &key.path(), number));
        }
        let mut bytes = read()?;
        match bad.how {
            BadRead::Cut => bytes.truncate(bytes.len() / 2),
            _ => flip_bit(&mut bytes, number),
        }
        Ok(bytes)
    }
}

fn first_half(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len() / 2]
}

fn flip_bit(bytes: &mut [u8], number: u64) {
    if bytes.is_empty() {
        return;
    }
    let mut random = random::Random::new(number);
    bytes[random.index(bytes.len())] ^= 1 << random.below(8);
}

impl Storage for FaultyStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Result<(), StorageError> {
        let create = || self.inner.create();
        self.mutate(Mutation::Create, create, create)
    }

    fn write(&self, key: &FileKey, bytes: &[u8]) -> Result<(), StorageError> {
        let whole = || match self.lie(key, bytes) {
            None => self.inner.write(key, bytes),
            Some(None) => Ok(()),
            Some(Some(stored)) => self.inner.write(key, &stored),
        };
        let torn = || self.inner.write(key, first_half(bytes));
        self.mutate(Mutation::Write(*key), whole, torn)
    }

    fn read(&self, key: &FileKey) -> Result<Vec<u8>, StorageError> {
        self.read_with(key, || self.inner.read(key))
    }

    fn read_range(
        &self,
        key: &FileKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        self.read_with(key, || self.inner.read_range(key, offset, length))
    }

    fn size(&self, key: &FileKey) -> Result<Option<u64>, StorageError> {
        self.alive("find the size of", &key.path())?;
        self.inner.size(key)
    }

    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StorageError> {
        self.alive("list", kind.folder())?;
        let mut files = self.inner.list(kind)?;
        if let Some(short) = &self.plan.lists
            && short.kinds.contains(&kind)
        {
            let number = {
                let mut state = self.state();
                state.lists += 1;
                state.lists
            };
            if short.lists.picks(number) {
                files.retain(|file| !short.hides(&file.key));
            }
        }
        Ok(files)
    }

    fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        let delete = || self.inner.delete(key);
        self.mutate(Mutation::Delete(*key), delete, delete)
    }

    fn connections(&self) -> usize {
        self.inner.connections()
    }
    fn settling(&self) -> Duration {
        self.inner.settling()
    }

    fn now(&self) -> Option<Timestamp> {
        self.inner.now()
    }
    fn protection(&self) -> Option<Protection> {
        self.inner.protection()
    }
    fn protected_until(&self, key: &FileKey) -> Result<Option<Timestamp>, StorageError> {
        self.alive("look up the protection of", &key.path())?;
        self.inner.protected_until(key)
    }
    fn protect_until(&self, key: &FileKey, until: Timestamp) -> Result<(), StorageError> {
        let protect = || self.inner.protect_until(key, until);
        self.mutate(Mutation::Protect(*key), protect, protect)
    }
}
