//! The engine's export of an image, taken apart into blobs.
//!
//! Engines name layers in their exports by digest (Docker from 25 on: `blobs/sha256/<hex>`,
//! Podman: `<hex>.tar`) or by ids that say nothing (Docker before 25: `<id>/layer.tar`). The
//! latter are hashed in a first pass and stored in a second one.
//!
//! Invariant: a blob is kept only if its bytes hash to its name.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use aws_lc_rs::digest;
use refloat_model::cancel::Cancel;
use refloat_model::entry::{Entry, TreeSink};
use refloat_source::SourceError;
use serde_json::Value;

use super::Session;
use super::images::needed;
use crate::archive::{ArchiveError, components};
use crate::client::{EXPORT_TIMEOUT, encode};
use crate::definition::ImageDefinition;

/// The largest manifest or index that is looked into, in bytes (as registries have it).
const DOCUMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How much of them is kept in memory for one image, in bytes.
const DOCUMENTS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What an export held.
#[derive(Debug, Default)]
pub(super) struct Exported {
    /// Sizes of the blobs that are in the tree now, by hexadecimal digest.
    pub(super) sizes: BTreeMap<String, u64>,
    /// The bytes of manifests and indexes among the blobs, by hexadecimal digest: read, they would
    /// take many times as much.
    pub(super) documents: BTreeMap<String, Vec<u8>>,
    /// Their lengths so far.
    documents_bytes: usize,
    /// Names that no export should have.
    pub(super) refused: Vec<String>,
}

impl Exported {
    /// A manifest or index, read anew: the caller lets go of it before it reads the next.
    pub(super) fn document(&self, hex: &str) -> Option<Value> {
        serde_json::from_slice(self.documents.get(hex)?).ok()
    }
}

/// One pass over an export.
pub(super) struct Pass<'a> {
    /// Blobs taken over from the parent point: their content is not wanted, their size is.
    pub(super) reused: &'a BTreeSet<String>,
    /// Digests of layers whose names say nothing, by name in the export.
    pub(super) learnt: BTreeMap<Vec<u8>, String>,
    pub(super) wanted: BTreeSet<String>,
    pub(super) exported: Exported,
}

/// What a name in an export stands for.
enum Member {
    Blob(String),
    Layer,
    Other,
}

impl Session<'_> {
    /// Puts all blobs of an image into the current directory.
    pub(super) fn export(&mut self, image: &ImageDefinition) -> Result<Exported, SourceError> {
        let mut reused = BTreeSet::new();
        for hex in needed(image).map(str::to_owned).collect::<BTreeSet<_>>() {
            if self.sink.reuse(hex.as_bytes())? {
                reused.insert(hex);
            }
        }
        let mut pass = Pass {
            reused: &reused,
            learnt: BTreeMap::new(),
            wanted: needed(image).map(str::to_owned).collect(),
            exported: Exported::default(),
        };
        self.pass(image, &mut pass)?;
        // Layers that were only hashed so far, because nothing else told their digests.
        if pass.unstored() {
            self.pass(image, &mut pass)?;
        }
        for name in std::mem::take(&mut pass.exported.refused) {
            self.warn(format!("refused in the engine's export: {name}"));
        }
        Ok(pass.exported)
    }

    fn pass(&mut self, image: &ImageDefinition, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let target = format!("/images/{}/get", encode(&image.id));
        let stream = self
            .client()
            .download(&target, EXPORT_TIMEOUT, self.cancel)
            .map_err(|error| self.fail("export", error))?;
        pass.run(stream, self.sink, self.cancel)
            .map_err(|error| self.fail_archive(error))
    }
}

