//! The bytes of a request on their way out.
//!
//! Invariant: a stopped run sends no more bytes, so that an upload does not hold up its end.

use std::io::{self, Read};

use refloat_model::cancel::Cancel;
use refloat_storage::pace::Traffic;

/// Handed out at once, in bytes: small enough that pauses of a slow pace are short.
const PIECE_BYTES: usize = 64 << 10;

pub(super) struct Paced<'a> {
    rest: &'a [u8],
    traffic: &'a Traffic,
    cancel: &'a Cancel,
}

impl<'a> Paced<'a> {
    pub(super) const fn new(bytes: &'a [u8], traffic: &'a Traffic, cancel: &'a Cancel) -> Self {
        Self {
            rest: bytes,
            traffic,
            cancel,
        }
    }
}

impl Read for Paced<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("interrupted"));
        }
        let length = self.rest.len().min(buffer.len()).min(PIECE_BYTES);
        let (piece, rest) = self.rest.split_at(length);
        self.traffic.up(length);
        if let Some(buffer) = buffer.get_mut(..length) {
            buffer.copy_from_slice(piece);
        }
        self.rest = rest;
        Ok(length)
    }
}
