//! mongodump's archive: a prelude that names all collections, then blocks of documents.
//!
//! ```text
//! magic | header document, collection documents … , terminator
//!       | namespace document, documents … , terminator          (any number of blocks)
//!       | namespace document with EOF and CRC, terminator       (one for each collection)
//! ```
//!
//! There is no mark at the very end. So the archive is whole if it stops after a terminator and
//! every collection of the prelude has had its EOF, whose checksum is verified as well.
//!
//! Invariant: only small documents are held; anything longer than its limit is no archive.

use std::collections::{BTreeMap, BTreeSet};

use super::DumpRejected;
use crate::crc64::Crc64;

const MAGIC: [u8; 4] = 0x8199_e26d_u32.to_le_bytes();
const TERMINATOR: [u8; 4] = [0xff; 4];
/// BSON documents may have 16 MiB; internal ones a little more.
const DOCUMENT_BYTES_MAX: usize = 17 << 20;
/// Servers take 255 bytes for database and collection together.
const NAME_BYTES_MAX: usize = 1 << 10;
/// What names may take in all: some hundred thousand collections, each counted in the prelude and
/// again with its documents.
const NAMES_BYTES_MAX: usize = 128 << 20;
/// What an entry takes beside its names.
const ENTRY_BYTES: usize = 64;

type Namespace = (String, String);

#[derive(Debug)]
pub(super) struct MongoArchive {
    place: Place,
    /// The prefix or document being collected, or for passed-by documents only the prefix.
    buffer: Vec<u8>,
    /// What is still to come of a document that is not collected.
    passing: usize,
    expected: BTreeSet<Namespace>,
    open: BTreeMap<Namespace, Crc64>,
    current: Option<Namespace>,
    /// What names took so far; those of ended collections count as well.
    names_bytes: usize,
    fault: Option<DumpRejected>,
}

/// What the next bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Magic,
    PreludeHeader,
    Prelude,
    BlockHeader,
    Block,
}

const NOT_AN_ARCHIVE: DumpRejected = DumpRejected::NotADump {
    expected: "an archive of mongodump",
};

impl MongoArchive {
    pub(super) const fn new() -> Self {
        Self {
            place: Place::Magic,
            buffer: Vec::new(),
            passing: 0,
            expected: BTreeSet::new(),
            open: BTreeMap::new(),
            current: None,
            names_bytes: 0,
            fault: None,
        }
    }

    pub(super) fn push(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() && self.fault.is_none() {
            if self.passing > 0 {
                let (now, rest) = piece.split_at(piece.len().min(self.passing));
                self.sum(now);
                self.passing -= now.len();
                piece = rest;
                continue;
            }
            let wanted = self.wanted().saturating_sub(self.buffer.len());
            let (now, rest) = piece.split_at(piece.len().min(wanted));
            self.buffer.extend_from_slice(now);
            piece = rest;
            if self.buffer.len() >= 4
                && self.buffer.len() == self.wanted()
                && let Err(fault) = self.unit()
            {
                self.fault = Some(fault);
            }
        }
    }

