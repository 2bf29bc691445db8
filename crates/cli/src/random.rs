//! Randomness for identities.
//!
//! Invariant: the one place of this crate that draws it.

use crate::command_error::{CommandError, ErrorKind};

/// Bytes from the system's generator.
///
/// # Errors
/// The system has none.
pub fn bytes<const N: usize>() -> Result<[u8; N], CommandError> {
    let mut bytes = [0; N];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => Err(CommandError::new(
            ErrorKind::Internal,
            format!("cannot get random bytes: {error}"),
        )),
    }
}
