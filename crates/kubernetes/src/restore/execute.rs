//! Doing what a plan says, layer by layer.
//!
//! *Crash behaviour*: objects are whole or not there, and a plan made after a crash names what is
//! left: owners that are not yet linked, CronJobs that are still suspended.
//!
//! Invariant: every step of the plan ends with exactly one outcome.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use refloat_model::cancel::Cancel;
use refloat_model::plan::{Action, OnConflict, RestorePlan, RestoreReport, Step, StepOutcome};
use refloat_model::progress::{Counters, Progress};
use refloat_model::tree_path::TreePath;
use serde_json::{Value, json};

use super::compare::{Likeness, compare};
use super::finish;
use super::layer::Layer;
use super::prepare::Prepared;
use super::sanitise::{HELD, map_at};
use crate::client::{Api, Call};
use crate::error::ApiError;
use crate::kind::text;

/// How many objects are written at once. One API server with two cores is busy with fewer.
const WRITES_AT_ONCE: usize = 16;

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
    #[error("the recovery point no longer holds it")]
    NotInPoint,
}

/// What a step came to.
type Remarks = Vec<String>;

/// Executes `plan` with the objects prepared for it.
pub(super) async fn execute(
    api: &Api,
    plan: &RestorePlan,
    prepared: &[Prepared],
    on_conflict: OnConflict,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> RestoreReport {
    let by_path: BTreeMap<&TreePath, &Prepared> = prepared.iter().map(|p| (&p.path, p)).collect();
    let mut layers: BTreeMap<Option<Layer>, Vec<(usize, &Step)>> = BTreeMap::new();
    for (index, step) in plan.steps.iter().enumerate() {
        let layer = by_path.get(&step.path).map(|p| p.layer);
        layers.entry(layer).or_default().push((index, step));
    }
    let mut outcomes: Vec<Option<StepOutcome>> = plan.steps.iter().map(|_| None).collect();
    for (layer, steps) in layers {
        progress
            .phase(&layer.map_or_else(String::new, |l| format!("restoring {l:?}").to_lowercase()));
        let mut done = stream::iter(steps)
            .map(|(index, step)| {
                let prepared = by_path.get(&step.path).copied();
                async move { (index, run(api, step, prepared, on_conflict, cancel).await) }
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
    }
    let mut report = RestoreReport {
        steps: outcomes.into_iter().flatten().collect(),
        findings: plan.findings.clone(),
    };
    if !cancel.is_cancelled() {
        progress.phase("finishing");
        finish::finish(api, &by_path, &mut report).await;
    }
    report
}

async fn run(
    api: &Api,
    step: &Step,
    prepared: Option<&Prepared>,
    on_conflict: OnConflict,
    cancel: &Cancel,
) -> StepOutcome {
    let started = Instant::now();
    let result = if cancel.is_cancelled() {
        Err(StepError::Api(ApiError::Cancelled))
    } else {
        match (&step.action, prepared) {
            (Action::Skip { .. } | Action::Conflict { .. }, _) => Ok(Vec::new()),
            (Action::Reuse, Some(_)) => Ok(vec!["already as it should be".to_owned()]),
            (Action::Create | Action::Rename { .. }, Some(p)) => create(api, p, on_conflict).await,
            (Action::Replace { .. }, Some(p)) => replace(api, p).await,
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

/// The object as it is written first: CronJobs wait until everything is back (P15).
fn held(prepared: &Prepared) -> Value {
    let mut object = prepared.object.clone();
    let is_active = object.pointer("/spec/suspend") != Some(&Value::Bool(true));
    if prepared.id == "cronjobs.batch" && is_active {
        if let Some(spec) = map_at(&mut object, "/spec") {
            spec.insert("suspend".into(), true.into());
        }
        if let Some(metadata) = map_at(&mut object, "/metadata") {
            let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
            if let Some(annotations) = annotations.as_object_mut() {
                annotations.insert(HELD.into(), "true".into());
            }
        }
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
        api.call(&Call::apply(prepared.object_path(), &prepared.object))
            .await?;
        return Ok(Vec::new());
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
    Ok(Vec::new())
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
            replace(api, prepared).await
        }
        Likeness::Different(why) => Err(StepError::Appeared(why)),
    }
}

async fn replace(api: &Api, prepared: &Prepared) -> Result<Remarks, StepError> {
    if prepared.is_shared() {
        api.call(&Call::apply(prepared.object_path(), &prepared.object))
            .await?;
        return Ok(vec!["merged".to_owned()]);
    }
    let live = match api.call(&Call::get(prepared.object_path())).await {
        Ok(live) => live,
        Err(error) if error.is_not_found() => return Err(StepError::Changed),
        Err(error) => return Err(error.into()),
    };
    match compare(prepared, &live) {
        Likeness::Equal => return Ok(vec!["already as it should be".to_owned()]),
        // Owners and suspension are the business of the end.
        Likeness::Unfinished(_) => return Ok(Vec::new()),
        Likeness::Different(_) => {}
    }
    let mut wanted = prepared.object.clone();
    keep(&mut wanted, &live);
    match api
        .bytes(&Call::replace(prepared.object_path(), &wanted))
        .await
    {
        Ok(_) => Ok(vec!["replaced".to_owned()]),
        Err(error) if error.status() == Some(409) => Err(StepError::Changed),
        Err(error) if error.status() == Some(422) => recreate(api, prepared, &live, error).await,
        Err(error) => Err(error.into()),
    }
}

/// What the target decided about an object and would have to decide again.
fn keep(wanted: &mut Value, live: &Value) {
    const METADATA: [&str; 4] = ["resourceVersion", "uid", "ownerReferences", "finalizers"];
    if let (Some(metadata), Some(theirs)) = (map_at(wanted, "/metadata"), live.get("metadata")) {
        for key in METADATA {
            if let Some(value) = theirs.get(key) {
                metadata.insert(key.into(), value.clone());
            }
        }
    }
    const SPEC: [&str; 5] = [
        "clusterIP",
        "clusterIPs",
        "ipFamilies",
        "volumeName",
        "nodeName",
    ];
    if let (Some(spec), Some(theirs)) = (map_at(wanted, "/spec"), live.get("spec")) {
        for key in SPEC {
            if let Some(value) = theirs.get(key) {
                spec.entry(key).or_insert_with(|| value.clone());
            }
        }
    }
}

/// Kinds whose deletion takes data with it.
const HOLDS_DATA: [&str; 4] = [
    "persistentvolumeclaims",
    "persistentvolumes",
    "namespaces",
    "customresourcedefinitions.apiextensions.k8s.io",
];

/// P10: what is immutable is made anew, unless data hangs on it.
async fn recreate(
    api: &Api,
    prepared: &Prepared,
    live: &Value,
    refusal: ApiError,
) -> Result<Remarks, StepError> {
    if HOLDS_DATA.contains(&prepared.id.as_str()) {
        return Err(StepError::Undeletable(refusal.to_string()));
    }
    let path = prepared.object_path();
    // Would the new one be accepted at all? Only its name may stand in the way.
    let trial = Call::create(prepared.list_path(), &prepared.object).dry_run();
    if let Err(error) = api.bytes(&trial).await
        && !error.is_already_there()
    {
        return Err(error.into());
    }
    let options = json!({
        "propagationPolicy": "Background",
        "preconditions": {"uid": text(live, "/metadata/uid")},
    });
    api.bytes(&Call::delete(path.clone(), &options)).await?;
    let started = Instant::now();
    loop {
        match api.bytes(&Call::get(path.clone())).await {
            Err(error) if error.is_not_found() => break,
            Err(error) => return Err(error.into()),
            Ok(_) if started.elapsed() > WAIT_MAX => {
                let what = format!("the deletion of {}", prepared.title());
                return Err(ApiError::NotInTime {
                    what,
                    within: WAIT_MAX,
                }
                .into());
            }
            Ok(_) => tokio::time::sleep(WAIT_POLL).await,
        }
    }
    api.bytes(&Call::create(prepared.list_path(), &held(prepared)))
        .await?;
    Ok(vec![
        "deleted and made again: a field that cannot be changed differs".to_owned(),
    ])
}
