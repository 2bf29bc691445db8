//! `refloat init`.
//!
//! Invariant: an existing repository is never touched.

use std::path::PathBuf;

use clap::ValueEnum;
use refloat_repository::{ChunkerChoice, InitOptions, Repository};
use serde::Serialize;

use crate::command_error::CommandError;
use crate::deleter;
use crate::exit_status::ExitStatus;
use crate::ledger::{self, Changes};
use crate::other::{Other, OtherArgs};
use crate::password;
use crate::repository;
use crate::settings::{PasswordSource, Settings};

/// Make a new, encrypted repository
///
/// The password is the only key to it. There is no way to recover the data without it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How files are cut into pieces; rabin only if restic will write to this repository too
    #[arg(long, value_enum, default_value_t)]
    chunker: Chunker,
    /// Cut files where this other repository does, so that copies between the two deduplicate: a
    /// name under repositories in refloat.yaml, or an address
    #[arg(long, value_name = "REPOSITORY", conflicts_with = "chunker")]
    copy_chunker_params: Option<String>,
    /// Only holders of the key in this file may forget, prune, repair, and remove or replace keys,
    /// and backups wait for nobody else; it is made if it is not there. Adding a key takes nothing
    /// away, and whoever knows the password may. No other program may prune this repository then
    #[arg(long, value_name = "FILE")]
    require_deleter_key: Option<PathBuf>,
    #[command(flatten)]
    other: OtherArgs,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Chunker {
    /// Refloat's own, the fastest
    #[default]
    Gear,
    /// restic's
    Rabin,
}

#[derive(Serialize)]
struct Report {
    /// Where the repository is.
    repository: String,
    /// Its random id.
    id: String,
    /// The key that was made.
    key: String,
    /// Where the password came from.
    password_from: String,
    /// The file that holds the key of whoever may delete; none if everybody may.
    #[serde(skip_serializing_if = "Option::is_none")]
    deleter_key: Option<String>,
}

/// Makes the repository.
pub fn run(args: &Args, settings: &Settings) -> Result<ExitStatus, CommandError> {
    settings.repository()?.refuse_lock()?;
    let storage = repository::storage(settings)?;
    let chunker_parameters = match &args.copy_chunker_params {
        None => None,
        Some(name) => {
            let other = Other::resolve(name, &args.other, settings)?;
            Some(other.open(settings)?.chunker_parameters())
        }
    };
    let password = password::get_new(&settings.password)?;
    let deleter = args
        .require_deleter_key
        .as_deref()
        .map(deleter::load_or_make);
    let deleter = deleter.transpose()?.map(|key| key.public());
    let options = InitOptions {
        deleter,
        chunker: match args.chunker {
            Chunker::Gear => ChunkerChoice::Gear,
            Chunker::Rabin => ChunkerChoice::Rabin,
        },
        chunker_parameters,
        origin: repository::key_origin(),
    };
    let made = Repository::init(storage, &password, options)?;
    ledger::note(&made, settings, "init", &Changes::default())?;
    let report = Report {
        repository: made.storage().location(),
        id: made.config().id.clone(),
        key: made.key_id().to_string(),
        password_from: password_place(&settings.password),
        deleter_key: args
            .require_deleter_key
            .as_ref()
            .map(|file| file.display().to_string()),
    };
    settings
        .output
        .report("init", ExitStatus::Success, &report, || text(&report))
}

fn text(report: &Report) -> String {
    let deleter = report.deleter_key.as_ref().map(|file| {
        format!(
            "forget, prune, repair, key remove and key passwd take the deleter key in {file}: keep it \
             away from machines\nthat back up, and a copy of it somewhere else; no other program may prune \
             this repository\n"
        )
    });
    let made = format!(
        "made the repository {} (id {})\n\
         its only key is the password from {}: without it the data cannot be recovered,\n\
         so keep a copy of the password somewhere else; add more keys with `refloat key add`\n",
        report.repository,
        &report.id.get(..8).unwrap_or_default(),
        report.password_from,
    );
    made + &deleter.unwrap_or_default()
}

fn password_place(source: &PasswordSource) -> String {
    match source {
        PasswordSource::File(path) => format!("the file {}", path.display()),
        PasswordSource::Command(_) => "the password command".to_owned(),
        PasswordSource::Environment(name) => format!("the environment variable {name}"),
        PasswordSource::Descriptor(number) => format!("descriptor {number}"),
        PasswordSource::Ask => "the terminal".to_owned(),
    }
}
