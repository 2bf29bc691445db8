//! Snapshot files: the record with one root tree.
//!
//! Invariant: fields that this program does not know are kept when a snapshot is written again.

use serde::{Deserialize, Serialize};

use crate::id::{BlobId, SnapshotId};

/// A snapshot as it is stored.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SnapshotFile {
    /// When it was taken, RFC 3339; restic writes an offset.
    pub time: Time,
    /// The snapshot that unchanged files were taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SnapshotId>,
    /// The root tree; `null` in snapshots that an interrupted restic once wrote.
    pub tree: Option<BlobId>,
    /// What was backed up; constant per policy, so that restic groups by it.
    pub paths: Vec<String>,
    /// Host; constant per policy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// User.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// User id.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// Group id.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// Excluded patterns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excludes: Option<Vec<String>>,
    /// Tags; ours are `refloat`, `point:<id>`, `policy:<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// The snapshot this one was rewritten from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<SnapshotId>,
    /// Program and version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program_version: Option<String>,
    /// Figures of the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<SnapshotSummary>,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

impl SnapshotFile {
    /// The tags, none if there are none.
    #[must_use]
    pub fn tags(&self) -> &[String] {
        self.tags.as_deref().unwrap_or_default()
    }

    /// The value of the tag `name:value`.
    #[must_use]
    pub fn tag_value(&self, name: &str) -> Option<&str> {
        self.tags()
            .iter()
            .find_map(|tag| tag.strip_prefix(name)?.strip_prefix(':'))
    }
}

/// A time that is written as it was read, offset included.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time {
    text: String,
    instant: jiff::Timestamp,
}

impl Time {
    /// The moment.
    #[must_use]
    pub const fn instant(&self) -> jiff::Timestamp {
        self.instant
    }
}

impl From<jiff::Timestamp> for Time {
    fn from(instant: jiff::Timestamp) -> Self {
        Self {
            text: instant.to_string(),
            instant,
        }
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.text
    }
}

impl TryFrom<String> for Time {
    type Error = jiff::Error;
    fn try_from(text: String) -> Result<Self, jiff::Error> {
        Ok(Self {
            instant: text.parse()?,
            text,
        })
    }
}

/// Figures of a backup, as restic counts them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotSummary {
    /// RFC 3339.
    pub backup_start: String,
    /// RFC 3339.
    pub backup_end: String,
    /// Files that the parent did not have.
    pub files_new: u64,
    /// Files that differ from the parent.
    pub files_changed: u64,
    /// Files taken over from the parent.
    pub files_unmodified: u64,
    /// Directories that the parent did not have.
    pub dirs_new: u64,
    /// Directories that differ from the parent.
    pub dirs_changed: u64,
    /// Directories equal to the parent's.
    pub dirs_unmodified: u64,
    /// New data blobs.
    pub data_blobs: u64,
    /// New tree blobs.
    pub tree_blobs: u64,
    /// Bytes of new blobs before compression.
    pub data_added: u64,
    /// Bytes of new blobs as stored.
    pub data_added_packed: u64,
    /// Files in the snapshot.
    pub total_files_processed: u64,
    /// Content bytes in the snapshot.
    pub total_bytes_processed: u64,
}

const fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_restic_wrote_is_written_again_without_loss() {
        let json = r#"{"time":"2024-05-01T10:00:00.123456789+02:00","parent":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","tree":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","paths":["/a"],"hostname":"h","tags":["policy:web"],"future":{"x":1}}"#;
        let snapshot: SnapshotFile = serde_json::from_str(json).unwrap();
        assert_eq!(snapshot.tag_value("policy"), Some("web"));
        assert_eq!(
            snapshot.time.instant().to_string(),
            "2024-05-01T08:00:00.123456789Z"
        );
        assert_eq!(serde_json::to_string(&snapshot).unwrap(), json);
    }
}
