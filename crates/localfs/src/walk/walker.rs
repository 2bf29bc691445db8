//! One walk: the stack, the sink and the counts.
//!
//! Invariant: directories opened in the sink are closed in it, whatever failed inside.

use std::os::fd::AsFd;
use std::sync::Arc;

use refloat_model::cancel::Cancel;
use refloat_model::entry::{Content, Entry, EntryKind, TreeSink};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, OFlags, Stat, fstat, readlinkat, statat};
use rustix::io::{Errno, pread};

use super::content::{ListedContent, open_noatime};
use super::frames::Frames;
use super::listing::{CACHE_TAG, Lister, Listing, Names};
use super::{Caches, Candidate, CandidateKind, Mounts, WalkError, WalkOptions, WalkSummary};
use crate::attributes::{
    ExtendedAttributes, Identity, InodeHandle, InodePath, XattrFailure, file_type, metadata,
    plain_kind, size,
};

/// What a tag must begin with to count.
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// How often an entry may change its type between being listed and being opened before it counts
/// as failed: a live folder does that once, only an attacker does it again and again.
const TYPE_CHANGES_MAX: u32 = 3;

pub(super) struct Walker<'a> {
    options: &'a WalkOptions<'a>,
    sink: &'a mut dyn TreeSink,
    cancel: &'a Cancel,
    device: u64,
    /// Path of the entry at hand below the root of the walk.
    path: Vec<u8>,
    frames: Frames,
    lister: Lister,
    attributes: ExtendedAttributes,
    summary: WalkSummary,
}

/// What came of looking at an entry.
enum Looked {
    Done,
    /// It is something else than was thought: to be looked at again.
    Changed,
}

impl<'a> Walker<'a> {
    pub(super) fn new(
        options: &'a WalkOptions<'a>,
        sink: &'a mut dyn TreeSink,
        cancel: &'a Cancel,
        root: &Stat,
    ) -> Result<Self, WalkError> {
        rustix::fs::access("/proc/self/fd", rustix::fs::Access::EXISTS)
            .map_err(|_absent| WalkError::NoProc)?;
        Ok(Self {
            options,
            sink,
            cancel,
            device: root.st_dev,
            path: Vec::new(),
            frames: Frames::default(),
            lister: Lister::new(),
            attributes: ExtendedAttributes::new(),
            summary: WalkSummary::default(),
        })
    }

    pub(super) fn finish(self) -> WalkSummary {
        self.summary
    }

    pub(super) fn list(&mut self, directory: &OwnedFd) -> Result<Listing, Errno> {
        self.lister.list(directory)
    }

    /// Walks a listed directory that the sink has open, and everything below it.
    pub(super) fn descend(
        &mut self,
        root: Arc<OwnedFd>,
        identity: Identity,
        listing: Listing,
    ) -> Result<(), WalkError> {
        self.entries(root, identity, listing)?;
        let mut name = Vec::new();
        while let Some((length, found)) = self.frames.next(&mut name) {
            self.path.truncate(length);
            if found {
                self.cancel.check()?;
                self.subdirectory(&name)?;
            } else {
                if self.frames.depth() > 1 {
                    self.leave()?;
                }
                self.frames.pop();
            }
        }
        Ok(())
    }

    fn subdirectory(&mut self, name: &[u8]) -> Result<(), WalkError> {
        match self.frames.handle(&self.path) {
            Ok(parent) => {
                append(&mut self.path, name);
                self.settle(&parent, name, CandidateKind::Directory)
            }
            Err(errno) => {
                self.fail(name, "reopen the directory of", errno);
                Ok(())
            }
        }
    }

    /// Pushes all that is no directory, and makes this the current directory.
    fn entries(
        &mut self,
        directory: Arc<OwnedFd>,
        identity: Identity,
        listing: Listing,
    ) -> Result<(), WalkError> {
        let path_length = self.path.len();
        let Listing {
            mut directories,
            mut others,
            has_cache_tag,
            broken,
        } = listing;
        if let Some(errno) = broken {
            // Its name in its own directory: the sink knows where it is.
            self.fail(b".", "list all of", errno);
        }
        if has_cache_tag && self.is_cache(&directory) {
            let tag_inode = 0;
            self.summary.excluded += (directories.len() + others.len()).saturating_sub(1) as u64;
            (directories, others) = (Names::default(), Names::default());
            others.push(tag_inode, CACHE_TAG);
        }
        let mut paths = InodePath::in_directory(directory.as_fd());
        let mut name = Vec::new();
        while others.pop(&mut name) {
            self.cancel.check()?;
            self.path.truncate(path_length);
            append(&mut self.path, &name);
            if let Some(inode) = self.other(&directory, &name, &mut paths)? {
                directories.push(inode, &name);
            }
        }
        self.path.truncate(path_length);
        directories.sort();
        self.frames
            .push(directory, identity, path_length, directories);
        Ok(())
    }

    /// Looks again at an entry as often as it changes its type under our eyes.
    fn settle(
        &mut self,
        parent: &Arc<OwnedFd>,
        name: &[u8],
        kind: CandidateKind,
    ) -> Result<(), WalkError> {
        let mut is_directory = kind == CandidateKind::Directory;
        for _ in 0..=TYPE_CHANGES_MAX {
            if is_directory {
                match self.directory(parent, name)? {
                    Looked::Done => return Ok(()),
                    Looked::Changed => is_directory = false,
                }
            } else {
                let mut paths = InodePath::in_directory(parent.as_fd());
                match self.other(parent, name, &mut paths)? {
                    None => return Ok(()),
                    Some(_) => is_directory = true,
                }
            }
        }
        self.fail(name, "keep up with", Errno::STALE);
        Ok(())
    }

