//! Removing entries, for restores that delete what the point does not have.
//!
//! Invariant: symbolic links are removed, never followed; a directory is emptied by its handle.

use std::os::fd::AsFd;
use std::sync::Arc;

use refloat_model::cancel::Cancel;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, fstat, openat, unlinkat};
use rustix::io::Errno;

use super::error::Context;
use super::{FolderWriter, WriteError};
use crate::attributes::Identity;
use crate::path::RelativePath;
use crate::walk::frames::Frames;
use crate::walk::listing::Lister;

impl FolderWriter {
    /// Removes the entry at `path`, and everything in it if it is a directory. Nothing there is
    /// no error. Returns how many entries were removed.
    ///
    /// # Errors
    /// Something cannot be removed; what was removed before stays removed. A cancelled run is
    /// an error of kind `Interrupted`.
    pub fn remove(&self, path: &RelativePath, cancel: &Cancel) -> Result<u64, WriteError> {
        let (parent, name) = self.place(path)?;
        match unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) => return Ok(1),
            Err(Errno::NOENT) => return Ok(0),
            Err(Errno::ISDIR) => {}
            Err(errno) => return Err(WriteError::new("remove", path, errno)),
        }
        self.forget_directories();
        let mut removal = Removal {
            lister: Lister::new(),
            frames: Frames::default(),
            path: Vec::new(),
            count: 0,
        };
        removal.run(&parent, name, cancel).context("remove", path)?;
        Ok(removal.count)
    }
}

struct Removal {
    lister: Lister,
    frames: Frames,
    /// Of the directory at hand, below the one that is removed.
    path: Vec<u8>,
    count: u64,
}

impl Removal {
    fn run(&mut self, parent: &OwnedFd, name: &[u8], cancel: &Cancel) -> Result<(), Errno> {
        self.empty(parent, name)?;
        let mut child = Vec::new();
        while let Some((length, found)) = self.frames.next(&mut child) {
            cancel.check().map_err(|_cancelled| Errno::INTR)?;
            self.path.truncate(length);
            if found.is_some() {
                let directory = self.frames.handle(&self.path)?;
                if !self.path.is_empty() {
                    self.path.push(b'/');
                }
                self.path.extend_from_slice(&child);
                self.empty(directory.as_fd(), &child)?;
                continue;
            }
            self.frames.pop();
            let start = self.path.iter().rposition(|b| *b == b'/');
            let emptied = self.path.split_off(start.unwrap_or(0));
            if self.frames.depth() > 0 {
                let emptied = emptied.strip_prefix(b"/").unwrap_or(&emptied);
                let directory = self.frames.handle(&self.path)?;
                unlinkat(&directory, emptied, AtFlags::REMOVEDIR)?;
                self.count += 1;
            }
        }
        unlinkat(parent, name, AtFlags::REMOVEDIR)?;
        self.count += 1;
        Ok(())
    }

    /// Removes all but the subdirectories, and makes this the current directory.
    fn empty(&mut self, parent: impl AsFd, name: &[u8]) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(parent, name, flags, Mode::empty())?;
        let identity = Identity::of(&fstat(&directory)?);
        let mut listing = self.lister.list(&directory)?;
        if let Some(errno) = listing.broken {
            return Err(errno);
        }
        let mut other = Vec::new();
        while listing.others.pop(&mut other).is_some() {
            match unlinkat(&directory, other.as_slice(), AtFlags::empty()) {
                Ok(()) => self.count += 1,
                Err(Errno::NOENT) => {}
                // A file system that does not tell types when it lists.
                Err(Errno::ISDIR) => listing.directories.push(0, &other),
                Err(errno) => return Err(errno),
            }
        }
        let length = self.path.len();
        self.frames
            .push(Arc::new(directory), identity, length, listing.directories);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// The moment that a race rarely hits: listed as a directory, a link when it is opened.
    #[test]
    fn directory_that_became_a_link_is_not_emptied() {
        let base = tempfile::tempdir().unwrap();
        let outside = base.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("canary"), b"alive").unwrap();
        symlink(&outside, base.path().join("was a directory")).unwrap();
        let parent = fs::File::open(base.path()).unwrap();
        let mut removal = Removal {
            lister: Lister::new(),
            frames: Frames::default(),
            path: Vec::new(),
            count: 0,
        };
        let refused = removal.empty(&parent, b"was a directory");
        assert_eq!(refused, Err(Errno::NOTDIR));
        assert_eq!(removal.count, 0);
        assert_eq!(fs::read(outside.join("canary")).unwrap(), b"alive");
    }
}
