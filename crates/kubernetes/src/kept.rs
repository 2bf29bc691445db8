//! What a look has read and a capture will write: so a backup reads each list once.
//!
//! Objects are kept as they will be saved, compressed, folder by folder and up to a limit: beyond
//! it, captures read again. Nothing is written to a disk, for there are Secrets among them.
//!
//! Invariant: a folder is kept with every object that the look saw in it, or not at all.

use std::collections::BTreeMap;
use std::io::{self, Read as _};

use zstd::bulk::{Compressor, decompress};

use crate::kind::Kind;
use crate::layout::Folder;
use crate::saved::SavedObject;

/// How much is compressed at once. Longer pieces hardly become smaller, and captures hold one.
const PIECE_BYTES: usize = 256 << 10;
/// Fast: the look should wait for the server, not for this.
const LEVEL: i32 = 1;
/// What a piece costs beside its bytes.
const PIECE_OVERHEAD_BYTES: usize = 128;

/// See the module.
pub(crate) struct Kept {
    folders: BTreeMap<Folder, Pieces>,
    /// The folder that each list is in just now: lists go through one after the other.
    open: Vec<Open>,
    compressor: Option<Compressor<'static>>,
    bytes: usize,
    bytes_max: usize,
    /// Since something did not fit. Then nothing more is kept.
    is_full: bool,
}

#[derive(Default)]
struct Pieces(Vec<Piece>);

struct Piece {
    compressed: Vec<u8>,
    length: usize,
}

struct Open {
    folder: Folder,
    objects: Vec<u8>,
}

impl Kept {
    /// Nothing yet, and at most so much.
    pub(crate) fn up_to(bytes_max: usize) -> Self {
        // Without a compressor all is read again, which is no reason to fail.
        let compressor = Compressor::new(LEVEL).ok();
        Self {
            folders: BTreeMap::new(),
            open: Vec::new(),
            is_full: bytes_max == 0 || compressor.is_none(),
            compressor,
            bytes: 0,
            bytes_max,
        }
    }

    /// Whether objects of a list that begins now may be kept; if not, it needs no whole objects.
    pub(crate) const fn has_room(&self) -> bool {
        !self.is_full
    }

    /// Keeps an object, which `make` gives as it will be saved.
    pub(crate) fn add(&mut self, folder: &Folder, make: impl FnOnce() -> SavedObject) {
        if self.is_full {
            self.remove(folder);
            return;
        }
        let index = match self
            .open
            .iter()
            .position(|open| open.folder.is_kind_of(folder))
        {
            Some(index) => index,
            None => {
                self.open.push(Open::of(folder.clone()));
                self.open.len() - 1
            }
        };
        if self
            .open
            .get(index)
            .is_some_and(|open| open.folder != *folder)
        {
            self.seal(index);
            // Then this object is kept nowhere, and so is none of its folder.
            if self.is_full {
                return self.remove(folder);
            }
            if let Some(open) = self.open.get_mut(index) {
                open.folder = folder.clone();
            }
        }
        if let Some(open) = self.open.get_mut(index) {
            open.add(&make());
            if open.objects.len() >= PIECE_BYTES {
                self.seal(index);
            }
        }
    }

    /// Forgets what a list gave that did not end well.
    pub(crate) fn forget(&mut self, kind: &Kind, namespace: Option<&str>) {
        let is_of = |folder: &Folder| {
            folder.is_of(kind) && (namespace.is_none() || folder.namespace.as_deref() == namespace)
        };
        self.open.retain(|open| !is_of(&open.folder));
        let gone: Vec<Folder> = self.folders.keys().filter(|f| is_of(f)).cloned().collect();
        gone.iter().for_each(|folder| self.remove(folder));
    }

    /// Ends a list of a kind: nothing waits for more of it.
    pub(crate) fn close(&mut self, kind: &Kind) {
        let of_kind = |open: &Open| open.folder.is_of(kind);
        if let Some(index) = self.open.iter().position(of_kind) {
            self.seal(index);
        }
        self.open.retain(|open| !of_kind(open));
    }

    /// Ends keeping.
    pub(crate) fn finish(&mut self) {
        for index in 0..self.open.len() {
            self.seal(index);
        }
        self.open = Vec::new();
        self.compressor = None;
        self.is_full = true;
    }

    /// Gives a folder out, once; none if it must be read.
    pub(crate) fn take(&mut self, folder: &Folder) -> Option<KeptFolder> {
        let Pieces(pieces) = self.folders.remove(folder)?;
        self.bytes -= pieces.iter().map(Piece::cost).sum::<usize>();
        Some(KeptFolder(pieces.into_iter()))
    }

    fn remove(&mut self, folder: &Folder) {
        let _forgotten = self.take(folder);
    }

    fn seal(&mut self, index: usize) {
        let (Some(open), Some(compressor)) = (self.open.get_mut(index), &mut self.compressor)
        else {
            return;
        };
        if open.objects.is_empty() {
            return;
        }
        let compressed = compressor.compress(&open.objects);
        let length = open.objects.len();
        open.objects.clear();
        let Ok(mut compressed) = compressed else {
            return self.overflow();
        };
        compressed.shrink_to_fit();
        let piece = Piece { compressed, length };
        if self.bytes + piece.cost() > self.bytes_max {
            return self.overflow();
        }
        self.bytes += piece.cost();
        let folder = open.folder.clone();
        self.folders.entry(folder).or_default().0.push(piece);
    }

    /// What is still open will not be whole.
    fn overflow(&mut self) {
        self.is_full = true;
        for open in std::mem::take(&mut self.open) {
            self.remove(&open.folder);
        }
    }
}

impl Piece {
    const fn cost(&self) -> usize {
        self.compressed.len() + PIECE_OVERHEAD_BYTES
    }
}

impl Open {
    const fn of(folder: Folder) -> Self {
        Self {
            folder,
            objects: Vec::new(),
        }
    }

    fn add(&mut self, object: &SavedObject) {
        for field in [object.name.as_bytes(), &object.document, &object.server] {
            self.objects.extend((field.len() as u64).to_le_bytes());
            self.objects.extend_from_slice(field);
        }
    }
}

/// The objects of a folder, in the order of the list, a piece at a time.
pub(crate) struct KeptFolder(std::vec::IntoIter<Piece>);

impl Iterator for KeptFolder {
    type Item = io::Result<Vec<SavedObject>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|piece| {
            let objects = decompress(&piece.compressed, piece.length)?;
            let (mut rest, mut read) = (objects.as_slice(), Vec::new());
            while !rest.is_empty() {
                read.push(object(&mut rest)?);
            }
            Ok(read)
        })
    }
}

fn object(from: &mut &[u8]) -> io::Result<SavedObject> {
    let mut field = || {
        let mut length = [0; 8];
        from.read_exact(&mut length)?;
        let mut field = Vec::new();
        let length = u64::from_le_bytes(length);
        let read = from.take(length).read_to_end(&mut field)?;
        if read as u64 == length {
            Ok(field)
        } else {
            Err(io::Error::from(io::ErrorKind::UnexpectedEof))
        }
    };
    let name = String::from_utf8(field()?);
    Ok(SavedObject {
        name: name.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?,
        document: field()?,
        server: field()?,
    })
}

#[cfg(test)]
mod tests;