impl Pass<'_> {
    /// Reads one export to its end.
    pub(super) fn run(
        &mut self,
        stream: impl Read,
        sink: &mut dyn TreeSink,
        cancel: &Cancel,
    ) -> Result<(), ArchiveError> {
        let mut archive = tar::Archive::new(stream);
        for entry in archive.entries().map_err(ArchiveError::Stream)? {
            cancel.check().map_err(|_| ArchiveError::Cancelled)?;
            let mut entry = entry.map_err(ArchiveError::Stream)?;
            let name = entry.path_bytes().into_owned();
            let Some(path) = components(&name) else {
                let shown = String::from_utf8_lossy(&name).into_owned();
                self.exported.refused.push(format!("{shown:?}"));
                continue;
            };
            // Links name what is there under another name; directories hold what follows.
            if !entry.header().entry_type().is_file() {
                continue;
            }
            match member(&path) {
                Member::Blob(hex) => self.blob(hex, &mut entry, sink)?,
                Member::Layer => self.layer(&path.concat(), &mut entry, sink)?,
                Member::Other => {}
            }
        }
        Ok(())
    }

    /// Whether a second pass would store something.
    fn unstored(&self) -> bool {
        self.learnt
            .values()
            .any(|hex| self.wanted.contains(hex) && !self.exported.sizes.contains_key(hex))
    }

    fn blob(
        &mut self,
        hex: String,
        entry: &mut tar::Entry<'_, impl Read>,
        sink: &mut dyn TreeSink,
    ) -> Result<(), ArchiveError> {
        let size = entry.size();
        if self.exported.sizes.contains_key(&hex) {
            return Ok(());
        }
        if size <= DOCUMENT_BYTES_MAX {
            let mut bytes = Vec::new();
            entry
                .read_to_end(&mut bytes)
                .map_err(ArchiveError::Stream)?;
            return self.small_blob(hex, (&bytes, size), sink);
        }
        if !self.reused.contains(&hex) && !sink.reuse(hex.as_bytes())? {
            let mut content = Verified::new(entry, size, hex.clone());
            sink.stream(Entry::synthetic_file(hex.as_bytes(), size), &mut content)?;
            if !content.accepted {
                // The sink has recorded why; the blob does not count as there.
                return Ok(());
            }
        }
        self.exported.sizes.insert(hex, size);
        Ok(())
    }

    /// A blob that may be a manifest: what it says is kept, if its bytes are what its name says.
    fn small_blob(
        &mut self,
        hex: String,
        (bytes, size): (&[u8], u64),
        sink: &mut dyn TreeSink,
    ) -> Result<(), ArchiveError> {
        if !self.reused.contains(&hex) && !sink.reuse(hex.as_bytes())? {
            let mut content = Verified::new(bytes, size, hex.clone());
            sink.stream(Entry::synthetic_file(hex.as_bytes(), size), &mut content)?;
            if !content.accepted {
                return Ok(());
            }
        } else if digest_hex(bytes) != hex {
            return Ok(());
        }
        let exported = &mut self.exported;
        let fits = exported.documents_bytes + bytes.len() <= DOCUMENTS_BYTES_MAX;
        if fits
            && let Ok(document) = serde_json::from_slice::<Value>(bytes)
            && ["layers", "manifests"]
                .iter()
                .any(|key| document.get(key).is_some())
        {
            exported.documents_bytes += bytes.len();
            exported.documents.insert(hex.clone(), bytes.to_vec());
        }
        exported.sizes.insert(hex, size);
        Ok(())
    }

    /// A layer under a name that says nothing: hashed first, stored when its digest is known.
    fn layer(
        &mut self,
        name: &[u8],
        entry: &mut tar::Entry<'_, impl Read>,
        sink: &mut dyn TreeSink,
    ) -> Result<(), ArchiveError> {
        if let Some(hex) = self.learnt.get(name).cloned() {
            return if self.wanted.contains(&hex) {
                self.blob(hex, entry, sink)
            } else {
                Ok(())
            };
        }
        let size = entry.size();
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut buffer = vec![0; 64 * 1024];
        let mut read = 0;
        loop {
            let count = entry.read(&mut buffer).map_err(ArchiveError::Stream)?;
            if count == 0 {
                break;
            }
            read += count as u64;
            hash.update(buffer.get(..count).unwrap_or_default());
        }
        if read != size {
            return Err(ArchiveError::Cut);
        }
        let hex = hex(hash.finish().as_ref());
        if self.reused.contains(&hex) {
            self.exported.sizes.insert(hex.clone(), size);
        }
        self.learnt.insert(name.to_vec(), hex);
        Ok(())
    }
}

fn member(path: &[Vec<u8>]) -> Member {
    let text: Vec<&str> = path
        .iter()
        .filter_map(|name| std::str::from_utf8(name).ok())
        .collect();
    match text.as_slice() {
        ["blobs", "sha256", hex] if is_digest(hex) => Member::Blob((*hex).to_owned()),
        [name] => name
            .strip_suffix(".json")
            .or_else(|| name.strip_suffix(".tar"))
            .filter(|hex| is_digest(hex))
            .map_or(Member::Other, |hex| Member::Blob(hex.to_owned())),
        [_, "layer.tar"] => Member::Layer,
        _ => Member::Other,
    }
}

fn is_digest(hex: &str) -> bool {
    hex.len() == 64
        && hex
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// SHA-256 in hexadecimal digits.
pub(super) fn digest_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes that end in an error unless they have the digest and length they should have.
struct Verified<R> {
    inner: R,
    left: u64,
    expected: String,
    hash: Option<digest::Context>,
    accepted: bool,
}

/// Bytes that are not what their name says.
#[derive(Debug, thiserror::Error)]
#[error("the content is not sha256:{0}")]
struct WrongDigest(String);

impl<R> Verified<R> {
    fn new(inner: R, size: u64, expected: String) -> Self {
        Self {
            inner,
            left: size,
            expected,
            hash: Some(digest::Context::new(&digest::SHA256)),
            accepted: false,
        }
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some(hash) = &mut self.hash {
            hash.update(buffer.get(..count).unwrap_or_default());
        }
        self.left = self.left.saturating_sub(count as u64);
        if count > 0 || buffer.is_empty() {
            return Ok(count);
        }
        if self.left > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(hash) = self.hash.take() {
            if hex(hash.finish().as_ref()) != self.expected {
                return Err(io::Error::other(WrongDigest(self.expected.clone())));
            }
            self.accepted = true;
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests;
