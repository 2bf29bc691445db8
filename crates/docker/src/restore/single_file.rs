//! One stored file, written with its owner, mode, times and attributes.
//!
//! Invariant: the file is new: its folder is ours alone while it is written.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;
use std::time::{Duration, SystemTime};

use refloat_model::entry::Entry;
use refloat_model::tree_path::TreePath;
use refloat_source::StoredPoint;

use super::failure::Failure;

/// Writes the file stored at `path` under its own name into `folder`.
pub(super) fn write(
    point: &dyn StoredPoint,
    path: &TreePath,
    entry: &Entry,
    folder: &Path,
) -> Result<(), Failure> {
    let place = folder.join(OsStr::from_bytes(&entry.name));
    let mut content = point.open(path)?;
    let metadata = &entry.metadata;
    let mut written = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&place)?;
        io::copy(&mut content, &mut file)?;
        // Owner first: changing it drops set-id bits. Attributes before the time they would change.
        chown(&place, Some(metadata.uid), Some(metadata.gid))?;
        for xattr in &metadata.xattrs {
            xattr::set(&place, OsStr::from_bytes(&xattr.name), &xattr.value)?;
        }
        file.set_permissions(fs::Permissions::from_mode(metadata.mode))?;
        let seconds = u64::try_from(metadata.modified.seconds).unwrap_or(0);
        let time = Duration::new(seconds, metadata.modified.nanoseconds);
        file.set_modified(SystemTime::UNIX_EPOCH + time)?;
        file.sync_all()
    };
    written().map_err(Failure::local("write", &place))
}
