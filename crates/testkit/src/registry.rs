//! Real and misbehaving registries, images made on the spot, and `skopeo` as a witness.
//!
//! Invariant: nothing here uses the client under test, so that it can judge it.

pub mod estate;
mod http;
pub mod images;
pub mod misbehaving;
pub mod server;
mod skopeo;

pub use skopeo::skopeo;
