//! Index files: which pack holds which blob where.
//!
//! Invariant: an index is only ever a hint that can be rebuilt from pack headers.

use serde::{Deserialize, Serialize};

use crate::format::pack::{BlobKind, PackedBlob};
use crate::id::{BlobId, IndexId, PackId};

/// An index file.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct IndexFile {
    /// Indexes that this one replaces; unused by restic today.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supersedes: Vec<IndexId>,
    /// The packs. A pack's blobs may be spread over several index files.
    pub packs: Vec<IndexPack>,
}

/// One pack of an index.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IndexPack {
    /// The pack.
    pub id: PackId,
    /// Its blobs.
    pub blobs: Vec<IndexBlob>,
}

/// One blob of an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IndexBlob {
    /// The blob.
    pub id: BlobId,
    /// Data or tree.
    #[serde(rename = "type")]
    pub kind: BlobKind,
    /// Where its sealed form begins in the pack, in bytes.
    pub offset: u32,
    /// How long its sealed form is, in bytes.
    pub length: u32,
    /// How long its plaintext is, in bytes, if it is compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncompressed_length: Option<u32>,
}

impl From<PackedBlob> for IndexBlob {
    fn from(blob: PackedBlob) -> Self {
        Self {
            id: blob.id,
            kind: blob.kind,
            offset: blob.offset,
            length: blob.length,
            uncompressed_length: blob.uncompressed_length,
        }
    }
}

impl From<IndexBlob> for PackedBlob {
    fn from(blob: IndexBlob) -> Self {
        Self {
            id: blob.id,
            kind: blob.kind,
            offset: blob.offset,
            length: blob.length,
            uncompressed_length: blob.uncompressed_length,
        }
    }
}
