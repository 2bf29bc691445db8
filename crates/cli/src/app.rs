//! The life of one process: arguments in, one exit code out.
//!
//! Invariant: every path ends here; nothing else calls `exit` but the second signal and the
//! argument parser.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::FromArgMatches;

use crate::args::{self, Cli};
use crate::belonging;
use crate::command_error::{CommandError, ErrorKind};
use crate::commands;
use crate::exit_status::ExitStatus;
use crate::output::{Output, Verbosity};
use crate::signals::Signals;

/// What documents about a command line name that names no command.
const NO_COMMAND: &str = "refloat";

/// Runs the program.
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let mut command = args::command();
    let parsed = command
        .try_get_matches_from_mut(&arguments)
        .and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return refuse(&error, &arguments),
    };
    let output = Output::from(&cli.global);
    let name = cli.command.name();
    let result = belonging::refuse_misplaced(&command, &matches);
    finish(name, output, result.and_then(|()| listen_and_run(cli))).into()
}

/// Ends with what the argument parser says: help, the version, or a mistake.
fn refuse(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    let options = arguments.iter().take_while(|argument| *argument != "--");
    let json = options.into_iter().any(|argument| argument == "--json");
    if !json || !error.use_stderr() {
        error.exit();
    }
    let output = Output {
        json,
        verbosity: Verbosity::Normal,
    };
    let error = CommandError::command_line(error);
    finish(&typed(arguments), output, Err(error)).into()
}

/// The command that was typed, as far as a wrong command line tells.
fn typed(arguments: &[OsString]) -> String {
    let matches = args::command()
        .ignore_errors(true)
        .try_get_matches_from(arguments);
    matches
        .ok()
        .and_then(|matches| matches.subcommand_name().map(str::to_owned))
        .unwrap_or_else(|| NO_COMMAND.to_owned())
}

fn listen_and_run(cli: Cli) -> Result<ExitStatus, CommandError> {
    let signals = Signals::listen().map_err(|e| CommandError::io("listen for", "signals", &e))?;
    commands::run(cli, &signals).map_err(|mut error| {
        if error.kind == ErrorKind::Interrupted {
            error.status = signals.status();
        }
        error
    })
}

fn finish(name: &str, output: Output, result: Result<ExitStatus, CommandError>) -> ExitStatus {
    match result {
        Ok(status) => status,
        // `refloat ls | head` is a success.
        Err(error) if error.kind == ErrorKind::BrokenPipe => ExitStatus::Success,
        Err(error) => {
            output.error(name, &error);
            error.status
        }
    }
}
