//! The one file in a stream that was asked for by its path.
//!
//! Invariant: the reader ends after as many bytes as the header promises, or in an error.

use std::io::{self, Read};

const BLOCK: u64 = 512;
/// Headers before the file itself (long names, PAX records): their largest size and number.
const EXTENSION_BYTES_MAX: u64 = 1024 * 1024;
const EXTENSIONS_MAX: usize = 8;

/// Reads up to the file's content.
pub(crate) fn single_file(
    mut stream: impl Read + Send + 'static,
) -> io::Result<Box<dyn Read + Send>> {
    let mut pax_size = None;
    for _ in 0..EXTENSIONS_MAX {
        let mut header = tar::Header::new_old();
        stream.read_exact(header.as_mut_bytes())?;
        let size = header.entry_size()?;
        if header.entry_type().is_file() {
            let left = pax_size.unwrap_or(size);
            return Ok(Box::new(Exactly { stream, left }));
        }
        let padded = size.div_ceil(BLOCK).saturating_mul(BLOCK);
        if padded > EXTENSION_BYTES_MAX || header.entry_type().is_dir() {
            break;
        }
        let mut records = Vec::new();
        (&mut stream).take(padded).read_to_end(&mut records)?;
        if header.entry_type().is_pax_local_extensions() {
            pax_size = size_record(&records);
        }
    }
    Err(io::Error::other(
        "the engine's answer holds no regular file",
    ))
}

/// Files of 8 GiB and more have their size in a PAX record.
fn size_record(records: &[u8]) -> Option<u64> {
    tar::PaxExtensions::new(records)
        .filter_map(Result::ok)
        .find(|record| record.key_bytes() == b"size")?
        .value()
        .ok()?
        .parse()
        .ok()
}

struct Exactly<R> {
    stream: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let count = (&mut self.stream).take(self.left).read(buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}
