//! A snapshot as a tree of keys, for looking into it without a server.
//!
//! A key's path is its parts between slashes, escaped where they could not be file names; a key
//! that does not begin with a slash lies below `%`, the escaped form of nothing.
//!
//! Invariant: a path names at most one key.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use refloat_model::tree_path::{escape, is_valid_name};

use crate::bolt::{Bolt, BoltError, Bucket, SizedFile};
use crate::mvcc::{HistoryError, KEY_BUCKET, KeyValue, Living, Revision};
use crate::spool::{self, SnapshotError};
use crate::stored_value::StoredValue;
use crate::wire::InvalidMessage;

/// Why something of a snapshot cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The snapshot cannot be opened.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Its history is damaged.
    #[error("the etcd snapshot")]
    History(#[from] HistoryError),
    /// A key's value is damaged.
    #[error("the value of {0} is damaged")]
    Value(String, #[source] InvalidMessage),
    /// There is no such key.
    #[error("the etcd snapshot holds no {0}")]
    NotFound(String),
}

impl From<BoltError> for ViewError {
    fn from(error: BoltError) -> Self {
        Self::History(error.into())
    }
}

/// A snapshot, open for looking into it.
#[derive(Debug)]
pub struct SnapshotView {
    bolt: Bolt<SizedFile>,
    keys: Bucket,
    /// The newest revision.
    newest: u64,
    paths: BTreeMap<Vec<Vec<u8>>, Revision>,
}

/// A key, or a part that several keys begin with.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Listed {
    /// Its path.
    pub path: Vec<Vec<u8>>,
    /// Whether keys lie below.
    pub is_directory: bool,
}

/// A key with its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Object {
    /// Its name.
    pub key: Vec<u8>,
    /// Its content.
    pub value: Vec<u8>,
    /// When it was made.
    pub create_revision: u64,
    /// When it became this: a Kubernetes object's `resourceVersion`.
    pub mod_revision: u64,
    /// How often it was changed.
    pub version: u64,
    /// The lease that deletes it; 0 for none.
    pub lease: u64,
}

impl SnapshotView {
    /// Proves a snapshot's hash and reads its keys. The folder is for a nameless copy, as large as
    /// the snapshot.
    ///
    /// # Errors
    /// The hash is missing or wrong, or the content is damaged.
    pub fn open(content: impl Read, folder: &Path) -> Result<Self, ViewError> {
        let bolt = spool::open(content, folder)?;
        let keys = bolt.bucket(KEY_BUCKET)?;
        let living = Living::read(&bolt)?;
        let paths = living.keys.into_iter();
        Ok(Self {
            bolt,
            keys,
            newest: living.newest,
            paths: paths.map(|(key, at)| (path(&key), at)).collect(),
        })
    }

    /// The snapshot's newest revision.
    #[must_use]
    pub const fn newest(&self) -> u64 {
        self.newest
    }

    /// What lies directly below `within`, or all keys below it; `within` itself if it is a key
    /// without others below.
    ///
    /// # Errors
    /// There is nothing.
    pub fn list(&self, within: &[Vec<u8>], depth: Depth) -> Result<Vec<Listed>, ViewError> {
        let mut listed: Vec<Listed> = Vec::new();
        for path in self.below(within) {
            let shown = match depth {
                Depth::All => path.len(),
                Depth::One => path.len().min(within.len() + 1),
            };
            let new = Listed {
                path: path.get(..shown).unwrap_or(path).to_vec(),
                is_directory: shown < path.len(),
            };
            if listed.last() != Some(&new) {
                listed.push(new);
            }
        }
        if listed.len() > 1 {
            listed.retain(|l| l.path != within);
        }
        if listed.is_empty() && !within.is_empty() {
            return Err(ViewError::NotFound(display(within)));
        }
        Ok(listed)
    }

    fn below<'a>(&'a self, within: &'a [Vec<u8>]) -> impl Iterator<Item = &'a Vec<Vec<u8>>> {
        self.paths
            .range(within.to_vec()..)
            .map(|(path, _)| path)
            .take_while(move |path| path.starts_with(within))
    }

