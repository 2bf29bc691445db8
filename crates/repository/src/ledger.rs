//! The ledger: a signed, chained record of which points and keys a repository should have.
//!
//! Whoever can write to storage without knowing the password cannot read or forge anything, but can
//! delete a point, put an older state back, or exchange a config. Nothing within the repository can
//! show that, because it would be put back as well. So the record is kept elsewhere: a file of
//! lines, each with what changed, the hash of the line before, and a signature by a key that only
//! the master key gives.
//!
//! It does not help against whoever has the password: they can sign. It is no list of what *may* be
//! there: points that other writers add are taken in when they are seen.
//!
//! Invariant: nothing leaves the record unless a command of ours dropped it or a person accepted
//! that it is gone.

mod entry;
mod signing;

use std::collections::{BTreeMap, BTreeSet};

use refloat_storage::{FileKey, FileKind};
use serde::Serialize;

use crate::error::RepositoryError;
use crate::id::{KeyId, SnapshotId, id_text, sha256};
use crate::repository::Repository;

pub use entry::{Entry, LedgerError};
pub use signing::LedgerKey;

/// How many lines a ledger may have: some decades of one every few minutes.
const LINES_MAX: usize = 10_000_000;

/// What a repository holds, as far as the ledger records it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Observation {
    /// The repository's id.
    pub repository: String,
    /// The SHA-256 of the config's bytes, in hex.
    pub config: String,
    /// The keys.
    pub keys: BTreeSet<KeyId>,
    /// The snapshots.
    pub snapshots: BTreeSet<SnapshotId>,
}

impl Observation {
    /// Looks at a repository.
    ///
    /// # Errors
    /// Storage failed.
    pub fn of(repository: &Repository) -> Result<Self, RepositoryError> {
        let storage = repository.storage();
        let ids = |kind| -> Result<Vec<[u8; 32]>, RepositoryError> {
            let listed = storage.list(kind)?;
            Ok(listed.iter().map(|file| *file.key.id()).collect())
        };
        Ok(Self {
            repository: repository.config().id.clone(),
            config: id_text(&sha256(&storage.read(&FileKey::CONFIG)?)),
            keys: ids(FileKind::Key)?.into_iter().map(KeyId).collect(),
            snapshots: ids(FileKind::Snapshot)?
                .into_iter()
                .map(SnapshotId)
                .collect(),
        })
    }
}

/// What a command of ours removed: it may be gone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Removed {
    /// Snapshots.
    pub snapshots: BTreeSet<SnapshotId>,
    /// Keys.
    pub keys: BTreeSet<KeyId>,
}

/// What a repository has that it should not, or lacks.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(tag = "finding", rename_all = "kebab-case")]
pub enum LedgerFinding {
    /// The ledger is of another repository: this one was put in its place.
    OtherRepository {
        /// The ledger's.
        recorded: String,
        /// This one's.
        found: String,
    },
    /// The config is another one than was recorded.
    ConfigChanged,
    /// A point that nobody dropped is not there.
    SnapshotMissing {
        /// Which.
        snapshot: SnapshotId,
    },
    /// A point that was dropped is there again: an older state was put back.
    SnapshotReturned {
        /// Which.
        snapshot: SnapshotId,
    },
    /// A key that nobody removed is not there.
    KeyMissing {
        /// Which.
        key: KeyId,
    },
    /// A key that was removed is there again, and whoever knew its password gets in.
    KeyReturned {
        /// Which.
        key: KeyId,
    },
    /// A key that no command of ours added.
    KeyUnknown {
        /// Which.
        key: KeyId,
    },
}

impl std::fmt::Display for LedgerFinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OtherRepository { recorded, found } => {
                let (recorded, found) = (short(recorded), short(found));
                write!(f, "this is repository {found}, the ledger is of {recorded}")
            }
            Self::ConfigChanged => f.write_str("the config is not the one that was recorded"),
            Self::SnapshotMissing { snapshot } => {
                write!(
                    f,
                    "snapshot {snapshot} is gone, and no command of ours dropped it"
                )
            }
            Self::SnapshotReturned { snapshot } => {
                write!(f, "snapshot {snapshot} was dropped and is there again")
            }
            Self::KeyMissing { key } => {
                write!(f, "key {key} is gone, and no command of ours removed it")
            }
            Self::KeyReturned { key } => write!(f, "key {key} was removed and is there again"),
            Self::KeyUnknown { key } => write!(f, "key {key} was added by nobody we know"),
        }
    }
}

