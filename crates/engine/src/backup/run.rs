//! One execution of a [`BackupPlan`]: what it needs and what it comes to.
//!
//! Guarantees: applications that were quiesced are resumed, whatever happens. Either one whole
//! recovery point is published, or none.
//!
//! Crash behaviour: a killed run leaves packs and indexes that the next run uses, what its last
//! checkpoint names, no point, and a lock that is dead after 30 minutes.

use std::sync::Arc;
use std::time::Duration;

use refloat_model::cancel::{Cancel, Cancelled};
use refloat_model::entry::SinkError;
use refloat_model::finding::Finding;
use refloat_model::id::{PointId, RunId};
use refloat_model::point::{ItemRecord, PointRecord};
use refloat_model::progress::Progress;
use refloat_model::time::Timestamp;
use refloat_repository::archive::{Added, ArchiveOptions, Archiver};
use refloat_repository::lock::Lock;
use refloat_repository::{IndexedRepository, RepositoryError, SnapshotFile, SnapshotId};
use refloat_source::Source;
use serde::Serialize;

use super::capture::{self, Captured};
use super::checkpoint::Keeper;
use super::parents::{self, Parents};
use super::plan::{BackupPlan, BackupPolicy};
use super::{contents, partial, publish};
use crate::manifest::ManifestError;
use crate::period::Period;

/// Tells the time; injected.
pub type Clock<'a> = &'a (dyn Fn() -> Timestamp + Sync);

/// Everything that one run needs from outside.
pub struct BackupRun<'a> {
    /// Where to.
    pub repository: &'a IndexedRepository,
    /// The run's shared lock.
    pub lock: &'a Lock,
    /// The sources; those that the plan does not name are not touched.
    pub sources: &'a [Arc<dyn Source>],
    /// The policy that is executed.
    pub policy: &'a BackupPolicy,
    /// How.
    pub options: &'a BackupOptions,
    /// The time.
    pub now: Clock<'a>,
    /// Who is told.
    pub progress: &'a dyn Progress,
    /// Stops the run.
    pub cancel: &'a Cancel,
}

/// How a run is executed.
#[derive(Clone, PartialEq, Debug)]
pub struct BackupOptions {
    /// The new point's identity.
    pub point: PointId,
    /// This run's identity.
    pub run: RunId,
    /// The host's name for the snapshot; constant per policy.
    pub host: String,
    /// Name and version of the program.
    pub program: String,
    /// Tags besides Refloat's own.
    pub tags: Vec<String>,
    /// How long the run may take.
    pub deadline: Option<Period>,
    /// When the run began, from which its deadline counts; none for when the plan is executed.
    pub began: Option<Timestamp>,
    /// How long after the run's beginning the first checkpoint is written; none for no checkpoints.
    pub checkpoint_every: Option<Period>,
    /// How many workloads are captured at once.
    pub captures_at_once: usize,
    /// How the repository is written.
    pub archive: ArchiveOptions,
}

/// Why a run made no recovery point.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The plan holds nothing to capture.
    #[error("policy {policy:?} selects nothing that could be saved")]
    NothingSelected {
        /// The policy.
        policy: String,
        /// Sources that could not be reached, and what was found in the others.
        findings: Vec<Finding>,
    },
    /// Every item failed.
    #[error("nothing could be saved, so no recovery point was made")]
    NothingSaved {
        /// What failed and why.
        findings: Vec<Finding>,
    },
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The manifest could not be written.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The run was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// A source wrote into the tree in a way that ends the run.
    #[error("the recovery point cannot be written")]
    Sink(#[source] SinkError),
    /// A defect in an adapter or in the engine.
    #[error("a capture panicked")]
    Panicked,
}

impl From<SinkError> for BackupError {
    /// What the archiver says through a sink is told as if it were asked itself.
    fn from(SinkError(cause): SinkError) -> Self {
        match cause.downcast::<RepositoryError>() {
            Ok(error) => match *error {
                RepositoryError::Cancelled(cancelled) => Self::Cancelled(cancelled),
                error => Self::Repository(error),
            },
            Err(cause) => Self::Sink(SinkError(cause)),
        }
    }
}

