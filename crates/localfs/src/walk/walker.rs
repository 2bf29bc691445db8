//! One walk: the stack, the sink and the counts.
//!
//! Invariant: directories opened in the sink are closed in it, whatever failed inside.

use std::os::fd::AsFd;
use std::sync::Arc;

use refloat_model::cancel::Cancel;
use refloat_model::entry::{Content, Entry, EntryKind, TreeSink};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::ahead::{Ahead, Asked};
use super::content::ListedContent;
use super::frames::Frames;
use super::listing::{Place, Verdict};
use super::look::{Contents, Look, Looker, Opened, Unopened, stat_entry};
use super::pieces::{FirstLooks, Pieces};
use super::subdirectories::{Means, Seen, Subdirectories};
use super::{Candidate, CandidateKind, WalkError, WalkOptions, WalkSummary};
use crate::attributes::{Identity, InodePath, XattrFailure, file_type, metadata, size};

/// How often an entry may change its type between being listed and being opened before it counts
/// as failed: a live folder does that once, only an attacker does it again and again.
const TYPE_CHANGES_MAX: u32 = 3;

pub(super) struct Walker<'a> {
    options: &'a WalkOptions<'a>,
    sink: &'a mut dyn TreeSink,
    cancel: &'a Cancel,
    /// Path of the entry at hand below the root of the walk.
    path: Vec<u8>,
    frames: Frames,
    looker: Looker,
    /// Of the current directory and those above it.
    subdirectories: Subdirectories,
    ahead: Ahead,
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
            path: Vec::new(),
            frames: Frames::default(),
            looker: Looker::new(options.mounts, options.caches, root.st_dev),
            subdirectories: Subdirectories::default(),
            ahead: Ahead::new(options.look_ahead, cancel),
            summary: WalkSummary::default(),
        })
    }

    pub(super) fn finish(self) -> WalkSummary {
        self.summary
    }

    pub(super) fn list(&mut self, directory: &OwnedFd) -> Result<Contents, Errno> {
        self.looker.contents(directory)
    }

    /// Walks a listed directory that the sink has open, and everything below it.
    pub(super) fn descend(
        &mut self,
        root: Arc<OwnedFd>,
        identity: Identity,
        contents: Contents,
    ) -> Result<(), WalkError> {
        self.entries(root, identity, contents, None)?;
        let mut name = Vec::new();
        while let Some((length, found)) = self.frames.next(&mut name) {
            self.path.truncate(length);
            if let Some((place, verdict)) = found {
                self.cancel.check()?;
                self.subdirectory(&name, place, verdict)?;
            } else {
                if self.frames.depth() > 1 {
                    self.leave()?;
                }
                self.frames.pop();
            }
        }
        Ok(())
    }

    fn subdirectory(
        &mut self,
        name: &[u8],
        place: Place,
        verdict: Verdict,
    ) -> Result<(), WalkError> {
        let depth = self.frames.depth();
        let asked = self.subdirectories.enter(depth, place);
        match self.frames.handle(&self.path) {
            Ok(parent) => {
                self.ask_subdirectories(&parent);
                append(&mut self.path, name);
                self.settle(&parent, name, verdict, asked)
            }
            Err(errno) => {
                if let Some(asked) = asked {
                    self.ahead.forget(asked);
                }
                self.fail(name, "reopen the directory of", errno);
                Ok(())
            }
        }
    }

    /// Has the next subdirectories of the current directory looked at ahead.
    fn ask_subdirectories(&mut self, handle: &Arc<OwnedFd>) {
        let depth = self.frames.depth();
        if let Some(names) = self.frames.directories() {
            let means = Means {
                ahead: &mut self.ahead,
                looker: &self.looker,
                leaves_out: leaves_out(self.options),
            };
            self.subdirectories
                .ask(depth, &self.path, (handle, names), means);
        }
    }

    /// Pushes all that is no directory, and makes this the current directory.
    fn entries(
        &mut self,
        directory: Arc<OwnedFd>,
        identity: Identity,
        contents: Contents,
        first: Option<FirstLooks>,
    ) -> Result<(), WalkError> {
        let path_length = self.path.len();
        let Contents {
            mut directories,
            others,
            left_out,
            broken,
        } = contents;
        if let Some(errno) = broken {
            // Its name in its own directory: the sink knows where it is.
            self.fail(b".", "list all of", errno);
        }
        self.summary.excluded += left_out;
        let mut pieces = Pieces::new(&directory, &others, first);
        pieces.ask(&mut self.ahead, &self.looker);
        let means = Means {
            ahead: &mut self.ahead,
            looker: &self.looker,
            leaves_out: leaves_out(self.options),
        };
        let depth = self.frames.depth() + 1;
        self.subdirectories
            .ask(depth, &self.path, (&directory, &mut directories), means);
        let mut paths = InodePath::in_directory(directory.as_fd());
        for index in 0..others.len() {
            self.cancel.check()?;
            let name = others.nth(index).unwrap_or_default();
            self.path.truncate(path_length);
            append(&mut self.path, name);
            let look = pieces.look(index, &mut self.ahead, &mut self.looker);
            if let Some(inode) = self.other(&directory, name, &mut paths, look)? {
                directories.push(inode, name);
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
        verdict: Verdict,
        mut asked: Option<Asked<Seen>>,
    ) -> Result<(), WalkError> {
        let (mut is_directory, mut verdict) = (true, verdict);
        for _ in 0..=TYPE_CHANGES_MAX {
            if is_directory {
                match self.directory(parent, name, verdict, asked.take())? {
                    Looked::Done => return Ok(()),
                    Looked::Changed => is_directory = false,
                }
            } else {
                let mut paths = InodePath::in_directory(parent.as_fd());
                match self.other(parent, name, &mut paths, None)? {
                    None => return Ok(()),
                    Some(_) => (is_directory, verdict) = (true, Verdict::Open),
                }
            }
        }
        self.fail(name, "keep up with", Errno::STALE);
        Ok(())
    }

    /// Opens, announces and lists a subdirectory. The path names it.
    fn directory(
        &mut self,
        parent: &Arc<OwnedFd>,
        name: &[u8],
        verdict: Verdict,
        asked: Option<Asked<Seen>>,
    ) -> Result<Looked, WalkError> {
        if self.is_excluded(CandidateKind::Directory, verdict) {
            return Ok(Looked::Done);
        }
        let seen = asked.and_then(|asked| self.ahead.wait(asked, &mut self.looker));
        let (opened, first) = match seen {
            // What could not be opened then may be there now, and the other way round.
            Some((at, seen)) if seen.opened.is_ok() => {
                let Seen { looks, room, .. } = seen;
                (seen.opened, Some(FirstLooks { looks, at, room }))
            }
            _ => {
                self.subdirectories.is_listed_anew(&self.ahead);
                (self.looker.open(parent, name), None)
            }
        };
        let Opened {
            handle,
            stat,
            xattrs,
            failures,
            contents,
        } = match opened {
            Ok(opened) => opened,
            Err(unopened) => return Ok(self.unopened(name, &unopened)),
        };
        self.summary.mounts_skipped += u64::from(contents.is_none());
        self.lost_attributes(name, &failures);
        self.enter(Entry {
            name: name.to_vec(),
            kind: EntryKind::Directory,
            metadata: metadata(&stat, &self.options.owners, xattrs),
        })?;
        let contents = contents.unwrap_or_default();
        self.entries(handle, Identity::of(&stat), contents, first)?;
        Ok(Looked::Done)
    }

    fn unopened(&mut self, name: &[u8], unopened: &Unopened) -> Looked {
        match (unopened.operation, unopened.errno) {
            ("open", Errno::NOTDIR | Errno::LOOP) => return Looked::Changed,
            ("open", Errno::NOENT) => self.summary.vanished += 1,
            (operation, errno) => self.fail(name, operation, errno),
        }
        Looked::Done
    }

    /// Pushes an entry that is no directory; if it is one, gives its inode instead.
    fn other(
        &mut self,
        parent: &Arc<OwnedFd>,
        name: &[u8],
        paths: &mut InodePath,
        ahead: Option<Look>,
    ) -> Result<Option<u64>, WalkError> {
        let look = ahead
            .filter(|look| look.stat.is_ok())
            .unwrap_or_else(|| Look {
                stat: stat_entry(parent, name),
                rest: None,
            });
        let stat = match look.stat {
            Ok(stat) => stat,
            Err(errno) => {
                self.gone_or_failed(name, "stat", errno);
                return Ok(None);
            }
        };
        let candidate = match file_type(&stat) {
            FileType::Directory => return Ok(Some(stat.st_ino)),
            FileType::RegularFile => CandidateKind::File { size: size(&stat) },
            _ => CandidateKind::Node,
        };
        if self.is_excluded(candidate, Verdict::Open) {
            return Ok(None);
        }
        let looker = &mut self.looker;
        let rest = look
            .rest
            .filter(Result::is_ok)
            .unwrap_or_else(|| looker.rest(parent, name, &stat, paths));
        let rest = match rest {
            Ok(rest) => rest,
            Err(errno) => {
                self.gone_or_failed(name, "read the link", errno);
                return Ok(None);
            }
        };
        self.lost_attributes(name, &rest.failures);
        let entry = Entry {
            name: name.to_vec(),
            kind: rest.kind,
            metadata: metadata(&stat, &self.options.owners, rest.xattrs),
        };
        if matches!(candidate, CandidateKind::File { .. }) {
            let owners = &self.options.owners;
            let content = ListedContent::new(parent, name, Identity::of(&stat), owners);
            self.file(entry, Box::new(content))?;
        } else {
            self.node(entry)?;
        }
        Ok(None)
    }

    fn gone_or_failed(&mut self, name: &[u8], operation: &str, errno: Errno) {
        match errno {
            Errno::NOENT => self.summary.vanished += 1,
            errno => self.fail(name, operation, errno),
        }
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

    /// Asks the rules if nobody did, and counts.
    fn is_excluded(&mut self, kind: CandidateKind, verdict: Verdict) -> bool {
        let path = self.path.as_slice();
        let excluded = match verdict {
            Verdict::Open => excludes(self.options, &Candidate { path, kind }),
            Verdict::Stays => false,
            Verdict::LeftOut => true,
        };
        self.summary.excluded += u64::from(excluded);
        excluded
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
pub(super) fn append(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

fn excludes(options: &WalkOptions<'_>, candidate: &Candidate<'_>) -> bool {
    options.exclude.is_some_and(|exclude| exclude(candidate))
}

/// Whether the rules leave out the directory of this path.
fn leaves_out(options: &WalkOptions<'_>) -> impl Fn(&[u8]) -> bool {
    let kind = CandidateKind::Directory;
    move |path| excludes(options, &Candidate { path, kind })
}
