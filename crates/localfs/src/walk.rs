//! Walking a folder into a sink.
//!
//! Every directory is opened by its parent's handle and one name, without following links; what
//! is reported of it comes from the handle. Directories are walked with a stack of our own, of
//! which only the lowest levels keep their handles, so that depth costs neither stack nor
//! descriptors. Within a directory the entries come in order of inodes, which is the order that a
//! disk can read quickly; subdirectories come after everything else.
//!
//! Other threads look at what comes next ([`LookAhead`]): they open, list, and ask the kernel. One
//! thread decides what is left out, counts, and calls the sink.
//!
//! Invariant: each entry that was listed ends as pushed, failed, excluded or vanished, and is
//! counted as that.

mod ahead;
mod content;
pub(crate) mod frames;
pub(crate) mod listing;
mod look;
mod pieces;
mod subdirectories;
mod walker;

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use refloat_model::cancel::{Cancel, Cancelled};
use refloat_model::entry::{Entry, EntryKind, SinkError, TreeSink};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

use crate::attributes::{
    ExtendedAttributes, Identity, InodeHandle, file_type, metadata, plain_kind, proc_path,
};
use crate::findings::Findings;
use crate::owners::Owners;
use content::OpenedContent;
use walker::Walker;

/// An entry that may be left out.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its path below the root of the walk, components joined by `/`.
    pub path: &'a [u8],
    /// What it is, as far as rules can tell entries apart.
    pub kind: CandidateKind,
}

/// What a [`Candidate`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CandidateKind {
    /// A directory: leaving it out leaves out all that it holds.
    Directory,
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
    },
    /// A link, device, pipe or socket.
    Node,
}

/// Whether a walk goes on below a mount point.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mounts {
    /// Everything that is visible is captured.
    #[default]
    Enter,
    /// A directory on another device is captured as an empty one: the mount point comes back,
    /// what was mounted does not. Bind mounts of the same device cannot be told apart.
    Skip,
}

/// What to do with directories that hold a `CACHEDIR.TAG` (<https://bford.info/cachedir/>).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Caches {
    /// They are directories like all others.
    #[default]
    Capture,
    /// Only the directory and its tag are captured.
    TagOnly,
}

/// How many threads look at entries before the walk comes to them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LookAhead {
    /// As many as there are processors beside the one that the walk itself takes, up to a bound.
    #[default]
    Processors,
    /// So many, up to the same bound; with none, the walk does everything itself.
    Threads(usize),
}

/// What is walked and how.
pub struct WalkOptions<'a> {
    /// Says which entries are left out; the root itself is never asked about.
    pub exclude: Option<&'a dyn Fn(&Candidate<'_>) -> bool>,
    /// Whether other file systems are entered.
    pub mounts: Mounts,
    /// Whether caches are captured.
    pub caches: Caches,
    /// Names of owners.
    pub owners: Arc<Owners>,
    /// Threads of the walk. They change nothing but its speed.
    pub look_ahead: LookAhead,
}

impl Default for WalkOptions<'_> {
    fn default() -> Self {
        Self {
            exclude: None,
            mounts: Mounts::default(),
            caches: Caches::default(),
            owners: Arc::new(Owners::system()),
            look_ahead: LookAhead::default(),
        }
    }
}

/// What a walk came across.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WalkSummary {
    /// Regular files pushed.
    pub files: u64,
    /// Directories entered, the root not counted by [`walk_contents`].
    pub directories: u64,
    /// Links, devices, pipes and sockets pushed.
    pub nodes: u64,
    /// Content bytes of the files pushed, by `stat`.
    pub bytes: u64,
    /// Entries that [`WalkOptions::exclude`] or [`Caches::TagOnly`] left out.
    pub excluded: u64,
    /// Mount points that were captured empty.
    pub mounts_skipped: u64,
    /// Entries that were gone before they could be looked at: in a live folder, no failure.
    pub vanished: u64,
    /// Entries reported to the sink as failed.
    pub failed: u64,
    /// Metadata of captured entries that could not be read.
    pub findings: Findings,
}

