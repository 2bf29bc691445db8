//! A copy that is suspiciously smaller than the one before.
//!
//! Invariant: an anomaly makes the run incomplete, so that nobody takes an emptied volume for a
//! good backup; the copy itself is kept.

use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::outcome::Outcome;
use refloat_model::point::ItemRecord;

use super::parents::Parent;
use super::plan::title;

/// What is suspicious about a new copy, compared with the newest saved one.
#[must_use]
pub fn compare(new: &ItemRecord, old: &Parent) -> Option<Finding> {
    let holds_data = matches!(
        new.item.kind,
        ItemKind::Volume
            | ItemKind::Bind
            | ItemKind::RootFilesystem
            | ItemKind::Dump
            | ItemKind::Folder
    );
    let is_empty = |record: &ItemRecord| record.bytes == 0 || !record.has_data();
    if !holds_data || !matches!(new.outcome, Outcome::Saved) || is_empty(&old.record) {
        return None;
    }
    let before = format!(
        "the copy of {} held {} bytes in {} files",
        old.time, old.record.bytes, old.record.files
    );
    let message = if is_empty(new) {
        format!("is empty now; {before}")
    } else if new.bytes < old.record.bytes / 2 {
        format!(
            "has shrunk to {} bytes in {} files; {before}",
            new.bytes, new.files
        )
    } else {
        return None;
    };
    Some(Finding::error(title(&new.item), message))
}
