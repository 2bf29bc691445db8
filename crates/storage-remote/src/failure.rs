//! What goes wrong between this machine and another one that keeps files.
//!
//! Invariant: no text holds a credential, a URL's parameters or more of an answer than its code
//! and a short message.

use std::io;
use std::time::Duration;

use refloat_storage::StorageErrorKind;

/// How much of a server's own words is shown, in characters.
const MESSAGE_CHARACTERS_MAX: usize = 200;

/// Why a call failed; the cause of a `StorageError`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the connection to {host} failed")]
    Connection {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("{0} does not answer in time")]
    Silent(String),
    #[error("no host is known by the name {0}")]
    HostUnknown(String),
    #[error("{host} cannot be trusted (TLS)")]
    Tls {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("{host} speaks another protocol")]
    Protocol {
        host: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("what {host} answers is no HTTP")]
    Garbled {
        host: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{host} answered {refusal}")]
    Refused { host: String, refusal: Refusal },
    #[error("the answer of {host} ends after {got} of {expected} bytes")]
    Cut {
        host: String,
        got: u64,
        expected: u64,
    },
    #[error("the answer of {host} is larger than {limit} bytes")]
    TooLarge { host: String, limit: u64 },
    #[error("the answer of {host} is not understood: {what}")]
    Malformed { host: String, what: &'static str },
    #[error("the file ends before byte {0}")]
    ShortRead(u64),
    #[error("there is a file already")]
    Exists,
    /// Neither the folder that was asked for nor the config.
    #[error("{host} has neither this folder nor a repository there")]
    NoRepository { host: String },
    /// Left out of a listing, it would read as deleted.
    #[error("{host} has no plain {expected} at {path}; links are not followed")]
    Strange {
        host: String,
        path: String,
        expected: &'static str,
    },
    #[error("{0}")]
    Credentials(String),
    #[error("cannot get credentials from {place}")]
    CredentialSource {
        place: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("cannot run {program}")]
    Program {
        program: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the storage keeps it until {0}")]
    KeptUntil(jiff::Timestamp),
    #[error("{0}")]
    Unfit(&'static str),
    #[error("the interrupted run makes no more calls")]
    Interrupted,
}

/// A server's refusal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// The service's own word, `NoSuchBucket`.
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) meaning: Meaning,
    /// How long the server asks to wait.
    pub(crate) retry_after: Option<Duration>,
}

/// What a refusal means for the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Meaning {
    NoFile,
    /// "Not found" without the service's own word for it: of the file, or of some box in between
    /// that does not find the service.
    Unvouched,
    NoPlace,
    Exists,
    Denied,
    Unauthorized,
    ClockSkew,
    OutOfRange,
    Full,
    Busy,
    Other,
}

impl Meaning {
    /// What a status means where the service says no more.
    pub(crate) const fn of_status(status: u16) -> Self {
        match status {
            401 | 407 => Self::Unauthorized,
            403 | 405 => Self::Denied,
            404 | 410 => Self::NoFile,
            409 | 412 => Self::Exists,
            416 => Self::OutOfRange,
            507 => Self::Full,
            // What the server will not know the next time either.
            501 | 505 => Self::Other,
            // 423: somebody else writes there at this moment. Boxes in between have numbers of their
            // own for a server that they cannot reach (Cloudflare 520 to 530).
            408 | 423 | 425 | 429 | 500..=599 => Self::Busy,
            _ => Self::Other,
        }
    }
}

impl Refusal {
    pub(crate) fn new(status: u16, code: Option<&str>, message: Option<&str>) -> Self {
        Self {
            status,
            code: code.and_then(word),
            message: message.map(shortened).filter(|text| !text.is_empty()),
            meaning: Meaning::of_status(status),
            retry_after: None,
        }
    }

    pub(crate) fn meaning(self, meaning: Meaning) -> Self {
        Self { meaning, ..self }
    }

