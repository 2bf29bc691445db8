//! What a folder of this machine has and the stored one does not.
//!
//! Invariant: nothing is removed from a file system that is mounted below the folder: what was not
//! mounted during the backup is not in the point, and is no stranger for that.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use refloat_model::cancel::Cancel;
use refloat_model::entry::{Entry, EntryKind};
use refloat_model::tree_path::TreePath;
use refloat_source::StoredPoint;

use super::failure::Failure;
use super::holding::child;

/// What the kernel says of this program's mounts.
const MOUNTS: &str = "/proc/self/mountinfo";

/// Removes from a folder what the stored one does not have.
pub(super) fn remove(
    point: &dyn StoredPoint,
    stored: &TreePath,
    place: &Path,
    cancel: &Cancel,
) -> Result<(), Failure> {
    if let Some(stranger) = mounted(point, stored, place)? {
        return Err(Failure::Needs(why_mounted(&stranger)));
    }
    let _all = each(point, stored, place, &mut |found| {
        cancel.check()?;
        remove_entry(found)?;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(())
}

/// Removes everything in a folder.
pub(super) fn remove_all(place: &Path) -> Result<(), Failure> {
    if let Some(mount) = mounts_below(place)?.first() {
        return Err(Failure::Needs(why_mounted(mount)));
    }
    for entry in fs::read_dir(place).map_err(Failure::local("list", place))? {
        let entry = entry.map_err(Failure::local("list", place))?;
        remove_entry(&entry)?;
    }
    Ok(())
}

/// Something on a file system mounted below `place` that the stored folder does not have.
pub(super) fn mounted(
    point: &dyn StoredPoint,
    stored: &TreePath,
    place: &Path,
) -> Result<Option<PathBuf>, Failure> {
    let real = place
        .canonicalize()
        .map_err(Failure::local("look at", place))?;
    for mount in mounts_below(&real)? {
        let mut path = stored.clone();
        for name in mount.strip_prefix(&real).into_iter().flatten() {
            path = child(&path, name.as_bytes())?;
        }
        match point.stat(&path)? {
            Some(entry) if entry.kind == EntryKind::Directory && mount.is_dir() => {
                if let Some(stranger) = first(point, &path, &mount)? {
                    return Ok(Some(stranger));
                }
            }
            Some(entry) if (entry.kind == EntryKind::Directory) == mount.is_dir() => {}
            _ => return Ok(Some(mount)),
        }
    }
    Ok(None)
}

/// What to do about something that is mounted in the way.
pub(super) fn why_mounted(stranger: &Path) -> String {
    format!(
        "{} is on a file system that is mounted there and is not in the recovery point: it would \
         be removed; unmount that file system first",
        stranger.display()
    )
}

/// Where file systems, or parts of them, are mounted below a folder.
pub(super) fn mounts_below(place: &Path) -> Result<Vec<PathBuf>, Failure> {
    let real = place
        .canonicalize()
        .map_err(Failure::local("look at", place))?;
    let table = fs::read(MOUNTS).map_err(Failure::local("read", MOUNTS))?;
    let places = table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(unescaped);
    Ok(places
        .filter(|mount| *mount != real && mount.starts_with(&real))
        .collect())
}

/// A path of the kernel's list: blanks, line ends and backslashes are octal there.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\');
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                path.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                path.push(*first);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(path).into()
}

/// The first thing in a folder that the stored one does not have.
fn first(
    point: &dyn StoredPoint,
    stored: &TreePath,
    place: &Path,
) -> Result<Option<PathBuf>, Failure> {
    let mut first = None;
    let _found = each(point, stored, place, &mut |found| {
        first = Some(found.path());
        Ok(ControlFlow::Break(()))
    })?;
    Ok(first)
}

/// Hands out what a folder has and the stored one does not.
fn each(
    point: &dyn StoredPoint,
    stored: &TreePath,
    place: &Path,
    act: &mut dyn FnMut(&fs::DirEntry) -> Result<ControlFlow<()>, Failure>,
) -> Result<ControlFlow<()>, Failure> {
    let entries = point.list(stored)?;
    for found in fs::read_dir(place).map_err(Failure::local("list", place))? {
        let found = found.map_err(Failure::local("list", place))?;
        let flow = match likeness(&entries, &found) {
            Likeness::Folder => {
                let below = child(stored, found.file_name().as_bytes())?;
                each(point, &below, &found.path(), act)?
            }
            Likeness::Leaf => ControlFlow::Continue(()),
            Likeness::Stranger => act(&found)?,
        };
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn remove_entry(entry: &fs::DirEntry) -> Result<(), Failure> {
    let path = entry.path();
    let removed = match is_folder(entry) {
        true => fs::remove_dir_all(&path),
        false => fs::remove_file(&path),
    };
    removed.map_err(Failure::local("remove", path))
}

/// What something found is to the stored entries.
enum Likeness {
    /// Both are folders.
    Folder,
    /// Neither is: what is stored takes its place.
    Leaf,
    Stranger,
}

fn likeness(entries: &[Entry], found: &fs::DirEntry) -> Likeness {
    let name = found.file_name();
    let same = entries.iter().find(|entry| entry.name == name.as_bytes());
    match (same.map(|entry| &entry.kind), is_folder(found)) {
        (Some(EntryKind::Directory), true) => Likeness::Folder,
        (None, _) | (Some(EntryKind::Directory), false) | (Some(_), true) => Likeness::Stranger,
        (Some(_), false) => Likeness::Leaf,
    }
}

fn is_folder(entry: &fs::DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_way_to_write_paths_is_read() {
        for (text, path) in [
            ("/srv/media", "/srv/media"),
            ("/srv/my\\040nas", "/srv/my nas"),
            ("/srv/a\\134040", "/srv/a\\040"),
            ("/srv/a\\9", "/srv/a\\9"),
        ] {
            assert_eq!(unescaped(text.as_bytes()), Path::new(path), "{text}");
        }
    }

    #[test]
    fn only_what_is_mounted_inside_counts() {
        assert!(
            mounts_below(Path::new("/"))
                .unwrap()
                .contains(&"/proc".into())
        );
        assert_eq!(
            mounts_below(Path::new("/proc/self/fdinfo")).unwrap(),
            Vec::<PathBuf>::new()
        );
    }
}
