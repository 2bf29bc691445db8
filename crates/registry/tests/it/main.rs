//! Registries end to end: Debian's `docker-registry` as the real one, `skopeo` as the independent
//! reader, and small servers that misbehave on purpose.
//!
//! Invariant: every server listens on loopback, has its own folder, and ends with its test.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs,
    reason = "tests: a panic is a failed test"
)]

mod authentication;
mod capture;
mod distribution;
mod images;
mod memory;
mod misbehaving;
mod misbehaviour;
mod roundtrip;
mod skopeo;
mod speed;
