//! `refloat key`.
//!
//! Invariant: at least one key that opens the repository remains.

mod escrow;

use std::path::PathBuf;

use clap::Subcommand;
use refloat_model::id::RunId;
use refloat_repository::escrow::KeyChoice;
use refloat_repository::lock::{Lock, LockMode};
use refloat_repository::{KeyId, KeyRecord, Repository};
use serde::Serialize;

use crate::command_error::{CommandError, ErrorKind};
use crate::exit_status::ExitStatus;
use crate::ledger::{self, Changes};
use crate::output::Output;
use crate::password;
use crate::random;
use crate::repository;
use crate::settings::{PasswordSource, Settings};
use crate::table;

/// List, add and remove the passwords that open the repository
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the keys
    List,
    /// Add a key with a new password; the others stay
    Add(NewPassword),
    /// Remove a key; what its owner has already read stays known to them
    Remove {
        /// The key's id, or enough digits of it
        id: String,
    },
    /// Replace the key in use by one with a new password
    Passwd(NewPassword),
    /// Write config and keys into a new file, to be kept elsewhere: they stay sealed by their
    /// passwords
    Export {
        /// The file
        file: PathBuf,
    },
    /// Put the config, the key that the password opens, and damaged keys back from an exported file
    Import {
        /// The file
        file: PathBuf,
        /// Put all other keys of the export back too, those among them that were removed since
        #[arg(long)]
        all: bool,
    },
}

#[derive(Debug, clap::Args)]
struct NewPassword {
    /// A file whose first line is the new password; asked for on the terminal otherwise
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
}

#[derive(Serialize)]
struct KeyView {
    id: String,
    created: String,
    username: String,
    hostname: String,
    /// Whether this run was opened with it.
    current: bool,
}

impl From<KeyRecord> for KeyView {
    fn from(key: KeyRecord) -> Self {
        Self {
            id: key.id.to_string(),
            created: key.origin.created.to_string(),
            username: key.origin.username,
            hostname: key.origin.hostname,
            current: key.current,
        }
    }
}

#[derive(Serialize)]
struct ListReport {
    keys: Vec<KeyView>,
}

#[derive(Serialize)]
struct ChangeReport<'a> {
    action: &'a str,
    key: String,
}

/// Runs one of the actions.
pub fn run(args: Args, settings: &Settings) -> Result<ExitStatus, CommandError> {
    let output = settings.output;
    // An import is for what cannot be opened.
    let open = || repository::open(settings);
    match args.action {
        Action::Import { file, all } => {
            let choice = match all {
                true => KeyChoice::All,
                false => KeyChoice::Opened,
            };
            escrow::import(&file, choice, settings)
        }
        Action::Export { file } => escrow::export(&open()?, &file, output),
        Action::List => list(&open()?, output),
        Action::Add(new) => {
            let repository = open()?;
            let password = new.get()?;
            let book = ledger::open(&repository, settings)?;
            let key = repository.add_key(&password, repository::key_origin())?;
            let changes = Changes::default().key_added(key);
            ledger::note_in(book, &repository, output, ("key add", &changes))?;
            changed(output, "added", key)
        }
        Action::Remove { id } => {
            let repository = open()?;
            let key = find(&repository.keys()?, &id)?;
            let lock = exclusive(&repository, settings)?;
            let changes = Changes::default().key_removed(key);
            let book = ledger::begin(&repository, settings, ("key remove", &changes))?;
            repository.remove_key(key, &lock)?;
            ledger::note_in(book, &repository, output, ("key remove", &changes))?;
            changed(output, "removed", key)
        }
        Action::Passwd(new) => {
            let repository = open()?;
            let (password, origin) = (new.get()?, repository::key_origin());
            let lock = exclusive(&repository, settings)?;
            let leaving = Changes::default().key_removed(repository.key_id());
            let book = ledger::begin(&repository, settings, ("key passwd", &leaving))?;
            let reopened = repository.change_password(&password, origin, &lock)?;
            let changes = Changes::default()
                .key_added(reopened.key_id())
                .key_removed(repository.key_id());
            ledger::note_in(book, &reopened, output, ("key passwd", &changes))?;
            changed(output, "replaced by", reopened.key_id())
        }
    }
}

/// Two runs that remove keys at once could remove the last.
fn exclusive(repository: &Repository, settings: &Settings) -> Result<Lock, CommandError> {
    let run = RunId::from_random(random::bytes()?);
    repository::lock(repository, LockMode::Exclusive, run, settings)
}

impl NewPassword {
    fn get(self) -> Result<refloat_model::secret::Secret, CommandError> {
        let source = self
            .new_password_file
            .map_or(PasswordSource::Ask, PasswordSource::File);
        password::get_new(&source).map_err(|e| {
            if e.hints.is_empty() {
                e
            } else {
                without_terminal()
            }
        })
    }
}

fn without_terminal() -> CommandError {
    CommandError::new(ErrorKind::NoPassword, "no new password given")
        .hint("use --new-password-file")
}

fn list(repository: &Repository, output: Output) -> Result<ExitStatus, CommandError> {
    let keys = repository.keys()?.into_iter().map(KeyView::from);
    let report = ListReport {
        keys: keys.collect(),
    };
    output.result("key", ExitStatus::Success, &report, || {
        let rows = report.keys.iter().map(|key| {
            let id = key.id.get(..8).unwrap_or_default();
            let mark = if key.current { "in use" } else { "" };
            [id, &key.created, &key.username, &key.hostname, mark].map(str::to_owned)
        });
        table::table(["key", "made", "user", "host", ""], rows)
    })
}

fn changed(output: Output, action: &str, key: KeyId) -> Result<ExitStatus, CommandError> {
    let report = ChangeReport {
        action,
        key: key.to_string(),
    };
    output.report("key", ExitStatus::Success, &report, || {
        format!("{action} key {}\n", key.short())
    })
}

fn find(keys: &[KeyRecord], prefix: &str) -> Result<KeyId, CommandError> {
    let mut fitting = keys
        .iter()
        .map(|k| k.id)
        .filter(|id| id.to_string().starts_with(prefix));
    match (fitting.next(), fitting.next()) {
        (Some(id), None) if !prefix.is_empty() => Ok(id),
        (None, _) => Err(CommandError::new(
            ErrorKind::NotFound,
            format!("there is no key {prefix}"),
        )
        .hint("list them with `refloat key list`")),
        _ => Err(
            CommandError::usage(format!("{prefix:?} fits more than one key"))
                .hint("give more digits"),
        ),
    }
}
