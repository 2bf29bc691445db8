//! Docker and Podman hosts as a source of recovery points, and as a target.
//!
//! Invariant: bollard, tokio and HTTP stay inside this crate; calls from outside are synchronous
//! and may come from several threads at once. Nothing here changes an application except what
//! [`quiesce`](refloat_source::Source::quiesce) was asked for, and that is always undone.

pub mod definition;
pub mod layout;
