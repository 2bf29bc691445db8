//! What can go wrong between us and an engine.
//!
//! Invariant: no text here holds an environment value, a password or a command's arguments.

use std::io;
use std::time::Duration;

use crate::address::{Address, InvalidAddress};
use crate::definition::DocumentError;

/// Why an engine could not be asked, or what it answered instead.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The text is no address.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// The socket's file is not there.
    #[error("there is no socket {0}")]
    SocketMissing(std::path::PathBuf),
    /// The socket is there, and this user may not use it.
    #[error("no permission to use the socket {0}")]
    SocketForbidden(std::path::PathBuf),
    /// Nobody answers at the address.
    #[error("{address} does not answer")]
    Unreachable {
        /// Where.
        address: Address,
        /// What the system or ssh says.
        #[source]
        source: io::Error,
    },
    /// Plain TCP to another machine, not asked for.
    #[error("{0} is not encrypted and not on this machine")]
    PlainTcp(Address),
    /// An encrypted address without certificates.
    #[error("{0} needs certificates")]
    CertificatesMissing(Address),
    /// Something answers that is no Docker engine.
    #[error("{0} is no Docker or Podman engine")]
    NotAnEngine(Address),
    /// The engine refused with a status code.
    #[error("the engine answers {status}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The engine's own words.
        message: String,
    },
    /// The conversation broke.
    #[error("the connection to the engine broke")]
    Connection(#[source] Box<bollard::errors::Error>),
    /// Nothing came for too long.
    #[error("the engine did not answer for {} s", .0.as_secs())]
    Timeout(Duration),
    /// The run was cancelled while the engine was being waited for.
    #[error("interrupted")]
    Interrupted,
    /// The answer is not what this program understands.
    #[error("the engine's answer is not understood")]
    Malformed(#[source] serde_json::Error),
    /// The answer has not the expected shape.
    #[error("the engine's answer has no {0}")]
    Incomplete(&'static str),
    /// A command in a container ended with another status than 0.
    #[error("the command ended with exit status {code}{}", tail(.stderr))]
    CommandFailed {
        /// Its status.
        code: i64,
        /// The end of its standard error, secrets masked.
        stderr: String,
    },
    /// The end of a command is not known: its stream ended and it has no status.
    #[error("the command's exit status is not known")]
    CommandUnknown,
    /// Local input or output failed.
    #[error("cannot {operation}")]
    Local {
        /// `start ssh`, `make a folder for sockets` …
        operation: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A document could not be written.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

fn tail(stderr: &str) -> String {
    match stderr.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

impl EngineError {
    /// Whether the object asked for is not there (any more).
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::SocketMissing(_) => {
                "start the engine (systemctl start docker, systemctl start podman.socket) or name its \
                 socket: docker:unix:///run/podman/podman.sock"
            }
            Self::SocketForbidden(_) => {
                "run as root, join the group of the socket (usually docker), or use the socket of a \
                 rootless engine"
            }
            Self::PlainTcp(_) => {
                "give client certificates, use ssh://user@host, or allow plain TCP explicitly"
            }
            Self::CertificatesMissing(_) => {
                "name a folder with ca.pem, cert.pem and key.pem, as DOCKER_CERT_PATH does"
            }
            Self::NotAnEngine(_) => "check the address: something else listens there",
            Self::Unreachable {
                address: Address::Ssh { .. },
                ..
            } => "check that `ssh USER@HOST docker version` works without a password prompt",
            Self::Unreachable { .. } => "check that the engine runs and listens there",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

impl From<bollard::errors::Error> for EngineError {
    fn from(error: bollard::errors::Error) -> Self {
        use bollard::errors::Error as E;
        match error {
            E::DockerResponseServerError {
                status_code,
                message,
            } => Self::Refused {
                status: status_code,
                message: message.trim().to_owned(),
            },
            other => Self::Connection(Box::new(other)),
        }
    }
}

/// Turns the error into one of streams, keeping it as the source.
impl From<EngineError> for io::Error {
    fn from(error: EngineError) -> Self {
        Self::other(error)
    }
}

/// An error with its causes in one line, for findings.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Wrappers that repeat their source say nothing new.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
