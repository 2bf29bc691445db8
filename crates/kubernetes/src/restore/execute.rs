//! Doing what a plan says, layer by layer.
//!
//! *Crash behaviour*: objects are whole or not there, and a plan made after a crash names what is
//! left: owners that are not yet linked, CronJobs that are still suspended.
//!
//! Invariant: every step of the plan ends with exactly one outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use refloat_model::cancel::Cancel;
use refloat_model::finding::Finding;
use refloat_model::plan::{Action, OnConflict, RestorePlan, RestoreReport, Step, StepOutcome};
use refloat_model::progress::{Counters, Progress};
use refloat_model::tree_path::TreePath;

use super::compare::{LEFT_OUT_WHY, listed};
use super::finish::{self, Last};
use super::gitops;
use super::layer::Layer;
use super::prepare::Prepared;
use super::write::{Done, StepError, create, replace};
use crate::client::Api;
use crate::error::ApiError;

/// How many objects are written at once. One API server with two cores is busy with fewer.
pub(super) const WRITES_AT_ONCE: usize = 16;

/// How long what is in the way may take to go, or a definition to be served.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(60);

/// How often is looked whether something has happened.
pub(super) const WAIT_POLL: Duration = Duration::from_millis(100);

/// One execution of a plan.
pub(super) struct Execution<'a> {
    pub(super) api: &'a Api,
    pub(super) plan: &'a RestorePlan,
    /// The objects prepared for it, by their place in the point.
    pub(super) by_path: BTreeMap<&'a TreePath, &'a Prepared>,
    /// The kinds whose definitions it replaces.
    pub(super) redefined: BTreeSet<String>,
    /// Since when the definitions are written.
    pub(super) defined: OnceLock<Instant>,
    pub(super) on_conflict: OnConflict,
    pub(super) progress: &'a dyn Progress,
    pub(super) cancel: &'a Cancel,
}

/// Executes a plan.
pub(super) async fn execute(run: &Execution<'_>) -> RestoreReport {
    let (mut outcomes, left_out) = write(run).await;
    let (is_cut, findings) = tell(run, &mut outcomes, left_out);
    if !run.cancel.is_cancelled() {
        run.progress.phase("finishing");
        finish::release(run, &mut outcomes, is_cut).await;
    }
    // Whatever happened: who was suspended is resumed.
    for outcome in outcomes.iter_mut().flatten() {
        if !gitops::is_keeper(&outcome.step) {
            continue;
        }
        match gitops::resume(run.api, &outcome.step).await {
            Ok(()) => outcome.remarks.push("resumed".to_owned()),
            Err(error) => outcome.error = Some(format!("it cannot be resumed: {error}")),
        }
    }
    RestoreReport {
        steps: outcomes.into_iter().flatten().collect(),
        findings: run.plan.findings.iter().cloned().chain(findings).collect(),
        next_steps: Vec::new(),
    }
}

/// Tells of what the server left out: a custom resource is not what its operator shall act on, so that
/// step failed; of the cluster's own kinds it is mostly what another version had set by itself. Whether
/// there are such resources goes before what is told of the others.
fn tell(
    run: &Execution<'_>,
    outcomes: &mut [Option<StepOutcome>],
    left_out: LeftOut,
) -> (bool, Vec<Finding>) {
    let (mut is_cut, mut findings) = (false, Vec::new());
    for (index, why) in left_out {
        let Some(Some(outcome)) = outcomes.get_mut(index) else {
            continue;
        };
        let step = &outcome.step;
        if let Some(p) = run.by_path.get(&step.path).filter(|p| p.is_custom()) {
            is_cut = true;
            let held = match p.hold {
                Some(_) => "; it stays held back",
                None => "",
            };
            let why = why + held;
            let other = outcome.error.take().map(|error| format!("{error}; "));
            outcome.error = Some(other.unwrap_or_default() + &why);
        } else {
            findings.push(Finding::warning(step.name.clone(), why));
        }
    }
    (is_cut, findings)
}

