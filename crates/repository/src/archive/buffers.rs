//! Buffers that large files are read into, and that their chunks wait in.
//!
//! Invariant: a buffer's memory is initialised once. What lies behind its content is left over from chunks
//! before and never seen; to make it anew for each would write zeros that nobody wants.

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use crate::chunker::{CHUNK_BYTES_AVERAGE, Rest};

/// How many buffers are kept for the next chunks: about as many as are in use on two processors.
const SPARE_MAX: usize = 6;
/// The longest that is kept, in bytes: few chunks are longer, and each buffer would hold memory for the
/// longest that it ever saw.
const SPARE_BYTES_MAX: usize = 3 * CHUNK_BYTES_AVERAGE;

/// The bytes of a chunk, or those that were read and belong to no chunk yet.
#[derive(Default)]
pub struct Buffer {
    memory: Vec<u8>,
    length: usize,
}

impl Buffer {
    /// With the first `length` bytes of some memory, all of it if it is shorter, as content.
    pub fn of(memory: Vec<u8>, length: usize) -> Self {
        let length = length.min(memory.len());
        Self { memory, length }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.memory[..self.length]
    }

    pub const fn len(&self) -> usize {
        self.length
    }

    /// Initialised memory of any length.
    pub fn into_memory(self) -> Vec<u8> {
        self.memory
    }

    fn grow(&mut self, bytes: usize) {
        if self.memory.len() < bytes {
            // Doubling would hold twice the memory of every chunk.
            let whole = bytes.next_multiple_of(CHUNK_BYTES_AVERAGE);
            self.memory.reserve_exact(whole - self.memory.len());
            self.memory.resize(bytes, 0);
        }
    }

    /// Reads so much more; whether anything may follow.
    pub fn read(&mut self, reader: &mut dyn Read, length: usize) -> io::Result<Rest> {
        let end = self.length + length;
        self.grow(end);
        let read = read_full(reader, &mut self.memory[self.length..end])?;
        self.length += read;
        Ok(if read < length {
            Rest::None
        } else {
            Rest::ToCome
        })
    }

    /// Takes the first `end` bytes; `next` gets the others.
    pub fn split_off(&mut self, end: usize, mut next: Self) -> Self {
        let others = &self.memory[end..self.length];
        next.grow(others.len());
        next.memory[..others.len()].copy_from_slice(others);
        next.length = others.len();
        self.length = end;
        std::mem::replace(self, next)
    }

    /// Drops the first `length` bytes.
    pub fn pass(&mut self, length: usize) {
        self.memory.copy_within(length..self.length, 0);
        self.length -= length;
    }
}

/// Buffers that are not in use.
#[derive(Default)]
pub struct SpareBuffers(Mutex<Vec<Buffer>>);

impl SpareBuffers {
    /// One without content.
    pub fn take(&self) -> Buffer {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spare.pop().unwrap_or_default()
    }

    /// Keeps a few of usual size.
    pub fn give_back(&self, mut buffer: Buffer) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_MAX && buffer.memory.capacity() <= SPARE_BYTES_MAX {
            buffer.length = 0;
            spare.push(buffer);
        }
    }
}

/// Reads until the buffer is full or the reader ends, and says how much.
pub fn read_full(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
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
