//! Index files: which pack holds which blob where.
//!
//! Invariant: an index is only ever a hint that can be rebuilt from pack headers.

use serde::{Deserialize, Serialize};

use crate::format::pack::{BlobKind, PackedBlob};
use crate::format::scan::Scanner;
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

/// Decodes an index file.
///
/// # Errors
/// The bytes are no index file.
pub fn decode(json: &[u8]) -> Result<IndexFile, serde_json::Error> {
    match scan(json) {
        Some(file) => Ok(file),
        None => serde_json::from_slice(json),
    }
}

/// The known form, as restic and we write it.
fn scan(json: &[u8]) -> Option<IndexFile> {
    let scanner = &mut Scanner::new(json)?;
    scanner.expect("{")?;
    let mut supersedes = Vec::new();
    if scanner.has("\"supersedes\":") {
        supersedes = scanner.list(|scanner| scanner.id().map(IndexId))?;
        scanner.expect(",")?;
    }
    scanner.expect("\"packs\":")?;
    let packs = scanner.list(pack)?;
    scanner.expect("}")?;
    let _end_of_line = scanner.has("\n");
    scanner
        .is_at_end()
        .then_some(IndexFile { supersedes, packs })
}

fn pack(scanner: &mut Scanner<'_>) -> Option<IndexPack> {
    scanner.expect("{\"id\":")?;
    let id = scanner.id().map(PackId)?;
    scanner.expect(",\"blobs\":")?;
    let blobs = scanner.list(blob)?;
    scanner.expect("}")?;
    Some(IndexPack { id, blobs })
}

fn blob(scanner: &mut Scanner<'_>) -> Option<IndexBlob> {
    scanner.expect("{\"id\":")?;
    let id = scanner.id().map(BlobId)?;
    let kind = if scanner.has(",\"type\":\"data\",\"offset\":") {
        BlobKind::Data
    } else {
        scanner.expect(",\"type\":\"tree\",\"offset\":")?;
        BlobKind::Tree
    };
    let offset = scanner.number_u32()?;
    scanner.expect(",\"length\":")?;
    let length = scanner.number_u32()?;
    let mut uncompressed_length = None;
    if scanner.has(",\"uncompressed_length\":") {
        uncompressed_length = Some(scanner.number_u32()?);
    }
    scanner.expect("}")?;
    Some(IndexBlob {
        id,
        kind,
        offset,
        length,
        uncompressed_length,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::scan::damaged;

    /// Whether it is scanned; either way the general parser must say the same.
    fn is_scanned(json: &[u8]) -> bool {
        let shown = || String::from_utf8_lossy(json);
        let expected = serde_json::from_slice::<IndexFile>(json);
        assert_eq!(
            format!("{:?}", decode(json)),
            format!("{expected:?}"),
            "{}",
            shown()
        );
        scan(json).is_some()
    }

    fn known_form() -> String {
        let blob = |id: u8, kind, uncompressed_length| IndexBlob {
            id: BlobId([id; 32]),
            kind,
            offset: u32::from(id) * 1000,
            length: u32::MAX,
            uncompressed_length,
        };
        let pack = |id, blobs| IndexPack {
            id: PackId([id; 32]),
            blobs,
        };
        let file = IndexFile {
            supersedes: vec![IndexId([0xfe; 32])],
            packs: vec![
                pack(
                    1,
                    vec![
                        blob(0, BlobKind::Data, Some(7)),
                        blob(0xab, BlobKind::Data, None),
                    ],
                ),
                pack(2, vec![blob(0xcd, BlobKind::Tree, Some(0))]),
                pack(3, vec![]),
            ],
        };
        let json = serde_json::to_string(&file).unwrap();
        assert_eq!(decode(json.as_bytes()).unwrap(), file);
        json
    }

    #[test]
    fn what_we_write_is_scanned_and_what_is_damaged_read_as_the_general_parser_does() {
        let known = known_form().into_bytes();
        assert!(is_scanned(&known));
        assert!(is_scanned(b"{\"packs\":[]}"));
        assert!(is_scanned(b"{\"packs\":[]}\n"));
        let scanned = damaged(&known).filter(|json| is_scanned(json)).count();
        // Most changes are within ids.
        assert!(scanned > known.len(), "{scanned} of {}", known.len());
    }
}
