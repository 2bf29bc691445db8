//! Listing the files of a kind.
//!
//! Invariant: a listing is complete or an error; what vanishes meanwhile was deleted by somebody,
//! and what stands in a file's place and is none is named, never passed over.

use std::os::fd::OwnedFd;
use std::path::Path;

use refloat_model::time::Timestamp;
use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use super::folder::{self, Root};
use crate::{FileKey, FileKind, Listed};

/// Why a folder is not listed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unlisted {
    #[error(transparent)]
    Errno(#[from] Errno),
    /// Left out, it would read as deleted, and a prune would take away what it needs.
    #[error("{path} is {found} in the place of {expected}; links are not followed")]
    Strange {
        path: String,
        found: &'static str,
        expected: &'static str,
    },
}

pub(super) fn list(root: &Path, kind: FileKind) -> Result<Vec<Listed>, Unlisted> {
    let root = Root::open(root)?;
    let mut files = Vec::new();
    match kind {
        FileKind::Config => list_config(&root, &mut files)?,
        FileKind::Pack => list_packs(&root, &mut files)?,
        kind => {
            if let Some(folder) = root.kind(kind)? {
                list_folder(&folder, kind, None, &mut files)?;
            }
        }
    }
    // A folder that changes while it is read may show an entry twice.
    files.sort_unstable_by_key(|file| file.key);
    files.dedup_by_key(|file| file.key);
    Ok(files)
}

fn list_config(root: &Root, files: &mut Vec<Listed>) -> Result<(), Unlisted> {
    files.extend(examine(root.fd(), "config", FileKey::CONFIG)?);
    Ok(())
}

fn list_packs(root: &Root, files: &mut Vec<Listed>) -> Result<(), Unlisted> {
    let Some(data) = root.kind(FileKind::Pack)? else {
        return Ok(());
    };
    for name in names(&data)? {
        // Anything else here is not ours: `lost+found`, a file browser's droppings.
        let Some([shard]) = parse_hex(&name) else {
            continue;
        };
        match folder::open_below(&data, &name) {
            Ok(folder) => list_folder(&folder, FileKind::Pack, Some(shard), files)?,
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR) => strange_folder(&data, &name)?,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// What is in the place of a folder of packs; it may have vanished by now.
fn strange_folder(data: &OwnedFd, name: &str) -> Result<(), Unlisted> {
    let stat = rustix::fs::statat(data, name, AtFlags::SYMLINK_NOFOLLOW);
    folder::if_there(stat)?.map_or(Ok(()), |stat| {
        Err(Unlisted::Strange {
            path: format!("{}/{name}", FileKind::Pack.folder()),
            found: described(FileType::from_raw_mode(stat.st_mode)),
            expected: "a folder of packs",
        })
    })
}

/// Lists one folder; packs in a folder that is not theirs could not be read, so they are left out.
fn list_folder(
    folder: &OwnedFd,
    kind: FileKind,
    shard: Option<u8>,
    files: &mut Vec<Listed>,
) -> Result<(), Unlisted> {
    for name in names(folder)? {
        let Some(id) = parse_hex(&name) else {
            continue;
        };
        if shard.is_none_or(|shard| id[0] == shard) {
            files.extend(examine(folder, &name, FileKey::new(kind, id))?);
        }
    }
    Ok(())
}

/// All names of a folder that are text, without `.` and `..`.
///
/// They are taken in one go before any is examined, so that deletions in between cannot disturb
/// the kernel's position in the folder.
pub(super) fn names(folder: &OwnedFd) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        if let Ok(name) = entry?.file_name().to_str()
            && name != "."
            && name != ".."
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn examine(folder: &OwnedFd, name: &str, key: FileKey) -> Result<Option<Listed>, Unlisted> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let Some(stat) = folder::if_there(rustix::fs::statat(folder, name, flags))? else {
        return Ok(None);
    };
    let found = FileType::from_raw_mode(stat.st_mode);
    if found != FileType::RegularFile {
        return Err(Unlisted::Strange {
            path: key.path(),
            found: described(found),
            expected: "a file",
        });
    }
    Ok(Some(Listed {
        key,
        size: u64::try_from(stat.st_size).map_err(|_negative| Errno::OVERFLOW)?,
        modified: Some(modified(&stat)),
    }))
}

const fn described(found: FileType) -> &'static str {
    match found {
        FileType::RegularFile => "a file",
        FileType::Directory => "a folder",
        FileType::Symlink => "a symbolic link",
        _ => "something else",
    }
}

/// When the file system last changed a file.
pub(super) fn modified(stat: &rustix::fs::Stat) -> Timestamp {
    Timestamp {
        seconds: stat.st_mtime,
        nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
    }
}

/// The bytes of exactly `2 N` lower-case hex digits.
pub(super) fn parse_hex<const N: usize>(name: &str) -> Option<[u8; N]> {
    let digits = name.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}

const fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}
