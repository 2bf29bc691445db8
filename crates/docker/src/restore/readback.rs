//! An engine's archive compared with what the point holds.
//!
//! Invariant: equal means the same names, kinds, link targets and content bytes. Times and
//! attributes are not compared: the archives of old engines lose them.

use std::collections::BTreeSet;
use std::io::{self, Read};

use refloat_model::cancel::Cancel;
use refloat_model::entry::{Content, Entry, EntryKind, SinkError, TreeSink};
use refloat_model::tree_path::TreePath;
use refloat_source::StoredPoint;
use tar::EntryType;

use super::failure::Failure;

/// How much of two files is compared at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// What the paths of an archive begin with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Prefix {
    /// The name of the folder that was asked for.
    Folder,
    /// Nothing.
    None,
}

/// An archive that is read to its end.
pub(super) struct Archive<'a> {
    pub(super) stream: Box<dyn Read + 'a>,
    pub(super) prefix: Prefix,
    /// Paths that must not be in it, with a slash at the beginning.
    pub(super) absent: BTreeSet<&'a str>,
}

impl<'a> Archive<'a> {
    /// The archive of one folder.
    pub(super) fn of_folder(stream: impl Read + 'a) -> Self {
        Self {
            stream: Box::new(stream),
            prefix: Prefix::Folder,
            absent: BTreeSet::new(),
        }
    }
}

/// Reads the archive to its end; gives the content bytes that were equal.
pub(super) fn compare(
    point: &dyn StoredPoint,
    stored: &TreePath,
    archive: Archive<'_>,
    subject: &str,
) -> Result<u64, Failure> {
    let unlike = |path: &dyn std::fmt::Display, what: &str| Failure::NotEqual {
        subject: subject.to_owned(),
        difference: format!("{path} {what}"),
    };
    let mut bytes = 0;
    let mut missing = entries(point, stored)?;
    let Archive {
        stream,
        prefix,
        absent,
    } = archive;
    let mut archive = tar::Archive::new(stream);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let mut names: Vec<Vec<u8>> = entry
            .path_bytes()
            .split(|b| *b == b'/')
            .filter(|name| !name.is_empty() && *name != b".")
            .map(<[u8]>::to_vec)
            .collect();
        if prefix == Prefix::Folder && !names.is_empty() {
            names.remove(0);
        }
        if names.is_empty() {
            continue;
        }
        let place = format!("/{}", String::from_utf8_lossy(&names.join(&b'/')));
        if absent.contains(place.as_str()) {
            return Err(unlike(&place, "is there and should not be"));
        }
        let path = names
            .iter()
            .try_fold(stored.clone(), |path, name| path.join(name));
        let path = path.map_err(|error| Failure::Needs(error.to_string()))?;
        // Others were there before us: of the image, or of a volume that was not empty.
        if !missing.remove(&path) {
            continue;
        }
        let Some(expected) = point.stat(&path)? else {
            continue;
        };
        let kind = entry.header().entry_type();
        let link = entry.link_name_bytes().map(|name| name.into_owned());
        match (&expected.kind, kind) {
            (EntryKind::File { .. }, EntryType::Regular | EntryType::GNUSparse) => {
                let mut content = point.open(&path)?;
                match equal_bytes(&mut entry, &mut content)? {
                    Some(count) => bytes += count,
                    None => return Err(unlike(&path, "has other content")),
                }
            }
            // Another name of a file that was compared under its first one.
            (EntryKind::File { .. }, EntryType::Link)
            | (EntryKind::Directory, EntryType::Directory)
            | (EntryKind::Fifo, EntryType::Fifo)
            | (EntryKind::BlockDevice { .. }, EntryType::Block)
            | (EntryKind::CharacterDevice { .. }, EntryType::Char) => {}
            (EntryKind::Symlink { target }, EntryType::Symlink)
                if link.as_ref() == Some(target) => {}
            (EntryKind::Symlink { .. }, EntryType::Symlink) => {
                return Err(unlike(&path, "points elsewhere"));
            }
            _ => return Err(unlike(&path, "is of another kind")),
        }
    }
    match missing.first() {
        None => Ok(bytes),
        Some(path) => Err(unlike(path, "did not arrive")),
    }
}

/// Compares two streams; how long they are if they are equal.
fn equal_bytes(a: &mut impl Read, b: &mut impl Read) -> io::Result<Option<u64>> {
    let (mut left, mut right) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let mut total = 0;
    loop {
        let (m, n) = (fill(a, &mut left)?, fill(b, &mut right)?);
        if left.get(..m) != right.get(..n) {
            return Ok(None);
        }
        if n == 0 {
            return Ok(Some(total));
        }
        total += n as u64;
    }
}

/// Reads until the buffer is full or the stream ends.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Every stored entry that an archive can carry; sockets it cannot.
fn entries(point: &dyn StoredPoint, stored: &TreePath) -> Result<BTreeSet<TreePath>, Failure> {
    let mut sink = Paths {
        path: stored.clone(),
        found: BTreeSet::new(),
    };
    point.walk(stored, &mut sink, &Cancel::default())?;
    Ok(sink.found)
}

struct Paths {
    path: TreePath,
    found: BTreeSet<TreePath>,
}

impl Paths {
    fn look(&mut self, entry: &Entry) {
        if let Ok(path) = self.path.clone().join(&entry.name)
            && entry.kind != EntryKind::Socket
        {
            self.found.insert(path);
        }
    }
}

impl TreeSink for Paths {
    fn enter(&mut self, directory: Entry) -> Result<(), SinkError> {
        self.look(&directory);
        self.path = self
            .path
            .clone()
            .join(&directory.name)
            .map_err(|e| SinkError(Box::new(e)))?;
        Ok(())
    }

    fn leave(&mut self) -> Result<(), SinkError> {
        self.path = self.path.parent().unwrap_or_default();
        Ok(())
    }

    fn file(&mut self, file: Entry, _: Box<dyn Content>) -> Result<(), SinkError> {
        self.look(&file);
        Ok(())
    }

    fn stream(&mut self, file: Entry, _: &mut dyn Read) -> Result<(), SinkError> {
        self.look(&file);
        Ok(())
    }

    fn node(&mut self, entry: Entry) -> Result<(), SinkError> {
        self.look(&entry);
        Ok(())
    }

    fn reuse(&mut self, _: &[u8]) -> Result<bool, SinkError> {
        Ok(false)
    }

    fn reuse_content(&mut self, _: &Entry, _: &[u8; 32]) -> Result<bool, SinkError> {
        Ok(false)
    }

    fn stream_by_digest(
        &mut self,
        file: Entry,
        _: &[u8; 32],
        content: &mut dyn Read,
    ) -> Result<bool, SinkError> {
        self.stream(file, content).map(|()| false)
    }

    fn fail(&mut self, _: &[u8], _: String) {}
}
