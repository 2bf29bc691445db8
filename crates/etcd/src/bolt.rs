//! bbolt's file format, which etcd keeps its data in: read without a server, and written anew.
//!
//! ```text
//! page      id u64 · flags u16 · count u16 · overflow u32 · elements · keys and values
//! branch    pos u32 · key length u32 · page u64                       16 bytes each
//! leaf      flags u32 · pos u32 · key length u32 · value length u32   16 bytes each
//! meta      magic u32 · version u32 · page size u32 · flags u32 · root u64 · sequence u64
//!           · freelist u64 · pages u64 · transaction u64 · FNV-1a of all before u64
//! ```
//!
//! `pos` counts from its element. A bucket is a leaf value with flag 1: `root u64 · sequence u64`,
//! and for `root` 0 a whole page behind it. Numbers are little-endian. Pages 0 and 1 are meta
//! pages; the valid one with the newer transaction counts.
//!
//! Invariant: bytes from a file can make reading fail, never panic, loop or take memory beyond
//! [`PAGE_BYTES_MAX`] a level.

mod meta;
mod page;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

pub use read::{Bolt, Bucket};
pub use write::BoltWriter;

/// The largest page with its overflow that is read: it holds a few values, and etcd refuses values
/// beyond some MiB.
pub const PAGE_BYTES_MAX: u64 = 128 << 20;

/// Bytes that can be read anywhere.
pub trait ReadAt {
    /// How many there are.
    fn length(&self) -> u64;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// They are not all there, or cannot be read.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for Vec<u8> {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|offset| crate::bytes::slice(self, offset, buffer.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// A file of a known length.
#[derive(Debug)]
pub struct SizedFile {
    /// The file.
    pub file: File,
    /// How much of it counts.
    pub length: u64,
}

impl ReadAt for SizedFile {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for Box<T> {
    fn length(&self) -> u64 {
        (**self).length()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        (**self).read_exact_at(offset, buffer)
    }
}

/// Why a database cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BoltError {
    /// Neither meta page is valid.
    #[error("is no bbolt database: neither of its meta pages is valid")]
    NoMeta,
    /// The file ends before the last page.
    #[error("is cut: {length} bytes of {expected}")]
    Cut {
        /// What is there.
        length: u64,
        /// What the meta page says.
        expected: u64,
    },
    /// The medium failed.
    #[error("cannot read page {page}")]
    Read {
        /// Which.
        page: u64,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// A page is not what it should be.
    #[error("page {page} is damaged: {what}")]
    Page {
        /// Which.
        page: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A bucket that every etcd has is missing.
    #[error("has no bucket {0:?}: it is no etcd database")]
    NoBucket(&'static str),
}
