//! The common oracle of everything that can go wrong with a repository: nothing that was reported
//! as saved is lost.
//!
//! A state passes if
//! - every point that was reported is listed and holds what it held, content and metadata;
//! - every other listed point is whole as well;
//! - our check of all data finds nothing lost or damaged;
//! - the next backup and the next prune work, with no manual step, and leave no waste;
//! - restic finds no error, for a sample of states.
//!
//! Invariant: the oracle reads through the engine's own reader, which verifies each blob against its
//! id, and never trusts what a command said about itself.

mod next;
mod picture;
mod witness;

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_repository::check::{CheckFinding, CheckOptions, CheckReport, ReadData, check};
use refloat_repository::{IndexedRepository, Repository, SnapshotId};
use refloat_storage::{FileKey, FileKind};

pub use next::{next_backup, next_prune, owner, thorough};
pub use picture::{Picture, picture};
pub use witness::Witness;

/// What was reported, and what may be amiss without being a loss.
#[derive(Clone, Debug, Default)]
pub struct ZeroLoss {
    reported: BTreeMap<SnapshotId, Picture>,
    leaving: BTreeSet<SnapshotId>,
    torn: Option<FileKey>,
}

impl ZeroLoss {
    /// Everything that is listed now counts as reported.
    ///
    /// # Panics
    /// Something of it cannot be read.
    #[must_use]
    pub fn of(repository: &IndexedRepository) -> Self {
        Self {
            reported: pictures(repository),
            ..Self::default()
        }
    }

    /// A command is about to drop these: they may be there or not, but not half.
    #[must_use]
    pub fn leaving(mut self, snapshots: impl IntoIterator<Item = SnapshotId>) -> Self {
        self.leaving.extend(snapshots);
        self
    }

    /// The storage broke its promise and left half of this file under its final name: it may be
    /// named as damaged, and nothing else may.
    #[must_use]
    pub const fn torn(mut self, file: Option<FileKey>) -> Self {
        self.torn = file;
        self
    }

    /// Another point was reported as saved.
    ///
    /// # Panics
    /// It cannot be read.
    pub fn report(&mut self, repository: &IndexedRepository, snapshot: SnapshotId) {
        let mut all = pictures(&repository.reload().unwrap());
        let saved = all.remove(&snapshot);
        let saved = saved.unwrap_or_else(|| panic!("{snapshot} was reported and is not listed"));
        self.reported.insert(snapshot, saved);
    }

    /// The points that were reported.
    pub fn snapshots(&self) -> impl Iterator<Item = SnapshotId> {
        self.reported.keys().copied()
    }

    /// Judges what is stored now. The repository's index is read again.
    ///
    /// # Panics
    /// Something is lost.
    pub fn judge(&self, repository: &IndexedRepository, what: &str) -> CheckReport {
        let report = self.require_clean(repository, what);
        let found = pictures(&repository.reload().unwrap());
        for (snapshot, expected) in &self.reported {
            match found.get(snapshot) {
                Some(found) => assert!(found == expected, "{what}: {snapshot} has changed"),
                None => assert!(
                    self.leaving.contains(snapshot),
                    "{what}: {snapshot} is not listed any more"
                ),
            }
        }
        report
    }

    /// Judges, lets a day pass, and then backs up and prunes as the next run would. Afterwards
    /// nothing is left over.
    ///
    /// # Panics
    /// Something is lost, or the next run needs a hand.
    pub fn judge_next(&self, repository: &IndexedRepository, now: jiff::Timestamp, what: &str) {
        let saved = next_backup(repository, now)
            .unwrap_or_else(|error| panic!("{what}: the next backup: {error:?}"));
        next_prune(repository, now, self.torn)
            .unwrap_or_else(|error| panic!("{what}: the next prune: {error:?}"));
        let report = self.judge(repository, what);
        let left: Vec<&CheckFinding> = report
            .findings
            .iter()
            .filter(|finding| !self.names_torn(finding))
            .collect();
        assert!(left.is_empty(), "{what}: left over: {left:#?}");
        let listed = repository.storage().list(FileKind::Snapshot).unwrap();
        assert!(
            listed.iter().any(|file| *file.key.id() == saved.0),
            "{what}"
        );
        let locks = repository.storage().list(FileKind::Lock).unwrap();
        assert!(locks.is_empty(), "{what}: locks are left");
    }

    fn require_clean(&self, repository: &Repository, what: &str) -> CheckReport {
        let options = CheckOptions {
            read_data: ReadData::All,
        };
        let report = check(
            repository,
            &options,
            &Counters::default(),
            &Cancel::default(),
        )
        .unwrap_or_else(|error| panic!("{what}: check: {error:?}"));
        let errors: Vec<&CheckFinding> = report
            .errors()
            .filter(|finding| !self.names_torn(finding))
            .collect();
        assert!(errors.is_empty(), "{what}: {errors:#?}");
        assert!(report.lost.is_empty(), "{what}: {:#?}", report.lost);
        report
    }

    fn names_torn(&self, finding: &CheckFinding) -> bool {
        let Some(torn) = self.torn else {
            return false;
        };
        let (kind, id) = match finding {
            CheckFinding::KeyDamaged { key, .. } => (FileKind::Key, key.0),
            CheckFinding::UnreadableSnapshot { snapshot, .. } => (FileKind::Snapshot, snapshot.0),
            CheckFinding::UnreadableIndex { index, .. } => (FileKind::Index, index.0),
            _ => return false,
        };
        torn == FileKey::new(kind, id)
    }
}

/// Every listed point with what it holds.
fn pictures(repository: &IndexedRepository) -> BTreeMap<SnapshotId, Picture> {
    let list = repository.snapshots().unwrap();
    let points = list.snapshots.into_iter();
    points
        .map(|(id, snapshot)| {
            let root = snapshot.tree.unwrap_or_else(|| panic!("{id} has no tree"));
            let picture = picture(repository, root);
            (
                id,
                picture.unwrap_or_else(|error| panic!("{id}: {error:?}")),
            )
        })
        .collect()
}
