//! One file for each command: its arguments, and one function that runs it.
//!
//! Invariant: a command that writes to the repository holds a lock while it does.

pub mod audit;
pub mod backup;
pub mod cat;
pub mod check;
pub mod completions;
pub mod copy;
pub mod diff;
pub mod discover;
pub mod drift;
pub mod export;
pub mod find;
pub mod forget;
pub mod init;
pub mod key;
pub mod ls;
pub mod man;
pub mod points;
pub mod protect;
pub mod prune;
pub mod repair;
pub mod restore;
pub mod show;

use crate::args::{Cli, Command};
use crate::command_error::CommandError;
use crate::exit_status::ExitStatus;
use crate::settings::Settings;
use crate::signals::Signals;

/// Runs the command that was typed.
///
/// # Errors
/// What the command could not do.
pub fn run(cli: Cli, signals: &Signals) -> Result<ExitStatus, CommandError> {
    let settings = || Settings::resolve(cli.global, signals.storage.clone());
    match cli.command {
        Command::Init(args) => init::run(&args, &settings()?),
        Command::Discover(args) => discover::run(&args, &settings()?, signals),
        Command::Backup(args) => backup::run(&args, &settings()?, signals),
        Command::Points(args) => points::run(&args, &settings()?, signals),
        Command::Show(args) => show::run(&args, &settings()?),
        Command::Ls(args) => ls::run(&args, &settings()?),
        Command::Cat(args) => cat::run(&args, &settings()?),
        Command::Diff(args) => diff::run(&args, &settings()?, signals),
        Command::Drift(args) => drift::run(&args, &settings()?, signals),
        Command::Export(args) => export::run(&args, &settings()?, signals),
        Command::Find(args) => find::run(&args, &settings()?, signals),
        Command::Restore(args) => restore::run(&args, &settings()?, signals),
        Command::Check(args) => check::run(&args, &settings()?, signals),
        Command::Forget(args) => forget::run(&args, &settings()?, signals),
        Command::Prune(args) => prune::run(&args, &settings()?, signals),
        Command::Copy(args) => copy::run(&args, &settings()?, signals),
        Command::Protect(args) => protect::run(&args, &settings()?, signals),
        Command::Audit(args) => audit::run(&args, &settings()?),
        Command::Repair(args) => repair::run(&args, &settings()?, signals),
        Command::Key(args) => key::run(args, &settings()?),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}
