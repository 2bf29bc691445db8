//! From addresses and configuration to adapters: the one place that knows them.
//!
//! Invariant: a source's name is unique, since it is the source's place in recovery points.

mod address;
mod connect;
mod docker;
mod etcd;
mod kubernetes;

pub use address::{Declared, SourceArgs, declared};
pub use connect::{Connected, target};
pub use etcd::{EtcdSourceArgs, EtcdTargetArgs};
