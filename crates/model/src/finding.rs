//! Findings: what a person should know, as data.
//!
//! Invariant: a finding never holds a secret.

use serde::{Deserialize, Serialize};

use crate::glob::Glob;

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Good to know.
    Note,
    /// Something may not come back as it was.
    Warning,
    /// Something will not come back: the run is incomplete.
    Error,
}

/// One observation about one subject.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// About what: an item's title, a path, a container.
    pub subject: String,
    /// What was found, one sentence without a final period.
    pub message: String,
}

impl Finding {
    /// Good to know.
    pub fn note(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Note,
            subject: subject.into(),
            message: message.into(),
        }
    }

    /// Something may not come back as it was.
    pub fn warning(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            subject: subject.into(),
            message: message.into(),
        }
    }

    /// Something will not come back.
    pub fn error(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            subject: subject.into(),
            message: message.into(),
        }
    }

    /// A pattern of `setting` that fits nothing: perhaps a slip, and then what is meant is not saved. What
    /// one with a wildcard fits may come and go.
    #[must_use]
    pub fn of_misfit(setting: &str, pattern: &Glob, message: impl Into<String>) -> Self {
        Self {
            severity: match pattern.is_literal() {
                true => Severity::Error,
                false => Severity::Warning,
            },
            subject: format!("{setting}: {}", pattern.pattern()),
            message: message.into(),
        }
    }
}
