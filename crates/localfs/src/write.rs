//! Restoring beneath a folder.
//!
//! A file is written without a name (`O_TMPFILE`) and gets its name, in one step, when its content
//! and metadata are complete; an older entry of that name stays until then. Where the file system
//! has no nameless files, a name of ours (`.refloat-…`) takes their place.
//!
//! Crash behaviour: a file is absent (or old) or complete; nothing half-written has its name,
//! except with [`Landing::InPlace`]. Directories that were not finished are private to us (mode
//! 0700) or as they were. Restoring again converges. After [`FolderWriter::sync`] a power cut
//! changes nothing; before it, a file may come back empty or absent.
//!
//! Invariant: nothing outside the folder changes, whatever is planted in it beforehand or moved
//! about in it meanwhile: not by link, not by name, and not through a hard link that the folder
//! shares with the outside.

mod devices;
mod error;
mod existing;
mod file;
mod holes;
mod node;
mod pinned;
mod place;
mod privileges;
mod remove;
mod resolve;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use refloat_model::entry::Metadata;
use rustix::fd::OwnedFd;
use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, access, chmodat, fstat, mkdirat, openat, statat,
    unlinkat,
};
use rustix::io::Errno;

use crate::attributes::{Identity, file_type, proc_path};
use crate::findings::Findings;
use crate::path::RelativePath;
use devices::Devices;
use error::{Context, not_new};
use pinned::Pinned;

pub use error::WriteError;
pub use existing::ExistingFile;
pub use file::{FileHandle, Landing};
pub use holes::is_zeros;
pub use privileges::{LEFT_OUT, Privileges};
pub use resolve::Resolution;

/// How many directories are kept open for the entries that come next.
const DIRECTORIES_OPEN_MAX: usize = 64;

/// How often somebody may put something else in a place that we clear before we give up.
const REPLACED_MAX: u32 = 100;

/// Restores beneath one folder. Its calls may come from several threads at once.
#[derive(Debug)]
pub struct FolderWriter {
    root: OwnedFd,
    resolution: Resolution,
    privileges: Privileges,
    is_root_user: bool,
    /// Directories by path. Dropped as a whole when full, and when a directory is removed.
    open: Mutex<HashMap<Vec<u8>, Arc<OwnedFd>>>,
    devices: Devices,
    /// Makes names for entries that have to take the place of others.
    names: AtomicU64,
    findings: Mutex<Findings>,
    /// Cleared when a file system turns out to have no nameless files.
    nameless: AtomicBool,
}

/// An entry that this writer made or kept: what may be linked to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Restored {
    identity: Identity,
}

/// What became of a directory that was wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DirectoryState {
    /// It is new, empty and private to us until its metadata is set.
    Created,
    /// It was there; what it holds stays.
    Existing,
}

impl FolderWriter {
    /// Opens an existing folder. Symbolic links may lead to it, but it may not itself be one:
    /// then somebody could have chosen where we write.
    ///
    /// # Errors
    /// It is not there, is no directory, or is a symbolic link.
    pub fn open(folder: &Path) -> Result<Self, WriteError> {
        let mut writer = Self::open_with(folder, Resolution::PerName)?;
        writer.resolution = Resolution::detect(&writer.root);
        Ok(writer)
    }

