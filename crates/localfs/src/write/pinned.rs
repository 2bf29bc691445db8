//! Metadata, set on an inode that is held and not on a name.
//!
//! Invariant: nothing here resolves a name that somebody else could replace.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};

use refloat_model::entry::{Metadata, Xattr};
use refloat_model::time::Timestamp;
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, fchmod,
    fchown, fremovexattr, fsetxattr, fstat, futimens, removexattr, setxattr, utimensat,
};
use rustix::io::Errno;

use crate::attributes::{ExtendedAttributes, InodeHandle, file_type, proc_path};
use crate::findings::Findings;
use crate::path::RelativePath;

/// What could not be set and is fatal for the entry.
pub(super) struct Fatal {
    pub(super) operation: &'static str,
    pub(super) errno: Errno,
}

/// An inode held by a handle.
pub(super) struct Pinned<'a> {
    fd: BorrowedFd<'a>,
    way: Way,
    path: &'a RelativePath,
}

/// How calls reach the inode.
enum Way {
    /// The handle is open for reading or writing: the calls take it as it is, which spares the
    /// kernel a path, a third of what setting a small file's metadata costs.
    Handle,
    /// The handle is a mere place (`O_PATH`), which those calls refuse: `/proc/self/fd/<n>` leads
    /// to exactly this inode, also when it is a symbolic link.
    Proc(CString),
}

impl<'a> Pinned<'a> {
    /// Of a handle that may be a mere place.
    pub(super) fn new(fd: &'a impl AsFd, path: &'a RelativePath) -> Self {
        Self {
            way: Way::Proc(proc_path(fd.as_fd())),
            fd: fd.as_fd(),
            path,
        }
    }

    /// Of an open file.
    pub(super) fn open(fd: &'a impl AsFd, path: &'a RelativePath) -> Self {
        Self {
            way: Way::Handle,
            fd: fd.as_fd(),
            path,
        }
    }

    /// Sets owner, attributes, mode and times, in this order: a change of owner clears set-id
    /// bits and capabilities, an ACL changes the mode, everything changes the times.
    ///
    /// What the system refuses to this user, or this file system does not know, is a finding.
    pub(super) fn apply(&self, metadata: &Metadata, findings: &mut Findings) -> Result<(), Fatal> {
        let before = self.stat()?;
        let owned = self.own(&before, metadata, findings)?;
        self.attributes(&metadata.xattrs, findings)?;
        if file_type(&before) != rustix::fs::FileType::Symlink {
            self.mode(metadata.mode, owned, findings)?;
        }
        let times = Timestamps {
            last_access: timespec(metadata.accessed),
            last_modification: timespec(metadata.modified),
        };
        let set = match &self.way {
            Way::Handle => futimens(self.fd, &times),
            Way::Proc(path) => utimensat(CWD, path.as_c_str(), &times, AtFlags::empty()),
        };
        self.tolerate(set, "set the times of", findings)?;
        Ok(())
    }

    /// Whether setting `metadata` would change nothing.
    pub(super) fn has(&self, metadata: &Metadata) -> Result<bool, Fatal> {
        let stat = self.stat()?;
        let modified = Timestamp {
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        };
        let plain = stat.st_mode & 0o7777 == metadata.mode
            && (stat.st_uid, stat.st_gid) == (metadata.uid, metadata.gid)
            && modified == metadata.modified;
        Ok(plain && self.current_attributes() == metadata.xattrs)
    }

    pub(super) fn is_directory(&self) -> Result<bool, Fatal> {
        Ok(file_type(&self.stat()?) == rustix::fs::FileType::Directory)
    }

    fn stat(&self) -> Result<Stat, Fatal> {
        fstat(self.fd).map_err(|errno| Fatal {
            operation: "stat",
            errno,
        })
    }

    /// Which of user and group are now as wanted.
    fn own(
        &self,
        before: &Stat,
        wanted: &Metadata,
        findings: &mut Findings,
    ) -> Result<Owned, Fatal> {
        let mut owned = Owned {
            user: before.st_uid == wanted.uid,
            group: before.st_gid == wanted.gid,
        };
        if owned.user && owned.group {
            return Ok(owned);
        }
        let (uid, gid) = (Uid::from_raw(wanted.uid), Gid::from_raw(wanted.gid));
        if self.chown(Some(uid), Some(gid)).is_ok() {
            return Ok(Owned {
                user: true,
                group: true,
            });
        }
        // One of them may be allowed: a user may give files to any of their groups.
        if !owned.user {
            owned.user =
                self.tolerate(self.chown(Some(uid), None), "set the owner of", findings)?;
        }
        if !owned.group {
            owned.group =
                self.tolerate(self.chown(None, Some(gid)), "set the group of", findings)?;
        }
        Ok(owned)
    }

