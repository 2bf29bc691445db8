//! What tests share: the storage contract as a suite, injected faults, nasty trees, the equality
//! oracle for restores, and restic as an independent witness.
//!
//! Invariant: everything here is reproducible from a seed; nothing needs network or root, and
//! what cannot run says so through [`skip()`].
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "only tests use this crate: a panic is a failed test, and stderr is where they report"
)]

mod acceptor;
pub mod conformance;
pub mod damage;
pub mod docker;
pub mod etcd;
pub mod faults;
mod fetched;
pub mod fuzz;
pub mod http_proxy;
pub mod intercept;
pub mod kubernetes;
pub mod latency;
pub mod link;
pub mod manifest;
pub mod memory_limit;
pub mod partition;
pub mod power_cut;
pub mod random;
pub mod registry;
pub mod restic;
pub mod servers;
mod skip;
pub mod storage_child;
pub mod swap;
pub mod synthetic;
pub mod tier;
pub mod tree;
pub mod zero_loss;

pub use fetched::fetched;
pub use skip::skip;
