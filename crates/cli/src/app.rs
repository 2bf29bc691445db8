//! The life of one process: arguments in, one exit code out.
//!
//! Invariant: every path ends here; nothing else calls `exit` but the second signal and the
//! argument parser.

use std::process::ExitCode;

use clap::FromArgMatches;

use crate::args::{self, Cli};
use crate::command_error::{CommandError, ErrorKind};
use crate::commands;
use crate::exit_status::ExitStatus;
use crate::output::Output;
use crate::signals::Signals;

/// Runs the program.
pub fn run() -> ExitCode {
    let cli = parse();
    let output = Output::from(&cli.global);
    let name = cli.command.name();
    finish(name, output, listen_and_run(cli)).into()
}

/// Parses the command line; help and mistakes end the process here.
fn parse() -> Cli {
    let matches = args::command().get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
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
