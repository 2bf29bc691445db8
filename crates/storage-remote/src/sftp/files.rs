//! Whole files and folders over a session: many pieces under way at once.
//!
//! Invariant: bytes that are handed on are as many as were asked for, each from its place.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use super::packet::{Builder, Fields, kind};
use super::session::{Attributes, Session};
use crate::failure::{Failure, Meaning};

/// Bytes of one write or read; every server takes 32 KiB.
const PIECE_BYTES: usize = 32 << 10;
/// Pieces of one file under way at once: 2 MiB, the window of OpenSSH's channels.
const PIECES_MAX: usize = 64;
/// A folder of more entries is no repository's.
const ENTRIES_MAX: usize = 10_000_000;

/// One entry of a folder.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) attributes: Attributes,
}

impl Session {
    /// Writes a new file whole, and has it synchronised where the server can.
    pub(super) fn write(&self, path: &str, bytes: &[u8]) -> Result<(), Failure> {
        const WRITE_CREATE_NEW: u32 = 0x02 | 0x08 | 0x20;
        let handle = self.handle(|id| {
            let packet = Builder::new(kind::OPEN, id).bytes(path.as_bytes());
            packet.u32(WRITE_CREATE_NEW).u32(4).u32(0o600).done()
        })?;
        let written = self.write_pieces(&handle, bytes).and_then(|()| {
            if !self.can_synchronise.load(Ordering::Relaxed) {
                return Ok(());
            }
            let answer = self.ask(|id| {
                let packet = Builder::new(kind::EXTENDED, id).bytes(b"fsync@openssh.com");
                packet.bytes(&handle).done()
            })?;
            self.moved(&answer)
        });
        let closed = self.close(&handle);
        let done = written.and(closed);
        done.map_err(|failure| match failure {
            Failure::Refused { host, refusal }
                if refusal.meaning == Meaning::Busy && self.is_full(path, bytes.len()) =>
            {
                let refusal = refusal.meaning(Meaning::Full);
                Failure::Refused { host, refusal }
            }
            other => other,
        })
    }

    /// Whether the file system of a path has no room for so many bytes, as far as the server tells.
    fn is_full(&self, path: &str, bytes: usize) -> bool {
        let answer = self.ask(|id| {
            let packet = Builder::new(kind::EXTENDED, id).bytes(b"statvfs@openssh.com");
            packet.bytes(path.as_bytes()).done()
        });
        let Ok((kind::EXTENDED_REPLY, rest)) = answer else {
            return false;
        };
        let mut fields = Fields(&rest);
        let mut next = || fields.u64();
        // Sizes of blocks, twice; how many; how many are free, for anybody and for us.
        let (Some(_), Some(unit), Some(_), Some(_), Some(blocks)) =
            (next(), next(), next(), next(), next())
        else {
            return false;
        };
        unit.saturating_mul(blocks) < bytes as u64
    }

    fn write_pieces(&self, handle: &[u8], bytes: &[u8]) -> Result<(), Failure> {
        let mut under_way = VecDeque::new();
        let mut offset = 0_u64;
        for piece in bytes.chunks(PIECE_BYTES) {
            if under_way.len() == PIECES_MAX
                && let Some(answer) = under_way.pop_front()
            {
                self.moved(&self.wait(&answer)?)?;
            }
            let passed = self.traffic.up(piece.len(), &self.cancel);
            passed.map_err(|_cancelled| Failure::Interrupted)?;
            under_way.push_back(self.begin(|id| {
                let packet = Builder::new(kind::WRITE, id).bytes(handle);
                packet.u64(offset).bytes(piece).done()
            })?);
            offset += piece.len() as u64;
        }
        for answer in under_way {
            self.moved(&self.wait(&answer)?)?;
        }
        Ok(())
    }

