//! The stack of directories that a walk is in.
//!
//! Invariant: a handle that was closed to save descriptors is replaced only by a handle of the
//! same inode.

use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use super::listing::{Names, Place, Verdict};
use crate::attributes::Identity;

/// How many levels keep their handles: far below the usual limit of 1,024 descriptors, with room
/// for several walks at once, and deeper than nearly all folders.
const OPEN_LEVELS_MAX: usize = 64;

const OPEN_DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

struct Frame {
    handle: Option<Arc<OwnedFd>>,
    identity: Identity,
    /// How much of the walk's path leads to this directory.
    path_length: usize,
    /// Subdirectories that are still to be walked.
    directories: Names,
}

/// Directories from the root of the walk to the current one.
#[derive(Default)]
pub(crate) struct Frames {
    frames: Vec<Frame>,
}

impl Frames {
    pub(crate) fn push(
        &mut self,
        handle: Arc<OwnedFd>,
        identity: Identity,
        path_length: usize,
        directories: Names,
    ) {
        self.frames.push(Frame {
            handle: Some(handle),
            identity,
            path_length,
            directories,
        });
        // The root stays open: it is what everything else can be found from.
        if let Some(index) = self.frames.len().checked_sub(1 + OPEN_LEVELS_MAX)
            && index > 0
            && let Some(frame) = self.frames.get_mut(index)
        {
            frame.handle = None;
        }
    }

    pub(crate) fn depth(&self) -> usize {
        self.frames.len()
    }

    /// Takes the next subdirectory of the current directory into `name`, if there is one.
    /// Gives the length of the current directory's path; none when the walk is done.
    pub(crate) fn next(&mut self, name: &mut Vec<u8>) -> Option<(usize, Option<(Place, Verdict)>)> {
        let frame = self.frames.last_mut()?;
        Some((frame.path_length, frame.directories.pop(name)))
    }

    /// The subdirectories of the current directory that are still to be walked.
    pub(crate) fn directories(&mut self) -> Option<&mut Names> {
        Some(&mut self.frames.last_mut()?.directories)
    }

    /// The current directory's handle; `path` is the walk's path.
    pub(crate) fn handle(&mut self, path: &[u8]) -> Result<Arc<OwnedFd>, Errno> {
        let root = self.frames.first().and_then(|frame| frame.handle.clone());
        let frame = self.frames.last_mut().ok_or(Errno::BADF)?;
        if let Some(handle) = &frame.handle {
            return Ok(Arc::clone(handle));
        }
        let mut at = root.ok_or(Errno::BADF)?;
        let path = path.get(..frame.path_length).unwrap_or_default();
        for name in path.split(|b| *b == b'/') {
            at = Arc::new(openat(&at, name, OPEN_DIRECTORY, Mode::empty())?);
        }
        frame.same(&at)?;
        Ok(Arc::clone(frame.handle.insert(at)))
    }

    /// Leaves the current directory. If its parent's handle was closed, `..` leads back to it:
    /// one step, where from the root it would be as many as we are deep.
    pub(crate) fn pop(&mut self) {
        let Some(left) = self.frames.pop() else {
            return;
        };
        let (Some(handle), Some(parent)) = (left.handle, self.frames.last_mut()) else {
            return;
        };
        if parent.handle.is_none()
            && let Ok(above) = openat(&handle, "..", OPEN_DIRECTORY, Mode::empty())
            && parent.same(&above).is_ok()
        {
            parent.handle = Some(Arc::new(above));
        }
    }
}

impl Frame {
    /// Whether a reopened directory is the one that was listed and not one that took its place.
    fn same(&self, handle: &OwnedFd) -> Result<(), Errno> {
        if Identity::of(&fstat(handle)?) == self.identity {
            Ok(())
        } else {
            Err(Errno::STALE)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    /// A chain of directories deep enough that the upper ones are closed.
    struct Chain {
        base: tempfile::TempDir,
        frames: Frames,
    }

    const LEVELS: usize = OPEN_LEVELS_MAX + 10;

    impl Chain {
        fn new() -> Self {
            let base = tempfile::tempdir().unwrap();
            fs::create_dir_all(level(base.path(), LEVELS)).unwrap();
            let mut frames = Frames::default();
            for depth in 0..LEVELS {
                let path = level(base.path(), depth);
                let handle = rustix::fs::open(&path, OPEN_DIRECTORY, Mode::empty()).unwrap();
                let identity = Identity::of(&fstat(&handle).unwrap());
                let length = (2 * depth).saturating_sub(1);
                frames.push(Arc::new(handle), identity, length, Names::default());
            }
            Self { base, frames }
        }

        fn pop_to(&mut self, depth: usize) {
            while self.frames.depth() > depth + 1 {
                self.frames.pop();
            }
        }

        fn handle(&mut self) -> Result<Identity, Errno> {
            let path = vec!["d"; LEVELS].join("/").into_bytes();
            let handle = self.frames.handle(&path)?;
            Ok(Identity::of(&fstat(&handle)?))
        }
    }

    fn level(base: &Path, depth: usize) -> PathBuf {
        base.join(vec!["d"; depth].join("/"))
    }

    fn identity(path: &Path) -> Identity {
        Identity::of(&rustix::fs::stat(path).unwrap())
    }

    #[test]
    fn only_the_lowest_levels_and_the_root_stay_open() {
        let chain = Chain::new();
        let open = chain
            .frames
            .frames
            .iter()
            .filter(|frame| frame.handle.is_some());
        assert_eq!(open.count(), OPEN_LEVELS_MAX + 1);
    }

    #[test]
    fn closed_level_is_found_again() {
        let mut chain = Chain::new();
        for depth in (0..LEVELS).rev() {
            chain.pop_to(depth);
            let expected = identity(&level(chain.base.path(), depth));
            assert_eq!(chain.handle(), Ok(expected), "level {depth}");
        }
    }

    #[test]
    fn directory_that_was_moved_away_leads_nobody_out() {
        let mut chain = Chain::new();
        let outside = tempfile::tempdir().unwrap();
        chain.pop_to(6);
        let (fifth, sixth) = (level(chain.base.path(), 5), level(chain.base.path(), 6));
        fs::rename(sixth, outside.path().join("moved")).unwrap();
        let expected = identity(&fifth);
        chain.pop_to(5);
        // '..' leads outside now, the names from the root still to where it was.
        assert_eq!(chain.handle(), Ok(expected));
    }

    #[test]
    fn directory_that_took_the_place_of_another_is_not_taken_for_it() {
        let mut chain = Chain::new();
        let outside = tempfile::tempdir().unwrap();
        chain.pop_to(6);
        fs::rename(level(chain.base.path(), 5), outside.path().join("moved")).unwrap();
        fs::rename(outside.path().join("moved/d"), outside.path().join("d")).unwrap();
        fs::create_dir_all(level(chain.base.path(), 5)).unwrap();
        chain.pop_to(5);
        assert_eq!(chain.handle(), Err(Errno::STALE));
    }
}
