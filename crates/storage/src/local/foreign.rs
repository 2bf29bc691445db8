//! What lies in a repository's folder and is none of its files.
//!
//! Invariant: only names are looked at; nothing is opened, followed or removed.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;

use super::folder::{self, Root};
use super::listing::{names, parse_hex};
use super::temporary::is_temporary;
use crate::FileKind;

/// No more are named: who copied a whole disk in there needs no list of it.
const NAMES_MAX: usize = 1_000;

/// Paths below the root, sorted; at most [`NAMES_MAX`]. Temporary files of writers are not among them.
pub(super) fn foreign(root: &Path) -> Result<Vec<String>, Errno> {
    let root = Root::open(root)?;
    let mut found = Vec::new();
    let of_root = |name: &str| {
        let mut folders = FileKind::FOLDERS.iter();
        // What a file system itself puts at the top of a disk.
        matches!(name, "config" | "lost+found") || folders.any(|kind| kind.folder() == name)
    };
    gather(root.fd(), "", of_root, &mut found)?;
    for kind in FileKind::FOLDERS {
        let Some(folder) = root.kind(kind)? else {
            continue;
        };
        if kind != FileKind::Pack {
            gather(&folder, kind.folder(), |name| is_id(name, None), &mut found)?;
            continue;
        }
        gather(
            &folder,
            "data",
            |name| parse_hex::<1>(name).is_some(),
            &mut found,
        )?;
        for shard in 0..=u8::MAX {
            let name = format!("{shard:02x}");
            let opened = folder::if_there(folder::open_below(&folder, &name));
            if let Some(opened) = opened? {
                let path = format!("data/{name}");
                gather(&opened, &path, |name| is_id(name, Some(shard)), &mut found)?;
            }
        }
    }
    found.sort();
    found.truncate(NAMES_MAX);
    Ok(found)
}

/// A pack in a folder that is not its own is read by nobody.
fn is_id(name: &str, shard: Option<u8>) -> bool {
    let id = parse_hex::<32>(name);
    id.is_some_and(|[first, ..]| shard.is_none_or(|shard| first == shard))
}

fn gather(
    folder: &OwnedFd,
    path: &str,
    is_ours: impl Fn(&str) -> bool,
    found: &mut Vec<String>,
) -> Result<(), Errno> {
    for name in names(folder)? {
        if is_ours(&name) || is_temporary(&name) || found.len() > NAMES_MAX {
            continue;
        }
        let slash = if path.is_empty() { "" } else { "/" };
        found.push(format!("{path}{slash}{name}"));
    }
    Ok(())
}
