//! `refloat man`.
//!
//! Invariant: the pages are generated from the same types that parse.

use std::path::PathBuf;

use crate::args;
use crate::command_error::CommandError;
use crate::exit_status::ExitStatus;

/// Write the manual pages into a folder
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder; made if it is not there
    directory: PathBuf,
}

/// Writes one page for each command.
pub fn run(args: &Args) -> Result<ExitStatus, CommandError> {
    let failed = |e| CommandError::io("write manual pages to", args.directory.display(), &e);
    std::fs::create_dir_all(&args.directory).map_err(failed)?;
    clap_mangen::generate_to(args::command(), &args.directory).map_err(failed)?;
    Ok(ExitStatus::Success)
}
