//! The test kit tested, and the storages against their contract.
#![expect(
    clippy::unwrap_used,
    reason = "a panic is a failed test, also in the functions that tests share"
)]

mod conformance;
mod faults;
mod local;
mod restic;
