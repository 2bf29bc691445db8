//! What `scripts/test` fetches because no package has it.
//!
//! Invariant: it lies outside the sources, where `scripts/lib.sh` says.

use std::path::{Path, PathBuf};

/// A path below the cache folder of this project.
#[must_use]
pub fn fetched(path: &str) -> PathBuf {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = named.or_else(home).unwrap_or_default();
    cache.join("refloat").join(path)
}
