//! Encrypting keys of documents with the `age` program.
//!
//! Only public keys are needed here; who may read is decided by who holds the others.
//!
//! Invariant: plaintext goes to age by a pipe, never into a file or an argument.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use refloat_model::secret::Secret;

use crate::error::GitError;

/// What public keys of age begin with.
const PUBLIC: &str = "age1";
/// What private keys of age begin with.
const PRIVATE: &str = "AGE-SECRET-KEY-";

/// Who can read what is encrypted: public keys of age.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipients(Vec<String>);

impl Recipients {
    /// Public keys (`age1…`), or files of them, one a line.
    ///
    /// # Errors
    /// There is none, something else is among them, or a file cannot be read.
    pub fn new(recipients: &[String]) -> Result<Self, GitError> {
        let mut keys = Vec::new();
        for text in recipients {
            if text.starts_with(PRIVATE) {
                return Err(GitError::PrivateKey);
            }
            if text.starts_with(PUBLIC) {
                keys.push(public_key(text)?);
                continue;
            }
            let file = Path::new(text);
            let lines = std::fs::read_to_string(file).map_err(|source| GitError::Recipients {
                file: file.to_owned(),
                source,
            })?;
            let lines = lines.lines().map(str::trim).enumerate();
            for (index, line) in lines.filter(|(_, l)| !l.is_empty() && !l.starts_with('#')) {
                keys.push(public_key(line).map_err(|error| match error {
                    GitError::Recipient(_) => GitError::RecipientLine {
                        file: file.to_owned(),
                        line: index + 1,
                    },
                    error => error,
                })?);
            }
        }
        keys.sort();
        keys.dedup();
        if keys.is_empty() {
            return Err(GitError::NoRecipient);
        }
        Ok(Self(keys))
    }

    /// What tells these recipients from others, for a commit's message: the public keys.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.0.join(",")
    }

    /// Encrypts a secret once for each recipient: the public key, and what its holder can open.
    ///
    /// # Errors
    /// age cannot be run, or refuses a key.
    pub fn seal(&self, secret: &Secret) -> Result<Vec<(String, String)>, GitError> {
        let seal = |key: &String| Ok((key.clone(), encrypt(key, secret)?));
        self.0.iter().map(seal).collect()
    }
}

fn public_key(text: &str) -> Result<String, GitError> {
    if text.starts_with(PRIVATE) {
        return Err(GitError::PrivateKey);
    }
    let is_key = text.starts_with(PUBLIC) && text.chars().all(|c| c.is_ascii_alphanumeric());
    if !is_key {
        return Err(GitError::Recipient(text.to_owned()));
    }
    Ok(text.to_owned())
}

fn encrypt(recipient: &str, secret: &Secret) -> Result<String, GitError> {
    let mut child = Command::new("age")
        .args(["--encrypt", "--armor", "--recipient", recipient])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(GitError::Age)?;
    let gone = || GitError::Age(std::io::ErrorKind::BrokenPipe.into());
    let mut input = child.stdin.take().ok_or_else(gone)?;
    // A key is far shorter than a pipe holds: nobody waits for the other.
    let written = input.write_all(secret.expose());
    drop(input);
    let mut sealed = String::new();
    let mut output = child.stdout.take().ok_or_else(gone)?;
    let read = output.read_to_string(&mut sealed);
    let finished = child.wait_with_output().map_err(GitError::Age)?;
    if !finished.status.success() {
        let said = String::from_utf8_lossy(&finished.stderr).trim().to_owned();
        return Err(GitError::Encrypt {
            recipient: recipient.to_owned(),
            said,
        });
    }
    written.and(read).map_err(GitError::Age)?;
    Ok(sealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_wrong_file_is_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("passwords");
        for first in ["# mine", "age1qqqq"] {
            std::fs::write(&file, format!("{first}\n\nage1 hunter2\n")).unwrap();
            let error = Recipients::new(&[file.display().to_string()]).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(
                text.contains("line 3 of ") && text.contains("passwords"),
                "{text}"
            );
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
