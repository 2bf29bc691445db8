//! One entry of a tar stream.
//!
//! Invariant: what comes out has a checked kind and metadata; the name is set by the caller.

use std::io::{self, Read};

use refloat_model::entry::{Entry, EntryKind};
use refloat_model::tree_path::is_valid_name;

use super::metadata::metadata;

/// What follows an entry's header.
pub(super) enum Content {
    Directory,
    File,
    None,
    /// Nothing: it is another name for this path.
    LinkTo(Vec<u8>),
}

/// The path components of a name in a stream; `./` and the empty name are the root. None if the
/// name is absolute, climbs, or has a component that no directory can hold.
pub(crate) fn components(name: &[u8]) -> Option<Vec<Vec<u8>>> {
    if name.starts_with(b"/") {
        return None;
    }
    let mut path = Vec::new();
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            name if is_valid_name(name) => path.push(name.to_vec()),
            _ => return None,
        }
    }
    Some(path)
}

/// Reads an entry's header; none for headers that are no entries.
pub(super) fn next_entry(
    tar_entry: &mut tar::Entry<'_, impl Read>,
) -> io::Result<Option<(Entry, Content)>> {
    use tar::EntryType as T;
    let target = |tar_entry: &tar::Entry<'_, _>| {
        let target = tar_entry.link_name_bytes();
        target.map(|bytes| bytes.into_owned()).unwrap_or_default()
    };
    let size = tar_entry.size();
    let (kind, content) = match tar_entry.header().entry_type() {
        T::Regular | T::Continuous | T::GNUSparse => (EntryKind::File { size }, Content::File),
        T::Directory => (EntryKind::Directory, Content::Directory),
        T::Symlink => {
            let target = target(tar_entry);
            (EntryKind::Symlink { target }, Content::None)
        }
        T::Link => {
            let target = target(tar_entry);
            (EntryKind::File { size: 0 }, Content::LinkTo(target))
        }
        T::Char => {
            let device = device(tar_entry.header())?;
            (EntryKind::CharacterDevice { device }, Content::None)
        }
        T::Block => {
            let device = device(tar_entry.header())?;
            (EntryKind::BlockDevice { device }, Content::None)
        }
        T::Fifo => (EntryKind::Fifo, Content::None),
        _ => return Ok(None),
    };
    let entry = Entry {
        name: Vec::new(),
        kind,
        metadata: metadata(tar_entry)?,
    };
    Ok(Some((entry, content)))
}

/// `st_rdev` as Linux encodes it.
fn device(header: &tar::Header) -> io::Result<u64> {
    let major = u64::from(header.device_major()?.unwrap_or(0));
    let minor = u64::from(header.device_minor()?.unwrap_or(0));
    Ok(((major & 0xffff_f000) << 32)
        | ((major & 0xfff) << 8)
        | ((minor & 0xffff_ff00) << 12)
        | (minor & 0xff))
}
