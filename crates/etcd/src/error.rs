//! Errors of the client, and how errors are told in one line.
//!
//! Invariant: no text holds a key or a password.

use std::error::Error;
use std::path::PathBuf;

/// Why a cluster cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// An endpoint is no address.
    #[error("{0:?} is no endpoint: write https://HOST:2379")]
    Endpoint(String),
    /// Endpoints are missing.
    #[error("no endpoint is named")]
    NoEndpoint,
    /// Everybody on the way could read every Secret.
    #[error("{0} is on another machine and not encrypted")]
    Plain(String),
    /// Certificates without encryption mean nothing.
    #[error("{0} is not encrypted, but certificates are given")]
    PlainWithCertificates(String),
    /// A certificate or key cannot be read.
    #[error("cannot read {path}", path = .path.display())]
    Certificate {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// They cannot be used.
    #[error("cannot use the certificates for {endpoint}")]
    Tls {
        /// For which endpoint.
        endpoint: String,
        /// What is wrong.
        #[source]
        source: tonic::transport::Error,
    },
    /// Threads cannot be made.
    #[error("cannot start the client's threads")]
    Runtime(#[source] std::io::Error),
    /// A password that cannot be one.
    #[error("the password of {0} is no text")]
    Password(String),
    /// A call failed.
    #[error("cannot {operation} {endpoint}")]
    Call {
        /// `ask the status of` …
        operation: &'static str,
        /// Whom.
        endpoint: String,
        /// What it said.
        #[source]
        source: Box<tonic::Status>,
    },
    /// A member asks who we are, or does not let us.
    #[error("cannot {operation} {endpoint} without a user of the role root (--etcd-user)")]
    User {
        /// `ask the hash of` …
        operation: &'static str,
        /// Whom.
        endpoint: String,
        /// What it said.
        #[source]
        source: Box<tonic::Status>,
    },
    /// The user or the password is wrong.
    #[error("{endpoint} does not take the password of the user {user}")]
    Login {
        /// Whom.
        endpoint: String,
        /// Who we said we are.
        user: String,
        /// What it said.
        #[source]
        source: Box<tonic::Status>,
    },
    /// It did not answer in time.
    #[error("{endpoint} did not answer within {seconds} s")]
    Late {
        /// Who.
        endpoint: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Cancelled,
}

/// Whether a member asks who we are, or does not let us.
pub(crate) fn is_about_users(status: &tonic::Status) -> bool {
    let said = status.message();
    [
        "user name is empty",
        "user not found",
        "permission denied",
        "invalid auth token",
    ]
    .iter()
    .any(|words| said.contains(words))
}

impl EtcdError {
    /// The revision is dropped or yet to come.
    #[must_use]
    pub fn is_out_of_range(&self) -> bool {
        matches!(self, Self::Call { source, .. } if source.code() == tonic::Code::OutOfRange)
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Plain(_) => {
                "use https:// with certificates, or say that everybody on the way may read it: \
                 --plain-tcp"
            }
            Self::PlainWithCertificates(_) => "write https://",
            Self::Certificate { .. } => {
                "kubeadm keeps them in /etc/kubernetes/pki/etcd: ca.crt, \
                 healthcheck-client.crt and healthcheck-client.key"
            }
            Self::User { .. } => {
                "name a user with the role root, and where its password comes from: --etcd-user, \
                 --etcd-password-file"
            }
            Self::Call { .. } | Self::Late { .. } => {
                "check the endpoints, that etcd runs, and that its client authority signed the \
                 certificate"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// An error with its causes in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !said.is_empty() && !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}
