//! Git repositories that recovery points are exported to, and compared with.
//!
//! Everything goes through the `git` program. What a repository's own configuration, its hooks
//! or the user's environment would make git do is switched off ([`command`]).
//!
//! Invariant: no word from outside is ever an option of git.

mod age;
mod command;
mod error;
mod fast_import;
mod path;
mod repository;
mod tree;

pub use age::Recipients;
pub use error::GitError;
pub use fast_import::{AUTHOR_ADDRESS, Commit, FastImport};
pub use path::GitPath;
pub use repository::{Branch, GitRepository, LogEntry, Ownership};
pub use tree::TreeReader;
