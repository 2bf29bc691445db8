//! Whole commands on repositories on other machines, and from one repository to another.
//!
//! - `cycle`: a repository's life on each kind of storage, with restic as a witness
//! - `copying`: `copy`, `init --copy-chunker-params` and copies that follow a backup
//! - `refusals`: what a person reads when storage cannot be used
//! - `faults`: whole backups through a proxy that misbehaves, lies, or is gone for a while
//! - `partitions`: the line is cut at each phase, in one direction or both
//! - `thieves`: what whoever has stolen credentials can do, and how everything comes back
//! - `link`: how much of a long line a backup uses
#![expect(clippy::unwrap_used, reason = "tests: a panic is a failed test")]

#[path = "../it/cli_env.rs"]
#[expect(
    dead_code,
    unused_macros,
    unused_imports,
    reason = "shared with the other binary"
)]
mod cli_env;

mod copying;
mod cycle;
mod faults;
mod link;
mod partitions;
mod refusals;
mod thieves;
