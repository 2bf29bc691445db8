//! What the kernel's error numbers mean for a caller of the storage.
//!
//! Invariant: only numbers that may pass by themselves count as unavailable.

use rustix::io::Errno;

use crate::StorageErrorKind;

/// The kind of an error number.
///
/// `EIO` may pass on network and FUSE file systems, and a repeated write starts with a new file,
/// never with a second `fsync` of one that failed.
pub(super) fn kind(errno: Errno) -> StorageErrorKind {
    match errno {
        Errno::NOENT => StorageErrorKind::NotFound,
        Errno::EXIST => StorageErrorKind::AlreadyExists,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => StorageErrorKind::Denied,
        Errno::NOSPC | Errno::DQUOT => StorageErrorKind::Full,
        Errno::IO
        | Errno::REMOTEIO
        | Errno::TIMEDOUT
        | Errno::STALE
        | Errno::AGAIN
        | Errno::BUSY
        | Errno::NETDOWN
        | Errno::NETUNREACH
        | Errno::HOSTDOWN
        | Errno::HOSTUNREACH
        | Errno::CONNABORTED
        | Errno::CONNREFUSED
        | Errno::CONNRESET
        | Errno::NOTCONN
        | Errno::SHUTDOWN
        | Errno::NODEV
        | Errno::NXIO
        | Errno::NOLCK
        | Errno::MFILE
        | Errno::NFILE
        | Errno::NOMEM => StorageErrorKind::Unavailable,
        _ => StorageErrorKind::Failed,
    }
}