/// A ledger whose every line was verified.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ledger {
    lines: u64,
    head: String,
    /// The hashes of all lines.
    heads: BTreeSet<String>,
    state: State,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct State {
    repository: String,
    config: String,
    /// Whether each is there, or was dropped.
    snapshots: BTreeMap<SnapshotId, bool>,
    keys: BTreeMap<KeyId, bool>,
    /// What a command that may have died was about to remove.
    leaving: Removed,
}

impl Ledger {
    /// Reads and verifies a ledger.
    ///
    /// # Errors
    /// A line is not signed by this repository's key, or does not follow the one before it.
    pub fn parse(text: &str, key: &LedgerKey) -> Result<Self, LedgerError> {
        let mut ledger = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            if number > LINES_MAX {
                return Err(LedgerError::TooLong);
            }
            let entry = entry::open(line, number, key)?;
            if entry.sequence != ledger.lines || entry.previous != ledger.head {
                return Err(LedgerError::Chain { line: number });
            }
            ledger.take(&entry, line);
        }
        Ok(ledger)
    }

    /// Whether a run that died while it wrote a ledger's first line may have left this.
    #[must_use]
    pub fn may_begin_with(text: &str) -> bool {
        text.starts_with(entry::FIRST) || entry::FIRST.starts_with(text)
    }

    /// The SHA-256 of the last line, in hex; empty for an empty ledger. Who notes it elsewhere can
    /// tell whether the ledger itself was cut.
    #[must_use]
    pub fn head(&self) -> &str {
        &self.head
    }

    /// Whether a line of this hash is in it.
    #[must_use]
    pub fn has_line(&self, head: &str) -> bool {
        self.heads.contains(head)
    }

    /// How many lines there are.
    #[must_use]
    pub const fn lines(&self) -> u64 {
        self.lines
    }

    /// What differs between the record and a repository; nothing if nothing was recorded yet.
    #[must_use]
    pub fn compare(&self, found: &Observation) -> Vec<LedgerFinding> {
        let (state, mut findings) = (&self.state, Vec::new());
        if self.lines == 0 {
            return findings;
        }
        if state.repository != found.repository {
            findings.push(LedgerFinding::OtherRepository {
                recorded: state.repository.clone(),
                found: found.repository.clone(),
            });
            return findings;
        }
        if state.config != found.config {
            findings.push(LedgerFinding::ConfigChanged);
        }
        for (snapshot, is_there) in &state.snapshots {
            let snapshot = *snapshot;
            match (is_there, found.snapshots.contains(&snapshot)) {
                (true, false) if state.leaving.snapshots.contains(&snapshot) => {}
                (true, false) => findings.push(LedgerFinding::SnapshotMissing { snapshot }),
                (false, true) => findings.push(LedgerFinding::SnapshotReturned { snapshot }),
                _ => {}
            }
        }
        for (key, is_there) in &state.keys {
            match (is_there, found.keys.contains(key)) {
                (true, false) if state.leaving.keys.contains(key) => {}
                (true, false) => findings.push(LedgerFinding::KeyMissing { key: *key }),
                (false, true) => findings.push(LedgerFinding::KeyReturned { key: *key }),
                _ => {}
            }
        }
        let known = |key: &&KeyId| !state.keys.contains_key(key);
        for key in found.keys.iter().filter(known) {
            findings.push(LedgerFinding::KeyUnknown { key: *key });
        }
        findings
    }

    /// Records what a command came to, and returns the line to append; none if nothing changed.
    ///
    /// What is missing and was not removed by the command stays on record. What is new is taken in:
    /// points always, keys only if `added_keys` names them or this is the first line.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn record(
        &mut self,
        command: &str,
        now: jiff::Timestamp,
        seen: &Seen<'_>,
        key: &LedgerKey,
    ) -> Result<Option<String>, LedgerError> {
        let entry = self.change(command, now, seen);
        let is_announced = self.state.leaving != Removed::default();
        if self.lines > 0 && entry.changes_nothing() && !is_announced {
            return Ok(None);
        }
        let line = entry::seal(&entry, key)?;
        self.take(&entry, &line);
        Ok(Some(line))
    }

    /// Records what a command is about to remove, and returns the line to append; none if nothing was
    /// recorded yet. Should it die, what is gone by then is no finding, and the next line says so.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn announce(
        &mut self,
        command: &str,
        now: jiff::Timestamp,
        leaving: &Removed,
        key: &LedgerKey,
    ) -> Result<Option<String>, LedgerError> {
        if self.lines == 0 || *leaving == Removed::default() {
            return Ok(None);
        }
        let entry = Entry {
            version: entry::VERSION,
            sequence: self.lines,
            previous: self.head.clone(),
            time: now.to_string(),
            command: command.to_owned(),
            repository: self.state.repository.clone(),
            config: None,
            added_snapshots: BTreeSet::new(),
            removed_snapshots: BTreeSet::new(),
            added_keys: BTreeSet::new(),
            removed_keys: BTreeSet::new(),
            leaving_snapshots: leaving.snapshots.clone(),
            leaving_keys: leaving.keys.clone(),
        };
        let line = entry::seal(&entry, key)?;
        self.take(&entry, &line);
        Ok(Some(line))
    }

    /// Records the repository as it is, because a person accepts it.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn accept(
        &mut self,
        now: jiff::Timestamp,
        found: &Observation,
        key: &LedgerKey,
    ) -> Result<Option<String>, LedgerError> {
        let there = |map: &BTreeMap<SnapshotId, bool>| -> BTreeSet<SnapshotId> {
            map.iter()
                .filter(|(_, is)| **is)
                .map(|(id, _)| *id)
                .collect()
        };
        let keys = self
            .state
            .keys
            .iter()
            .filter(|(_, is)| **is)
            .map(|(id, _)| *id);
        let removed = Removed {
            snapshots: &there(&self.state.snapshots) - &found.snapshots,
            keys: keys.filter(|key| !found.keys.contains(key)).collect(),
        };
        let seen = Seen {
            found,
            removed: &removed,
            added_keys: &found.keys,
            returned: Returned::Accepted,
        };
        self.record("accept", now, &seen, key)
    }

    fn change(&self, command: &str, now: jiff::Timestamp, seen: &Seen<'_>) -> Entry {
        let (state, found, first) = (&self.state, seen.found, self.lines == 0);
        let takes_back = seen.returned == Returned::Accepted;
        let new_snapshot = |id: &&SnapshotId| match state.snapshots.get(id) {
            None => true,
            Some(is_there) => !is_there && takes_back,
        };
        let new_key = |id: &&KeyId| match state.keys.get(id) {
            None => first || seen.added_keys.contains(id),
            Some(is_there) => !is_there && (takes_back || seen.added_keys.contains(id)),
        };
        let gone_snapshot = |id: &&SnapshotId| {
            state.snapshots.get(id) == Some(&true) && !found.snapshots.contains(id)
        };
        let gone_key = |id: &&KeyId| state.keys.get(id) == Some(&true) && !found.keys.contains(id);
        let other_config = first || takes_back;
        Entry {
            version: entry::VERSION,
            sequence: self.lines,
            previous: self.head.clone(),
            time: now.to_string(),
            command: command.to_owned(),
            repository: found.repository.clone(),
            config: other_config
                .then(|| found.config.clone())
                .filter(|config| *config != state.config),
            added_snapshots: found
                .snapshots
                .iter()
                .filter(new_snapshot)
                .copied()
                .collect(),
            removed_snapshots: (&seen.removed.snapshots | &state.leaving.snapshots)
                .iter()
                .filter(gone_snapshot)
                .copied()
                .collect(),
            added_keys: found.keys.iter().filter(new_key).copied().collect(),
            removed_keys: (&seen.removed.keys | &state.leaving.keys)
                .iter()
                .filter(gone_key)
                .copied()
                .collect(),
            leaving_snapshots: BTreeSet::new(),
            leaving_keys: BTreeSet::new(),
        }
    }

    fn take(&mut self, entry: &Entry, line: &str) {
        self.lines += 1;
        self.head = id_text(&sha256(line.as_bytes()));
        self.heads.insert(self.head.clone());
        self.state.repository.clone_from(&entry.repository);
        if let Some(config) = &entry.config {
            self.state.config.clone_from(config);
        }
        let snapshots = &mut self.state.snapshots;
        snapshots.extend(entry.added_snapshots.iter().map(|id| (*id, true)));
        snapshots.extend(entry.removed_snapshots.iter().map(|id| (*id, false)));
        let keys = &mut self.state.keys;
        keys.extend(entry.added_keys.iter().map(|id| (*id, true)));
        keys.extend(entry.removed_keys.iter().map(|id| (*id, false)));
        self.state.leaving = Removed {
            snapshots: entry.leaving_snapshots.clone(),
            keys: entry.leaving_keys.clone(),
        };
    }
}

/// What a command saw and did.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The repository afterwards.
    pub found: &'a Observation,
    /// What the command removed.
    pub removed: &'a Removed,
    /// The keys that the command added.
    pub added_keys: &'a BTreeSet<KeyId>,
    /// What was dropped and is there again.
    pub returned: Returned,
}

/// Whether what came back counts as there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Returned {
    /// It does not: it stays a finding.
    Suspicious,
    /// A person says that it is right.
    Accepted,
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

#[cfg(test)]
mod tests;
