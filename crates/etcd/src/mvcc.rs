//! etcd's history: every revision of every key, in the bucket `key`.
//!
//! A key of that bucket is `main u64 big-endian · '_' · sub u64 big-endian`, with a `t` behind it
//! where the revision deletes; its value is the message `mvccpb.KeyValue`.
//!
//! Invariant: what a key is now is decided by its newest revision alone.

use std::collections::BTreeMap;

use crate::bolt::{Bolt, BoltError, ReadAt};
use crate::bytes::{slice, u64_be_at};
use crate::wire::{Fields, InvalidMessage, Value};

/// The bucket of the history.
pub const KEY_BUCKET: &str = "key";
/// The bucket of the server's own numbers.
pub const META_BUCKET: &str = "meta";
/// More keys than this are not read: their names would take gigabytes.
const KEYS_MAX: usize = 20_000_000;

/// One point in the history.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Revision {
    /// The transaction.
    pub main: u64,
    /// The change within it.
    pub sub: u64,
}

/// A revision with what happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BucketKey {
    /// When.
    pub revision: Revision,
    /// Whether the key was deleted.
    pub is_tombstone: bool,
}

/// One version of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeyValue<'a> {
    /// Its name.
    pub key: &'a [u8],
    /// When it was made.
    pub create_revision: u64,
    /// When it became this.
    pub mod_revision: u64,
    /// How often it was changed since it was made.
    pub version: u64,
    /// What it holds.
    pub value: &'a [u8],
    /// The lease that deletes it; 0 for none.
    pub lease: u64,
}

/// Why a history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file is damaged.
    #[error(transparent)]
    Bolt(#[from] BoltError),
    /// An entry is no revision.
    #[error("has a revision that is none: {0:02x?}")]
    Revision(Vec<u8>),
    /// A value is no message.
    #[error("the value of revision {} is damaged", .revision.main)]
    Value {
        /// Which.
        revision: Revision,
        /// What is wrong.
        #[source]
        source: InvalidMessage,
    },
    /// Too much to hold.
    #[error("has more than {KEYS_MAX} keys")]
    TooMany,
}

impl Revision {
    /// As a key of the bucket.
    #[must_use]
    pub fn to_key(self) -> Vec<u8> {
        let mut key = Vec::with_capacity(17);
        key.extend(self.main.to_be_bytes());
        key.push(b'_');
        key.extend(self.sub.to_be_bytes());
        key
    }
}

impl BucketKey {
    /// Reads a key of the bucket.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(key: &[u8]) -> Result<Self, HistoryError> {
        let read = || {
            let is_tombstone = match key.len() {
                17 => false,
                18 if key.last() == Some(&b't') => true,
                _ => return None,
            };
            let revision = Revision {
                main: u64_be_at(key, 0)?,
                sub: u64_be_at(key, 9)?,
            };
            (slice(key, 8, 1)? == b"_").then_some(Self {
                revision,
                is_tombstone,
            })
        };
        read().ok_or_else(|| HistoryError::Revision(key.iter().take(32).copied().collect()))
    }
}

impl<'a> KeyValue<'a> {
    /// Reads the message.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(message: &'a [u8]) -> Result<Self, InvalidMessage> {
        let mut this = Self::default();
        for field in Fields::of(message) {
            match field? {
                (1, Value::Bytes(key)) => this.key = key,
                (2, Value::Varint(n)) => this.create_revision = n,
                (3, Value::Varint(n)) => this.mod_revision = n,
                (4, Value::Varint(n)) => this.version = n,
                (5, Value::Bytes(value)) => this.value = value,
                (6, Value::Varint(n)) => this.lease = n,
                _ => {}
            }
        }
        Ok(this)
    }
}

/// Which revision each living key is at, and how far the history goes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Living {
    /// Keys in order of their names.
    pub keys: BTreeMap<Vec<u8>, Revision>,
    /// The newest revision.
    pub newest: u64,
    /// Revisions in the file, dead ones too.
    pub revisions: u64,
}

impl Living {
    /// Reads the whole history.
    ///
    /// # Errors
    /// Something of it is damaged.
    pub fn read<R: ReadAt>(bolt: &Bolt<R>) -> Result<Self, HistoryError> {
        let mut this = Self {
            newest: compacted(bolt)?,
            ..Self::default()
        };
        each_revision(bolt, |at, kv| {
            this.newest = this.newest.max(at.revision.main);
            this.revisions += 1;
            if at.is_tombstone {
                this.keys.remove(kv.key);
            } else if let Some(revision) = this.keys.get_mut(kv.key) {
                *revision = at.revision;
            } else {
                if this.keys.len() >= KEYS_MAX {
                    return Err(HistoryError::TooMany);
                }
                this.keys.insert(kv.key.to_vec(), at.revision);
            }
            Ok(())
        })?;
        Ok(this)
    }
}

/// Calls `look` with every revision, oldest first.
///
/// # Errors
/// Something is damaged, or `look` says so.
pub fn each_revision<R: ReadAt>(
    bolt: &Bolt<R>,
    mut look: impl FnMut(BucketKey, KeyValue<'_>) -> Result<(), HistoryError>,
) -> Result<(), HistoryError> {
    let bucket = bolt.bucket(KEY_BUCKET)?;
    let mut cursor = bolt.entries(&bucket)?;
    while let Some((key, value)) = cursor.next_entry()? {
        let at = BucketKey::parse(key)?;
        let revision = at.revision;
        let kv =
            KeyValue::decode(value).map_err(|source| HistoryError::Value { revision, source })?;
        look(at, kv)?;
    }
    Ok(())
}

/// The revision up to which the history was dropped; 0 if it never was.
fn compacted<R: ReadAt>(bolt: &Bolt<R>) -> Result<u64, HistoryError> {
    let bucket = bolt.bucket(META_BUCKET)?;
    let mut cursor = bolt.entries(&bucket)?;
    while let Some((key, value)) = cursor.next_entry()? {
        if key == b"finishedCompactRev" {
            return Ok(BucketKey::parse(value)?.revision.main);
        }
    }
    Ok(0)
}
