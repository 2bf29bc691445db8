//! One translation of everything that can go wrong into what a person and a script need.
//!
//! Invariant: an error names operation, subject and each cause once, and never a secret.

use std::error::Error;
use std::io;

use refloat_engine::config::{ConfigError, ConfigErrorKind};
use serde::Serialize;

use crate::exit_status::ExitStatus;

mod library;

/// What kind of failure it is: a stable word for scripts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The command line is wrong.
    Usage,
    /// The configuration file is wrong.
    Config,
    /// No password was given.
    NoPassword,
    /// No key opens with the password.
    WrongPassword,
    /// There is no repository.
    NoRepository,
    /// There is a repository already.
    AlreadyInitialized,
    /// The repository was made by a newer program.
    UnsupportedRepository,
    /// Somebody else holds a lock.
    Locked,
    /// Stored bytes are wrong or missing.
    Damaged,
    /// Storage refuses, is full or cannot be reached.
    Storage,
    /// A source or target refuses or cannot be reached.
    Source,
    /// What was named does not exist.
    NotFound,
    /// Nothing could be saved.
    NothingSaved,
    /// The plan cannot be executed as things are.
    Refused,
    /// The run was interrupted.
    Interrupted,
    /// Whoever reads our output went away.
    BrokenPipe,
    /// A local file operation failed.
    Io,
    /// A defect of this program.
    Internal,
}

impl ErrorKind {
    const fn status(self) -> ExitStatus {
        match self {
            Self::Usage | Self::Config => ExitStatus::Usage,
            Self::WrongPassword => ExitStatus::WrongPassword,
            Self::NoRepository => ExitStatus::NoRepository,
            Self::Locked => ExitStatus::Locked,
            Self::Interrupted => ExitStatus::Interrupted,
            Self::BrokenPipe => ExitStatus::Success,
            _ => ExitStatus::Fatal,
        }
    }
}

/// A failed command.
#[derive(Debug, Serialize)]
pub struct CommandError {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// Operation and subject.
    pub message: String,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// What to do next.
    pub hints: Vec<String>,
    /// What the process ends with.
    #[serde(rename = "exit_code")]
    pub status: ExitStatus,
}

impl CommandError {
    /// An error with its own text and no cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
            status: kind.status(),
        }
    }

    /// A wrong command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// What the argument parser says of a command line; its text is paragraphs: what is wrong, tips,
    /// how the command is used, where there is more.
    pub fn command_line(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let mut paragraphs = text.split("\n\n").map(|paragraph| {
            let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
            lines.join(" ").trim().to_owned()
        });
        let message = paragraphs.next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(&message);
        Self {
            hints: paragraphs.filter(|hint| !hint.is_empty()).collect(),
            ..Self::usage(message)
        }
    }

    /// A library's error with its chain of causes.
    pub fn of(kind: ErrorKind, error: &dyn Error) -> Self {
        let mut chain = texts(error);
        let message = chain.remove(0);
        Self {
            causes: chain,
            ..Self::new(kind, message)
        }
    }

    /// A failed local operation: `cannot read`, path, cause.
    pub fn io(operation: &str, subject: impl std::fmt::Display, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(ErrorKind::BrokenPipe, "output closed");
        }
        Self {
            causes: vec![error.to_string()],
            ..Self::new(ErrorKind::Io, format!("cannot {operation} {subject}"))
        }
    }

    /// Message and causes on one line.
    pub fn line(&self) -> String {
        let words = std::iter::once(&self.message).chain(&self.causes);
        words.map(String::as_str).collect::<Vec<_>>().join(": ")
    }

    /// A wrong configuration file.
    pub fn config(path: &std::path::Path, error: &ConfigError) -> Self {
        let place = if error.line > 0 {
            format!("{}:{}:{}", path.display(), error.line, error.column)
        } else {
            path.display().to_string()
        };
        let this = Self::new(ErrorKind::Config, format!("{place}: {}", error.kind));
        let known = match &error.kind {
            ConfigErrorKind::UnknownKey { expected, .. }
            | ConfigErrorKind::UnknownValue { expected, .. } => expected.join(", "),
            _ => String::new(),
        };
        match (&error.suggestion, known.is_empty()) {
            (Some(word), _) => this.hint(format!("did you mean {word:?}?")),
            (None, false) => this.hint(format!("known here: {known}")),
            (None, true) => this,
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The text for people: one line for the error, one for each hint.
    pub fn render(&self) -> String {
        let mut text = format!("error: {}", self.message);
        for cause in &self.causes {
            text.push_str(": ");
            text.push_str(cause);
        }
        text.push('\n');
        for hint in &self.hints {
            text.push_str("hint: ");
            text.push_str(hint);
            text.push('\n');
        }
        text
    }
}

/// The texts of an error and its causes; a text that its predecessor ends with is left out, for
/// transparent wrappers and libraries that print their own source.
fn texts(error: &dyn Error) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !texts.last().is_some_and(|last| last.ends_with(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    texts
}

/// The one-line text of an error and its causes.
pub fn one_line(error: &dyn Error) -> String {
    texts(error).join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the shop")]
    struct Outer(#[source] io::Error);

    #[test]
    fn a_storage_that_stopped_with_the_run_is_an_interrupted_run() {
        let kind = refloat_storage::StorageErrorKind::Unavailable;
        let away = refloat_storage::StorageError::on(kind, "list", "packs", "s3:b", None);
        assert_eq!(
            CommandError::from(away.interrupted()).kind,
            ErrorKind::Interrupted
        );
    }

    #[test]
    fn a_cause_is_told_once() {
        let error = CommandError::of(
            ErrorKind::Source,
            &Outer(io::Error::other(Outer(io::Error::other("key lost")))),
        )
        .hint("call the owner");
        assert_eq!(
            error.render(),
            "error: cannot open the shop: key lost\nhint: call the owner\n"
        );
    }
}
