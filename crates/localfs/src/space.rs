//! How much room a file system has.
//!
//! Invariant: what cannot be told is not guessed.

use std::path::Path;

/// Bytes that this user may still write where `path` is or would be; none if the system does not
/// say.
#[must_use]
pub fn bytes_free(path: &Path) -> Option<u64> {
    let there = path
        .ancestors()
        .map(|path| match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path,
        })
        .find(|path| path.exists())?;
    let found = rustix::fs::statvfs(there).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}
