//! Docker and Podman hosts as a source of recovery points, and as a target.
//!
//! Invariant: bollard, tokio and HTTP stay inside this crate; calls from outside are synchronous
//! and may come from several threads at once. Nothing here changes an application except what
//! [`quiesce`](refloat_source::Source::quiesce) was asked for, and that is always undone.

mod address;
mod archive;
mod capture;
mod client;
mod consistency;
pub mod definition;
mod discover;
mod error;
pub mod layout;
mod locality;
mod mask;
mod options;
mod restore;
mod source;

pub use address::{Address, DEFAULT_SOCKET, InvalidAddress};
pub use client::{Certificates, ConnectOptions, PlainTcp};
pub use consistency::{Consistency, DumpMode, Hold, HookCommand};
pub use error::EngineError;
pub use options::{ImageSelection, Options, RootfsSelection, VolumeAccess};
pub use restore::DockerTarget;
pub use source::DockerSource;