    /// Opens, announces and lists a subdirectory. The path names it.
    fn directory(&mut self, parent: &Arc<OwnedFd>, name: &[u8]) -> Result<Looked, WalkError> {
        if self.is_excluded(CandidateKind::Directory) {
            return Ok(Looked::Done);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = open_noatime(parent, name, flags)
            .and_then(|fd| fstat(&fd).map(|stat| (Arc::new(fd), stat)));
        let (fd, stat) = match opened {
            Ok(opened) => opened,
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Looked::Changed),
            Err(Errno::NOENT) => {
                self.summary.vanished += 1;
                return Ok(Looked::Done);
            }
            Err(errno) => {
                self.fail(name, "open", errno);
                return Ok(Looked::Done);
            }
        };
        let mounted = self.options.mounts == Mounts::Skip && stat.st_dev != self.device;
        let listing = if mounted {
            self.summary.mounts_skipped += 1;
            Listing::default()
        } else {
            match self.lister.list(&fd) {
                Ok(listing) => listing,
                Err(errno) => {
                    self.fail(name, "list", errno);
                    return Ok(Looked::Done);
                }
            }
        };
        let (xattrs, failures) = self.attributes.read(InodeHandle::Open(fd.as_fd()));
        self.lost_attributes(name, &failures);
        self.enter(Entry {
            name: name.to_vec(),
            kind: EntryKind::Directory,
            metadata: metadata(&stat, &self.options.owners, xattrs),
        })?;
        self.entries(fd, Identity::of(&stat), listing)?;
        Ok(Looked::Done)
    }

    /// Pushes an entry that is no directory; if it is one, gives its inode instead.
    fn other(
        &mut self,
        parent: &Arc<OwnedFd>,
        name: &[u8],
        paths: &mut InodePath,
    ) -> Result<Option<u64>, WalkError> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let stat = match statat(parent, name, flags) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => {
                self.summary.vanished += 1;
                return Ok(None);
            }
            Err(errno) => {
                self.fail(name, "stat", errno);
                return Ok(None);
            }
        };
        let candidate = match file_type(&stat) {
            FileType::Directory => return Ok(Some(stat.st_ino)),
            FileType::RegularFile => CandidateKind::File { size: size(&stat) },
            _ => CandidateKind::Node,
        };
        if self.is_excluded(candidate) {
            return Ok(None);
        }
        let kind = match plain_kind(&stat) {
            Some(kind) => kind,
            None => match readlinkat(parent, name, Vec::new()) {
                Ok(target) => EntryKind::Symlink {
                    target: target.into_bytes(),
                },
                Err(Errno::NOENT) => {
                    self.summary.vanished += 1;
                    return Ok(None);
                }
                Err(errno) => {
                    self.fail(name, "read the link", errno);
                    return Ok(None);
                }
            },
        };
        let (xattrs, failures) = self.attributes.read(InodeHandle::Entry(paths.entry(name)));
        self.lost_attributes(name, &failures);
        let entry = Entry {
            name: name.to_vec(),
            kind,
            metadata: metadata(&stat, &self.options.owners, xattrs),
        };
        if matches!(candidate, CandidateKind::File { .. }) {
            let content = ListedContent::new(parent, name, Identity::of(&stat));
            self.file(entry, Box::new(content))?;
        } else {
            self.node(entry)?;
        }
        Ok(None)
    }

    pub(super) fn enter(&mut self, directory: Entry) -> Result<(), WalkError> {
        self.summary.directories += 1;
        Ok(self.sink.enter(directory)?)
    }

    pub(super) fn leave(&mut self) -> Result<(), WalkError> {
        Ok(self.sink.leave()?)
    }

    pub(super) fn file(&mut self, file: Entry, content: Box<dyn Content>) -> Result<(), WalkError> {
        self.summary.files += 1;
        if let EntryKind::File { size } = file.kind {
            self.summary.bytes += size;
        }
        Ok(self.sink.file(file, content)?)
    }

    pub(super) fn node(&mut self, entry: Entry) -> Result<(), WalkError> {
        self.summary.nodes += 1;
        Ok(self.sink.node(entry)?)
    }

    fn is_excluded(&mut self, kind: CandidateKind) -> bool {
        let path = self.path.as_slice();
        let excluded = self
            .options
            .exclude
            .is_some_and(|exclude| exclude(&Candidate { path, kind }));
        self.summary.excluded += u64::from(excluded);
        excluded
    }

    fn is_cache(&self, directory: &OwnedFd) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut start = [0; CACHE_SIGNATURE.len()];
        self.options.caches == Caches::TagOnly
            && open_noatime(directory, CACHE_TAG, flags)
                .and_then(|tag| pread(&tag, &mut start, 0))
                .is_ok_and(|count| start.get(..count) == Some(CACHE_SIGNATURE))
    }

    fn fail(&mut self, name: &[u8], operation: &str, errno: Errno) {
        self.summary.failed += 1;
        let cause = std::io::Error::from(errno);
        self.sink
            .fail(name, format!("cannot {operation} it: {cause}"));
    }

    /// Reports attributes that a captured entry will lack.
    pub(super) fn lost_attributes(&mut self, name: &[u8], failures: &[XattrFailure]) {
        for failure in failures {
            let subject = if self.path.is_empty() {
                name
            } else {
                &self.path
            };
            self.summary.findings.warn(subject, || failure.message());
        }
    }
}

/// Makes `path` the path of its entry `name`.
fn append(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}
