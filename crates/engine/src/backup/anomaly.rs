//! A copy that is suspiciously unlike the one before: empty, far smaller, all files renamed, or
//! turned into noise.
//!
//! Invariant: an anomaly makes the run incomplete, so that nobody takes an emptied volume for a
//! good backup; the copy itself is kept, and `forget` keeps the last one that was not suspicious.

use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::outcome::Outcome;
use refloat_model::point::ItemRecord;
use refloat_model::time::Timestamp;
use refloat_repository::archive::TreeStatistics;

use super::plan::title;

/// With fewer files that turned into noise, their bytes decide.
const RANDOM_FILES_MIN: u64 = 10;
/// With fewer bytes nothing of worth turned into noise, unless it is many files.
const RANDOM_BYTES_MIN: u64 = 1 << 20;
/// With fewer files a rename of most of them is everyday work.
const RENAMED_FILES_MIN: u64 = 20;

/// Whether copies of this kind are compared at all.
#[must_use]
pub const fn is_compared(kind: ItemKind) -> bool {
    matches!(
        kind,
        ItemKind::Volume
            | ItemKind::Bind
            | ItemKind::RootFilesystem
            | ItemKind::Dump
            | ItemKind::Folder
    )
}

/// What is suspicious about a new copy, compared with the newest saved one, of a run that began then.
#[must_use]
pub fn compare(
    new: &ItemRecord,
    old: &ItemRecord,
    taken: Timestamp,
    statistics: &TreeStatistics,
) -> Option<Finding> {
    let is_empty = |record: &ItemRecord| record.bytes == 0 || !record.has_data();
    if !is_compared(new.item.kind)
        || !matches!(new.outcome, Outcome::Saved)
        || !old.outcome.is_saved()
        || is_empty(old)
    {
        return None;
    }
    let before = format!(
        "the copy of {taken} held {} bytes in {} files",
        old.bytes, old.files
    );
    let message = if is_empty(new) {
        format!("is empty now; {before}")
    } else if new.bytes < old.bytes / 2 {
        format!(
            "has shrunk to {} bytes in {} files; {before}",
            new.bytes, new.files
        )
    } else if is_mass_rename(old.files, statistics) {
        format!(
            "has {} files under names that were not there; {before}, and most of those names are \
             gone: so it looks when files are encrypted by somebody else",
            statistics.files_new
        )
    } else if is_turned_random(old.bytes, statistics) {
        format!(
            "has {} changed files with {} bytes that could be compressed and cannot be any more; \
             {before}: so it looks when files are encrypted by somebody else",
            statistics.files_randomised, statistics.bytes_randomised
        )
    } else {
        return None;
    };
    Some(Finding::error(title(&new.item), message))
}

/// Whether most names are new and most old ones gone.
const fn is_mass_rename(files_before: u64, statistics: &TreeStatistics) -> bool {
    let kept = statistics.files_changed + statistics.files_unmodified;
    files_before >= RENAMED_FILES_MIN
        && statistics.files_new * 2 > files_before
        && files_before.saturating_sub(kept) * 2 > files_before
}

/// Whether half of the files that changed turned into noise, or a quarter of all bytes that were there. What was
/// noise before, as pictures and archives are, says nothing.
const fn is_turned_random(bytes_before: u64, statistics: &TreeStatistics) -> bool {
    let (files, bytes) = (statistics.files_randomised, statistics.bytes_randomised);
    (files >= RANDOM_FILES_MIN && files * 2 >= statistics.files_changed)
        || (bytes >= RANDOM_BYTES_MIN && bytes * 4 >= bytes_before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_must_have_turned_into_noise_in_most_files_or_a_quarter_of_the_bytes() {
        // Bytes before, files changed, of them noise now, their bytes.
        for (before, changed, files, bytes, expected) in [
            (10_000, 10, 10, 9_000, true),
            (10_000_000, 400, 200, 9_000, true),
            (10_000_000, 401, 200, 9_000, false),
            (10_000, 9, 9, 9_000, false),
            (4 << 20, 1, 1, 1 << 20, true),
            (8 << 20, 1, 1, 1 << 20, false),
            (10_000, 100, 0, 0, false),
            (0, 0, 0, 0, false),
        ] {
            let statistics = TreeStatistics {
                files_changed: changed,
                files_randomised: files,
                bytes_randomised: bytes,
                ..TreeStatistics::default()
            };
            assert_eq!(
                is_turned_random(before, &statistics),
                expected,
                "{statistics:?}"
            );
        }
    }

    #[test]
    fn only_most_files_under_other_names_are_a_mass_rename() {
        // Before, then new, changed, unmodified.
        for (before, new, changed, unmodified, expected) in [
            (100, 100, 0, 0, true),
            (100, 60, 0, 40, true),
            (100, 60, 0, 100, false),
            (100, 40, 0, 60, false),
            (100, 0, 100, 0, false),
            (19, 19, 0, 0, false),
            (0, 50, 0, 0, false),
        ] {
            let statistics = TreeStatistics {
                files_new: new,
                files_changed: changed,
                files_unmodified: unmodified,
                ..TreeStatistics::default()
            };
            assert_eq!(
                is_mass_rename(before, &statistics),
                expected,
                "{statistics:?}"
            );
        }
    }
}
