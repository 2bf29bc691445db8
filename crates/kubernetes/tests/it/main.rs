//! Capture and restore against real API servers.
//!
//! Invariant: without a built test bed every test here says that it is skipped.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a panic is a failed test, and measured times are for whoever runs it"
)]

mod application;
mod bad_input;
mod bed;
mod broken;
mod capture;
mod credentials;
mod definitions;
mod gitops;
mod keeping;
mod memory;
mod misbehaving;
mod openshift;
mod selection;
mod speed;
mod target_checks;
mod unreadable;
mod volumes;
