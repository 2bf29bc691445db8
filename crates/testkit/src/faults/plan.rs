//! What fails, and when.
//!
//! Invariant: calls are numbered from 1, separately for mutations, reads, lists and writes.

use refloat_storage::{FileKey, FileKind, StorageErrorKind};

use crate::random;

/// All faults of one storage; the default has none and only counts.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    /// One mutation that fails.
    pub mutation: Option<MutationFault>,
    /// Reads that fail or return other bytes.
    pub reads: Option<BadReads>,
    /// Lists that lack files.
    pub lists: Option<ShortLists>,
    /// Writes that report success and store something else.
    pub lies: Option<Lies>,
}

/// Which calls of a sort are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Selection {
    /// Every call.
    All,
    /// The n-th call.
    Nth(u64),
    /// The first n calls.
    First(u64),
    /// The n-th call and all later ones.
    From(u64),
    /// A share of the calls, chosen by a seed.
    Sample {
        /// Chooses.
        seed: u64,
        /// How many of a thousand.
        per_mille: u64,
    },
}

impl Selection {
    /// Whether the call of this number is meant.
    #[must_use]
    pub fn picks(&self, number: u64) -> bool {
        match *self {
            Self::All => true,
            Self::Nth(nth) => number == nth,
            Self::First(last) => number <= last,
            Self::From(first) => number >= first,
            Self::Sample { seed, per_mille } => {
                random::hash(seed, &number.to_le_bytes()) % 1_000 < per_mille
            }
        }
    }
}

/// What the failing mutation leaves behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MutationEffect {
    /// Nothing was done.
    NotDone,
    /// It was done, but the caller gets an error.
    DoneUnacknowledged,
    /// Half of a file's bytes are under its final name. Deletions cannot be torn: they are done
    /// and not acknowledged.
    Torn,
}

impl MutationEffect {
    /// The variants that a crash suite goes through.
    pub const ALL: [Self; 3] = [Self::NotDone, Self::DoneUnacknowledged, Self::Torn];
}

/// What happens after the failing mutation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Aftermath {
    /// The process is dead: every later call of any sort fails and does nothing.
    Crash,
    /// Everything works again.
    Recovery,
    /// Every later mutation fails in the same way and does nothing; reads work.
    Persistence,
}

/// One mutation that fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MutationFault {
    /// Its number among creations, writes and deletions.
    pub at: u64,
    /// What it leaves behind.
    pub effect: MutationEffect,
    /// What the caller is told.
    pub kind: StorageErrorKind,
    /// What happens then.
    pub then: Aftermath,
}

impl MutationFault {
    /// The process dies during a mutation.
    #[must_use]
    pub const fn crash(at: u64, effect: MutationEffect) -> Self {
        Self {
            at,
            effect,
            kind: StorageErrorKind::Failed,
            then: Aftermath::Crash,
        }
    }

    /// One mutation is refused.
    #[must_use]
    pub const fn refuse_once(at: u64, kind: StorageErrorKind) -> Self {
        Self {
            at,
            effect: MutationEffect::NotDone,
            kind,
            then: Aftermath::Recovery,
        }
    }

    /// All mutations from this one on are refused: a full or read-only disk.
    #[must_use]
    pub const fn refuse_from(at: u64, kind: StorageErrorKind) -> Self {
        Self {
            then: Aftermath::Persistence,
            ..Self::refuse_once(at, kind)
        }
    }
}

/// Reads that go wrong.
#[derive(Clone, Debug)]
pub struct BadReads {
    /// Which reads, among those of the kinds.
    pub reads: Selection,
    /// Which kinds of files.
    pub kinds: Vec<FileKind>,
    /// How.
    pub how: BadRead,
}

/// How a read goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadRead {
    /// One bit of the bytes is flipped; which one depends on the number of the read.
    FlippedBit,
    /// Only half of the bytes come, and no error.
    Cut,
    /// An error comes.
    Error(StorageErrorKind),
}

/// Lists that lack files.
#[derive(Clone, Debug)]
pub struct ShortLists {
    /// Which lists, among those of the kinds.
    pub lists: Selection,
    /// Which kinds of files.
    pub kinds: Vec<FileKind>,
    /// Chooses the hidden files; the same ones in every list.
    pub seed: u64,
    /// How many files of a thousand are hidden.
    pub per_mille: u64,
}

impl ShortLists {
    /// Whether a file is hidden from the chosen lists.
    #[must_use]
    pub fn hides(&self, key: &FileKey) -> bool {
        self.kinds.contains(&key.kind())
            && random::hash(self.seed, key.path().as_bytes()) % 1_000 < self.per_mille
    }
}

/// Writes that report success and store something else.
#[derive(Clone, Debug)]
pub struct Lies {
    /// Which writes, among those of the kinds.
    pub writes: Selection,
    /// Which kinds of files.
    pub kinds: Vec<FileKind>,
    /// What is stored.
    pub lie: Lie,
}

/// What a lying write stores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    /// Nothing.
    Absent,
    /// The first half.
    Cut,
    /// Everything with one bit flipped in the middle.
    FlippedBit,
}
