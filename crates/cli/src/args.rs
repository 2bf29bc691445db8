//! The command line: global options and the list of commands.
//!
//! Invariant: no logic here; what an option means is decided in [`crate::settings`] and in the
//! command's own file.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use refloat_engine::config::ByteRate;
use refloat_engine::period::Period;

use crate::commands;
use crate::environment;

/// Backs up container estates and brings them back.
///
/// Exit codes: 0 all done, 1 failed, 2 wrong usage, 3 incomplete (part was not saved or not
/// restored, or a reference is missing), 4 differences found, 10 no repository, 11 locked,
/// 12 wrong password, 129, 130 and 143 interrupted.
#[derive(Debug, Parser)]
#[command(
    name = "refloat",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The whole command line with the list of environment variables, for parsing, manual pages and
/// completions.
pub fn command() -> clap::Command {
    let all = || environment::ALL.into_iter().chain(&environment::STORAGE);
    let width = all().map(|v| v.name.len()).max().unwrap_or_default();
    let line = |v: &environment::Variable| format!("  {:<width$}  {}\n", v.name, v.meaning);
    let ours: String = environment::ALL.iter().map(|v| line(v)).collect();
    let services: String = environment::STORAGE.iter().map(line).collect();
    let short = format!("Environment:\n{ours}");
    let long = format!("{short}\nEnvironment of storage services:\n{services}");
    Cli::command()
        .after_help(short.trim_end().to_owned())
        .after_long_help(long.trim_end().to_owned())
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Where the repository is: a folder, s3://BUCKET/PREFIX, s3:https://HOST/BUCKET,
    /// sftp://USER@HOST//PATH, rest:https://HOST/, webdavs://HOST/PATH, azblob://CONTAINER,
    /// gcs://BUCKET [env: REFLOAT_REPOSITORY]
    #[arg(short, long, global = true, value_name = "URL")]
    pub repository: Option<String>,
    /// A file whose first line is the password [env: REFLOAT_PASSWORD_FILE, or the password
    /// itself in REFLOAT_PASSWORD]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        conflicts_with = "password_command"
    )]
    pub password_file: Option<PathBuf>,
    /// A command whose first line of output is the password [env: REFLOAT_PASSWORD_COMMAND]
    #[arg(long, global = true, value_name = "COMMAND")]
    pub password_command: Option<String>,
    /// How the repository's storage is reached, as repository.options in refloat.yaml:
    /// region=eu-west-1, ca-file=ca.pem, connections=16
    #[arg(
        short,
        long = "option",
        global = true,
        value_name = "KEY=VALUE",
        value_parser = crate::storage::parse_pair
    )]
    pub options: Vec<(String, String)>,
    /// Send no more to storage than this in a second: 500K, 10M
    #[arg(long, global = true, value_name = "RATE")]
    pub limit_upload: Option<ByteRate>,
    /// Receive no more from storage than this in a second
    #[arg(long, global = true, value_name = "RATE")]
    pub limit_download: Option<ByteRate>,
    /// Keep no copies of indexes and snapshots of repositories on other machines
    #[arg(long, global = true)]
    pub no_cache: bool,
    /// How long to wait for somebody else's lock, 0 for not at all
    #[arg(
        long,
        global = true,
        value_name = "PERIOD",
        default_value = "10s",
        value_parser = parse_wait
    )]
    pub retry_lock: Duration,
    /// A descriptor whose first line is the password, which the caller opened: 3, 4, …
    #[arg(
        long,
        global = true,
        value_name = "N",
        conflicts_with_all = ["password_file", "password_command"]
    )]
    pub password_fd: Option<u32>,
    /// A file, not in the repository, in which points and keys are recorded: so that what somebody
    /// else deletes or puts back is noticed [env: REFLOAT_LEDGER]
    #[arg(long, global = true, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// The file with the key that forget, prune, repair, key remove and key passwd take in a
    /// repository that was made with --require-deleter-key [env: REFLOAT_DELETER_KEY]
    #[arg(long, global = true, value_name = "FILE")]
    pub deleter_key: Option<PathBuf>,
    /// The configuration; ./refloat.yaml if it is there [env: REFLOAT_CONFIG]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Print only results that were asked for, warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print also what went well
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Show no progress
    #[arg(long, global = true)]
    pub no_progress: bool,
}

fn parse_wait(text: &str) -> Result<Duration, String> {
    // No period: it is longer than nothing.
    if text == "0" || text.parse::<jiff::Span>().is_ok_and(|span| span.is_zero()) {
        return Ok(Duration::ZERO);
    }
    let period: Period = text.parse().map_err(|e| format!("{e}"))?;
    Ok(period.duration_from(jiff::Timestamp::now().into()))
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(commands::init::Args),
    Discover(commands::discover::Args),
    Backup(commands::backup::Args),
    Points(commands::points::Args),
    Show(commands::show::Args),
    Ls(commands::ls::Args),
    Cat(commands::cat::Args),
    Diff(commands::diff::Args),
    Find(commands::find::Args),
    Drift(commands::drift::Args),
    Export(commands::export::Args),
    Restore(commands::restore::Args),
    Check(commands::check::Args),
    Forget(commands::forget::Args),
    Prune(commands::prune::Args),
    Copy(commands::copy::Args),
    Protect(commands::protect::Args),
    Audit(commands::audit::Args),
    Repair(commands::repair::Args),
    Key(commands::key::Args),
    Completions(commands::completions::Args),
    Man(commands::man::Args),
}

impl Command {
    /// The command's name, as it was typed and as JSON documents carry it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Init(_) => "init",
            Self::Discover(_) => "discover",
            Self::Backup(_) => "backup",
            Self::Points(_) => "points",
            Self::Show(_) => "show",
            Self::Ls(_) => "ls",
            Self::Cat(_) => "cat",
            Self::Diff(_) => "diff",
            Self::Find(_) => "find",
            Self::Drift(_) => "drift",
            Self::Export(_) => "export",
            Self::Restore(_) => "restore",
            Self::Check(_) => "check",
            Self::Forget(_) => "forget",
            Self::Prune(_) => "prune",
            Self::Copy(_) => "copy",
            Self::Protect(_) => "protect",
            Self::Audit(_) => "audit",
            Self::Repair(_) => "repair",
            Self::Key(_) => "key",
            Self::Completions(_) => "completions",
            Self::Man(_) => "man",
        }
    }
}
