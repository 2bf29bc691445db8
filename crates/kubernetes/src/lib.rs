//! Kubernetes clusters as source and target: every object the API holds.
//!
//! `catalogue` is what a server serves, `look` what it holds, `capture` how that becomes a tree of
//! readable YAML (`layout`, `yaml`, `noise`), `restore` the way back: plan against the real
//! cluster, then do exactly that. Objects are JSON values throughout; typed structures would drop
//! the fields they do not know.
//!
//! Invariant: kube, tokio and HTTP stay inside; calls from outside are synchronous.
//! Invariant: capturing changes nothing in a cluster.

mod capture;
mod catalogue;
mod client;
pub mod drift;
mod error;
mod expression;
#[cfg(test)]
mod fuzz;
mod hash;
mod kept;
mod kind;
mod layout;
mod look;
mod noise;
mod options;
mod pod_spec;
mod quantity;
mod references;
mod restore;
mod rules;
mod saved;
pub mod sops;
mod source;
mod stateful_set;
mod yaml;

pub use catalogue::Catalogue;
pub use client::{Access, Client};
pub use error::{ApiError, Plugin};
pub use expression::{Expression, ExpressionError};
pub use kind::Kind;
pub use options::{ClusterWide, Namespaces, Options, Versions};
pub use restore::KubernetesTarget;
pub use source::KubernetesSource;
pub use yaml::YamlError;
