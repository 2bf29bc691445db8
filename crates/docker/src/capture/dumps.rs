//! Databases, dumped by their own tools inside their containers.
//!
//! Invariant: a dump reaches its end only if its command ended with 0 *and* the recipe's check
//! accepts its bytes; otherwise the stream ends in an error, and the sink keeps nothing of it.

use std::cell::Cell;
use std::io::{self, Read};

use refloat_database::{DumpStep, Exec};
use refloat_model::entry::Entry;
use refloat_model::outcome::Consistency;
use refloat_model::secret::Secret;
use refloat_source::SourceError;

use super::{Session, Unknown, failed};
use crate::client::{Command, Finished};
use crate::discover::RunningContainer;
use crate::error::chain;
use crate::mask::Mask;

/// The longest answer to "which databases are there", in bytes.
const SURVEY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Why there is nothing to dump, or a dump is not kept.
#[derive(Debug, thiserror::Error)]
#[error("{reason}{}", said(.stderr))]
struct Rejected {
    reason: String,
    stderr: String,
}

fn said(stderr: &str) -> String {
    match stderr {
        "" => String::new(),
        text => format!("; it said: {text}"),
    }
}

impl Session<'_> {
    pub(super) fn dumps(&mut self, id: &str) -> Result<Consistency, SourceError> {
        let container = self
            .discovered
            .container(id)
            .ok_or_else(|| failed("find", self.item, Unknown))?;
        let recipe = container
            .recipe
            .as_ref()
            .ok_or_else(|| failed("find", self.item, Unknown))?;
        let survey = recipe.survey();
        let silence_max = self.source.options().dump_silence_max;
        let (output, finished) = self
            .client()
            .run(
                command(container, &survey, &variables(&survey), silence_max),
                SURVEY_BYTES_MAX,
                self.cancel,
            )
            .map_err(|error| self.fail("look into", error))?;
        let found = recipe
            .parse_survey(finished.code, &output)
            .map_err(|rejected| {
                let mask = &container.mask;
                let cause = Rejected {
                    reason: mask.apply(&rejected.to_string()),
                    stderr: mask.apply(&finished.stderr),
                };
                failed("look into", self.item, cause)
            })?;
        self.enter(self.name)?;
        for step in recipe.dumps(&found) {
            self.cancel.check().map_err(|_| SourceError::Cancelled)?;
            self.dump(container, &step)?;
        }
        self.leave()?;
        Ok(Consistency::Application)
    }

    fn dump(&mut self, container: &RunningContainer, step: &DumpStep) -> Result<(), SourceError> {
        let file = step.file_name.as_bytes();
        let silence_max = self.source.options().dump_silence_max;
        let variables = variables(&step.exec);
        let command = command(container, &step.exec, &variables, silence_max);
        let source = self.source;
        let running = match source.client.exec(command, self.cancel) {
            Ok(running) => running,
            Err(error) => {
                let reason = format!("cannot start the dump: {}", chain(&error));
                self.sink.fail(file, container.mask.apply(&reason));
                return Ok(());
            }
        };
        let ended = Cell::new(None);
        let exit_code = || {
            // An end that cannot be asked for is unknown, which the check refuses.
            let finished = running.end.finish(&source.client).ok();
            let code = finished.as_ref().and_then(|finished| finished.code);
            ended.set(finished);
            code
        };
        let mut reader = Explained {
            dump: step.checked(running.output, exit_code),
            ended: &ended,
            mask: &container.mask,
        };
        self.sink
            .stream(Entry::synthetic_file(file, 0), &mut reader)?;
        let accepted = reader
            .dump
            .outcome()
            .and_then(|outcome| outcome.as_ref().ok());
        for warning in accepted
            .map(|dump| dump.warnings.clone())
            .unwrap_or_default()
        {
            self.warn(format!("{}: {warning}", step.file_name));
        }
        Ok(())
    }
}

fn variables(exec: &Exec) -> Vec<(&str, &Secret)> {
    exec.environment
        .iter()
        .map(|(name, value)| (*name, value))
        .collect()
}

fn command<'a>(
    container: &'a RunningContainer,
    exec: &'a Exec,
    environment: &'a [(&'a str, &'a Secret)],
    silence_max: std::time::Duration,
) -> Command<'a> {
    Command {
        container: &container.id,
        argv: &exec.argv,
        environment,
        input: None,
        silence_max,
    }
}

/// A dump whose error also tells what the command complained of.
struct Explained<'a, D> {
    dump: D,
    ended: &'a Cell<Option<Finished>>,
    mask: &'a Mask,
}

impl<D: Read> Read for Explained<'_, D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.dump
            .read(buffer)
            .map_err(|error| match self.ended.take() {
                Some(finished) => io::Error::other(Rejected {
                    reason: error.to_string(),
                    stderr: self.mask.apply(&finished.stderr),
                }),
                None => error,
            })
    }
}
