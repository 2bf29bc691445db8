//! Snapshot records of which nobody can tell what they hold.
//!
//! Invariant: what can be read is never among them, and nothing of them goes by a rule.

use refloat_model::cancel::Cancel;
use refloat_repository::{IndexedRepository, RepositoryError, SnapshotId};
use serde::Serialize;

use super::load_partials;
use crate::chain;

/// A record that cannot be read, or a partial snapshot whose manifest cannot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct UnreadableRecord {
    /// Which.
    pub snapshot: SnapshotId,
    /// Why.
    pub cause: String,
}

/// All of them.
///
/// # Errors
/// The list of snapshots cannot be read, or the run was cancelled.
pub fn unreadable(
    repository: &IndexedRepository,
    cancel: &Cancel,
) -> Result<Vec<UnreadableRecord>, RepositoryError> {
    let list = repository.snapshots()?;
    let mut records: Vec<UnreadableRecord> = list
        .unreadable
        .iter()
        // What storage refuses at the moment is no damage.
        .filter(|(_, error)| matches!(error, RepositoryError::DamagedFile { .. }))
        .map(|(snapshot, error)| UnreadableRecord {
            snapshot: *snapshot,
            cause: chain(error),
        })
        .collect();
    let partials = load_partials(repository, cancel)?.into_iter();
    let lost = partials.filter(|partial| partial.holdings.is_none());
    records.extend(lost.map(|partial| UnreadableRecord {
        snapshot: partial.snapshot,
        cause: "what it kept of unfinished items cannot be read".to_owned(),
    }));
    records.sort_by_key(|record| record.snapshot);
    Ok(records)
}
