//! Errors of this crate.
//!
//! Invariant: git's own words are kept; what it was asked is named.

use std::io;
use std::path::PathBuf;

/// Why something could not be done with a Git repository.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// git cannot be run.
    #[error("cannot run git")]
    Run(#[source] io::Error),
    /// git refused.
    #[error("git {operation} failed in {folder}: {said}", folder = .folder.display())]
    Failed {
        /// `init`, `fast-import` …
        operation: &'static str,
        /// Where.
        folder: PathBuf,
        /// What it wrote to its standard error.
        said: String,
    },
    /// The branch is not where it was: somebody else commits.
    #[error("the branch in {folder} was moved by somebody else meanwhile", folder = .0.display())]
    Moved(PathBuf),
    /// The folder cannot be looked at or made.
    #[error("cannot use the folder {folder}", folder = .folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is somebody else's.
    #[error("{folder} {what}", folder = .folder.display())]
    NotOurs {
        /// Which.
        folder: PathBuf,
        /// `is a Git repository that Refloat did not make`.
        what: &'static str,
    },
    /// A path that no commit may have.
    #[error("the path {path:?} cannot be in a commit: {why}")]
    Path {
        /// Which.
        path: String,
        /// `it would leave its folder`.
        why: &'static str,
    },
    /// age cannot be run.
    #[error("cannot run age")]
    Age(#[source] io::Error),
    /// age refused.
    #[error("age could not encrypt for {recipient}: {said}")]
    Encrypt {
        /// The public key.
        recipient: String,
        /// What it wrote to its standard error.
        said: String,
    },
    /// A list of recipients cannot be read.
    #[error("cannot read the recipients in {file}", file = .file.display())]
    Recipients {
        /// Which.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Nobody could read what is encrypted.
    #[error("no recipient is named")]
    NoRecipient,
    /// Not a public key of age.
    #[error("{0:?} is no public key of age (age1…)")]
    Recipient(String),
    /// A line that is not a public key of age: the file may be another one, full of secrets.
    #[error("line {line} of {file} is no public key of age (age1…)", file = .file.display())]
    RecipientLine {
        /// Which file.
        file: PathBuf,
        /// From 1.
        line: usize,
    },
    /// A private key where a public one belongs.
    #[error("a private key of age was given where a public one belongs")]
    PrivateKey,
    /// Not a branch's name.
    #[error("{0:?} is no name of a branch")]
    Branch(String),
    /// git answered something that it never should.
    #[error("git {operation} gave an answer that is not understood")]
    Answer {
        /// What it was asked.
        operation: &'static str,
    },
}
