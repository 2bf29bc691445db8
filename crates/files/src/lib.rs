//! Folders of this machine as a source.
//!
//! Each configured root is one item, `/files/<source>/<absolute path>`: the root itself is the
//! single entry that is captured. The root `/` has no name of its own and is captured as `%2F`,
//! the escaped form of a slash.
//!
//! A live folder is copied while it is in use: nothing is stopped, and what comes back is what a
//! power cut during the copy might have left ([`Consistency::Crash`]).
//!
//! Invariant: a root that is missing or cannot be read is never a success, however little was
//! expected in it.

mod rules;
mod source;

use std::path::PathBuf;

pub use refloat_localfs::walk::{Caches, Mounts};
pub use source::FilesSource;

#[cfg(doc)]
use refloat_model::outcome::Consistency;

/// What is left out of every root.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FilesOptions {
    /// Patterns, one each; of several that match an entry the last one counts.
    ///
    /// - `*.tmp` without a slash matches a name at any depth;
    /// - `logs/*.gz` matches below a root, `**/logs/*.gz` at any depth;
    /// - `/srv/data/cache` matches an absolute path;
    /// - `build/` with a slash at its end matches directories only;
    /// - `!keep.tmp` takes back what a pattern before it left out, though not inside a directory
    ///   that is left out as a whole.
    ///
    /// `*` and `?` do not match a slash, `**` does.
    pub exclude: Vec<String>,
    /// Lines of files with patterns, in their order, after [`exclude`](Self::exclude). Empty lines
    /// and those that begin with `#` do not count; `\#` and `\!` begin a pattern with that sign.
    pub exclude_lines: Vec<String>,
    /// Files longer than this are left out.
    pub exclude_larger_than_bytes: Option<u64>,
    /// Whether directories marked as caches are captured.
    pub caches: Caches,
    /// Whether other file systems mounted below a root are captured.
    pub mounts: Mounts,
}

/// Why a source of files cannot be what is configured.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// There is nothing to capture.
    #[error("no folder is named")]
    NoRoots,
    /// What a relative path means depends on where one stands.
    #[error("{path} is not an absolute path without '..'", path = .0.display())]
    NotAbsolute(PathBuf),
    /// Two items would hold the same files, and one of them lie inside the other.
    #[error("{inner} lies in {outer}, which is captured too",
        inner = .inner.display(), outer = .outer.display())]
    Nested {
        /// The root that is superfluous.
        inner: PathBuf,
        /// The root that holds it.
        outer: PathBuf,
    },
    /// A pattern that would fit everything: an empty word of a variable that is not set.
    #[error("the pattern {0:?} is empty")]
    EmptyPattern(String),
    /// A pattern that is none.
    #[error("{pattern:?} is not a valid pattern")]
    Pattern {
        /// As it was written.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: globset::Error,
    },
}
