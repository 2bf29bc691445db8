//! Writes to a local storage in a process of its own, so that a test can kill it or make its
//! system calls fail.
//!
//! Invariant: the only system calls `write`, `fsync`, `rename*` and `unlink*` are the storage's.

use std::process::ExitCode;

use refloat_storage::local::LocalStorage;
use refloat_storage::{FileKey, FileKind, Storage, StorageError, StorageErrorKind};
use refloat_testkit::storage_child::{PACK, PACK_LENGTH, SNAPSHOT, content};

/// `storage-child <folder> pack|config|delete|endless`: exits with 0, or a code for the kind.
fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(folder), Some(verb)) = (arguments.next(), arguments.next()) else {
        return ExitCode::from(64);
    };
    let storage = LocalStorage::new(folder);
    let result = match verb.to_str() {
        Some("pack") => storage.write(&PACK, &content(PACK_LENGTH)),
        Some("config") => storage.write(&FileKey::CONFIG, b"config"),
        Some("delete") => storage.delete(&SNAPSHOT),
        Some("endless") => endless(&storage),
        _ => return ExitCode::from(64),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(code(error.kind())),
    }
}

/// Writes packs of growing length until it is killed.
fn endless(storage: &LocalStorage) -> Result<(), StorageError> {
    for number in 0_u64.. {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        let length = 100_000 + usize::try_from(number % 64).unwrap_or(0) * 40_000;
        storage.write(&FileKey::new(FileKind::Pack, id), &content(length))?;
    }
    Ok(())
}

const fn code(kind: StorageErrorKind) -> u8 {
    match kind {
        StorageErrorKind::NotFound => 10,
        StorageErrorKind::AlreadyExists => 11,
        StorageErrorKind::Denied => 12,
        StorageErrorKind::Full => 13,
        StorageErrorKind::ShortRead => 14,
        StorageErrorKind::Unavailable => 15,
        StorageErrorKind::Failed => 16,
        StorageErrorKind::Unauthorized => 17,
        StorageErrorKind::NoPlace => 18,
        StorageErrorKind::Untrusted => 19,
        StorageErrorKind::ClockSkew => 20,
        StorageErrorKind::Busy => 21,
        StorageErrorKind::Interrupted => 22,
    }
}
