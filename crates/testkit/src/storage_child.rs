//! What the process `storage-child` writes.
//!
//! Invariant: the program and the tests that watch it share these values only.

use refloat_storage::{FileKey, FileKind};

/// The pack that the verb `pack` writes.
pub const PACK: FileKey = FileKey::new(FileKind::Pack, [0xab; 32]);

/// The snapshot that the verb `delete` deletes.
pub const SNAPSHOT: FileKey = FileKey::new(FileKind::Snapshot, [0xcd; 32]);

/// How many bytes [`PACK`] has.
pub const PACK_LENGTH: usize = 3_000_000;

/// Bytes that tell their number, so that a file proves to be whole by itself.
#[must_use]
pub fn content(length: usize) -> Vec<u8> {
    let bytes = length.to_le_bytes();
    bytes.iter().copied().cycle().take(length).collect()
}
