//! What can go wrong between us and a registry.
//!
//! Invariant: no text here holds a credential. Of what a registry says, only error codes
//! (`MANIFEST_UNKNOWN`) are shown: its free text could echo what was sent to it, and URLs of
//! redirects carry signatures.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use refloat_model::cancel::Cancelled;

use crate::address::{Address, InvalidAddress};
use crate::digest::{Digest, InvalidDigest};
use crate::name::InvalidName;

/// Why a registry could not be asked, or what it answered instead.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The text is no address.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// A name that no registry can have.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A digest that cannot be verified.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
    /// Plain HTTP to another machine, not asked for.
    #[error("{0} is not encrypted and not on this machine")]
    PlainHttp(Address),
    /// A certificate file cannot be used.
    #[error(transparent)]
    Certificates(#[from] refloat_http::UnusableCertificates),
    /// Credentials could not be got.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Nobody answers, or the conversation broke.
    #[error("the connection to {host} failed")]
    Connection {
        /// Host and port.
        host: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Nothing came for too long.
    #[error("{0} did not answer in time")]
    Timeout(String),
    /// The host has no address.
    #[error("the host of {0} is not known")]
    HostUnknown(String),
    /// The other side could not be shown to be who it should be, or speaks no TLS.
    #[error("no trusted connection to {host} can be made")]
    Tls {
        /// Host and port.
        host: String,
        /// What is wrong with its certificate.
        #[source]
        source: io::Error,
    },
    /// TLS or HTTP itself failed.
    #[error("the conversation with {host} failed")]
    Protocol {
        /// Host and port.
        host: String,
        /// How.
        #[source]
        source: Box<ureq::Error>,
    },
    /// A redirect, link or location that must not be followed.
    #[error("the registry refers to {0}, which is not followed")]
    BadLink(&'static str),
    /// The registry refused with a status code.
    #[error("the registry answers {status}{}", shown_code(.code))]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its error code, `MANIFEST_UNKNOWN`.
        code: Option<String>,
    },
    /// The registry is overloaded, or asks for patience.
    #[error("the registry answers {status} (busy or limiting requests)")]
    Busy {
        /// HTTP status.
        status: u16,
        /// How long it asks to wait.
        wait: Option<Duration>,
    },
    /// It wants credentials, or others than those it was given.
    #[error("the registry does not accept the credentials for {0}")]
    Unauthorized(String),
    /// Something answers that is no registry.
    #[error("{0} is no registry")]
    NotARegistry(Address),
    /// The answer is something else than was asked for, for example a web page.
    #[error("the registry answers with {content_type:?} where a manifest was asked for")]
    Unexpected {
        /// What it says it is.
        content_type: String,
    },
    /// The answer is not what this program understands.
    #[error("{what} is not understood")]
    Malformed {
        /// `the list of tags` …
        what: &'static str,
        /// Where it stops being understood.
        #[source]
        source: serde_json::Error,
    },
    /// Content that contradicts itself or the rules for it.
    #[error("{what} is refused: {why}")]
    Invalid {
        /// `manifest sha256:…`.
        what: String,
        /// What is wrong.
        why: &'static str,
    },
    /// More than this program takes.
    #[error("{what} has more than {limit} {unit}")]
    TooLarge {
        /// What.
        what: String,
        /// The limit.
        limit: u64,
        /// Of what.
        unit: &'static str,
    },
    /// Content that is not what its digest says.
    #[error("the content is {found} and not {expected}")]
    WrongDigest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The registry names another digest than its content has.
    #[error("the registry says that the content is {claimed}, but it is {found}")]
    LyingDigest {
        /// Its header.
        claimed: Digest,
        /// What came.
        found: Digest,
    },
    /// Content shorter or longer than declared.
    #[error("the content has {found} bytes and not {expected}")]
    WrongLength {
        /// Declared.
        expected: u64,
        /// Came.
        found: u64,
    },
    /// What is to be pushed cannot be read.
    #[error("cannot read what is to be pushed")]
    Local(#[source] Box<dyn Error + Send + Sync>),
    /// The run was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// Why there are no credentials. Never says what they are.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Docker's configuration cannot be read.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Docker's configuration is not understood. The parser's text is left out: it could quote.
    #[error("{path} is no configuration of Docker (line {line})")]
    Config {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
    },
    /// An entry of it is not understood.
    #[error("the entry for {host} in {path} is not understood")]
    Entry {
        /// The file.
        path: PathBuf,
        /// Whose.
        host: String,
    },
    /// A program could not be run.
    #[error("cannot run {program}")]
    Run {
        /// Its name without arguments.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program gave no credentials.
    #[error("{program} gave no credentials ({why})")]
    Gave {
        /// Its name without arguments.
        program: String,
        /// `it ended with exit status 1` …
        why: &'static str,
    },
    /// Secrets that cannot stand in a header.
    #[error("the credentials have characters that cannot be sent")]
    Unsendable,
}

fn shown_code(code: &Option<String>) -> String {
    code.as_ref()
        .map_or_else(String::new, |code| format!(": {code}"))
}

impl RegistryError {
    /// Whether the object asked for is not there.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether bytes came that are not those that were announced.
    pub(crate) const fn is_mismatch(&self) -> bool {
        matches!(self, Self::WrongDigest { .. } | Self::LyingDigest { .. })
    }

    /// Whether a document ends in its middle.
    pub(crate) fn is_cut(&self) -> bool {
        matches!(self, Self::Malformed { source, .. } if source.is_eof())
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Connection { .. } | Self::Timeout(_) | Self::Busy { .. }
        )
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::PlainHttp(_) => "use https://, or allow plain HTTP for this registry explicitly",
            Self::Tls { .. } | Self::Protocol { .. } => {
                "if the registry's certificate is from an own authority, name its file (ca; a \
                 certificate that is an authority itself cannot be the registry's own); if it \
                 speaks plain HTTP, write http://"
            }
            Self::Unauthorized(_) => {
                "give credentials: user and password, Docker's config.json, or a command that \
                 prints a token"
            }
            Self::NotARegistry(_) => "check the address: something else answers there",
            Self::Refused { status: 405, .. } => "the registry may be read-only",
            Self::Busy { status: 429, .. } => {
                "the registry limits requests: wait, log in, or lower the number of requests at once"
            }
            Self::Connection { .. } | Self::HostUnknown(_) | Self::Timeout(_) => {
                "check the address, and that the registry runs"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// Turns the error into one of streams, whose text is all that sinks keep.
impl From<RegistryError> for io::Error {
    fn from(error: RegistryError) -> Self {
        Self::other(Chained(error))
    }
}

/// An error that shows its causes with itself.
#[derive(Debug)]
pub(crate) struct Chained(pub(crate) RegistryError);

impl std::fmt::Display for Chained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&chain(&self.0))
    }
}

impl Error for Chained {}

/// A registry's error in one line with what to do about it, for steps of a restore.
pub(crate) fn advised(error: &RegistryError) -> String {
    match error.hint() {
        Some(hint) => format!("{} ({hint})", chain(error)),
        None => chain(error),
    }
}

/// An error with its causes in one line, for findings.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
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
