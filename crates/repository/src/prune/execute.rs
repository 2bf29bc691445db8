//! Carrying a plan out.
//!
//! Invariant: nothing is deleted unless the exclusive lock is held and was proven after the last
//! write.

use std::collections::BTreeSet;

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_storage::FileKind;

use super::error::PruneError;
use super::repack::repack;
use super::sweep::Sweep;
use super::{PreparedPrune, PrunePlan};
use crate::error::RepositoryError;
use crate::id::{IndexId, PackId, SnapshotId};
use crate::lock::Lock;
use crate::pack_writing::Written;
use crate::repository::Repository;

/// How far our clock may differ from the storage's, in seconds.
const SKEW_SECONDS_MAX: i64 = 300;

/// How to take the locks; both may wait as long as the caller thinks fit.
#[expect(missing_debug_implementations, reason = "it holds functions")]
pub struct PruneLocks<'a> {
    /// A shared lock, for repacking beside writers.
    pub shared: &'a dyn Fn() -> Result<Lock, RepositoryError>,
    /// An exclusive lock, for the seconds of deletion.
    pub exclusive: &'a dyn Fn() -> Result<Lock, RepositoryError>,
}

/// What a prune did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PruneReport {
    /// New packs, with what was copied.
    pub packs_written: u64,
    /// Their size.
    pub bytes_written: u64,
    /// New index files.
    pub indexes_written: u64,
    /// Old index files that are gone.
    pub indexes_deleted: u64,
    /// Old index files that storage keeps, by append-only mode or object lock. Packs they name
    /// stay as well.
    pub indexes_kept: BTreeSet<IndexId>,
    /// Packs that are gone.
    pub packs_deleted: u64,
    /// Their size.
    pub bytes_deleted: u64,
    /// Packs that should be gone and that storage keeps.
    pub packs_kept: BTreeSet<PackId>,
    /// Packs that stay because a backup that ended meanwhile needs them.
    pub packs_needed_again: BTreeSet<PackId>,
}

impl PreparedPrune {
    /// Executes the plan.
    ///
    /// Guarantees: what snapshots need stays readable after every single step; see the module for
    /// what a crash leaves. A plan can be executed once: repeating means planning again.
    ///
    /// # Errors
    /// The repository is no longer as planned, a lock is not to be had or was lost, or storage
    /// failed. What was repacked until then is found by the next plan.
    pub fn execute(
        self,
        repository: &Repository,
        locks: &PruneLocks<'_>,
        counters: &Counters,
        cancel: &Cancel,
    ) -> Result<PruneReport, PruneError> {
        if self.plan.is_empty() {
            return Ok(PruneReport::default());
        }
        // Before anything is repacked in vain.
        if !repository.deleters().may_exclude() {
            return Err(RepositoryError::NotDeleter.into());
        }
        let written = if self.plan.repack.is_empty() {
            None
        } else {
            let lock = (locks.shared)()?;
            self.require_unchanged(repository)?;
            require_equal_clocks(repository, &lock)?;
            let bytes_min = self.plan.options.pack_bytes_min;
            let (survey, choice) = (&self.survey, &self.choice);
            let written = repack(repository, survey, choice, bytes_min, counters, cancel)?;
            lock.prove()?;
            Some(written)
        };
        cancel.check().map_err(RepositoryError::from)?;
        let lock = (locks.exclusive)()?;
        require_equal_clocks(repository, &lock)?;
        if written.is_none() {
            self.require_unchanged(repository)?;
        }
        let written = written.unwrap_or_default();
        let mut report = report_of(&written);
        let sweep = Sweep::prepare(repository, self.survey, self.choice, written, counters)?;
        sweep.run(&self.plan, &lock, &mut report)?;
        Ok(report)
    }

    /// Proves that snapshots and indexes are those of the plan.
    fn require_unchanged(&self, repository: &Repository) -> Result<(), PruneError> {
        let snapshots: BTreeSet<SnapshotId> = ids(repository, FileKind::Snapshot, SnapshotId)?;
        let indexes: BTreeSet<IndexId> = ids(repository, FileKind::Index, IndexId)?;
        if snapshots == self.survey.snapshots && indexes == self.survey.indexes {
            Ok(())
        } else {
            Err(PruneError::StateChanged)
        }
    }
}

/// The ids of all files of a kind.
pub fn ids<T: Ord>(
    repository: &Repository,
    kind: FileKind,
    id: impl Fn([u8; 32]) -> T,
) -> Result<BTreeSet<T>, RepositoryError> {
    let listed = repository.storage().list(kind)?;
    Ok(listed.iter().map(|file| id(*file.key.id())).collect())
}

fn report_of(written: &Written) -> PruneReport {
    PruneReport {
        packs_written: written.packs.len() as u64,
        bytes_written: written.bytes(),
        indexes_written: written.indexes.len() as u64,
        ..PruneReport::default()
    }
}

/// Compares our clock with the storage's, which stamped our lock just now.
fn require_equal_clocks(repository: &Repository, lock: &Lock) -> Result<(), PruneError> {
    let locks = repository.storage().list(FileKind::Lock)?;
    let newest = locks.iter().filter_map(|file| file.modified).max();
    let Some(newest) = newest.or_else(|| repository.storage().now()) else {
        return Ok(());
    };
    let seconds = lock.now().duration_since(newest.to_jiff()).as_secs();
    if seconds.abs() > SKEW_SECONDS_MAX {
        return Err(PruneError::ClockSkew { seconds });
    }
    Ok(())
}

impl PrunePlan {
    /// Whether executing needs the shared lock, because packs are rewritten.
    #[must_use]
    pub fn repacks(&self) -> bool {
        !self.repack.is_empty()
    }
}