    fn chown(&self, uid: Option<Uid>, gid: Option<Gid>) -> Result<(), Errno> {
        match &self.way {
            Way::Handle => fchown(self.fd, uid, gid),
            Way::Proc(path) => chownat(CWD, path.as_c_str(), uid, gid, AtFlags::empty()),
        }
    }

    /// A set-id bit means "run as its owner": with another owner than the wanted one it would
    /// lend the rights of whoever restored.
    fn mode(&self, mode: u32, owned: Owned, findings: &mut Findings) -> Result<(), Fatal> {
        let mut safe = mode;
        if !owned.user {
            safe &= !0o4000;
        }
        if !owned.group && mode & 0o010 != 0 {
            safe &= !0o2000;
        }
        if safe != mode {
            findings.warn(self.path.as_bytes(), || {
                "set-id bits are left out because its owner could not be restored".to_owned()
            });
        }
        let mode = Mode::from_raw_mode(safe);
        let set = match &self.way {
            Way::Handle => fchmod(self.fd, mode),
            Way::Proc(path) => chmodat(CWD, path.as_c_str(), mode, AtFlags::empty()),
        };
        self.tolerate(set, "set the mode of", findings)?;
        Ok(())
    }

    fn attributes(&self, wanted: &[Xattr], findings: &mut Findings) -> Result<(), Fatal> {
        let current = self.current_attributes();
        for xattr in &current {
            let is_wanted = wanted.iter().any(|w| w.name == xattr.name);
            if !is_wanted
                && is_ours_to_remove(&xattr.name)
                && let Ok(name) = CString::new(xattr.name.as_slice())
            {
                let removed = match &self.way {
                    Way::Handle => fremovexattr(self.fd, name),
                    Way::Proc(path) => removexattr(path.as_c_str(), name),
                };
                let removed = match removed {
                    Err(Errno::NODATA) => Ok(()),
                    result => result,
                };
                self.tolerate(removed, "remove an extended attribute of", findings)?;
            }
        }
        for xattr in wanted.iter().filter(|xattr| !current.contains(xattr)) {
            let set = match CString::new(xattr.name.as_slice()) {
                Ok(name) => match &self.way {
                    Way::Handle => fsetxattr(self.fd, name, &xattr.value, XattrFlags::empty()),
                    Way::Proc(path) => {
                        setxattr(path.as_c_str(), name, &xattr.value, XattrFlags::empty())
                    }
                },
                Err(_nul) => Err(Errno::INVAL),
            };
            if let Err(errno) = set {
                if !is_tolerable(errno) && !is_for_lack_of_room(errno) {
                    let operation = "set an extended attribute of";
                    return Err(Fatal { operation, errno });
                }
                findings.warn(self.path.as_bytes(), || {
                    let name = String::from_utf8_lossy(&xattr.name);
                    let cause = std::io::Error::from(errno);
                    format!("cannot set extended attribute {name}: {cause}")
                });
            }
        }
        Ok(())
    }

    /// What cannot be read is treated as not there: setting it will tell.
    fn current_attributes(&self) -> Vec<Xattr> {
        let inode = match &self.way {
            Way::Handle => InodeHandle::Open(self.fd),
            Way::Proc(path) => InodeHandle::Pinned(path),
        };
        let (xattrs, _unread) = ExtendedAttributes::new().read(inode);
        xattrs
    }

    /// True if it was done; a refusal that the user has to live with becomes a finding.
    fn tolerate(
        &self,
        result: Result<(), Errno>,
        operation: &'static str,
        findings: &mut Findings,
    ) -> Result<bool, Fatal> {
        match result {
            Ok(()) => Ok(true),
            Err(errno) if is_tolerable(errno) => {
                let cause = std::io::Error::from(errno);
                findings.warn(self.path.as_bytes(), || {
                    format!("cannot {operation} it: {cause}")
                });
                Ok(false)
            }
            Err(errno) => Err(Fatal { operation, errno }),
        }
    }
}

/// Whether user and group are those of the metadata.
#[derive(Clone, Copy)]
struct Owned {
    user: bool,
    group: bool,
}

/// Refusals for lack of rights, or of support by the file system, as opposed to trouble.
fn is_tolerable(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::INVAL | Errno::TOOBIG
    )
}

/// Refusals of attributes that another file system had room for: ext4 keeps all of an inode's in one
/// block and says that the disk is full. Should it be, the next file's content will meet that.
fn is_for_lack_of_room(errno: Errno) -> bool {
    matches!(errno, Errno::NOSPC | Errno::DQUOT | Errno::RANGE)
}

/// Attributes that a new file inherits or an old one had, and the point does not: labels that
/// the system itself sets (`security.selinux`, `security.ima` …) are none of these.
fn is_ours_to_remove(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name.starts_with(b"system.posix_acl_")
        || name == b"security.capability"
}

fn timespec(time: Timestamp) -> Timespec {
    Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.min(999_999_999).into(),
    }
}
