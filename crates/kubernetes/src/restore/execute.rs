//! Doing what a plan says, layer by layer.
//!
//! *Crash behaviour*: objects are whole or not there, and a plan made after a crash names what is
//! left: owners that are not yet linked, CronJobs that are still suspended.
//!
//! Invariant: every step of the plan ends with exactly one outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use refloat_model::cancel::Cancel;
use refloat_model::plan::{Action, OnConflict, RestorePlan, RestoreReport, Step, StepOutcome};
use refloat_model::progress::{Counters, Progress};
use refloat_model::tree_path::TreePath;
use serde_json::{Value, json};

use super::compare::{Likeness, Merge, compare, merge, summary, unite};
use super::finish::{self, Last, UPDATES_MAX};
use super::layer::Layer;
use super::prepare::Prepared;
use super::recreate::recreate;
use super::sanitise::map_at;
use super::volumes::PLACE;
use super::{gitops, hold, volumes};
use crate::client::{Api, Call};
use crate::error::ApiError;

/// How many objects are written at once. One API server with two cores is busy with fewer.
pub(super) const WRITES_AT_ONCE: usize = 16;

/// How long what is in the way may take to go, or a definition to be served.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(60);

/// How often is looked whether something has happened.
pub(super) const WAIT_POLL: Duration = Duration::from_millis(100);

/// How long a namespace's own service account may take to appear.
const ACCOUNT_WAIT_MAX: Duration = Duration::from_secs(15);

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("it appeared after the plan was made, and {0}")]
    Appeared(String),
    #[error("it changed after the plan was made: plan again")]
    Changed,
    #[error("it can be changed only by deleting it, and its data with it: {0}")]
    Undeletable(String),
    #[error("the live object has no place for the field {0}: its list is shorter")]
    NoPlace(String),
    #[error("left out: {0}")]
    LeftOut(String),
    #[error("the recovery point no longer holds it")]
    NotInPoint,
}

/// What a step came to.
pub(super) type Remarks = Vec<String>;

/// One execution of a plan.
pub(super) struct Execution<'a> {
    pub(super) api: &'a Api,
    pub(super) plan: &'a RestorePlan,
    /// The objects prepared for it, by their place in the point.
    pub(super) by_path: BTreeMap<&'a TreePath, &'a Prepared>,
    pub(super) on_conflict: OnConflict,
    pub(super) progress: &'a dyn Progress,
    pub(super) cancel: &'a Cancel,
}

/// Executes a plan.
pub(super) async fn execute(run: &Execution<'_>) -> RestoreReport {
    let mut outcomes = write(run).await;
    if !run.cancel.is_cancelled() {
        run.progress.phase("finishing");
        finish::release(run, &mut outcomes).await;
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
        findings: run.plan.findings.clone(),
        next_steps: Vec::new(),
    }
}

/// Writes layer after layer, and links owners as soon as they are there.
async fn write(run: &Execution<'_>) -> Vec<Option<StepOutcome>> {
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
    let mut linked = BTreeSet::new();
    for (layer, steps) in layers {
        progress
            .phase(&layer.map_or_else(String::new, |l| format!("restoring {l:?}").to_lowercase()));
        let mut done = stream::iter(steps)
            .map(|(index, step)| {
                let prepared = by_path.get(&step.path).copied();
                async move { (index, one(run, step, prepared).await) }
            })
            .buffer_unordered(WRITES_AT_ONCE);
        while let Some((index, outcome)) = done.next().await {
            Counters::add(&progress.counters().entries_done, 1);
            if let Some(error) = &outcome.error {
                progress.warn(&format!("{}: {error}", outcome.step.name));
            }
            if let Some(place) = outcomes.get_mut(index) {
                *place = Some(outcome);
            }
        }
        drop(done);
        // As soon as custom resources are there, before their operators look for what they own.
        if layer == Some(Layer::Custom) && !run.cancel.is_cancelled() {
            finish::link(run, &mut outcomes, &mut linked, Last::No).await;
        }
    }
    if !run.cancel.is_cancelled() {
        finish::link(run, &mut outcomes, &mut linked, Last::Yes).await;
    }
    outcomes
}

