//! `refloat completions`.
//!
//! Invariant: what is completed is generated from the same types that parse.

use clap_complete::Shell;

use crate::args;
use crate::command_error::CommandError;
use crate::exit_status::ExitStatus;
use crate::output;

/// Print completions for a shell
///
/// For example: refloat completions bash > /etc/bash_completion.d/refloat
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub fn run(args: &Args) -> Result<ExitStatus, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::command(), "refloat", &mut script);
    output::print(&script)?;
    Ok(ExitStatus::Success)
}