    /// Reads exactly so many bytes.
    pub(super) fn read(&self, path: &str, offset: u64, length: usize) -> Result<Vec<u8>, Failure> {
        let handle = self.handle(|id| {
            let packet = Builder::new(kind::OPEN, id).bytes(path.as_bytes());
            packet.u32(1).u32(0).done()
        })?;
        let read = self.read_pieces(&handle, offset, length);
        let closed = self.close(&handle);
        read.and_then(|bytes| closed.map(|()| bytes))
    }

    fn read_pieces(&self, handle: &[u8], offset: u64, length: usize) -> Result<Vec<u8>, Failure> {
        let ask = |at: u64, length: usize| {
            self.begin(|id| {
                let packet = Builder::new(kind::READ, id).bytes(handle);
                let length = u32::try_from(length).unwrap_or_default();
                packet.u64(at).u32(length).done()
            })
        };
        // Pieces come in order; what the server claims is not taken before it comes.
        let mut bytes = Vec::with_capacity(length.min(PIECES_MAX * PIECE_BYTES));
        let mut under_way = VecDeque::new();
        let mut asked = 0;
        loop {
            while under_way.len() < PIECES_MAX && asked < length {
                let piece = PIECE_BYTES.min(length - asked);
                under_way.push_back((asked, piece, ask(offset + asked as u64, piece)?));
                asked += piece;
            }
            let Some((at, piece, answer)) = under_way.pop_front() else {
                return Ok(bytes);
            };
            let answer = self.wait(&answer)?;
            let (kind::DATA, rest) = answer else {
                return Err(match self.moved(&answer) {
                    Err(failure) => failure,
                    Ok(()) => self.malformed("what was read"),
                });
            };
            let data = Fields(&rest).bytes().filter(|data| !data.is_empty());
            let data = data.filter(|data| data.len() <= piece);
            let data = data.ok_or_else(|| self.malformed("what was read"))?;
            let passed = self.traffic.down(data.len(), &self.cancel);
            passed.map_err(|_cancelled| Failure::Interrupted)?;
            bytes.extend_from_slice(data);
            if data.len() < piece {
                // Servers may give less at once than was asked for.
                let (at, piece) = (at + data.len(), piece - data.len());
                under_way.push_front((at, piece, ask(offset + at as u64, piece)?));
            }
        }
    }

    /// The entries of a folder; none if it is not there.
    pub(super) fn folder(&self, path: &str) -> Result<Option<Vec<Entry>>, Failure> {
        let packet = |id| {
            Builder::new(kind::OPENDIR, id)
                .bytes(path.as_bytes())
                .done()
        };
        let handle = match self.handle(packet) {
            Ok(handle) => handle,
            Err(failure) if failure.meaning() == Some(Meaning::NoFile) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let entries = self.entries(&handle);
        let closed = self.close(&handle);
        entries.and_then(|entries| closed.map(|()| Some(entries)))
    }

    fn entries(&self, handle: &[u8]) -> Result<Vec<Entry>, Failure> {
        const END: u32 = 1;
        let mut entries = Vec::new();
        while entries.len() < ENTRIES_MAX {
            let answer = self.ask(|id| Builder::new(kind::READDIR, id).bytes(handle).done())?;
            let (kind::NAME, rest) = &answer else {
                let code = (answer.0 == kind::STATUS)
                    .then(|| Fields(&answer.1).u32())
                    .flatten();
                if code == Some(END) {
                    return Ok(entries);
                }
                self.status(&answer)?;
                return Err(self.malformed("a listing"));
            };
            let before = entries.len();
            read_entries(rest, &mut entries).ok_or_else(|| self.malformed("a listing"))?;
            if entries.len() == before {
                return Err(self.malformed("a listing without end"));
            }
        }
        Err(self.malformed("a listing without end"))
    }
}

fn read_entries(rest: &[u8], entries: &mut Vec<Entry>) -> Option<()> {
    let mut fields = Fields(rest);
    for _entry in 0..fields.u32()? {
        let name = String::from_utf8_lossy(fields.bytes()?).into_owned();
        let _long = fields.bytes()?;
        let attributes = Attributes::read(&mut fields)?;
        entries.push(Entry { name, attributes });
    }
    Some(())
}