    /// As [`open`](Self::open), with a given way to resolve paths.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(folder: &Path, resolution: Resolution) -> Result<Self, WriteError> {
        access("/proc/self/fd", Access::EXISTS).map_err(|_absent| WriteError::NoProc)?;
        // A trailing slash would make the kernel follow a link in spite of NOFOLLOW.
        let plain: PathBuf = folder.components().collect();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = openat(CWD, &plain, flags, Mode::empty()).map_err(|errno| WriteError::Root {
            path: folder.to_owned(),
            source: errno.into(),
        })?;
        let (devices, at) = (Devices::default(), RelativePath::root());
        devices.note_directory(&root, &at).context("open", &at)?;
        Ok(Self {
            root,
            resolution,
            privileges: Privileges::default(),
            is_root_user: rustix::process::geteuid().is_root(),
            open: Mutex::default(),
            devices,
            names: AtomicU64::new(0),
            findings: Mutex::default(),
            nameless: AtomicBool::new(true),
        })
    }

    /// The same writer with another way to treat set-id bits, devices and capabilities.
    #[must_use]
    pub fn with_privileges(self, privileges: Privileges) -> Self {
        Self { privileges, ..self }
    }

    /// How this writer resolves paths.
    #[must_use]
    pub fn resolution(&self) -> Resolution {
        self.resolution
    }

    /// What could not be restored of entries that otherwise were: owners, attributes. Taken out.
    #[must_use]
    pub fn take_findings(&self) -> Findings {
        std::mem::take(&mut *lock(&self.findings))
    }

    /// Makes sure that `path` and all directories above it are real directories. Entries of other
    /// kinds that have these names, also symbolic links to directories, are replaced.
    ///
    /// # Errors
    /// The system refuses.
    pub fn create_directory(&self, path: &RelativePath) -> Result<DirectoryState, WriteError> {
        let Some((parent_path, name)) = split(path) else {
            return Ok(DirectoryState::Existing);
        };
        let parent = match self.directory(&parent_path) {
            Ok(parent) => parent,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => self.create_above(&parent_path)?,
            Err(errno) => return Err(WriteError::new("open", &parent_path, errno)),
        };
        self.ensure_directory(&parent, name, path)
    }

    /// Makes a directory in one that this restore made, where nothing has its name.
    ///
    /// # Errors
    /// The system refuses. [`Taken`](WriteError::Taken) if something has the name.
    pub fn create_new_directory(&self, path: &RelativePath) -> Result<(), WriteError> {
        let (parent, name) = self.place(path)?;
        let made = mkdirat(&parent, name, Mode::RWXU);
        made.map_err(|errno| not_new("create the directory", path, errno))
    }

    fn create_above(&self, path: &RelativePath) -> Result<Arc<OwnedFd>, WriteError> {
        let (mut at, mut done) = (
            self.directory(&RelativePath::root())
                .context("open", path)?,
            RelativePath::root(),
        );
        for name in path.components() {
            done = done.join(name)?;
            self.ensure_directory(&at, name, &done)?;
            at = self.directory(&done).context("open", &done)?;
        }
        Ok(at)
    }

    fn ensure_directory(
        &self,
        parent: &OwnedFd,
        name: &[u8],
        path: &RelativePath,
    ) -> Result<DirectoryState, WriteError> {
        for _ in 0..REPLACED_MAX {
            match mkdirat(parent, name, Mode::RWXU) {
                Ok(()) => return Ok(DirectoryState::Created),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(WriteError::new("create the directory", path, errno)),
            }
            match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if file_type(&stat) == FileType::Directory => {
                    self.make_accessible(parent, name, stat.st_mode);
                    return Ok(DirectoryState::Existing);
                }
                Ok(_) => match unlinkat(parent, name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
                    Err(errno) => return Err(WriteError::new("replace", path, errno)),
                },
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(WriteError::new("stat", path, errno)),
            }
        }
        Err(WriteError::Replaced(path.clone()))
    }

    /// Lets a user who is not root write into a directory of their own that forbids it. If this
    /// fails, so will writing, with a better message.
    fn make_accessible(&self, parent: &OwnedFd, name: &[u8], mode: u32) {
        if self.is_root_user || mode & 0o700 == 0o700 {
            return;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if let Ok(fd) = openat(parent, name, flags, Mode::empty()) {
            let path = proc_path(fd.as_fd());
            let mode = Mode::from_raw_mode((mode & 0o7777) | 0o700);
            // Best effort, see above.
            let _refused = chmodat(CWD, path.as_c_str(), mode, AtFlags::empty());
        }
    }

    /// Sets a directory's metadata (the root's too). Last, because whatever is created in a
    /// directory changes its times; deepest first, because a mode may lock us out.
    ///
    /// # Errors
    /// It is not there, or the system is in trouble; mere refusals are findings.
    pub fn set_directory_metadata(
        &self,
        path: &RelativePath,
        metadata: &Metadata,
    ) -> Result<(), WriteError> {
        let directory = self.directory(path).context("open", path)?;
        self.apply(&Pinned::new(&directory, path), path, metadata)
    }

    /// Gives us what we need to write into the root, if it is ours: a restore that was interrupted may have left it
    /// without.
    pub fn make_root_accessible(&self) {
        if let Ok(stat) = fstat(&self.root) {
            self.make_accessible(&self.root, b".", stat.st_mode);
        }
    }

    /// Makes all that was restored survive a power cut, on every file system below the root.
    ///
    /// # Errors
    /// Something could not be written: then what was restored is not to be trusted.
    pub fn sync(&self) -> Result<(), WriteError> {
        self.devices.sync()
    }

    /// Applies metadata to an inode.
    fn apply(
        &self,
        inode: &Pinned<'_>,
        path: &RelativePath,
        metadata: &Metadata,
    ) -> Result<(), WriteError> {
        // Findings are collected apart: the lock is not held over system calls.
        let mut findings = Findings::default();
        let metadata = match self.privileges {
            Privileges::Restored => Cow::Borrowed(metadata),
            Privileges::LeftOut => {
                let is_directory = inode.is_directory();
                let is_directory = is_directory
                    .map_err(|fatal| WriteError::new(fatal.operation, path, fatal.errno))?;
                self.plain(path, metadata, is_directory)
            }
        };
        let applied = inode.apply(&metadata, &mut findings);
        if findings.count() > 0 {
            lock(&self.findings).append(findings);
        }
        applied.map_err(|fatal| WriteError::new(fatal.operation, path, fatal.errno))
    }

    /// Metadata as this writer sets it; what it leaves out is a finding.
    fn plain<'m>(
        &self,
        path: &RelativePath,
        metadata: &'m Metadata,
        is_directory: bool,
    ) -> Cow<'m, Metadata> {
        if self.privileges == Privileges::Restored {
            return Cow::Borrowed(metadata);
        }
        let (metadata, left_out) = privileges::without(metadata, is_directory);
        if let Some(what) = left_out {
            lock(&self.findings).warn(path.as_bytes(), || format!("{what}: {LEFT_OUT}"));
        }
        metadata
    }

    /// The directory at `path` as a place for `…at` calls.
    fn directory(&self, path: &RelativePath) -> Result<Arc<OwnedFd>, Errno> {
        if let Some(open) = lock(&self.open).get(path.as_bytes()) {
            return Ok(Arc::clone(open));
        }
        let directory = Arc::new(self.resolve(path)?);
        self.devices.note_directory(&directory, path)?;
        let mut open = lock(&self.open);
        if open.len() >= DIRECTORIES_OPEN_MAX {
            open.clear();
        }
        open.insert(path.as_bytes().to_vec(), Arc::clone(&directory));
        Ok(directory)
    }

    /// Goes on from the parent if that is open: in deep trees the way from the root is long.
    fn resolve(&self, path: &RelativePath) -> Result<OwnedFd, Errno> {
        if let Some((parent, name)) = split(path) {
            let parent = lock(&self.open).get(parent.as_bytes()).map(Arc::clone);
            if let Some(parent) = parent {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                return openat(&parent, name, flags, Mode::empty());
            }
        }
        self.resolution.directory(&self.root, path)
    }

    fn forget_directories(&self) {
        lock(&self.open).clear();
    }

    fn place<'a>(&self, path: &'a RelativePath) -> Result<Place<'a>, WriteError> {
        let Some((parent, name)) = split(path) else {
            let (operation, path) = ("create", path.clone());
            return Err(WriteError::Kind { operation, path });
        };
        let parent = self
            .directory(&parent)
            .context("open the directory of", path)?;
        Ok((parent, name))
    }
}

/// The place of an entry: the directory that holds it, and its name.
type Place<'a> = (Arc<OwnedFd>, &'a [u8]);

fn split(path: &RelativePath) -> Option<(RelativePath, &[u8])> {
    Some((path.parent()?, path.name()?))
}

/// What is behind these locks is whole at all times, also after a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
