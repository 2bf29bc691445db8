//! `refloat man`.
//!
//! Invariant: the pages are generated from the same types that parse, and that end the process.

use std::io;
use std::path::{Path, PathBuf};

use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

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
    let mut command = args::command().disable_help_subcommand(true);
    command.build();
    std::fs::create_dir_all(&args.directory).map_err(failed)?;
    write(&command, &args.directory).map_err(failed)?;
    Ok(ExitStatus::Success)
}

fn write(command: &clap::Command, folder: &Path) -> io::Result<()> {
    for inner in command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set())
    {
        write(inner, folder)?;
    }
    let manual = Man::new(command.clone());
    let mut page = Vec::new();
    manual.render(&mut page)?;
    exit_status().to_writer(&mut page)?;
    std::fs::write(folder.join(manual.get_filename()), page)
}

fn exit_status() -> Roff {
    let mut section = Roff::new();
    section.control("SH", ["EXIT STATUS"]);
    for status in ExitStatus::ALL {
        section.control("TP", []);
        section.text([bold(status.code().to_string())]);
        section.text([roman(status.meaning())]);
    }
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_every_exit_status() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("man1");
        run(&Args {
            directory: directory.clone(),
        })
        .unwrap();
        for name in ["refloat", "refloat-backup", "refloat-key-add"] {
            let page = std::fs::read_to_string(directory.join(format!("{name}.1"))).unwrap();
            let (_, codes) = page.split_once(".SH \"EXIT STATUS\"\n").unwrap();
            let codes: Vec<&str> = codes.split(".TP\n").skip(1).collect();
            assert_eq!(codes.len(), ExitStatus::ALL.len(), "{name}");
            assert_eq!(
                codes[3],
                "\\fB3\\fR\nPart of it was not done; the report names what.\n"
            );
        }
    }
}
