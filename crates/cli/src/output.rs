//! Everything that reaches standard output and standard error.
//!
//! Invariant: with `--json`, standard output holds exactly one JSON document; text for people
//! then goes to standard error only.

use std::io::{self, IsTerminal, Write};

use refloat_model::finding::{Finding, Severity};
use serde::Serialize;

use crate::command_error::{CommandError, ErrorKind};
use crate::exit_status::ExitStatus;

/// The version of the JSON documents: fields are only ever added within one.
const JSON_VERSION: u32 = 1;

/// How much is printed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verbosity {
    /// Results that were asked for, warnings and errors.
    Quiet,
    /// The usual.
    Normal,
    /// Also what went well.
    Verbose,
}

/// Where results go and in which form.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Whether results are one JSON document.
    pub json: bool,
    /// How much is printed.
    pub verbosity: Verbosity,
}

#[derive(Serialize)]
struct Document<'a, T: Serialize> {
    version: u32,
    command: &'a str,
    exit_code: ExitStatus,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a CommandError,
}

impl Output {
    /// Prints a result: `text` for people, or `body` as JSON.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn result<T: Serialize>(
        &self,
        command: &str,
        status: ExitStatus,
        body: &T,
        text: impl FnOnce() -> String,
    ) -> Result<ExitStatus, CommandError> {
        if self.json {
            self.document(command, status, body)?;
        } else {
            print(text().as_bytes())?;
        }
        Ok(status)
    }

    /// Prints a report that people read only if they did not ask for quiet; as JSON, always.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn report<T: Serialize>(
        &self,
        command: &str,
        status: ExitStatus,
        body: &T,
        text: impl FnOnce() -> String,
    ) -> Result<ExitStatus, CommandError> {
        if self.json || self.verbosity > Verbosity::Quiet {
            return self.result(command, status, body, text);
        }
        Ok(status)
    }

    fn document<T: Serialize>(
        &self,
        command: &str,
        exit_code: ExitStatus,
        body: &T,
    ) -> Result<(), CommandError> {
        let document = Document {
            version: JSON_VERSION,
            command,
            exit_code,
            body,
        };
        let mut text = serde_json::to_vec_pretty(&document)
            .map_err(|e| CommandError::io("encode", "the result", &io::Error::other(e)))?;
        text.push(b'\n');
        print(&text)
    }

    /// Prints an error; the one place that does.
    pub fn error(&self, command: &str, error: &CommandError) {
        if self.json {
            // If nobody listens there is nobody to tell.
            let _unheard = self.document(command, error.status, &ErrorBody { error });
        }
        self.error_text(error);
    }

    /// Prints the text of an error that is not the command's end.
    pub fn error_text(&self, error: &CommandError) {
        say(&error.render());
    }

    /// Prints warnings and errors found on the way; notes only when verbose.
    pub fn findings(&self, findings: &[Finding]) {
        for finding in findings {
            let word = match finding.severity {
                Severity::Note if self.verbosity < Verbosity::Verbose => continue,
                Severity::Note => "note",
                Severity::Warning => "warning",
                Severity::Error => "error",
            };
            let text = format!("{}: {}", finding.subject, finding.message);
            say(&format!("{word}: {}\n", crate::table::printable(&text)));
        }
    }

    /// Lets a person confirm what cannot be undone.
    ///
    /// # Errors
    /// The answer is no, or there is no terminal to ask on.
    pub fn confirm(&self, question: &str) -> Result<(), CommandError> {
        let refused = |message: &str| CommandError::new(ErrorKind::Refused, message);
        match ask(question) {
            Some(true) => Ok(()),
            Some(false) => Err(refused("not confirmed, so nothing was changed")),
            None => Err(refused("nobody to ask, so nothing was changed")
                .hint("look at the plan with --dry-run, then give --yes")),
        }
    }

    /// Tells people something beside the result.
    pub fn note(&self, text: &str) {
        if self.verbosity > Verbosity::Quiet {
            say(&format!("{text}\n"));
        }
    }
}

/// Writes to standard output.
///
/// # Errors
/// It is closed.
pub fn print(bytes: &[u8]) -> Result<(), CommandError> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(|e| CommandError::io("write to", "standard output", &e))
}

/// Writes to standard error; nobody can be told if that fails.
pub fn say(text: &str) {
    let _unheard = io::stderr().lock().write_all(text.as_bytes());
}

/// Asks a yes-or-no question on the terminal; none if there is no terminal to ask on.
fn ask(question: &str) -> Option<bool> {
    if !io::stdin().is_terminal() {
        return None;
    }
    say(&format!("{question} [y/N] "));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).ok()?;
    Some(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Whether any of them is an error.
pub fn has_errors(findings: &[Finding]) -> bool {
    findings.iter().any(|f| f.severity == Severity::Error)
}
