//! A new member's database: what lives, compacted, at a revision beyond all that clients saw.
//!
//! Only living keys are written, each at its revision. `finishedCompactRev` says that the history
//! was dropped up to the new revision, which is what etcd itself leaves after a compaction at its
//! newest revision, and it then takes that for its current one. So the revision never goes back
//! and every watch from before is told that it is too old, instead of missing events in silence.
//!
//! Invariant: no key, value, lease, user or role is changed; only the cluster's own numbers are.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;

use super::cluster::{NewCluster, member_json};
use super::log::{TERM, last_index};
use crate::bolt::{Bolt, BoltError, BoltWriter, Bucket, ReadAt};
use crate::mvcc::{BucketKey, HistoryError, KEY_BUCKET, Living, META_BUCKET, Revision};

const MEMBERS: &[u8] = b"members";
const MEMBERS_REMOVED: &[u8] = b"members_removed";
/// Alarms name members that will not exist, and what they warn of ends with the new file.
const ALARM: &[u8] = b"alarm";
/// Buckets without which a server does not start.
const NEEDED: [&[u8]; 4] = [
    KEY_BUCKET.as_bytes(),
    META_BUCKET.as_bytes(),
    MEMBERS,
    MEMBERS_REMOVED,
];
/// More than any bucket but the keys' holds.
const SMALL_ENTRIES_MAX: usize = 20_000_000;

/// Why a database could not be written.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The snapshot is damaged.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The disk refused.
    #[error("cannot write the database")]
    Write(#[source] io::Error),
    /// The revision would not fit.
    #[error("revision {newest} cannot be raised by {by}")]
    Bump {
        /// The snapshot's.
        newest: u64,
        /// What was asked.
        by: u64,
    },
}

impl From<BoltError> for DatabaseError {
    fn from(error: BoltError) -> Self {
        Self::History(error.into())
    }
}

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// Living keys.
    pub keys: u64,
    /// The snapshot's newest revision.
    pub old_revision: u64,
    /// The revision that the cluster will be at.
    pub new_revision: u64,
}

/// The revision after the bump.
///
/// # Errors
/// It does not fit: etcd's revisions are signed.
pub fn bumped(newest: u64, by: u64) -> Result<u64, DatabaseError> {
    newest
        .checked_add(by)
        .filter(|sum| *sum < i64::MAX as u64 / 2)
        .ok_or(DatabaseError::Bump { newest, by })
}

/// Writes the database of a new cluster into an empty file.
///
/// # Errors
/// The snapshot is damaged, or the disk refused.
pub fn write<R: ReadAt>(
    bolt: &Bolt<R>,
    living: &Living,
    cluster: &NewCluster,
    bump: u64,
    file: File,
) -> Result<Written, DatabaseError> {
    let new_revision = bumped(living.newest, bump)?;
    let mut buckets: BTreeMap<Vec<u8>, Option<Bucket>> =
        NEEDED.iter().map(|name| (name.to_vec(), None)).collect();
    for bucket in bolt.buckets()? {
        buckets.insert(bucket.name.clone(), Some(bucket));
    }
    let mut writer = BoltWriter::begin(file, bolt.page_bytes()).map_err(DatabaseError::Write)?;
    for (name, bucket) in &buckets {
        if name == KEY_BUCKET.as_bytes() {
            copy_living(bolt, bucket.as_ref(), living, &mut writer)?;
            continue;
        }
        let mut entries = match bucket {
            Some(bucket) => entries(bolt, bucket)?,
            None => BTreeMap::new(),
        };
        match name.as_slice() {
            MEMBERS => {
                entries.clear();
                for (id, member) in cluster.members() {
                    let key = format!("{id:x}").into_bytes();
                    entries.insert(key, member_json(*id, member).into_bytes());
                }
            }
            MEMBERS_REMOVED | ALARM => entries.clear(),
            name if name == META_BUCKET.as_bytes() => renumber(&mut entries, cluster, new_revision),
            _ => {}
        }
        let mut bucket = writer.bucket(name);
        for (key, value) in &entries {
            bucket.put(key, value).map_err(DatabaseError::Write)?;
        }
        bucket.end().map_err(DatabaseError::Write)?;
    }
    writer.finish().map_err(DatabaseError::Write)?;
    Ok(Written {
        keys: living.keys.len() as u64,
        old_revision: living.newest,
        new_revision,
    })
}

fn copy_living<R: ReadAt>(
    bolt: &Bolt<R>,
    bucket: Option<&Bucket>,
    living: &Living,
    writer: &mut BoltWriter,
) -> Result<(), DatabaseError> {
    let keep: HashSet<Revision> = living.keys.values().copied().collect();
    let mut out = writer.bucket(KEY_BUCKET.as_bytes());
    if let Some(bucket) = bucket {
        let mut cursor = bolt.entries(bucket)?;
        while let Some((key, value)) = cursor.next_entry()? {
            if keep.contains(&BucketKey::parse(key)?.revision) {
                out.put(key, value).map_err(DatabaseError::Write)?;
            }
        }
    }
    out.end().map_err(DatabaseError::Write)
}

fn entries<R: ReadAt>(
    bolt: &Bolt<R>,
    bucket: &Bucket,
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, DatabaseError> {
    let mut entries = BTreeMap::new();
    let mut cursor = bolt.entries(bucket)?;
    while let Some((key, value)) = cursor.next_entry()? {
        entries.insert(key.to_vec(), value.to_vec());
        if entries.len() > SMALL_ENTRIES_MAX {
            return Err(HistoryError::TooMany.into());
        }
    }
    Ok(entries)
}

/// The server's own numbers, for a log that holds nothing but the members.
fn renumber(meta: &mut BTreeMap<Vec<u8>, Vec<u8>>, cluster: &NewCluster, revision: u64) {
    let compacted = Revision {
        main: revision,
        sub: 0,
    }
    .to_key();
    let mut set = |key: &str, value: Vec<u8>| meta.insert(key.as_bytes().to_vec(), value);
    set("finishedCompactRev", compacted.clone());
    set("scheduledCompactRev", compacted);
    set(
        "consistent_index",
        last_index(cluster).to_be_bytes().to_vec(),
    );
    set("term", TERM.to_be_bytes().to_vec());
    let voters: Vec<u64> = cluster.members().iter().map(|(id, _)| *id).collect();
    let state = serde_json::json!({ "voters": voters, "auto_leave": false });
    set("confState", state.to_string().into_bytes());
}
