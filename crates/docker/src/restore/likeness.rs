//! Whether a folder of this machine is what the point holds, without reading content.
//!
//! Names, kinds, sizes, times, owners and modes are compared, as the parent rule of backups does.
//!
//! Invariant: "like" only if both have the same entries; a folder that cannot be read is unlike.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use refloat_model::entry::{Entry, EntryKind};
use refloat_model::tree_path::TreePath;
use refloat_source::StoredPoint;

/// Compares what the stored directory holds with what the folder holds; the first difference.
pub(super) fn compare(point: &dyn StoredPoint, stored: &TreePath, folder: &Path) -> Option<String> {
    let entries = match point.list(stored) {
        Ok(entries) => entries,
        Err(error) => return Some(error.to_string()),
    };
    let found = match fs::read_dir(folder) {
        Ok(found) => found.count(),
        Err(error) => return Some(format!("{}: {error}", folder.display())),
    };
    if found != entries.len() {
        return Some(format!(
            "{} has {found} entries, not {}",
            folder.display(),
            entries.len()
        ));
    }
    entries.iter().find_map(|entry| {
        let place = folder.join(OsStr::from_bytes(&entry.name));
        let path = stored.clone().join(&entry.name).ok()?;
        compare_known(point, &path, entry, &place)
    })
}

/// Compares one stored entry, a file or a directory, with what is at `place`.
pub(super) fn compare_entry(
    point: &dyn StoredPoint,
    stored: &TreePath,
    place: &Path,
) -> Option<String> {
    match point.stat(stored) {
        Ok(Some(entry)) => compare_known(point, stored, &entry, place),
        Ok(None) => Some(format!("{stored} is not in the recovery point")),
        Err(error) => Some(error.to_string()),
    }
}

fn compare_known(
    point: &dyn StoredPoint,
    stored: &TreePath,
    entry: &Entry,
    place: &Path,
) -> Option<String> {
    let unlike = |what: &str| Some(format!("{} {what}", place.display()));
    let found = match place.symlink_metadata() {
        Ok(found) => found,
        Err(error) => return unlike(&format!("cannot be looked at: {error}")),
    };
    let kind = found.file_type();
    let same_kind = match &entry.kind {
        EntryKind::File { .. } => kind.is_file(),
        EntryKind::Directory => kind.is_dir(),
        EntryKind::Symlink { .. } => kind.is_symlink(),
        EntryKind::BlockDevice { .. } => kind.is_block_device(),
        EntryKind::CharacterDevice { .. } => kind.is_char_device(),
        EntryKind::Fifo => kind.is_fifo(),
        EntryKind::Socket => kind.is_socket(),
    };
    if !same_kind {
        return unlike("is of another kind");
    }
    let metadata = &entry.metadata;
    if (found.uid(), found.gid()) != (metadata.uid, metadata.gid) {
        return unlike("has another owner");
    }
    match &entry.kind {
        EntryKind::Symlink { target } => {
            let points_to = fs::read_link(place).ok()?;
            if points_to.as_os_str().as_bytes() != target {
                return unlike("points elsewhere");
            }
            None
        }
        _ if found.mode() & 0o7777 != metadata.mode => unlike("has another mode"),
        EntryKind::File { size } if found.len() != *size => unlike("has another size"),
        EntryKind::File { .. } => {
            let time = (
                metadata.modified.seconds,
                i64::from(metadata.modified.nanoseconds),
            );
            let same = (found.mtime(), found.mtime_nsec()) == time;
            if same {
                None
            } else {
                unlike("has another time")
            }
        }
        EntryKind::Directory => compare(point, stored, place),
        _ => None,
    }
}