    /// A refusal without the service's own word: not even that there is no such file is believed.
    pub(crate) fn unvouched(self) -> Self {
        match self.meaning {
            Meaning::NoFile => self.meaning(Meaning::Unvouched),
            _ => self,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.status)?;
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        if let Some(wait) = self.retry_after {
            write!(f, " (it asks to wait {} s)", wait.as_secs())?;
        }
        Ok(())
    }
}

/// A code that is a word; anything else is not repeated.
fn word(code: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    let good = !code.is_empty() && code.len() <= 60 && code.bytes().all(plain);
    good.then(|| code.to_owned())
}

/// A message on one line, without control characters.
fn shortened(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MESSAGE_CHARACTERS_MAX)
        .collect();
    line.trim().trim_end_matches('.').to_owned()
}

impl Failure {
    /// What a caller of the storage can tell apart.
    pub(crate) const fn kind(&self) -> StorageErrorKind {
        use StorageErrorKind as K;
        match self {
            Self::Connection { .. } | Self::Silent(_) | Self::HostUnknown(_) | Self::Cut { .. } => {
                K::Unavailable
            }
            Self::NoRepository { .. } => K::NoPlace,
            Self::Tls { .. } => K::Untrusted,
            Self::Credentials(_) => K::Unauthorized,
            Self::CredentialSource { .. } => K::Unavailable,
            Self::ShortRead(_) => K::ShortRead,
            Self::Exists => K::AlreadyExists,
            Self::KeptUntil(_) => K::Denied,
            // What broke in between, such as a page of a proxy, may be right the next time.
            Self::Malformed { .. } | Self::Garbled { .. } => K::Unavailable,
            Self::Protocol { .. }
            | Self::TooLarge { .. }
            | Self::Unfit(_)
            | Self::Program { .. }
            | Self::Strange { .. } => K::Failed,
            Self::Interrupted => K::Interrupted,
            Self::Refused { refusal, .. } => match refusal.meaning {
                Meaning::NoFile => K::NotFound,
                Meaning::NoPlace => K::NoPlace,
                Meaning::Exists => K::AlreadyExists,
                Meaning::Denied => K::Denied,
                Meaning::Unauthorized => K::Unauthorized,
                Meaning::ClockSkew => K::ClockSkew,
                Meaning::OutOfRange => K::ShortRead,
                Meaning::Full => K::Full,
                Meaning::Busy => K::Busy,
                // An address that is wrong may answer so for ever: not for long before anything
                // else was heard from there.
                Meaning::Unvouched => K::Unavailable,
                Meaning::Other => K::Failed,
            },
        }
    }

    /// How long the server asks to wait before the next call.
    pub(crate) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { refusal, .. } => refusal.retry_after,
            _ => None,
        }
    }

    /// The meaning of a refusal; none of any other failure.
    pub(crate) const fn meaning(&self) -> Option<Meaning> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.meaning),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_suffers_from_passes_unless_it_is_what_it_lacks() {
        for status in 500..600 {
            let expected = match status {
                501 | 505 => Meaning::Other,
                507 => Meaning::Full,
                _ => Meaning::Busy,
            };
            assert_eq!(Meaning::of_status(status), expected, "{status}");
        }
    }

    #[test]
    fn what_stops_with_the_run_is_not_told_as_failed() {
        assert_eq!(Failure::Interrupted.kind(), StorageErrorKind::Interrupted);
    }

    #[test]
    fn a_servers_words_are_shown_short_and_on_one_line() {
        let long = format!("line\r\n\u{1b}[31m{}", "x".repeat(1_000));
        let refusal = Refusal::new(403, Some("Access Denied<script>"), Some(&long));
        assert_eq!(refusal.code, None);
        let shown = refusal.to_string();
        assert!(shown.starts_with("403: line   [31mxxx"), "{shown}");
        assert!(shown.len() < 220 && !shown.contains(['\n', '\u{1b}']));
    }
}