async fn one(run: &Execution<'_>, step: &Step, prepared: Option<&Prepared>) -> StepOutcome {
    let api = run.api;
    let started = Instant::now();
    let result = if run.cancel.is_cancelled() {
        Err(StepError::Api(ApiError::Cancelled))
    } else {
        match (&step.action, prepared) {
            (Action::Skip { .. }, _) => Ok(Vec::new()),
            (Action::Conflict { why }, _) => Err(StepError::LeftOut(why.clone())),
            (Action::Reuse, Some(_)) => Ok(vec!["already as it should be".to_owned()]),
            (Action::Create | Action::Rename { .. }, Some(p)) => {
                create(api, p, run.on_conflict).await
            }
            (Action::Replace { .. }, Some(p)) => replace(api, p, run.on_conflict).await,
            (_, None) if gitops::is_keeper(step) => gitops::suspend(api, step)
                .await
                .map(|()| vec!["suspended".to_owned()])
                .map_err(StepError::from),
            (_, None) => Err(StepError::NotInPoint),
        }
    };
    let (error, remarks) = match result {
        Ok(remarks) => (None, remarks),
        Err(error) => (Some(error.to_string()), Vec::new()),
    };
    StepOutcome {
        step: step.clone(),
        error,
        remarks,
        milliseconds: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

/// The object as it is written first.
pub(super) fn held(prepared: &Prepared) -> Value {
    let mut object = prepared.object.clone();
    if let Some(hold) = prepared.hold {
        hold::apply(hold, &mut object);
    }
    object
}

async fn create(
    api: &Api,
    prepared: &Prepared,
    on_conflict: OnConflict,
) -> Result<Remarks, StepError> {
    if prepared.is_shared() {
        // The cluster makes a namespace's own account by itself, sooner or later than we do.
        return complete(api, prepared, on_conflict).await;
    }
    let call = Call::create(prepared.list_path(), &held(prepared));
    let started = Instant::now();
    loop {
        match api.bytes(&call).await {
            Ok(_) => break,
            Err(error) if error.is_already_there() => {
                return appeared(api, prepared, on_conflict).await;
            }
            Err(error) if awaits_account(prepared, &error, started) => {
                tokio::time::sleep(WAIT_POLL).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if prepared.layer == Layer::Definitions {
        finish::established(api, prepared).await?;
    }
    put_status(api, prepared).await
}

/// P13: puts the status back where an object asks for it.
async fn put_status(api: &Api, prepared: &Prepared) -> Result<Remarks, StepError> {
    let Some(status) = &prepared.status else {
        return Ok(Vec::new());
    };
    let patch = json!({ "status": status });
    let path = prepared.object_path();
    match api
        .bytes(&Call::merge_patch(format!("{path}/status"), &patch))
        .await
    {
        // Without a subresource the status is a field like others.
        Err(error) if error.is_not_found() => {
            api.bytes(&Call::merge_patch(path, &patch)).await?;
        }
        other => drop(other?),
    }
    Ok(vec!["status put back".to_owned()])
}

/// A pod is refused until the controllers have made its namespace's service account.
fn awaits_account(prepared: &Prepared, error: &ApiError, started: Instant) -> bool {
    prepared.id == "pods"
        && started.elapsed() < ACCOUNT_WAIT_MAX
        && matches!(error, ApiError::Refused { message, .. } if message.contains("serviceaccount"))
}

async fn appeared(
    api: &Api,
    prepared: &Prepared,
    on_conflict: OnConflict,
) -> Result<Remarks, StepError> {
    let live = api.call(&Call::get(prepared.object_path())).await?;
    match compare(prepared, &live) {
        Likeness::Equal | Likeness::Unfinished(_) => {
            Ok(vec!["was there already, equal".to_owned()])
        }
        Likeness::Different(_) if on_conflict == OnConflict::Replace => {
            replace(api, prepared, on_conflict).await
        }
        Likeness::Different(why) => Err(StepError::Appeared(why)),
    }
}

/// Adds what it lacks to an object that others have their say in.
async fn complete(
    api: &Api,
    prepared: &Prepared,
    on_conflict: OnConflict,
) -> Result<Remarks, StepError> {
    let path = prepared.object_path();
    let mut attempt = 1;
    loop {
        let live = match api.call(&Call::get(path.clone())).await {
            Ok(live) => live,
            Err(error) if error.is_not_found() => {
                let call = Call::create(prepared.list_path(), &prepared.object);
                match api.bytes(&call).await {
                    Ok(_) => return Ok(Vec::new()),
                    Err(error) if error.is_already_there() && attempt < UPDATES_MAX => attempt += 1,
                    Err(error) => return Err(error.into()),
                }
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let (mut wanted, others) = if on_conflict == OnConflict::Replace {
            (prepared.object.clone(), Vec::new())
        } else {
            let Merge { wanted, others, .. } = merge(prepared, &live);
            (wanted, others)
        };
        let may_differ = prepared.is_companion || on_conflict == OnConflict::Skip;
        if !others.is_empty() && !may_differ {
            return Err(StepError::Appeared(summary(&others)));
        }
        unite(&mut wanted, &live);
        if let (Some(metadata), Some(version)) = (
            map_at(&mut wanted, "/metadata"),
            live.pointer("/metadata/resourceVersion"),
        ) {
            metadata.insert("resourceVersion".into(), version.clone());
        }
        // Not applied: that takes away what we applied before and leave alone now.
        match api.call(&Call::merge_patch(path.clone(), &wanted)).await {
            Ok(_) if others.is_empty() => return Ok(vec!["merged".to_owned()]),
            Ok(_) => {
                let kept = summary(&others);
                return Ok(vec![format!("merged, and kept as it is where it {kept}")]);
            }
            // Its lists are of what was read.
            Err(error) if error.status() == Some(409) && attempt < UPDATES_MAX => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

async fn replace(
    api: &Api,
    prepared: &Prepared,
    on_conflict: OnConflict,
) -> Result<Remarks, StepError> {
    if prepared.is_shared() {
        return complete(api, prepared, on_conflict).await;
    }
    let live = match api.call(&Call::get(prepared.object_path())).await {
        Ok(live) => live,
        Err(error) if error.is_not_found() => return Err(StepError::Changed),
        Err(error) => return Err(error.into()),
    };
    let is_released = volumes::is_released(prepared, &live);
    match compare(prepared, &live) {
        Likeness::Equal if is_released => {}
        Likeness::Equal => return Ok(vec!["already as it should be".to_owned()]),
        // Owners and suspension are the business of the end.
        Likeness::Unfinished(_) => return Ok(Vec::new()),
        Likeness::Different(_) => {}
    }
    if volumes::other_claim(prepared, &live).is_some() || volumes::is_doomed(prepared, &live) {
        return Err(StepError::Changed);
    }
    let wanted = wanted(prepared, &live)?;
    match api
        .bytes(&Call::replace(prepared.object_path(), &wanted))
        .await
    {
        Ok(_) => Ok(vec!["replaced".to_owned()]),
        Err(error) if error.status() == Some(409) => Err(StepError::Changed),
        Err(error) if error.status() == Some(422) && prepared.fields.is_empty() => {
            recreate(api, prepared, &live, error).await
        }
        Err(error) => Err(error.into()),
    }
}

/// The live object as it should be.
pub(super) fn wanted(prepared: &Prepared, live: &Value) -> Result<Value, StepError> {
    if prepared.fields.is_empty() {
        let mut wanted = held(prepared);
        keep(&prepared.id, &mut wanted, live);
        volumes::keep_claim(prepared, &mut wanted, live);
        return Ok(wanted);
    }
    let mut wanted = live.clone();
    for field in &prepared.fields {
        if let Some(value) = prepared.object.pointer(field)
            && !put(&mut wanted, field, value)
        {
            return Err(StepError::NoPlace(field.clone()));
        }
    }
    Ok(wanted)
}

/// Puts a value at a JSON pointer, with the maps above it where they are missing; whether there is
/// such a place.
fn put(object: &mut Value, pointer: &str, value: &Value) -> bool {
    let mut place = object;
    for part in pointer.split('/').skip(1) {
        let key = part.replace("~1", "/").replace("~0", "~");
        if let Value::Array(list) = place {
            let Some(inner) = key.parse().ok().and_then(|n: usize| list.get_mut(n)) else {
                return false;
            };
            place = inner;
            continue;
        }
        if !place.is_object() {
            *place = json!({});
        }
        let Some(fields) = place.as_object_mut() else {
            return false;
        };
        place = fields.entry(key).or_insert(Value::Null);
    }
    *place = value.clone();
    true
}

/// What the target decided about an object and would have to decide again.
fn keep(id: &str, wanted: &mut Value, live: &Value) {
    const METADATA: [&str; 4] = ["resourceVersion", "uid", "ownerReferences", "finalizers"];
    if let (Some(metadata), Some(theirs)) = (map_at(wanted, "/metadata"), live.get("metadata")) {
        for key in METADATA {
            if let Some(value) = theirs.get(key) {
                metadata.insert(key.into(), value.clone());
            }
        }
    }
    const SPEC: [&str; 4] = ["clusterIP", "clusterIPs", "ipFamilies", "nodeName"];
    // Other kinds have fields of these names too, and they are what somebody wrote.
    let place = PLACE.iter().filter(|_| id == "persistentvolumeclaims");
    if let (Some(spec), Some(theirs)) = (map_at(wanted, "/spec"), live.get("spec")) {
        for key in SPEC.iter().chain(place) {
            if let Some(value) = theirs.get(*key) {
                spec.entry(*key).or_insert_with(|| value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_data_is_is_kept_of_claims_only() {
        let live = json!({"metadata": {"uid": "1"}, "spec": {"clusterIP": "10.0.0.1",
            "volumeName": "pv", "dataSource": {"name": "s"}, "dataSourceRef": {"name": "s"}}});
        let check = |id: &str, spec: Value| {
            let mut wanted = json!({"metadata": {}, "spec": {}});
            keep(id, &mut wanted, &live);
            assert_eq!(wanted, json!({"metadata": {"uid": "1"}, "spec": spec}));
        };
        check("persistentvolumeclaims", live["spec"].clone());
        check("datavolumes.example.org", json!({"clusterIP": "10.0.0.1"}));
    }
}
