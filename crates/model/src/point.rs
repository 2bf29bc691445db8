//! The recovery point's own record: what `/recovery-point.json` and the manifest hold.
//!
//! Invariant: version 1 stays readable for ever; fields are only ever added.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::closure::WorkloadClosure;
use crate::finding::Finding;
use crate::id::{PointId, RunId};
use crate::item::{Item, ItemKind, Placement};
use crate::outcome::{Consistency, Outcome};
use crate::time::Timestamp;

/// The version of the record that this program writes.
pub const RECORD_VERSION: u32 = 1;

/// The summary of one recovery point, `/recovery-point.json`, at most 1 MiB.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PointRecord {
    /// [`RECORD_VERSION`].
    pub version: u32,
    /// The point's identity.
    pub id: PointId,
    /// The policy that made it.
    pub policy: String,
    /// The run that made it.
    pub run: RunId,
    /// When the run began.
    pub started: Timestamp,
    /// When capture ended.
    pub finished: Timestamp,
    /// Version of Refloat.
    pub program: String,
    /// The sources, by configured name.
    pub sources: BTreeMap<String, SourceRecord>,
    /// Items by outcome word.
    pub outcomes: BTreeMap<String, u64>,
    /// Each workload and whether everything it refers to is here.
    pub closure: Vec<WorkloadClosure>,
    /// Findings of all sources, the worst first, at most 1,000.
    pub findings: Vec<Finding>,
}

/// One source as it was when the point was taken.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SourceRecord {
    /// `docker`, `files` …
    pub kind: String,
    /// Its address without credentials.
    pub address: String,
    /// The system's own identity.
    pub identity: String,
    /// Versions of the system and its parts.
    pub versions: BTreeMap<String, String>,
    /// What its errors are about, each once, at most 2,000: what could not be seen of it. None in
    /// points that were made before this was written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<BTreeSet<String>>,
}

/// One line of `/manifest/<source>/items.jsonl`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ItemRecord {
    /// The item as discovered.
    #[serde(flatten)]
    pub item: Item,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How consistent its content is; none if it was not captured.
    pub consistency: Option<Consistency>,
    /// Files in it.
    pub files: u64,
    /// Content bytes in it.
    pub bytes: u64,
}

impl ItemRecord {
    /// Whether there is anything in the copy.
    ///
    /// A volume always holds the document that defines it, a file beside its data: alone it is
    /// no data.
    #[must_use]
    pub const fn has_data(&self) -> bool {
        match self.item.kind {
            ItemKind::Volume => self.files > 1,
            _ => self.files > 0 || self.bytes > 0,
        }
    }
}

/// One line of `/manifest/<source>/placements.jsonl`.
pub type PlacementRecord = Placement;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree_path::TreePath;

    #[test]
    fn the_definition_of_a_volume_is_no_data() {
        for (kind, files, bytes, expected) in [
            (ItemKind::Volume, 0, 0, false),
            (ItemKind::Volume, 1, 210, false),
            (ItemKind::Volume, 2, 210, true),
            (ItemKind::Bind, 0, 0, false),
            (ItemKind::Bind, 1, 0, true),
        ] {
            let record = ItemRecord {
                item: Item::new(kind, "data", TreePath::root().child("data")),
                outcome: Outcome::Saved,
                consistency: None,
                files,
                bytes,
            };
            assert_eq!(record.has_data(), expected, "{kind:?} {files} {bytes}");
        }
    }
}
