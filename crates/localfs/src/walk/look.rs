//! Looking at directories and entries, on whichever thread.
//!
//! Invariant: looking decides, counts and reports nothing. What it met is told to the walk, which
//! does that in its own order.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use refloat_model::entry::{EntryKind, Xattr};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, OFlags, Stat, fstat, readlinkat, statat};
use rustix::io::{Errno, pread};
use rustix::process::fchdir;
use rustix::thread::UnshareFlags;

use super::content::open_noatime;
use super::listing::{CACHE_TAG, Lister, Listing, Names};
use super::{Caches, Mounts};
use crate::attributes::{
    ExtendedAttributes, InodeHandle, InodePath, XattrFailure, file_type, plain_kind,
};

/// What a tag must begin with to count.
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Entries that are looked at ahead in one go end after this time, on a slow file system: what is
/// told of them must not be old when the walk comes to it.
const LOOK_TIME_MAX: Duration = Duration::from_millis(100);

/// What an entry is.
pub(super) struct Look {
    pub(super) stat: Result<Stat, Errno>,
    /// None if it was not looked for.
    pub(super) rest: Option<Result<Rest, Errno>>,
}

/// What `stat` does not tell of an entry that is no directory.
pub(super) struct Rest {
    pub(super) kind: EntryKind,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) failures: Vec<XattrFailure>,
}

/// A subdirectory that was opened.
pub(super) struct Opened {
    pub(super) handle: Arc<OwnedFd>,
    pub(super) stat: Stat,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) failures: Vec<XattrFailure>,
    /// None if it is on a file system that is not entered.
    pub(super) contents: Option<Contents>,
}

/// Why there is no [`Opened`].
pub(super) struct Unopened {
    /// `open`, `list`.
    pub(super) operation: &'static str,
    pub(super) errno: Errno,
}

/// The names in a directory, as far as they are wanted.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) directories: Names,
    /// Shared with those who look at them.
    pub(super) others: Arc<Names>,
    /// How many names of a cache are not wanted.
    pub(super) left_out: u64,
    /// As [`Listing::broken`].
    pub(super) broken: Option<Errno>,
}

/// What looking needs: options, and buffers that are reused. Each thread has its own.
pub(super) struct Looker {
    mounts: Mounts,
    caches: Caches,
    /// The device of the walk's root.
    device: u64,
    lister: Lister,
    attributes: ExtendedAttributes,
    /// Whether the thread's current directory is its own.
    may_move: bool,
}

impl Looker {
    pub(super) fn new(mounts: Mounts, caches: Caches, device: u64) -> Self {
        Self {
            mounts,
            caches,
            device,
            lister: Lister::new(),
            attributes: ExtendedAttributes::new(),
            may_move: false,
        }
    }

    /// Gives the calling thread, which does nothing but look and ends when there is nothing left, a
    /// current directory of its own, so that it can go where it looks. Some containers forbid that;
    /// then it names what it looks at by longer paths.
    #[expect(
        deprecated,
        reason = "what makes the call unsafe are tables of open files, which stay shared"
    )]
    pub(super) fn move_freely(&mut self) {
        self.may_move = rustix::thread::unshare(UnshareFlags::FS).is_ok();
    }

    /// One for another thread.
    pub(super) fn another(&self) -> Self {
        Self::new(self.mounts, self.caches, self.device)
    }

    /// Opens and lists a subdirectory.
    pub(super) fn open(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<Opened, Unopened> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fail = |operation| move |errno| Unopened { operation, errno };
        let handle = open_noatime(parent, name, flags).map_err(fail("open"))?;
        let stat = fstat(&handle).map_err(fail("open"))?;
        let mounted = self.mounts == Mounts::Skip && stat.st_dev != self.device;
        let contents = match mounted {
            true => None,
            false => Some(self.contents(&handle).map_err(fail("list"))?),
        };
        let (xattrs, failures) = self.attributes(InodeHandle::Open(handle.as_fd()));
        Ok(Opened {
            handle: Arc::new(handle),
            stat,
            xattrs,
            failures,
            contents,
        })
    }

    /// Lists an open directory.
    ///
    /// # Errors
    /// Not even the first names could be read.
    pub(super) fn contents(&mut self, directory: &OwnedFd) -> Result<Contents, Errno> {
        let Listing {
            mut directories,
            mut others,
            has_cache_tag,
            broken,
        } = self.lister.list(directory)?;
        let mut left_out = 0;
        if has_cache_tag && self.is_cache(directory) {
            let tag_inode = 0;
            left_out = (directories.len() + others.len()).saturating_sub(1) as u64;
            (directories, others) = (Names::default(), Names::default());
            others.push(tag_inode, CACHE_TAG);
        }
        Ok(Contents {
            directories,
            others: Arc::new(others),
            left_out,
            broken,
        })
    }

    fn is_cache(&self, directory: &OwnedFd) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut start = [0; CACHE_SIGNATURE.len()];
        self.caches == Caches::TagOnly
            && open_noatime(directory, CACHE_TAG, flags)
                .and_then(|tag| pread(&tag, &mut start, 0))
                .is_ok_and(|count| start.get(..count) == Some(CACHE_SIGNATURE))
    }

    pub(super) fn attributes(&mut self, inode: InodeHandle<'_>) -> (Vec<Xattr>, Vec<XattrFailure>) {
        self.attributes.read(inode)
    }

    /// The rest of an entry that `stat` says is no directory; `paths` are its directory's.
    pub(super) fn rest(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        stat: &Stat,
        paths: &mut InodePath,
    ) -> Result<Rest, Errno> {
        let kind = match plain_kind(stat) {
            Some(kind) => kind,
            None => EntryKind::Symlink {
                target: readlinkat(parent, name, Vec::new())?.into_bytes(),
            },
        };
        let (xattrs, failures) = self.attributes(InodeHandle::Entry(paths.entry(name)));
        Ok(Rest {
            kind,
            xattrs,
            failures,
        })
    }

    /// Looks at one name after the other, at most `count` of them from `start` on; ends early
    /// when it takes long or `stop` says so.
    pub(super) fn look_at(
        &mut self,
        directory: &OwnedFd,
        names: &Names,
        start: usize,
        count: usize,
        stop: impl Fn() -> bool,
    ) -> Vec<Look> {
        let begin = Instant::now();
        let mut looks = Vec::with_capacity(count);
        let mut paths = if self.may_move && fchdir(directory).is_ok() {
            InodePath::in_current_directory()
        } else {
            InodePath::in_directory(directory.as_fd())
        };
        for index in start..start + count {
            let Some(name) = names.nth(index) else {
                break;
            };
            if stop() || begin.elapsed() > LOOK_TIME_MAX {
                break;
            }
            let stat = stat_entry(directory, name);
            let rest = match &stat {
                Ok(stat) if file_type(stat) != FileType::Directory => {
                    Some(self.rest(directory, name, stat, &mut paths))
                }
                _ => None,
            };
            looks.push(Look { stat, rest });
        }
        looks
    }
}

/// What the name of a directory stands for, itself and not what it may lead to.
pub(super) fn stat_entry(directory: &OwnedFd, name: &[u8]) -> Result<Stat, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    statat(directory, name, flags)
}
