//! From addresses and configuration to adapters: the one place that knows them.
//!
//! Invariant: a source's name is unique, since it is the source's place in recovery points.

mod access;
mod address;
mod connect;
mod docker;
mod etcd;
mod kubernetes;
mod registry;
mod target;

pub use access::AccessArgs;
pub use address::{Declared, SourceArgs, belonging, declared};
pub use connect::{Connected, Purpose};
pub use etcd::EtcdTargetArgs;
pub use target::target;