/// What a run came to.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct BackupReport {
    /// The repository's record of the point.
    pub snapshot: SnapshotId,
    /// The point's summary.
    #[serde(flatten)]
    pub record: PointRecord,
    /// Every item with its outcome.
    pub items: Vec<ItemReport>,
    /// Figures.
    pub figures: Figures,
}

/// One item of one source.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ItemReport {
    /// The source.
    pub source: String,
    /// The item with its outcome.
    #[serde(flatten)]
    pub record: ItemRecord,
}

/// Figures of a run. Sizes are in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Figures {
    /// Files that no earlier copy had.
    pub files_new: u64,
    /// Files that differ from the earlier copy.
    pub files_changed: u64,
    /// Files taken over unread.
    pub files_unchanged: u64,
    /// Content in the point.
    pub bytes_total: u64,
    /// Content that the repository did not have.
    pub bytes_added: u64,
    /// The same as stored: compressed and encrypted.
    pub bytes_stored: u64,
    /// How long the run took.
    pub milliseconds: u64,
}

impl Figures {
    /// The figures of a run that archived `added` in `length`.
    pub(super) fn set(&mut self, added: Added, length: Duration) {
        self.bytes_added = added.plaintext_bytes;
        self.bytes_stored = added.packed_bytes;
        self.milliseconds = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    }
}

/// Executes a plan. `unreachable` are sources of the policy that could not be discovered.
///
/// # Errors
/// No recovery point was made. What failed of a point that was made is in the report.
pub fn execute(
    run: &BackupRun<'_>,
    plan: &BackupPlan,
    unreachable: Vec<Finding>,
) -> Result<BackupReport, BackupError> {
    let started = (run.now)();
    if plan.items().next().is_none() {
        let found = plan.sources.iter().flat_map(|s| s.findings.iter().cloned());
        return Err(BackupError::NothingSelected {
            policy: run.policy.name.clone(),
            findings: unreachable.into_iter().chain(found).collect(),
        });
    }
    let snapshots = run.repository.snapshots()?.snapshots;
    let parents = parents::find(run.repository, &snapshots, plan, started);
    let mut archiver = Archiver::start(
        run.repository.clone(),
        run.options.archive,
        Arc::clone(run.progress.counters()),
        run.cancel.clone(),
    )?;
    let known = contents::earlier(run.repository, run.sources, plan, &parents);
    archiver.set_earlier_contents(known);
    let keeper = Keeper::new(run, plan, started, &parents);
    let made = make(&keeper, &parents, &snapshots, unreachable, &mut archiver);
    if made.is_err() && run.cancel.is_cancelled() {
        keeper.keep(archiver);
    }
    made
}

/// From the first capture to the snapshot.
fn make(
    keeper: &Keeper<'_>,
    parents: &Parents,
    snapshots: &[(SnapshotId, SnapshotFile)],
    unreachable: Vec<Finding>,
    archiver: &mut Archiver,
) -> Result<BackupReport, BackupError> {
    let Keeper {
        run, plan, started, ..
    } = *keeper;
    let mut captured = capture::capture(keeper, parents, archiver)?;
    run.cancel.check()?;
    captured.findings.splice(0..0, unreachable);
    captured.findings.extend(parents.findings.iter().cloned());
    if let Err(error) = refuse_if_nothing_saved(&captured) {
        partial::keep(run, plan, captured, archiver, started)?;
        return Err(error);
    }
    let prepared = publish::prepare(run, plan, captured, archiver, snapshots, started)?;
    prepared.publish(run, plan, archiver)
}

/// A point without content would become `latest` and hide the good ones.
fn refuse_if_nothing_saved(captured: &Captured) -> Result<(), BackupError> {
    if captured.items.iter().any(|i| i.node.is_some()) {
        return Ok(());
    }
    let failures = captured
        .items
        .iter()
        .filter_map(|item| match &item.record.outcome {
            refloat_model::outcome::Outcome::Failed { reason } => Some(Finding::error(
                super::title(&item.record.item),
                reason.clone(),
            )),
            _ => None,
        });
    Err(BackupError::NothingSaved {
        findings: captured.findings.iter().cloned().chain(failures).collect(),
    })
}
