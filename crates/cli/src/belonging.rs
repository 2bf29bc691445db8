//! Options that mean something only beside another one, such as `--only` beside `--to`.
//!
//! Invariant: an option of the groups below that would have no effect is refused, never passed over.
//!
//! `requires` of clap is not enough: it is not looked at where the option that is required excludes
//! one that is given, and so `restore --target … --only …` overwrote what was to be left alone.

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Id};

use crate::command_error::CommandError;
use crate::commands;
use crate::sources;

/// Options, and the one that each of them is for.
pub struct Belonging {
    /// The options.
    pub options: Vec<Id>,
    /// The option that must be given too.
    pub owner: &'static str,
}

impl Belonging {
    /// All options of a type belong to `owner`.
    pub fn all_of<T: Args>(owner: &'static str) -> Self {
        Self {
            options: ids_of::<T>(),
            owner,
        }
    }
}

/// The options of a type.
pub fn ids_of<T: Args>() -> Vec<Id> {
    let command = T::augment_args(clap::Command::new("options"));
    command
        .get_arguments()
        .map(|a| a.get_id().clone())
        .collect()
}

/// Refuses options that are given without what they are for.
///
/// # Errors
/// One is.
pub fn refuse_misplaced(command: &clap::Command, matches: &ArgMatches) -> Result<(), CommandError> {
    let Some((name, matches)) = matches.subcommand() else {
        return Ok(());
    };
    let belongings = match name {
        "backup" | "discover" | "drift" => vec![sources::belonging()],
        "export" => vec![commands::export::belonging()],
        "restore" => commands::restore::belongings(),
        _ => return Ok(()),
    };
    let is_given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let flag = |id: &str| {
        let command = command.find_subcommand(name)?;
        let argument = command.get_arguments().find(|a| a.get_id() == id)?;
        argument.get_long()
    };
    for Belonging { options, owner } in belongings {
        let stray = options.iter().find(|id| is_given(id.as_str()));
        let Some(stray) = stray.filter(|_| !is_given(owner)) else {
            continue;
        };
        let stray = flag(stray.as_str()).unwrap_or_else(|| stray.as_str());
        return Err(
            CommandError::usage(format!("--{stray} has no effect without --{owner}"))
                .hint(format!("see `refloat {name} --help`")),
        );
    }
    Ok(())
}
