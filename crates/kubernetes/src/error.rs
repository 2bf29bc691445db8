//! What can go wrong between us and an API server.
//!
//! Invariant: no text here holds a token, a certificate or the content of a kubeconfig.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why an API server could not be asked, or what it answered instead.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A kubeconfig cannot be read.
    #[error("cannot read {path}")]
    KubeconfigUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is no kubeconfig. Without the parser's words, which quote the file and its tokens.
    #[error("{0} is no kubeconfig")]
    KubeconfigInvalid(PathBuf),
    /// The kubeconfig holds no usable context of this name.
    #[error("the kubeconfig gives no usable context{}", named(.0.as_deref()))]
    Context(Option<String>),
    /// The credentials were refused, and the kubeconfig leads elsewhere by now.
    #[error(
        "the API server refuses the credentials, and the kubeconfig leads to another server by now"
    )]
    OtherServer,
    /// Not inside a pod with a service account.
    #[error("this process has no service account of a cluster")]
    InCluster(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection cannot be set up: certificates, proxy, credential plugin.
    #[error("the connection cannot be prepared")]
    Setup(#[source] Box<kube::Error>),
    /// Credentials cannot be had. Without what the plugin printed and was called with: both may hold
    /// secrets.
    #[error("{}", credentials(.program, .why))]
    Plugin {
        /// The credential plugin's program; empty if the kubeconfig names none.
        program: String,
        /// What it came to.
        why: Plugin,
    },
    /// The kubeconfig's proxy cannot be used.
    #[error("the kubeconfig names a proxy of a kind that is not known: {0:?}")]
    Proxy(String),
    /// Threads for the client cannot be started.
    #[error("cannot start the client")]
    Runtime(#[source] io::Error),
    /// The server refused with a status code.
    #[error("the API server answers {status} {reason}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The machine-readable reason, `Forbidden`; empty if it gave none.
        reason: String,
        /// The server's own words.
        message: String,
        /// Where an expired list may be continued, inconsistently.
        continuation: Option<String>,
    },
    /// The conversation broke.
    #[error("the connection to the API server failed")]
    Connection(#[source] Box<kube::Error>),
    /// The answer broke off.
    #[error("the API server's answer broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nothing came for too long.
    #[error("the API server did not answer for {} s", .0.as_secs())]
    Timeout(Duration),
    /// The answer is longer than we are willing to hold in memory.
    #[error("the answer is longer than {0} bytes")]
    TooLarge(usize),
    /// The request cannot be expressed.
    #[error("the request cannot be made")]
    Request(#[source] http::Error),
    /// The answer is no JSON.
    #[error("the API server's answer is not understood")]
    Malformed(#[source] serde_json::Error),
    /// A part of ours that was waiting for an answer is gone.
    #[error("a request was given up")]
    Lost(#[source] tokio::task::JoinError),
    /// The answer has not the expected shape.
    #[error("the API server's answer has no {0}")]
    Incomplete(&'static str),
    /// What discovery kept in memory cannot be read back.
    #[error("what was kept of the list cannot be unpacked")]
    Kept(#[source] io::Error),
    /// Something did not become true in time.
    #[error("{what} did not happen within {} s", .within.as_secs())]
    NotInTime {
        /// `CRD widgets.example.org is established`.
        what: String,
        /// How long we waited.
        within: Duration,
    },
    /// The run was cancelled.
    #[error("interrupted")]
    Cancelled,
}

/// What became of asking for credentials.
#[derive(Debug)]
pub enum Plugin {
    /// The program is not there or may not be run.
    NotStarted(io::Error),
    /// It ended with an error.
    Failed(ExitStatus),
    /// It gave nothing that is a credential.
    NoCredentials,
    /// The file that should hold the token cannot be read.
    TokenFile(io::Error, PathBuf),
}

fn credentials(program: &str, why: &Plugin) -> String {
    match why {
        Plugin::NotStarted(error) => {
            format!(
                "the credential plugin {program:?} of the kubeconfig cannot be started: {error}"
            )
        }
        Plugin::Failed(status) => {
            format!("the credential plugin {program:?} of the kubeconfig failed ({status})")
        }
        Plugin::TokenFile(error, path) => {
            format!(
                "the token of the kubeconfig cannot be read from {}: {error}",
                path.display()
            )
        }
        Plugin::NoCredentials if program.is_empty() => {
            "the kubeconfig gives no usable credentials".to_owned()
        }
        Plugin::NoCredentials => {
            format!(
                "the credential plugin {program:?} of the kubeconfig gave no usable credentials"
            )
        }
    }
}

fn named(context: Option<&str>) -> String {
    context.map_or_else(String::new, |name| format!(" {name:?}"))
}

impl ApiError {
    /// The HTTP status, where the server answered.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the object or resource asked for is not there.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self.status(), Some(404))
    }

    /// Whether something of that name is there already.
    #[must_use]
    pub fn is_already_there(&self) -> bool {
        matches!(self, Self::Refused { status: 409, reason, .. } if reason == "AlreadyExists")
    }

    /// Whether the credentials do not suffice.
    #[must_use]
    pub const fn is_forbidden(&self) -> bool {
        matches!(self.status(), Some(401 | 403))
    }

    /// Whether the server has more to do than it can.
    #[must_use]
    pub(crate) const fn asks_for_patience(&self) -> bool {
        matches!(self.status(), Some(429 | 503))
    }

    /// Whether asking again may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            // 500 ServerTimeout is what a server says while a new namespace's service account has
            // no token yet.
            Self::Refused { status, reason, .. } => {
                matches!(status, 429 | 503 | 504) || (*status == 500 && reason == "ServerTimeout")
            }
            Self::Connection(_) | Self::Body(_) => true,
            _ => false,
        }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::KubeconfigUnreadable { .. } | Self::KubeconfigInvalid(_) => {
                "name a kubeconfig: set KUBECONFIG, or give its path in refloat.yaml"
            }
            Self::Context(_) => "kubectl config get-contexts lists the contexts there are",
            Self::Connection(_) | Self::Timeout(_) => {
                "check that `kubectl --context CONTEXT get --raw /readyz` works from this machine"
            }
            Self::Proxy(_) => "proxy-url begins with http:// or socks5://",
            Self::Plugin { program, .. } if !program.is_empty() => {
                "run the plugin by hand as the kubeconfig has it: it must print an ExecCredential; \
                 perhaps its own login has expired"
            }
            Self::Refused { status: 401, .. } => {
                "the credentials have expired or are wrong: log in again"
            }
            Self::Refused { status: 403, .. } => {
                "these credentials may not: the manifest rbac-backup.yaml of Refloat holds what is needed"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, reason: &str) -> ApiError {
        ApiError::Refused {
            status,
            reason: reason.into(),
            message: String::new(),
            continuation: None,
        }
    }

    #[test]
    fn a_conflict_is_not_taken_for_an_existing_object() {
        assert!(refused(409, "AlreadyExists").is_already_there());
        assert!(!refused(409, "Conflict").is_already_there());
    }

    #[test]
    fn only_passing_refusals_are_asked_again() {
        let retried: Vec<u16> = [400, 401, 403, 404, 409, 410, 422, 429, 500, 503, 504]
            .into_iter()
            .filter(|status| refused(*status, "").is_retryable())
            .collect();
        assert_eq!(retried, [429, 503, 504]);
        assert!(refused(500, "ServerTimeout").is_retryable());
    }
}
