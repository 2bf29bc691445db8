//! etcd clusters as a source, and their data folders as a target.
//!
//! ```text
//! /etcd/<name>/cluster.json        the members
//! /etcd/<name>/snapshot.db         a snapshot with its hash, as etcdctl would save it
//! /etcd/<name>/host/<path>         a control-plane host's files
//! ```
//!
//! Invariant: tonic, tokio and HTTP stay inside; calls from outside are synchronous.

mod bolt;
mod bytes;
mod client;
mod control_plane;
mod crc;
mod document;
mod error;
#[cfg(test)]
mod fuzz;
mod history_hash;
mod mvcc;
mod proof;
mod restore;
mod source;
mod spool;
mod stored_value;
mod survey;
mod trailer;
mod view;
mod wire;

pub use client::{Access, Certificates, Login, Plain};
pub use document::within_snapshot;
pub use error::EtcdError;
pub use restore::{
    BUMP_DEFAULT, ClusterError, DataFolderOptions, DatabaseError, EtcdDataFolder, FolderError,
};
pub use source::{EtcdSource, Options};
pub use spool::SnapshotError;
pub use stored_value::{Envelope, Metadata, StoredValue};
pub use view::{Depth, Listed, Object, SnapshotView, ViewError};
