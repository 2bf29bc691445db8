//! Files that are not packs: indexes, snapshots, locks; compressed from version 2 of the format.
//!
//! An index is the longest of them, and a backup of many files writes several: so the JSON of what is written
//! is never whole in memory, neither before it is compressed nor when it is proven (from version 2 on).
//!
//! Invariant: what is proven opened to just the bytes that were meant.

use std::io::{BufWriter, Read, Write};

use serde::Serialize;
use zstd::zstd_safe::{CParameter, get_frame_content_size};

use super::{BLOB_BYTES_MAX, Codec, OpenError, USUAL_LEVEL, decompress_stated};
use crate::error::RepositoryError;
use crate::hash::Sha256;

/// The first byte of a compressed file.
const ENCODING_ZSTD: u8 = 2;
/// How far back matches are looked for, as a power of two of bytes, which both sides hold in memory: only the
/// shape of its entries repeats in an index, and all other files are shorter.
const WINDOW_LOG: u32 = 17;
/// What is gathered before it is hashed or compressed, in bytes.
const GATHERED_BYTES: usize = 64 << 10;

/// What tells a file's plaintext from any other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Digest {
    bytes: u64,
    hash: [u8; 32],
}

/// Counts and hashes what is written to it.
#[derive(Default)]
struct Measure {
    bytes: u64,
    hash: Sha256,
}

impl Measure {
    fn finish(self) -> Digest {
        Digest {
            bytes: self.bytes,
            hash: self.hash.finish(),
        }
    }
}

impl Write for Measure {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What lies in a sealed file.
enum FileBody<'b> {
    AsItIs(&'b [u8]),
    Compressed(&'b [u8]),
}

impl Codec {
    /// Seals a file that is not a pack. It was opened again and is the same.
    ///
    /// # Errors
    /// `value` is no JSON; no randomness, zstd failed, or what was sealed is not what was meant.
    pub fn seal_json<T: Serialize>(
        &self,
        what: &'static str,
        value: &T,
    ) -> Result<Vec<u8>, RepositoryError> {
        let (sealed, digest) = self.seal_json_unproven(what, value)?;
        if self.opens_to(sealed.clone(), digest) {
            Ok(sealed)
        } else {
            Err(RepositoryError::NotReadBack { what })
        }
    }

    /// As [`seal_json`](Self::seal_json), for who opens it again himself: to what has this digest.
    pub(crate) fn seal_json_unproven<T: Serialize>(
        &self,
        what: &'static str,
        value: &T,
    ) -> Result<(Vec<u8>, Digest), RepositoryError> {
        let digest = measured(value).map_err(|e| RepositoryError::encode(what, e))?;
        let mut body = Vec::new();
        let written = match self.version {
            ..2 => write_json(&mut body, value),
            _ => compress(&mut body, digest.bytes, value),
        };
        written.map_err(RepositoryError::Compress)?;
        Ok((self.cipher.seal(&body)?, digest))
    }

    /// Whether a sealed file opens to what has this digest.
    pub(crate) fn opens_to(&self, mut sealed: Vec<u8>, digest: Digest) -> bool {
        let mut measure = Measure::default();
        let opened = match self.open_body(&mut sealed) {
            Ok(FileBody::AsItIs(plaintext)) => {
                measure.write_all(plaintext).map_err(OpenError::Decompress)
            }
            Ok(FileBody::Compressed(frame)) => decompress_into(frame, &mut measure),
            Err(error) => Err(error),
        };
        opened.is_ok() && measure.finish() == digest
    }

    /// Opens a file that is not a pack.
    ///
    /// # Errors
    /// It is not authentic, or of no known encoding.
    pub fn open_file(&self, mut sealed: Vec<u8>) -> Result<Vec<u8>, OpenError> {
        match self.open_body(&mut sealed)? {
            FileBody::AsItIs(plaintext) => Ok(plaintext.to_vec()),
            FileBody::Compressed(frame) => decompress(frame),
        }
    }

    fn open_body<'s>(&self, sealed: &'s mut [u8]) -> Result<FileBody<'s>, OpenError> {
        let body = self.cipher.open_in_place(sealed)?;
        match body.split_first() {
            None | Some((b'[' | b'{', _)) => Ok(FileBody::AsItIs(body)),
            Some((&ENCODING_ZSTD, frame)) => Ok(FileBody::Compressed(frame)),
            Some((other, _)) => Err(OpenError::UnknownEncoding(*other)),
        }
    }
}

/// Writes a value as JSON, in pieces: an encoder takes them one by one as they come.
fn write_json<T: Serialize>(out: &mut impl Write, value: &T) -> std::io::Result<()> {
    let mut gathered = BufWriter::with_capacity(GATHERED_BYTES, out);
    serde_json::to_writer(&mut gathered, value)?;
    gathered.flush()
}

fn measured<T: Serialize>(value: &T) -> std::io::Result<Digest> {
    let mut measure = Measure::default();
    write_json(&mut measure, value)?;
    Ok(measure.finish())
}

/// Appends a value of so many bytes of JSON, compressed. The frame states them, so that a reader need not guess.
fn compress<T: Serialize>(out: &mut Vec<u8>, bytes: u64, value: &T) -> std::io::Result<()> {
    out.push(ENCODING_ZSTD);
    let mut encoder = zstd::stream::write::Encoder::new(out, USUAL_LEVEL)?;
    encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
    encoder.set_pledged_src_size(Some(bytes))?;
    write_json(&mut encoder, value)?;
    let _out = encoder.finish()?;
    Ok(())
}

/// Decompresses, up to the limit.
fn decompress(frame: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut plaintext = Vec::new();
    match get_frame_content_size(frame) {
        Ok(Some(stated)) if stated > BLOB_BYTES_MAX as u64 => Err(OpenError::TooLarge(stated)),
        Ok(Some(stated)) if is_decompressed(frame, stated, &mut plaintext) => Ok(plaintext),
        // It states no size; or that of the first frame of several, or another one.
        _ => {
            plaintext = Vec::new();
            decompress_into(frame, &mut plaintext)?;
            Ok(plaintext)
        }
    }
}

/// Whether it is one frame of the size that it states, in bytes, and there is room for it.
fn is_decompressed(frame: &[u8], stated: u64, out: &mut Vec<u8>) -> bool {
    usize::try_from(stated).is_ok_and(|stated| {
        out.try_reserve_exact(stated).is_ok() && decompress_stated(frame, stated, out).is_ok()
    })
}

/// Decompresses frames that need not state their sizes, up to the limit.
fn decompress_into(frames: &[u8], out: &mut impl Write) -> Result<(), OpenError> {
    let decoder = zstd::stream::read::Decoder::new(frames).map_err(OpenError::Decompress)?;
    let mut limited = decoder.take(BLOB_BYTES_MAX as u64 + 1);
    let bytes = std::io::copy(&mut limited, out).map_err(OpenError::Decompress)?;
    if bytes > BLOB_BYTES_MAX as u64 {
        return Err(OpenError::TooLarge(bytes));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
