//! Entries of a tree, and how a tree flows from whoever reads it to whoever keeps it.
//!
//! A producer (a walk over a folder, an engine's archive stream, a stored tree) pushes entries
//! depth first into a [`TreeSink`] (the repository's archiver, a folder being restored, a tar
//! stream). Push, not pull: the producer owns its control flow, and a sink that is full makes it
//! wait.
//!
//! Invariant: names are single path components as raw bytes; a sink checks them, whoever sent them.

use std::io::{self, Read};
use std::sync::Arc;

use crate::time::Timestamp;

/// One entry of a directory, without its content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// One path component; need not be UTF-8.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Everything `stat` knows besides.
    pub metadata: Metadata,
}

/// What an entry is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Its length in bytes when it was looked at; streams may turn out longer or shorter.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points, as raw bytes, never resolved.
        target: Vec<u8>,
    },
    /// A block device.
    BlockDevice {
        /// `st_rdev`.
        device: u64,
    },
    /// A character device.
    CharacterDevice {
        /// `st_rdev`.
        device: u64,
    },
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
}

/// One extended attribute; POSIX ACLs are `system.posix_acl_*` attributes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Xattr {
    /// The full name with its namespace, `user.mime_type`.
    pub name: Vec<u8>,
    /// The value, at most 64 KiB on Linux.
    pub value: Vec<u8>,
}

/// What a file system knows of an entry besides its name, kind and content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Metadata {
    /// Permission, set-id and sticky bits: `st_mode & 0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The owner's name where it is known, else empty.
    pub user: Arc<str>,
    /// The group's name where it is known, else empty.
    pub group: Arc<str>,
    /// Last change of content.
    pub modified: Timestamp,
    /// Last access.
    pub accessed: Timestamp,
    /// Last change of the inode; cannot be restored, tells whether a file is unchanged.
    pub changed: Timestamp,
    /// Inode number; 0 where there is none.
    pub inode: u64,
    /// `st_dev`; with `inode` it identifies hard links.
    pub device_id: u64,
    /// Number of hard links; 0 where unknown.
    pub links: u64,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
}

impl Metadata {
    /// For entries that have no real file: fixed times, owner 0, mode 0600 (directories 0700).
    ///
    /// Fixed, so that equal content gives equal trees.
    #[must_use]
    pub fn synthetic(kind: &EntryKind) -> Self {
        Self {
            mode: if matches!(kind, EntryKind::Directory) {
                0o700
            } else {
                0o600
            },
            uid: 0,
            gid: 0,
            user: Arc::from(""),
            group: Arc::from(""),
            modified: Timestamp::EPOCH,
            accessed: Timestamp::EPOCH,
            changed: Timestamp::EPOCH,
            inode: 0,
            device_id: 0,
            links: 0,
            xattrs: Vec::new(),
        }
    }
}

impl Entry {
    /// A directory without a real one behind it.
    #[must_use]
    pub fn synthetic_directory(name: impl Into<Vec<u8>>) -> Self {
        let kind = EntryKind::Directory;
        Self {
            name: name.into(),
            metadata: Metadata::synthetic(&kind),
            kind,
        }
    }

    /// A file without a real one behind it, `size` bytes long (0 if not known beforehand).
    #[must_use]
    pub fn synthetic_file(name: impl Into<Vec<u8>>, size: u64) -> Self {
        let kind = EntryKind::File { size };
        Self {
            name: name.into(),
            metadata: Metadata::synthetic(&kind),
            kind,
        }
    }
}

/// A file's bytes, read once from start to end.
pub trait Reader: Read {
    /// Passes over a hole that begins right here, `max` bytes of it at most, and says how many bytes of zeros
    /// that is: 0 if there is none, or none that is known of. Another may follow.
    ///
    /// # Errors
    /// As reading.
    fn pass_hole(&mut self, _max: u64) -> io::Result<u64> {
        Ok(0)
    }
}

/// Bytes whose holes, if they have any, are read like all others.
pub struct Solid<R>(pub R);

impl<R: Read> Read for Solid<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Reader for Solid<R> {}