    /// Reads a key.
    ///
    /// # Errors
    /// There is none of this path, or its value is damaged.
    pub fn object(&self, path: &[Vec<u8>]) -> Result<Object, ViewError> {
        let not_found = || ViewError::NotFound(display(path));
        let revision = self.paths.get(path).ok_or_else(not_found)?;
        let entry = self.bolt.get(&self.keys, &revision.to_key())?;
        let entry = entry.ok_or_else(not_found)?;
        let kv = KeyValue::decode(&entry).map_err(|e| ViewError::Value(display(path), e))?;
        Ok(Object {
            key: kv.key.to_vec(),
            value: kv.value.to_vec(),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        })
    }
}

/// How far a listing goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// One level.
    One,
    /// All keys.
    All,
}

impl Object {
    /// What it is.
    #[must_use]
    pub fn recognised(&self) -> StoredValue<'_> {
        StoredValue::of(&self.value)
    }

    /// A JSON document of it for people: the object itself where it is stored as JSON; of an
    /// object in protobuf what is known without its schema, and its bytes in base64; of an
    /// encrypted one, how.
    #[must_use]
    pub fn document(&self) -> serde_json::Value {
        match self.recognised() {
            StoredValue::Json(json) => json,
            StoredValue::Protobuf(envelope) => {
                let mut document = serde_json::json!({
                    "apiVersion": envelope.api_version,
                    "kind": envelope.kind,
                    "metadata": envelope.metadata,
                });
                let is_secret = envelope.kind == "Secret";
                let data = envelope.data().into_iter().map(|(key, value)| {
                    let text = std::str::from_utf8(value).ok().filter(|_| !is_secret);
                    let value = text.map_or_else(|| STANDARD.encode(value), str::to_owned);
                    (key, serde_json::Value::String(value))
                });
                let data: serde_json::Map<_, _> = data.collect();
                if !data.is_empty() {
                    document["data"] = data.into();
                }
                document["protobuf"] = STANDARD.encode(envelope.raw).into();
                document
            }
            StoredValue::Encrypted { how } => serde_json::json!({ "encrypted": how }),
            StoredValue::Other => serde_json::json!({ "bytes": STANDARD.encode(&self.value) }),
        }
    }

    /// Whether people must not see it unasked: Secrets, and what does not say what it is.
    #[must_use]
    pub fn is_sensitive(&self) -> bool {
        let kind = self.recognised().kind();
        kind.is_none_or(|kind| kind.ends_with(" Secret"))
    }
}

/// A key's path.
fn path(key: &[u8]) -> Vec<Vec<u8>> {
    let mut path = Vec::new();
    let rest = match key.strip_prefix(b"/") {
        Some(rest) => rest,
        None => {
            path.push(b"%".to_vec());
            key
        }
    };
    path.extend(rest.split(|b| *b == b'/').map(component));
    path
}

fn component(part: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(part) {
        Ok(text) => escape(text).into_bytes(),
        Err(_) if is_valid_name(part) && !part.contains(&b'%') => part.to_vec(),
        // No UTF-8 and no name either: every byte is escaped.
        Err(_) => part
            .iter()
            .flat_map(|b| format!("%{b:02X}").into_bytes())
            .collect(),
    }
}

fn display(path: &[Vec<u8>]) -> String {
    let parts = path.iter().map(|part| String::from_utf8_lossy(part));
    parts.map(|part| format!("/{part}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_path_of_its_own() {
        let keys: [&[u8]; 12] = [
            b"/registry/pods/a",
            b"registry/pods/a",
            b"/registry/pods//a",
            b"/registry/pods/%/a",
            b"/registry/pods/",
            b"/registry/pods",
            b"/..",
            b"/.",
            b"/\xFF",
            b"/%FF",
            b"/a\0b",
            b"",
        ];
        let paths: std::collections::BTreeSet<_> = keys.iter().map(|key| path(key)).collect();
        assert_eq!(paths.len(), keys.len());
        for path in paths {
            for component in path {
                assert!(is_valid_name(&component), "{component:?}");
            }
        }
    }
}
