//! A line of a ledger: a JSON entry, a blank, and its signature in base64.
//!
//! Invariant: what is verified is the bytes of the line, not what was read out of them.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::signing::LedgerKey;
use crate::id::{KeyId, SnapshotId};

/// The version of the lines.
pub const VERSION: u32 = 1;
/// How the first line of every ledger begins.
pub const FIRST: &str = r#"{"version":1,"sequence":0,"#;

/// What a command changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Of the line's form.
    pub version: u32,
    /// From 0.
    pub sequence: u64,
    /// The SHA-256 of the line before, in hex; empty in the first.
    pub previous: String,
    /// When, by the clock of who wrote it.
    pub time: String,
    /// What was run.
    pub command: String,
    /// The repository's id.
    pub repository: String,
    /// The SHA-256 of the config, if it is recorded anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Points that are there now.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub added_snapshots: BTreeSet<SnapshotId>,
    /// Points that were dropped.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub removed_snapshots: BTreeSet<SnapshotId>,
    /// Keys that are there now.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub added_keys: BTreeSet<KeyId>,
    /// Keys that were removed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub removed_keys: BTreeSet<KeyId>,
    /// Points that the command is about to drop: until the next line they may be there or not.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub leaving_snapshots: BTreeSet<SnapshotId>,
    /// Keys that the command is about to remove.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub leaving_keys: BTreeSet<KeyId>,
}

impl Entry {
    /// Whether nothing would be recorded by it.
    #[must_use]
    pub fn changes_nothing(&self) -> bool {
        self.config.is_none()
            && self.added_snapshots.is_empty()
            && self.removed_snapshots.is_empty()
            && self.added_keys.is_empty()
            && self.removed_keys.is_empty()
    }
}

/// Why a ledger cannot be trusted or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A line is not signed by this repository's key.
    #[error("line {line} of the ledger is not signed by this repository's key")]
    Signature {
        /// Which, from 1.
        line: usize,
    },
    /// A line is signed and no entry.
    #[error("line {line} of the ledger cannot be read")]
    Entry {
        /// Which, from 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A line is of a version that this program does not know.
    #[error("line {line} of the ledger has version {version}, this program knows {VERSION}")]
    Version {
        /// Which, from 1.
        line: usize,
        /// The version it states.
        version: u32,
    },
    /// A line does not follow the one before it: lines were taken out or put elsewhere.
    #[error("line {line} of the ledger does not follow the line before it")]
    Chain {
        /// Which, from 1.
        line: usize,
    },
    /// There are more lines than anybody wrote.
    #[error("the ledger has too many lines")]
    TooLong,
    /// A line cannot be signed.
    #[error("cannot sign the ledger")]
    Sign,
}

/// The line of an entry, without a line break.
pub fn seal(entry: &Entry, key: &LedgerKey) -> Result<String, LedgerError> {
    let json = serde_json::to_string(entry).map_err(|_| LedgerError::Sign)?;
    let signature = BASE64.encode(key.sign(json.as_bytes()));
    Ok(format!("{json} {signature}"))
}

/// The entry of a line.
pub fn open(line: &str, number: usize, key: &LedgerKey) -> Result<Entry, LedgerError> {
    let unsigned = || LedgerError::Signature { line: number };
    let (json, signature) = line.rsplit_once(' ').ok_or_else(unsigned)?;
    let signature = BASE64.decode(signature).map_err(|_| unsigned())?;
    if !key.verifies(json.as_bytes(), &signature) {
        return Err(unsigned());
    }
    let entry: Entry = serde_json::from_str(json).map_err(|source| LedgerError::Entry {
        line: number,
        source,
    })?;
    if entry.version != VERSION {
        return Err(LedgerError::Version {
            line: number,
            version: entry.version,
        });
    }
    Ok(entry)
}
