//! `/etcd/<name>/cluster.json`: the cluster a snapshot was taken of.
//!
//! Invariant: stays readable for ever; fields are only added.

use refloat_model::tree_path::TreePath;
use serde::{Deserialize, Serialize};

/// The version of [`ClusterRecord`].
pub const CLUSTER_VERSION: u32 = 1;
/// The snapshot's name.
pub const SNAPSHOT: &str = "snapshot.db";
/// The name of [`ClusterRecord`]'s file.
pub const CLUSTER: &str = "cluster.json";
/// The directory of a control-plane host's files.
pub const HOST: &str = "host";

/// A cluster and its members.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// [`CLUSTER_VERSION`].
    pub version: u32,
    /// The cluster's id in hexadecimal.
    pub cluster: String,
    /// Its members, in order of ids.
    pub members: Vec<MemberRecord>,
}

/// One member.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Its id in hexadecimal.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it does not vote.
    #[serde(default)]
    pub learner: bool,
    /// etcd's version; empty if it did not answer.
    #[serde(default)]
    pub etcd: String,
}

/// The directory of an etcd source.
#[must_use]
pub fn directory(source: &str) -> TreePath {
    TreePath::root().child("etcd").child(source)
}

/// Splits a path behind an etcd snapshot: `/etcd/prod/snapshot.db/registry/pods` is the snapshot
/// `/etcd/prod/snapshot.db` and `registry/pods` in it. None for every other path, and for the
/// snapshot itself unless the path ended with a slash, which its caller knows.
#[must_use]
pub fn within_snapshot(path: &TreePath) -> Option<(TreePath, Vec<Vec<u8>>)> {
    let components = path.components();
    let [etcd, source, snapshot, inside @ ..] = components else {
        return None;
    };
    if etcd != b"etcd" || snapshot != SNAPSHOT.as_bytes() {
        return None;
    }
    let file = [etcd, source, snapshot]
        .into_iter()
        .try_fold(TreePath::root(), TreePath::join);
    Some((file.ok()?, inside.to_vec()))
}