/// Why a walk ended early. Single entries that fail do not end it.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The root cannot be read at all.
    #[error("cannot {operation} {path}", path = .path.display())]
    Root {
        /// `open`, `list`.
        operation: &'static str,
        /// The root of the walk.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `/proc` is not there, without which extended attributes cannot be read safely.
    #[error("cannot read extended attributes without /proc")]
    NoProc,
    /// Somebody asked the run to stop.
    #[error("interrupted")]
    Cancelled(#[from] Cancelled),
    /// The sink cannot go on.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// Pushes everything that the directory `folder` holds, not the directory itself.
///
/// `folder` itself may be reached through symbolic links; nothing below it is.
///
/// # Errors
/// The folder cannot be read, the run was cancelled, or the sink gave up. Entries that cannot be
/// read are reported to the sink and the walk goes on.
pub fn walk_contents(
    folder: &Path,
    options: &WalkOptions<'_>,
    sink: &mut dyn TreeSink,
    cancel: &Cancel,
) -> Result<WalkSummary, WalkError> {
    let root = open_root(folder, OFlags::DIRECTORY)?;
    let mut walker = Walker::new(options, sink, cancel, &root.stat)?;
    let listed = walker
        .list(&root.fd)
        .map_err(|errno| root_error("list", folder, errno))?;
    walker.descend(Arc::new(root.fd), Identity::of(&root.stat), listed)?;
    Ok(walker.finish())
}

/// Pushes exactly one entry: the file or directory that `path` leads to, as `name`.
///
/// `path` itself may be reached through symbolic links; nothing below it is.
///
/// # Errors
/// As [`walk_contents`].
pub fn walk_entry(
    path: &Path,
    name: &[u8],
    options: &WalkOptions<'_>,
    sink: &mut dyn TreeSink,
    cancel: &Cancel,
) -> Result<WalkSummary, WalkError> {
    let root = open_root(path, OFlags::empty())?;
    let mut walker = Walker::new(options, sink, cancel, &root.stat)?;
    let proc_path = proc_path(root.fd.as_fd());
    let (xattrs, failures) = ExtendedAttributes::new().read(InodeHandle::Pinned(&proc_path));
    walker.lost_attributes(name, &failures);
    let kind = plain_kind(&root.stat)
        .ok_or_else(|| root_error("open", path, rustix::io::Errno::OPNOTSUPP))?;
    let metadata = metadata(&root.stat, &options.owners, xattrs);
    let is_directory = kind == EntryKind::Directory;
    let is_file = matches!(kind, EntryKind::File { .. });
    let entry = Entry {
        name: name.to_vec(),
        kind,
        metadata,
    };
    if is_directory {
        let listed = walker
            .list(&root.fd)
            .map_err(|errno| root_error("list", path, errno))?;
        walker.enter(entry)?;
        walker.descend(Arc::new(root.fd), Identity::of(&root.stat), listed)?;
        walker.leave()?;
    } else if is_file {
        walker.file(entry, Box::new(OpenedContent::new(root.fd)))?;
    } else {
        walker.node(entry)?;
    }
    Ok(walker.finish())
}

struct Root {
    fd: rustix::fd::OwnedFd,
    stat: rustix::fs::Stat,
}

/// Opens the root for reading. Devices and pipes are opened only as names: opening one for real
/// may block, or do something.
fn open_root(path: &Path, extra: OFlags) -> Result<Root, WalkError> {
    let fail = |errno| root_error("open", path, errno);
    let named = openat(
        CWD,
        path,
        OFlags::PATH | OFlags::CLOEXEC | extra,
        Mode::empty(),
    )
    .map_err(fail)?;
    let stat = fstat(&named).map_err(fail)?;
    let flags = match file_type(&stat) {
        FileType::Directory => OFlags::RDONLY | OFlags::DIRECTORY,
        FileType::RegularFile => OFlags::RDONLY,
        _ => return Ok(Root { fd: named, stat }),
    };
    let fd =
        content::open_noatime(CWD, path.as_os_str().as_encoded_bytes(), flags).map_err(fail)?;
    let stat = fstat(&fd).map_err(fail)?;
    Ok(Root { fd, stat })
}

fn root_error(operation: &'static str, path: &Path, errno: rustix::io::Errno) -> WalkError {
    WalkError::Root {
        operation,
        path: path.to_owned(),
        source: errno.into(),
    }
}
