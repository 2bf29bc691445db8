//! The ledger's file: reading, comparing, appending.
//!
//! Invariant: lines are only ever appended, under a lock of the file, and are on disk before the
//! command says that it is done.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use refloat_model::finding::Finding;
use refloat_repository::ledger::{
    Ledger, LedgerError, LedgerFinding, LedgerKey, Observation, Removed, Returned, Seen,
};
use refloat_repository::{KeyId, Repository, SnapshotId};

use crate::command_error::{CommandError, ErrorKind};
use crate::output::Output;
use crate::settings::Settings;

/// What a command did that others could not have done without being noticed.
#[derive(Debug, Default)]
pub struct Changes {
    removed: Removed,
    added_keys: BTreeSet<KeyId>,
}

impl Changes {
    /// These points were dropped.
    pub fn dropped(snapshots: impl IntoIterator<Item = SnapshotId>) -> Self {
        let mut this = Self::default();
        this.removed.snapshots.extend(snapshots);
        this
    }

    /// This key was added.
    pub fn key_added(mut self, key: KeyId) -> Self {
        self.added_keys.insert(key);
        self
    }

    /// This key was removed.
    pub fn key_removed(mut self, key: KeyId) -> Self {
        self.removed.keys.insert(key);
        self
    }
}

/// An opened ledger.
pub struct Book {
    path: PathBuf,
    file: File,
    /// What was recorded.
    pub ledger: Ledger,
    key: LedgerKey,
    /// How many bytes are whole lines, if a run that died left part of one behind them.
    torn_at: Option<u64>,
}

impl Book {
    /// Opens a ledger that is there.
    ///
    /// # Errors
    /// There is none, or it is not this repository's.
    pub fn open(path: &Path, repository: &Repository) -> Result<Self, CommandError> {
        Self::with(path, repository, OpenOptions::new().read(true).append(true))
    }

    /// Opens a ledger, or begins one.
    ///
    /// # Errors
    /// It cannot be made, or it is not this repository's.
    pub fn open_or_begin(path: &Path, repository: &Repository) -> Result<Self, CommandError> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        Self::with(path, repository, &options)
    }

    fn with(
        path: &Path,
        repository: &Repository,
        options: &OpenOptions,
    ) -> Result<Self, CommandError> {
        let failed = |e| CommandError::io("read the ledger", path.display(), &e);
        let mut file = options.open(path).map_err(failed)?;
        file.lock().map_err(failed)?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let (whole, rest) = whole_lines(&text);
        let key = repository.ledger_key().map_err(|e| untrusted(path, &e))?;
        let ledger = Ledger::parse(whole, &key).map_err(|e| untrusted(path, &e))?;
        if ledger.lines() == 0 && !Ledger::may_begin_with(rest) {
            return Err(no_ledger(path));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            ledger,
            key,
            torn_at: (!rest.is_empty()).then_some(whole.len() as u64),
        })
    }

    fn append(&mut self, line: Option<String>) -> Result<(), CommandError> {
        let Some(line) = line else {
            return Ok(());
        };
        let failed = |e| CommandError::io("write to the ledger", self.path.display(), &e);
        // What is left of a line would spoil this one.
        if let Some(whole) = self.torn_at.take() {
            self.file.set_len(whole).map_err(failed)?;
        }
        let written = self.file.write_all(format!("{line}\n").as_bytes());
        written.and_then(|()| self.file.sync_all()).map_err(failed)
    }

    /// Records what a command did.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn record(
        &mut self,
        command: &str,
        found: &Observation,
        changes: &Changes,
    ) -> Result<(), CommandError> {
        let seen = Seen {
            found,
            removed: &changes.removed,
            added_keys: &changes.added_keys,
            returned: Returned::Suspicious,
        };
        let now = jiff::Timestamp::now();
        let line = self.ledger.record(command, now, &seen, &self.key);
        self.append(line.map_err(|e| untrusted(&self.path, &e))?)
    }

    /// Records what a command is about to remove, so that its death leaves no riddle.
    ///
    /// # Errors
    /// It cannot be written.
    fn announce(&mut self, command: &str, changes: &Changes) -> Result<(), CommandError> {
        let now = jiff::Timestamp::now();
        let line = self
            .ledger
            .announce(command, now, &changes.removed, &self.key);
        self.append(line.map_err(|e| untrusted(&self.path, &e))?)
    }

    /// Records the repository as it is.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn accept(&mut self, found: &Observation) -> Result<(), CommandError> {
        let now = jiff::Timestamp::now();
        let line = self.ledger.accept(now, found, &self.key);
        self.append(line.map_err(|e| untrusted(&self.path, &e))?)
    }
}

/// Everything up to the last line break, and what comes after it.
fn whole_lines(text: &str) -> (&str, &str) {
    text.split_at(text.rfind('\n').map_or(0, |end| end + 1))
}

fn no_ledger(path: &Path) -> CommandError {
    CommandError::new(
        ErrorKind::Refused,
        format!("{} is no ledger, and was not touched", path.display()),
    )
    .hint("give a file that is not there yet, or one that refloat began")
}

fn untrusted(path: &Path, error: &LedgerError) -> CommandError {
    CommandError {
        causes: vec![format!("in {}", path.display())],
        ..CommandError::of(ErrorKind::Damaged, error)
    }
    .hint("somebody changed it, or it belongs to another repository; compare it with a copy")
}

/// Records what a command did, if there is a ledger, and tells what is amiss beside it.
///
/// # Errors
/// The ledger cannot be read or written.
pub fn note(
    repository: &Repository,
    settings: &Settings,
    command: &str,
    changes: &Changes,
) -> Result<(), CommandError> {
    let book = open(repository, settings)?;
    note_in(book, repository, settings.output, (command, changes))
}

/// Opens the ledger, if there is one, before something is done that cannot be undone: what could
/// not be recorded must not be done.
///
/// # Errors
/// The ledger cannot be read or written.
pub fn open(repository: &Repository, settings: &Settings) -> Result<Option<Book>, CommandError> {
    let path = settings.ledger.as_ref();
    path.map(|path| Book::open_or_begin(path, repository))
        .transpose()
}

/// As [`open`], and announces what is to go.
///
/// # Errors
/// The ledger cannot be read or written.
pub fn begin(
    repository: &Repository,
    settings: &Settings,
    (command, changes): (&str, &Changes),
) -> Result<Option<Book>, CommandError> {
    let mut book = open(repository, settings)?;
    if let Some(book) = &mut book {
        book.announce(command, changes)?;
    }
    Ok(book)
}

/// As [`note`], in a ledger that is open.
///
/// # Errors
/// The ledger cannot be written.
pub fn note_in(
    book: Option<Book>,
    repository: &Repository,
    output: Output,
    (command, changes): (&str, &Changes),
) -> Result<(), CommandError> {
    let Some(mut book) = book else {
        return Ok(());
    };
    let found = Observation::of(repository)?;
    book.record(command, &found, changes)?;
    output.findings(&findings(&book.ledger.compare(&found)));
    Ok(())
}

/// What a ledger finds, for people.
pub fn findings(found: &[LedgerFinding]) -> Vec<Finding> {
    let finding = |found: &LedgerFinding| Finding::error("ledger", found.to_string());
    found.iter().map(finding).collect()
}
