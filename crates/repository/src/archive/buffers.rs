//! Buffers that files are read into, and that their chunks wait in.
//!
//! Invariant: a buffer's memory is initialised once. What lies behind its content is left over from what was
//! read before and never seen; to make it anew would write, for a small file, more zeros than it has bytes, a
//! hundred times over.

use std::io::{self, Read};
use std::sync::Mutex;

use crate::chunker::{CHUNK_BYTES_AVERAGE, Rest};
use crate::lead::LEAD_BYTES;
use crate::parallel::lock;

/// How many buffers are kept for each worker (what it has in hand, and what it reads meanwhile), and besides.
const SPARE_OF_A_WORKER: usize = 2;
const SPARE_MORE: usize = 2;
/// The longest that is kept, in bytes: few chunks are longer, and each buffer would hold memory for the
/// longest that it ever saw.
const SPARE_BYTES_MAX: usize = LEAD_BYTES + 3 * CHUNK_BYTES_AVERAGE;

/// The bytes of a chunk, or those that were read and belong to no chunk yet.
#[derive(Default)]
pub struct Buffer {
    /// What is held begins behind the lead.
    memory: Vec<u8>,
    length: usize,
}

impl Buffer {
    pub fn bytes(&self) -> &[u8] {
        match self.length {
            // There may be no lead.
            0 => &[],
            held => &self.memory[LEAD_BYTES..][..held],
        }
    }

    pub const fn len(&self) -> usize {
        self.length
    }

    /// Room for so many bytes in all, which keeps those that are held.
    fn room(&mut self, bytes: usize) -> &mut [u8] {
        if self.memory.len() < LEAD_BYTES + bytes {
            // Doubling would hold twice the memory of every chunk.
            let whole = LEAD_BYTES + bytes.next_multiple_of(CHUNK_BYTES_AVERAGE);
            self.memory.reserve_exact(whole - self.memory.len());
            self.memory.resize(LEAD_BYTES + bytes, 0);
        }
        &mut self.memory[LEAD_BYTES..][..bytes]
    }

    /// Reads so much more; whether anything may follow.
    pub fn read(&mut self, reader: &mut dyn Read, length: usize) -> io::Result<Rest> {
        let held = self.length;
        let read = read_full(reader, &mut self.room(held + length)[held..])?;
        self.length += read;
        Ok(if read < length {
            Rest::None
        } else {
            Rest::ToCome
        })
    }

    /// Takes the first `end` bytes; `next` gets the others.
    pub fn split_off(&mut self, end: usize, mut next: Self) -> Self {
        let others = &self.bytes()[end..];
        next.room(others.len()).copy_from_slice(others);
        next.length = others.len();
        self.length = end;
        std::mem::replace(self, next)
    }

    /// Holds so many zeros in place of what it holds.
    pub fn hold_zeros(&mut self, length: usize) {
        self.length = 0;
        self.room(length).fill(0);
        self.length = length;
    }

    /// Drops the first `length` bytes.
    pub fn pass(&mut self, length: usize) {
        let rest = self.length - length;
        self.memory[LEAD_BYTES..].copy_within(length..length + rest, 0);
        self.length = rest;
    }
}

/// Buffers that are not in use.
pub struct SpareBuffers {
    spare: Mutex<Vec<Buffer>>,
    max: usize,
}

impl SpareBuffers {
    pub fn new(workers: usize) -> Self {
        Self {
            spare: Mutex::default(),
            max: workers * SPARE_OF_A_WORKER + SPARE_MORE,
        }
    }

    /// One without content; a new one if none is spare.
    pub fn take(&self) -> Buffer {
        lock(&self.spare).pop().unwrap_or_default()
    }

    /// Keeps a few of usual size.
    pub fn give_back(&self, mut buffer: Buffer) {
        let mut spare = lock(&self.spare);
        if spare.len() < self.max && buffer.memory.capacity() <= SPARE_BYTES_MAX {
            buffer.length = 0;
            spare.push(buffer);
        }
    }
}

/// Reads until the buffer is full or the reader ends, and says how much.
fn read_full(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match reader.read(&mut buffer[have..]) {
            Ok(0) => break,
            Ok(read) => have += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}
