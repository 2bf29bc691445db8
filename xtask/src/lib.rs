//! The rules of this workspace as functions that find violations.
//!
//! `cargo test -p xtask` fails if there is one; `cargo run -p xtask` prints them.
//!
//! Invariant: a check reads and reports, it changes nothing.

pub mod adr;
pub mod dependencies;
pub mod graph;
pub mod manners;
pub mod sources;
pub mod tidy;

use std::path::{Path, PathBuf};

/// The folder that holds the workspace.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// All violations of all rules, one sentence each.
///
/// # Errors
/// The workspace cannot be read.
pub fn violations(root: &Path) -> Result<Vec<String>, Unreadable> {
    let graph = graph::Graph::of_workspace(root)?;
    let sources = sources::read(root)?;
    Ok([
        dependencies::violations(&graph),
        manners::violations(&sources),
        tidy::violations(root, &sources)?,
        adr::violations(root)?,
    ]
    .concat())
}

/// Why the workspace could not be checked.
#[derive(Debug)]
pub enum Unreadable {
    /// A file or folder cannot be read.
    Path(PathBuf, std::io::Error),
    /// `cargo metadata` failed, with what it printed.
    Metadata(String),
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path, _) => write!(f, "cannot read {}", path.display()),
            Self::Metadata(output) => write!(f, "cargo metadata failed: {output}"),
        }
    }
}

impl std::error::Error for Unreadable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Path(_, cause) => Some(cause),
            Self::Metadata(_) => None,
        }
    }
}
