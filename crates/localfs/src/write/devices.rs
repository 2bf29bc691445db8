//! The file systems that a restore writes to: the folder may hold mounts.
//!
//! Invariant: whatever is written lies on a file system of which a handle is held, and the handle was
//! opened before. The kernel tells each handle of errors since it was opened.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, fstat, openat, syncfs};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::error::Context;
use super::{WriteError, lock};
use crate::path::RelativePath;

/// How many file systems one folder may lie on, each for a handle of the usual 1,024. A subvolume of
/// btrfs counts as one.
const DEVICES_MAX: usize = 128;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Devices(Mutex<BTreeMap<u64, Arc<Device>>>);

#[derive(Debug)]
struct Device {
    fd: OwnedFd,
    /// What was written there first.
    path: RelativePath,
}

impl Devices {
    /// Notes the file system of a directory, before anything is written there.
    ///
    /// # Errors
    /// It is one more than can be noted, or the directory cannot be read.
    pub(super) fn note_directory(&self, fd: &OwnedFd, path: &RelativePath) -> Result<(), Errno> {
        // A mere place (`O_PATH`) cannot be synchronised.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.note(fstat(fd)?.st_dev, path, || {
            openat(fd, ".", flags, Mode::empty())
        })
    }

    /// Notes the file system of a file that was there: a single file can be mounted, too.
    ///
    /// # Errors
    /// It is one more than can be noted.
    pub(super) fn note_file(
        &self,
        fd: impl AsFd,
        device: u64,
        path: &RelativePath,
    ) -> Result<(), Errno> {
        self.note(device, path, || fcntl_dupfd_cloexec(fd, 0))
    }

    fn note(
        &self,
        device: u64,
        path: &RelativePath,
        open: impl FnOnce() -> Result<OwnedFd, Errno>,
    ) -> Result<(), Errno> {
        let mut devices = lock(&self.0);
        if devices.contains_key(&device) {
            return Ok(());
        }
        if devices.len() >= DEVICES_MAX {
            return Err(Errno::MFILE);
        }
        let (fd, path) = (open()?, path.clone());
        devices.insert(device, Arc::new(Device { fd, path }));
        Ok(())
    }

    /// Writes all of them out, also those behind one that fails.
    ///
    /// # Errors
    /// Of the first that could not be written.
    pub(super) fn sync(&self) -> Result<(), WriteError> {
        // The lock is not held over calls that take long.
        let devices: Vec<_> = lock(&self.0).values().map(Arc::clone).collect();
        let mut done = Ok(());
        for device in devices {
            let synced = syncfs(&device.fd).context("write out", &device.path);
            done = done.and(synced);
        }
        done
    }
}
