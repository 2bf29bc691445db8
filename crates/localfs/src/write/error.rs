//! Why something could not be restored.

use std::io;

use rustix::io::Errno;

use super::privileges::LEFT_OUT;
use crate::path::{InvalidName, RelativePath};

/// Why an entry, or the folder as a whole, could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The folder to restore into cannot be opened: not there, no directory, or a symbolic link,
    /// which somebody else may have put there.
    #[error("cannot open the folder {path} to restore into", path = .path.display())]
    Root {
        /// The folder.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `/proc` is not there, without which metadata cannot be set on what is held by a handle.
    #[error("cannot restore into a folder without /proc")]
    NoProc,
    /// A name that cannot be one component of a path.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The file system or a quota is full: nothing else will fit either.
    #[error("no space left to {operation} {path}")]
    NoSpace {
        /// `write`, `create` …
        operation: &'static str,
        /// Beneath the root.
        path: RelativePath,
        /// `ENOSPC` or `EDQUOT`.
        #[source]
        source: io::Error,
    },
    /// The system refused something.
    #[error("cannot {operation} {path}")]
    System {
        /// `write`, `create` …
        operation: &'static str,
        /// Beneath the root.
        path: RelativePath,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// A directory that is not empty has the name: what it holds is not ours to delete.
    #[error("{0} is in the way: a directory that is not empty")]
    Occupied(RelativePath),
    /// Something has the name in a directory that was new: another entry of the same restore, whose name
    /// the file system takes for the same, or somebody else's.
    #[error(
        "{0} is taken: another entry was restored under this name, or one that is the same here"
    )]
    Taken(RelativePath),
    /// The file has other names, perhaps outside the folder, so it is not changed in place.
    #[error("{0} has other hard links, so it is not changed in place")]
    Shared(RelativePath),
    /// Somebody put something else in the place of what was just written.
    #[error("{0} was replaced by somebody else while it was restored")]
    Replaced(RelativePath),
    /// Devices are not restored by this writer.
    #[error("{0} is a device node: {LEFT_OUT}")]
    Withheld(RelativePath),
    /// Bytes beyond the length that the file was prepared with.
    #[error("cannot write {path} beyond its length of {size} bytes")]
    BeyondEnd {
        /// Beneath the root.
        path: RelativePath,
        /// The length.
        size: u64,
    },
    /// What was just written is not what the file holds: a disk, memory or somebody else.
    #[error("what was written to {path} at byte {offset} does not read back equal")]
    NotReadBack {
        /// Beneath the root.
        path: RelativePath,
        /// Where in the file.
        offset: u64,
    },
    /// The operation is for entries of another kind.
    #[error("cannot {operation} {path}: it is of another kind")]
    Kind {
        /// `create`, `link`.
        operation: &'static str,
        /// Beneath the root.
        path: RelativePath,
    },
}

impl WriteError {
    pub(super) fn new(operation: &'static str, path: &RelativePath, errno: Errno) -> Self {
        let (path, source) = (path.clone(), errno.into());
        match errno {
            Errno::NOSPC | Errno::DQUOT => Self::NoSpace {
                operation,
                path,
                source,
            },
            _ => Self::System {
                operation,
                path,
                source,
            },
        }
    }

    /// Whether the target is full, so that going on is useless.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Self::NoSpace { .. })
    }
}

/// Why something that should be new could not be made.
pub(super) fn not_new(operation: &'static str, path: &RelativePath, errno: Errno) -> WriteError {
    match errno {
        Errno::EXIST => WriteError::Taken(path.clone()),
        errno => WriteError::new(operation, path, errno),
    }
}

/// Turns an errno into an error about `path`.
pub(super) trait Context<T> {
    fn context(self, operation: &'static str, path: &RelativePath) -> Result<T, WriteError>;
}

impl<T> Context<T> for Result<T, Errno> {
    fn context(self, operation: &'static str, path: &RelativePath) -> Result<T, WriteError> {
        self.map_err(|errno| WriteError::new(operation, path, errno))
    }
}