    pub(super) fn finish(self) -> Result<Vec<&'static str>, DumpRejected> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if self.place == Place::Magic {
            return Err(NOT_AN_ARCHIVE);
        }
        let at_boundary = self.place == Place::BlockHeader && self.buffer.is_empty();
        if at_boundary && self.expected.is_empty() && self.open.is_empty() {
            Ok(Vec::new())
        } else {
            Err(DumpRejected::NoEndMarker {
                expected: "the end of every collection",
            })
        }
    }

    /// How long the unit in `buffer` is: a four-byte prefix, or a collected document.
    fn wanted(&self) -> usize {
        let Some(prefix) = self.buffer.first_chunk::<4>() else {
            return 4;
        };
        if matches!(self.place, Place::Magic | Place::Block) || *prefix == TERMINATOR {
            return 4;
        }
        document_bytes(*prefix).unwrap_or(4)
    }

    /// Takes the complete unit in `buffer`.
    fn unit(&mut self) -> Result<(), DumpRejected> {
        let unit = std::mem::take(&mut self.buffer);
        let Some(prefix) = unit.first_chunk::<4>() else {
            return Err(NOT_AN_ARCHIVE);
        };
        let terminator = *prefix == TERMINATOR;
        match self.place {
            Place::Magic if *prefix == MAGIC => self.place = Place::PreludeHeader,
            Place::Prelude | Place::Block if terminator => self.place = Place::BlockHeader,
            Place::Magic => return Err(NOT_AN_ARCHIVE),
            _ if terminator => return Err(NOT_AN_ARCHIVE),
            Place::Block => {
                let length = document_bytes(*prefix).ok_or(NOT_AN_ARCHIVE)?;
                self.sum(prefix);
                self.passing = length - prefix.len();
            }
            Place::PreludeHeader => {
                document_bytes(*prefix).ok_or(NOT_AN_ARCHIVE)?;
                self.place = Place::Prelude;
            }
            Place::Prelude => {
                document_bytes(*prefix).ok_or(NOT_AN_ARCHIVE)?;
                let mut header = Header::parse(&unit).ok_or(NOT_AN_ARCHIVE)?;
                // The documents of a time series lie in its buckets.
                header.namespace.1 = data_collection(header.namespace.1);
                if !self.expected.contains(&header.namespace) {
                    self.account(&header.namespace)?;
                    self.expected.insert(header.namespace);
                }
            }
            Place::BlockHeader => {
                document_bytes(*prefix).ok_or(NOT_AN_ARCHIVE)?;
                self.block(Header::parse(&unit).ok_or(NOT_AN_ARCHIVE)?)?;
                self.place = Place::Block;
            }
        }
        Ok(())
    }

    /// Opens a block of documents, or closes a collection.
    fn block(&mut self, header: Header) -> Result<(), DumpRejected> {
        if !header.end {
            if !self.open.contains_key(&header.namespace) {
                self.account(&header.namespace)?;
                self.open.insert(header.namespace.clone(), Crc64::ecma());
            }
            self.current = Some(header.namespace);
            return Ok(());
        }
        self.current = None;
        let crc = self
            .open
            .remove(&header.namespace)
            .unwrap_or_else(Crc64::ecma);
        let (database, collection) = header.namespace;
        self.expected
            .remove(&(database, data_collection(collection)));
        if crc.sum() == header.crc {
            Ok(())
        } else {
            Err(DumpRejected::Checksum {
                recorded: header.crc,
                computed: crc.sum(),
            })
        }
    }

    /// Counts names that are about to be kept.
    fn account(&mut self, (database, collection): &Namespace) -> Result<(), DumpRejected> {
        let bytes = database.len() + collection.len();
        let all = self.names_bytes + bytes + ENTRY_BYTES;
        if bytes > NAME_BYTES_MAX {
            return Err(NOT_AN_ARCHIVE);
        }
        if all > NAMES_BYTES_MAX {
            return Err(DumpRejected::TooManyNames {
                mebibytes: NAMES_BYTES_MAX >> 20,
            });
        }
        self.names_bytes = all;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.buffer.capacity() + self.names_bytes
    }

    fn sum(&mut self, bytes: &[u8]) {
        if let Some(crc) = self.current.as_ref().and_then(|n| self.open.get_mut(n)) {
            crc.update(bytes);
        }
    }
}

fn data_collection(collection: String) -> String {
    match collection.strip_prefix("system.buckets.") {
        Some(series) => series.to_owned(),
        None => collection,
    }
}

/// The length of a BSON document, its own four bytes included.
fn document_bytes(prefix: [u8; 4]) -> Option<usize> {
    usize::try_from(i32::from_le_bytes(prefix))
        .ok()
        .filter(|length| (5..=DOCUMENT_BYTES_MAX).contains(length))
}

/// The fields of a namespace document that matter here.
#[derive(Debug, Default)]
struct Header {
    namespace: Namespace,
    end: bool,
    crc: u64,
}

impl Header {
    /// Reads a BSON document of strings, booleans and integers.
    fn parse(document: &[u8]) -> Option<Self> {
        let mut header = Self::default();
        let mut rest = document.get(4..document.len().checked_sub(1)?)?;
        while let [kind, tail @ ..] = rest {
            let end = tail.iter().position(|b| *b == 0)?;
            let (name, value) = (tail.get(..end)?, tail.get(end + 1..)?);
            let length = match kind {
                0x02 => 4 + usize::try_from(i32::from_le_bytes(*value.first_chunk()?)).ok()?,
                0x08 => 1,
                0x10 => 4,
                0x01 | 0x09 | 0x12 => 8,
                _ => return None,
            };
            let (value, tail) = value.split_at_checked(length)?;
            let text = || {
                let text = value.get(4..value.len().checked_sub(1)?)?;
                Some(String::from_utf8_lossy(text).into_owned())
            };
            match (name, kind) {
                (b"db", 0x02) => header.namespace.0 = text()?,
                (b"collection", 0x02) => header.namespace.1 = text()?,
                (b"EOF", 0x08) => header.end = value == [1],
                (b"CRC", 0x12) => header.crc = u64::from_le_bytes(value.try_into().ok()?),
                _ => {}
            }
            rest = tail;
        }
        Some(header)
    }
}
