//! The repository engine through its public interface, with restic as an independent witness.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

mod archive;
mod check;
mod keys;
mod lock;
mod oracle;
mod restore;
mod support;