/// Steps, by their index, of which the server left out something, and what.
type LeftOut = Vec<(usize, String)>;

/// Writes layer after layer, and links owners as soon as they are there.
async fn write(run: &Execution<'_>) -> (Vec<Option<StepOutcome>>, LeftOut) {
    let Execution {
        plan,
        by_path,
        progress,
        ..
    } = run;
    let mut layers: BTreeMap<Option<Layer>, Vec<(usize, &Step)>> = BTreeMap::new();
    for (index, step) in plan.steps.iter().enumerate() {
        let layer = by_path.get(&step.path).map(|p| p.layer);
        layers.entry(layer).or_default().push((index, step));
    }
    let mut outcomes: Vec<Option<StepOutcome>> = plan.steps.iter().map(|_| None).collect();
    let (mut linked, mut incomplete) = (BTreeSet::new(), Vec::new());
    for (layer, steps) in layers {
        progress
            .phase(&layer.map_or_else(String::new, |l| format!("restoring {l:?}").to_lowercase()));
        let mut done = stream::iter(steps)
            .map(|(index, step)| {
                let prepared = by_path.get(&step.path).copied();
                async move { (index, one(run, step, prepared).await) }
            })
            .buffer_unordered(WRITES_AT_ONCE);
        while let Some((index, (outcome, left_out))) = done.next().await {
            Counters::add(&progress.counters().entries_done, 1);
            if let Some(why) = outcome.error.as_ref().or(left_out.as_ref()) {
                progress.warn(&format!("{}: {why}", outcome.step.name));
            }
            incomplete.extend(left_out.map(|why| (index, why)));
            if let Some(place) = outcomes.get_mut(index) {
                *place = Some(outcome);
            }
        }
        drop(done);
        if layer == Some(Layer::Definitions) {
            run.defined.get_or_init(Instant::now);
        }
        // As soon as custom resources are there, before their operators look for what they own.
        if layer == Some(Layer::Custom) && !run.cancel.is_cancelled() {
            finish::link(run, &mut outcomes, &mut linked, Last::No).await;
        }
    }
    if !run.cancel.is_cancelled() {
        finish::link(run, &mut outcomes, &mut linked, Last::Yes).await;
    }
    (outcomes, incomplete)
}

/// Carries out one step; with its outcome goes what the server left out.
async fn one(
    run: &Execution<'_>,
    step: &Step,
    prepared: Option<&Prepared>,
) -> (StepOutcome, Option<String>) {
    let started = Instant::now();
    let result = if run.cancel.is_cancelled() {
        Err(StepError::Api(ApiError::Cancelled))
    } else {
        match (&step.action, prepared) {
            (Action::Skip { .. }, _) => Ok(Done::default()),
            (Action::Conflict { why }, _) => Err(StepError::LeftOut(why.clone())),
            (Action::Reuse, Some(_)) => Ok(Done::with("already as it should be")),
            (Action::Create | Action::Rename { .. }, Some(p)) => create(run, p).await,
            (Action::Replace { .. }, Some(p)) => replace(run, p).await,
            (_, None) if gitops::is_keeper(step) => gitops::suspend(run.api, step)
                .await
                .map(|()| Done::with("suspended"))
                .map_err(StepError::from),
            (_, None) => Err(StepError::NotInPoint),
        }
    };
    let (error, done) = match result {
        Ok(done) => (None, done),
        Err(error) => (Some(error.to_string()), Done::default()),
    };
    let outcome = StepOutcome {
        step: step.clone(),
        error,
        remarks: done.remarks,
        milliseconds: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    let left_out = (!done.left_out.is_empty()).then(|| {
        let fields = listed(&done.left_out);
        format!("it is there, but the target left out {fields}: {LEFT_OUT_WHY}")
    });
    (outcome, left_out)
}
