//! Reclaiming space: plan, show, execute.
//!
//! ```text
//! plan:    snapshots ─▶ indexes ─▶ packs ─▶ trees: which blobs are used ─▶ keep, repack, delete
//! execute: shared lock     the state is the plan's; used blobs of packs to be repacked are copied
//!                          into new packs, and an index lists those
//!          exclusive lock  what writers added meanwhile is taken in; indexes without the dead
//!                          packs are written, the old ones deleted, then the dead packs
//! ```
//!
//! Order, an invariant of the format: an index is deleted only after one that lists all its living
//! packs is stored; a pack only after no index names it. Crash behaviour:
//!
//! | crash | leaves | the next prune |
//! |---|---|---|
//! | while repacking | packs without index | removes them after the grace period |
//! | before the exclusive lock | blobs that are there twice, indexed | deletes the old packs |
//! | between new and old indexes | packs named by two indexes | removes the repetition |
//! | while an index is written | perhaps a torn index | removes it, since everything is elsewhere |
//! | while packs are deleted | packs without index | removes them after the grace period |
//!
//! Nothing is ever deleted because a listing was short: a pack that an index names and that is not
//! listed ends the plan, and what a plan deletes it names.
//!
//! Invariant: every blob that a readable snapshot refers to is, after each single write and
//! deletion, in a pack that an index names.

mod choose;
mod display;
mod error;
mod execute;
pub(crate) mod indexes;
mod repack;
mod survey;
mod sweep;

use std::collections::BTreeSet;

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use serde::{Deserialize, Serialize};

use crate::id::{IndexId, PackId};
use crate::repository::Repository;

pub use error::PruneError;
pub use execute::{PruneLocks, PruneReport};

use choose::Choice;
use survey::Survey;

/// What to reclaim, and at which cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PruneOptions {
    /// How much waste may stay in packs that are partly used.
    pub max_unused: MaxUnused,
    /// Packs of at most so many bytes in all are repacked; none for no limit. With 0 nothing is
    /// written but indexes.
    pub max_repack_bytes: Option<u64>,
    /// New packs are uploaded at this size, in bytes; fully used ones of less than half are merged
    /// when there are ten.
    pub pack_bytes_min: u64,
    /// Packs that no index names are deleted when they are older, by the storage's clock and by
    /// ours; a backup that runs may have written younger ones.
    pub grace: jiff::SignedDuration,
}

/// How much waste may stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaxUnused {
    /// So many thousandths of all that is left.
    PerMille(u16),
    /// So many bytes.
    Bytes(u64),
    /// Any amount: nothing is repacked because of it.
    Unlimited,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            max_unused: MaxUnused::PerMille(50),
            max_repack_bytes: None,
            pack_bytes_min: 16 << 20,
            grace: jiff::SignedDuration::from_hours(24),
        }
    }
}

/// The digest of the ids of all snapshots and index files: what a plan is bound to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RepositoryState(String);

/// What a prune will do. Data: printed by `Display`, stored by serde, executed after it was
/// [prepared](PrunePlan::prepare) again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PrunePlan {
    /// What it was made with.
    pub options: PruneOptions,
    /// What it is bound to.
    pub state: RepositoryState,
    /// When it was made, by our clock.
    pub made: jiff::Timestamp,
    /// When it was made, by the storage's clock: the newest time that any listing showed.
    pub made_by_storage: Option<jiff::Timestamp>,
    /// Packs without a used blob.
    pub delete: BTreeSet<PackId>,
    /// Packs whose used blobs are copied into new ones.
    pub repack: BTreeSet<PackId>,
    /// Packs that no index names and that are older than the grace period.
    pub delete_unindexed: BTreeSet<PackId>,
    /// Index files that are replaced.
    pub replace_indexes: BTreeSet<IndexId>,
    /// What it comes to.
    pub statistics: PruneStatistics,
}

