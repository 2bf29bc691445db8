//! The hash at the end of an etcd snapshot: 32 bytes of SHA-256 over all before them.
//!
//! A database is a whole number of pages, so a file that has the hash has 32 bytes more than a
//! multiple of 512. A copy of a live data folder's `db` has none, and nothing says whether it is
//! whole: it is refused.
//!
//! Invariant: the end of a stream is reported only after the hash was right.

use std::io::{self, Read};

use aws_lc_rs::digest::{Context, SHA256};

/// Bytes of the hash.
pub const HASH_BYTES: usize = 32;
/// What a database is a multiple of.
const SECTOR_BYTES: u64 = 512;

/// Why a snapshot is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TrailerError {
    /// Its size says that there is no hash.
    #[error(
        "the etcd snapshot has no hash at its end ({bytes} bytes): it was cut, or copied from a data folder"
    )]
    NoHash {
        /// Its size.
        bytes: u64,
    },
    /// The hash is another.
    #[error("the etcd snapshot's hash is wrong: its content was damaged or exchanged")]
    WrongHash,
}

/// Passes a snapshot on, hash and all, and fails at its end if the hash is missing or wrong.
pub struct Verified<R> {
    inner: R,
    context: Option<Context>,
    /// The newest bytes, which may be the hash.
    tail: Vec<u8>,
    bytes: u64,
}

impl<R: Read> Verified<R> {
    /// Reads through to `inner`.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            context: Some(Context::new(&SHA256)),
            tail: Vec::new(),
            bytes: 0,
        }
    }

    fn take(&mut self, read: &[u8]) {
        self.bytes += read.len() as u64;
        self.tail.extend_from_slice(read);
        let before = self.tail.len().saturating_sub(HASH_BYTES);
        if let Some(context) = &mut self.context {
            context.update(self.tail.get(..before).unwrap_or_default());
        }
        self.tail.drain(..before);
    }

    fn end(&mut self) -> Result<(), TrailerError> {
        let Some(context) = self.context.take() else {
            return Ok(());
        };
        if self.bytes % SECTOR_BYTES != HASH_BYTES as u64 || self.bytes < SECTOR_BYTES {
            return Err(TrailerError::NoHash { bytes: self.bytes });
        }
        if context.finish().as_ref() != self.tail {
            return Err(TrailerError::WrongHash);
        }
        Ok(())
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            self.end()
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        } else {
            self.take(buffer.get(..count).unwrap_or_default());
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(pages: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..pages * 512).map(|n| (n % 251) as u8).collect();
        let hash = aws_lc_rs::digest::digest(&SHA256, &bytes);
        bytes.extend_from_slice(hash.as_ref());
        bytes
    }

    /// Reads in pieces of odd sizes.
    fn read(bytes: &[u8], piece: usize) -> Result<Vec<u8>, TrailerError> {
        let mut reader = Verified::new(bytes);
        let mut all = Vec::new();
        let mut buffer = vec![0; piece];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(all),
                Ok(count) => all.extend_from_slice(&buffer[..count]),
                Err(error) => {
                    let cause = error.into_inner().unwrap();
                    return Err(*cause.downcast::<TrailerError>().unwrap());
                }
            }
        }
    }

    #[test]
    fn only_a_whole_snapshot_has_an_end() {
        let whole = snapshot(7);
        for piece in [1, 31, 32, 33, 512, 8192] {
            assert_eq!(read(&whole, piece).as_ref(), Ok(&whole), "{piece}");
            for cut in [0, 1, 31, 32, 33, 480, 511, 512, 513, 1024, 3583, 3584, 3615] {
                assert_eq!(
                    read(&whole[..cut], piece),
                    Err(TrailerError::NoHash { bytes: cut as u64 }),
                    "{cut} {piece}"
                );
            }
            for cut in [512 + 32, 2 * 512 + 32, 6 * 512 + 32] {
                assert_eq!(read(&whole[..cut], piece), Err(TrailerError::WrongHash));
            }
            for flipped in [0, 511, 1792, 3583, 3584, 3615] {
                let mut damaged = whole.clone();
                damaged[flipped] ^= 1;
                assert_eq!(read(&damaged, piece), Err(TrailerError::WrongHash));
            }
        }
    }
}