/// A file's bytes, opened only if somebody wants them, possibly on another thread.
pub trait Content: Send {
    /// Opens the content for one read from start to end.
    ///
    /// # Errors
    /// The file is gone, or may not be read: the entry is then reported as failed.
    fn open(self: Box<Self>) -> io::Result<Box<dyn Reader + Send>>;

    /// As [`open`](Self::open), for who can take what has become of the file since it was listed.
    ///
    /// # Errors
    /// It may not be read, or something else than a file has its name.
    fn open_now(self: Box<Self>) -> io::Result<Opened> {
        Ok(Opened::Listed(self.open()?))
    }
}

/// What a file turned out to be when it was opened.
pub enum Opened {
    /// The one that was listed.
    Listed(Box<dyn Reader + Send>),
    /// Another one that has taken its name, as programs do that replace files in one step.
    Replaced(Box<Entry>, Box<dyn Reader + Send>),
    /// It was deleted: in a live folder, no failure.
    Gone,
}

impl<F, R> Content for F
where
    F: FnOnce() -> io::Result<R> + Send,
    R: Read + Send + 'static,
{
    fn open(self: Box<Self>) -> io::Result<Box<dyn Reader + Send>> {
        Ok(Box::new(Solid(self()?)))
    }
}

/// The sink cannot go on (its storage is gone, the run was cancelled): the producer returns.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SinkError(#[from] pub Box<dyn std::error::Error + Send + Sync>);

/// Receives one tree, depth first, starting inside a directory that the receiver chose.
///
/// The order of names within a directory is free; a name given twice is reported as failed.
/// Failures of single entries are *recorded* by the sink and do not stop the producer; a
/// [`SinkError`] does.
pub trait TreeSink {
    /// Opens a directory; entries that follow are its own until [`leave`](Self::leave).
    ///
    /// # Errors
    /// The sink cannot go on.
    fn enter(&mut self, directory: Entry) -> Result<(), SinkError>;

    /// Closes the directory opened last.
    ///
    /// # Errors
    /// The sink cannot go on.
    fn leave(&mut self) -> Result<(), SinkError>;

    /// Adds a regular file whose content can be opened later, on any thread, or not at all when
    /// the sink knows it to be unchanged. If it cannot be read, the sink records the failure.
    ///
    /// # Errors
    /// The sink cannot go on.
    fn file(&mut self, file: Entry, content: Box<dyn Content>) -> Result<(), SinkError>;

    /// Adds a regular file from a stream that must be read now, to its end.
    ///
    /// A read error means the content is not to be trusted: the sink keeps nothing of the file
    /// and records the failure. (So a reader that learns at the end that its producer failed
    /// returns an error instead of the end.)
    ///
    /// # Errors
    /// The sink cannot go on.
    fn stream(&mut self, file: Entry, content: &mut dyn Read) -> Result<(), SinkError>;

    /// Adds an entry that has no content: link, device, pipe, socket.
    ///
    /// # Errors
    /// The sink cannot go on.
    fn node(&mut self, entry: Entry) -> Result<(), SinkError>;

    /// Takes over the entry `name` of the current directory from the parent point as it is,
    /// a whole subtree included, without reading anything. False if there is none to take.
    ///
    /// For producers that know by a digest or an id that nothing changed.
    ///
    /// # Errors
    /// The sink cannot go on.
    fn reuse(&mut self, name: &[u8]) -> Result<bool, SinkError>;

    /// Takes over for `file` the content that an earlier point or this run, in whatever item, has
    /// under the SHA-256 digest, without reading anything. False if there is none to take.
    ///
    /// # Errors
    /// The sink cannot go on.
    fn reuse_content(&mut self, file: &Entry, sha256: &[u8; 32]) -> Result<bool, SinkError>;

    /// As [`stream`](Self::stream), for content whose reader ends without an error only if its
    /// SHA-256 digest is this one. True if others can soon take it over by its digest, should it
    /// come whole.
    ///
    /// # Errors
    /// The sink cannot go on.
    fn stream_by_digest(
        &mut self,
        file: Entry,
        sha256: &[u8; 32],
        content: &mut dyn Read,
    ) -> Result<bool, SinkError>;

    /// Records that the entry `name` of the current directory could not be captured.
    fn fail(&mut self, name: &[u8], reason: String);
}