/// What a plan comes to. Sizes are in bytes; those of blobs are of their sealed form.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PruneStatistics {
    /// Packs that an index names.
    pub packs: u64,
    /// Their size.
    pub pack_bytes: u64,
    /// Blobs that a snapshot needs.
    pub used_blobs: u64,
    /// Their size.
    pub used_bytes: u64,
    /// Places of blobs that no snapshot needs.
    pub unused_blobs: u64,
    /// Their size.
    pub unused_bytes: u64,
    /// Further places of blobs that a snapshot needs.
    pub duplicate_blobs: u64,
    /// Their size.
    pub duplicate_bytes: u64,
    /// Size of the packs that are deleted whole.
    pub delete_bytes: u64,
    /// Size of the packs that are repacked.
    pub repack_bytes: u64,
    /// Size of the blobs that are copied for it.
    pub copy_bytes: u64,
    /// Size of the packs without index that are deleted.
    pub delete_unindexed_bytes: u64,
    /// Packs without index that stay, because they are young.
    pub young_unindexed: u64,
    /// Waste that stays.
    pub remaining_unused_bytes: u64,
}

impl PrunePlan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.delete.is_empty()
            && self.repack.is_empty()
            && self.delete_unindexed.is_empty()
            && self.replace_indexes.is_empty()
    }

    /// Looks at the repository again, for a plan that was stored.
    ///
    /// # Errors
    /// As [`plan`]; or the repository is no longer as it was.
    pub fn prepare(
        self,
        repository: &Repository,
        counters: &Counters,
        cancel: &Cancel,
    ) -> Result<PreparedPrune, PruneError> {
        let mut survey = Survey::of(repository, counters, cancel)?;
        if survey.state() != self.state {
            return Err(PruneError::StateChanged);
        }
        // Packs that were too young then are too young for this plan.
        survey.storage_now = self.made_by_storage;
        let prepared = PreparedPrune::of(survey, self.options, self.made);
        if prepared.plan != self {
            return Err(PruneError::StateChanged);
        }
        Ok(prepared)
    }
}

/// A plan with what is needed to execute it.
pub struct PreparedPrune {
    plan: PrunePlan,
    survey: Survey,
    choice: Choice,
}

impl std::fmt::Debug for PreparedPrune {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreparedPrune")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

/// Plans a prune. Nothing is written; a lock is not needed, because execution looks again.
///
/// # Errors
/// Anything that snapshots need cannot be read, or a pack is missing or of another size than its
/// index says: nothing can be told to be unused then.
pub fn plan(
    repository: &Repository,
    options: PruneOptions,
    now: jiff::Timestamp,
    counters: &Counters,
    cancel: &Cancel,
) -> Result<PreparedPrune, PruneError> {
    let survey = Survey::of(repository, counters, cancel)?;
    Ok(PreparedPrune::of(survey, options, now))
}

impl PreparedPrune {
    fn of(survey: Survey, options: PruneOptions, now: jiff::Timestamp) -> Self {
        let choice = Choice::of(&survey, &options);
        let unindexed = survey.unindexed(options.grace, now);
        let catalogue = &survey.catalogue;
        let dead = |pack: usize| choice.is_dead(pack);
        let replace = indexes::to_replace(catalogue, &dead);
        let mut statistics = choice.statistics;
        statistics.delete_unindexed_bytes = unindexed.old.iter().map(|(_, bytes)| bytes).sum();
        statistics.young_unindexed = unindexed.young;
        let plan = PrunePlan {
            options,
            state: survey.state(),
            made: now,
            made_by_storage: survey.storage_now,
            delete: choice.packs(catalogue, choose::Fate::Delete),
            repack: choice.packs(catalogue, choose::Fate::Repack),
            delete_unindexed: unindexed.old.into_iter().map(|(pack, _)| pack).collect(),
            replace_indexes: replace
                .iter()
                .map(|file| catalogue.files[*file].id)
                .collect(),
            statistics,
        };
        Self {
            plan,
            survey,
            choice,
        }
    }

    /// The plan.
    #[must_use]
    pub const fn plan(&self) -> &PrunePlan {
        &self.plan
    }
}
