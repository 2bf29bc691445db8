//! etcd for real: Debian's etcd 3.4 and, where it is installed, 3.5.
//!
//! Invariant: every server listens on loopback, has its own folder, and ends with its test.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests: a panic is a failed test"
)]

mod capture;
mod damage;
mod login;
mod point;
mod proof;
mod restore;
