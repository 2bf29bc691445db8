//! Registries end to end: Debian's `docker-registry` as the real one, `skopeo` as the independent
//! reader, and small servers that misbehave on purpose.
//!
//! Invariant: every server listens on loopback, has its own folder, and ends with its test.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests: a panic is a failed test"
)]

mod authentication;
mod capture;
mod engine_images;
mod folder;
mod in_use;
mod memory;
mod misbehaviour;
mod referrers;
mod roundtrip;
mod speed;

use refloat_testkit::registry::{estate, images, misbehaving, server, skopeo};
