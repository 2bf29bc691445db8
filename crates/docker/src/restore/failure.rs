//! Why a step of a restore did not succeed.
//!
//! Invariant: as in the rest of the crate, no text holds an environment value or a password.

use std::io;
use std::path::PathBuf;

use refloat_database::{StepRejected, UnknownDump};
use refloat_model::cancel::Cancelled;
use refloat_source::StoredError;

use crate::definition::DocumentError;
use crate::error::{EngineError, chain};

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The engine refused or broke off.
    #[error("cannot {operation} {subject}")]
    Engine {
        operation: &'static str,
        subject: String,
        #[source]
        source: Box<EngineError>,
    },
    /// The recovery point cannot be read.
    #[error(transparent)]
    Stored(#[from] StoredError),
    /// A document of the point is not what it should be.
    #[error("cannot understand {path}")]
    Document {
        path: String,
        #[source]
        source: Box<DocumentError>,
    },
    /// A file of this machine.
    #[error("cannot {operation} {}", .path.display())]
    Local {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A stream between the point and the engine.
    #[error("cannot stream")]
    Stream(#[from] io::Error),
    /// What arrived is not what is stored.
    #[error("{subject} is not as stored: {difference}")]
    NotEqual { subject: String, difference: String },
    /// Entries could not be restored.
    #[error("{count} entries of {subject} could not be restored: {first}")]
    Entries {
        subject: String,
        count: usize,
        first: String,
    },
    /// The plan cannot be followed, because the target is no longer as it was planned for.
    #[error("{subject}: {why}; plan again")]
    Outdated { subject: String, why: String },
    /// Something this step needs failed or is missing.
    #[error("{0}")]
    Needs(String),
    /// It did not become healthy, or ended.
    #[error("container {container} {what}")]
    Unhealthy { container: String, what: String },
    /// The database did not take its dump.
    #[error(transparent)]
    Rejected(#[from] StepRejected),
    /// The same, with what the server said.
    #[error("{rejected}: {said}")]
    RejectedSaying {
        rejected: StepRejected,
        said: String,
    },
    /// The dump is none of this engine's.
    #[error(transparent)]
    UnknownDump(#[from] UnknownDump),
    /// Somebody asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Failure {
    /// Whether the database judged what it was given: what failed otherwise fails the next as well.
    pub(super) const fn is_rejection(&self) -> bool {
        matches!(self, Self::Rejected(_) | Self::RejectedSaying { .. })
    }

    /// For `map_err` around a request.
    pub(super) fn engine(
        operation: &'static str,
        subject: impl Into<String>,
    ) -> impl FnOnce(EngineError) -> Self {
        let subject = subject.into();
        move |source| Self::Engine {
            operation,
            subject,
            source: Box::new(source),
        }
    }

    /// One failure that tells all of `failures`.
    pub(super) fn all(mut failures: Vec<Self>) -> Option<Self> {
        if failures.len() < 2 {
            return failures.pop();
        }
        let told: Vec<String> = failures.iter().map(|failure| chain(failure)).collect();
        Some(Self::Needs(told.join("; ")))
    }

    /// For `map_err` around a file operation.
    pub(super) fn local(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Local {
            operation,
            path,
            source,
        }
    }
}
