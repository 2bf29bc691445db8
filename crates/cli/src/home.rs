//! Paths as people write them: `~/` and paths relative to the file that names them.
//!
//! Invariant: `~user` is not expanded; only `~` and `~/…` are.

use std::path::{Path, PathBuf};

use crate::environment;

/// The absolute or working-directory path that `path` means when it stands in a file in `base`.
pub fn resolve(path: &Path, base: &Path) -> PathBuf {
    let home = environment::path(&environment::HOME);
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => base.join(path),
    }
}
