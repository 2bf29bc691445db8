//! The file with the deleter key.
//!
//! Invariant: a file that is there is never overwritten.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind as IoKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use refloat_model::secret::Secret;
use refloat_repository::DeleterKey;

use crate::command_error::{CommandError, ErrorKind};
use crate::output;

/// Who may use a key file: its owner.
const MODE: u32 = 0o600;
/// No key file is larger.
const BYTES_MAX: u64 = 4 << 10;

/// Reads the key.
///
/// # Errors
/// The file cannot be read, or holds no key.
pub fn load(path: &Path) -> Result<DeleterKey, CommandError> {
    let failed = |e| CommandError::io("read the deleter key", path.display(), &e);
    let found = std::fs::metadata(path).map_err(failed)?;
    if found.len() > BYTES_MAX {
        return Err(invalid(path));
    }
    if found.permissions().mode() & 0o077 != 0 {
        output::say(&format!(
            "warning: {} can be read by other users; chmod 600 it\n",
            path.display()
        ));
    }
    let text = Secret::new(std::fs::read(path).map_err(failed)?);
    DeleterKey::parse(&text).map_err(|_| invalid(path))
}

fn invalid(path: &Path) -> CommandError {
    CommandError::new(
        ErrorKind::Refused,
        format!("{} holds no deleter key", path.display()),
    )
    .hint("`refloat init --require-deleter-key FILE` makes one, for a new repository")
}

/// The key of a file, which is made if it is not there.
///
/// # Errors
/// It cannot be read or made.
pub fn load_or_make(path: &Path) -> Result<DeleterKey, CommandError> {
    let failed = |e| CommandError::io("write the deleter key", path.display(), &e);
    let mut options = OpenOptions::new();
    let created = options.write(true).create_new(true).mode(MODE).open(path);
    let mut file = match created {
        Ok(file) => file,
        Err(error) if error.kind() == IoKind::AlreadyExists => return load(path),
        Err(error) => return Err(failed(error)),
    };
    let (_, text) = DeleterKey::generate()?;
    file.write_all(text.expose()).map_err(failed)?;
    file.write_all(b"\n").map_err(failed)?;
    file.sync_all().map_err(failed)?;
    // The repository that will ask for the key is durable; so must the key's name be.
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = File::open(folder.unwrap_or(Path::new("."))).map_err(failed)?;
    folder.sync_all().map_err(failed)?;
    // What counts is what can be read again.
    load(path)
}
