//! Writing one object: making it, completing it, replacing it.
//!
//! Invariants: what somebody else wrote since the plan was made is not overwritten; what the server
//! leaves out of an object is told.

use std::time::{Duration, Instant};

use refloat_model::plan::OnConflict;
use serde_json::{Value, json};

use super::compare::{Likeness, Merge, compare, left_out, merge, summary, unite};
use super::execute::{Execution, WAIT_POLL};
use super::finish::UPDATES_MAX;
use super::layer::Layer;
use super::prepare::Prepared;
use super::recreate::recreate;
use super::sanitise::map_at;
use super::volumes::PLACE;
use super::{definitions, hold, volumes};
use crate::client::Call;
use crate::error::ApiError;

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
#[derive(Default)]
pub(super) struct Done {
    pub(super) remarks: Vec<String>,
    /// Fields that the server left out of what it took.
    pub(super) left_out: Vec<String>,
}

impl Done {
    pub(super) fn with(remark: impl Into<String>) -> Self {
        Self {
            remarks: vec![remark.into()],
            left_out: Vec::new(),
        }
    }
}

/// Writes by `call`; gives the fields of what is asked for with it that the server left out.
pub(super) async fn store(
    run: &Execution<'_>,
    prepared: &Prepared,
    call: &Call,
    asked: &Value,
) -> Result<Vec<String>, ApiError> {
    if run.redefined.contains(&prepared.id) {
        definitions::in_force(run, prepared, call, asked).await;
    }
    let answer = run.api.call(call).await?;
    Ok(left_out(prepared, asked, &answer))
}

/// The object as it is written first.
pub(super) fn held(prepared: &Prepared) -> Value {
    let mut object = prepared.object.clone();
    if let Some(hold) = prepared.hold {
        hold::apply(hold, &mut object);
    }
    object
}

pub(super) async fn create(run: &Execution<'_>, prepared: &Prepared) -> Result<Done, StepError> {
    if prepared.is_shared() {
        // The cluster makes a namespace's own account by itself, sooner or later than we do.
        return complete(run, prepared).await;
    }
    let object = held(prepared);
    let call = Call::create(prepared.list_path(), &object);
    let started = Instant::now();
    let mut left_out = loop {
        match store(run, prepared, &call, &object).await {
            Ok(left_out) => break left_out,
            Err(error) if error.is_already_there() => return appeared(run, prepared).await,
            Err(error) if awaits_account(prepared, &error, started) => {
                tokio::time::sleep(WAIT_POLL).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    if prepared.layer == Layer::Definitions {
        definitions::established(run.api, prepared).await?;
    }
    let mut remarks = Vec::new();
    if let Some(status) = &prepared.status {
        left_out.extend(put_status(run, prepared, status).await?);
        remarks.push("status put back".to_owned());
    }
    Ok(Done { remarks, left_out })
}

/// P13: puts the status back where an object asks for it.
async fn put_status(
    run: &Execution<'_>,
    prepared: &Prepared,
    status: &Value,
) -> Result<Vec<String>, ApiError> {
    let patch = json!({ "status": status });
    let path = prepared.object_path();
    let call = Call::merge_patch(format!("{path}/status"), &patch);
    match store(run, prepared, &call, &patch).await {
        // Without a subresource the status is a field like others.
        Err(error) if error.is_not_found() => {
            store(run, prepared, &Call::merge_patch(path, &patch), &patch).await
        }
        other => other,
    }
}

/// A pod is refused until the controllers have made its namespace's service account.
fn awaits_account(prepared: &Prepared, error: &ApiError, started: Instant) -> bool {
    prepared.id == "pods"
        && started.elapsed() < ACCOUNT_WAIT_MAX
        && matches!(error, ApiError::Refused { message, .. } if message.contains("serviceaccount"))
}

async fn appeared(run: &Execution<'_>, prepared: &Prepared) -> Result<Done, StepError> {
    let live = run.api.call(&Call::get(prepared.object_path())).await?;
    match compare(prepared, &live) {
        Likeness::Equal | Likeness::Unfinished(_) => Ok(Done::with("was there already, equal")),
        Likeness::Different(_) if run.on_conflict == OnConflict::Replace => {
            replace(run, prepared).await
        }
        Likeness::Different(why) => Err(StepError::Appeared(why)),
    }
}

/// Adds what it lacks to an object that others have their say in.
async fn complete(run: &Execution<'_>, prepared: &Prepared) -> Result<Done, StepError> {
    let path = prepared.object_path();
    let mut attempt = 1;
    loop {
        let live = match run.api.call(&Call::get(path.clone())).await {
            Ok(live) => live,
            Err(error) if error.is_not_found() => {
                let call = Call::create(prepared.list_path(), &prepared.object);
                match store(run, prepared, &call, &prepared.object).await {
                    Ok(left_out) => {
                        return Ok(Done {
                            left_out,
                            ..Done::default()
                        });
                    }
                    Err(error) if error.is_already_there() && attempt < UPDATES_MAX => attempt += 1,
                    Err(error) => return Err(error.into()),
                }
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let (mut wanted, others) = if run.on_conflict == OnConflict::Replace {
            (prepared.object.clone(), Vec::new())
        } else {
            let Merge { wanted, others, .. } = merge(prepared, &live);
            (wanted, others)
        };
        let may_differ = prepared.is_companion || run.on_conflict == OnConflict::Skip;
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
        let call = Call::merge_patch(path.clone(), &wanted);
        match store(run, prepared, &call, &wanted).await {
            Ok(left_out) => {
                let remark = match others.as_slice() {
                    [] => "merged".to_owned(),
                    others => format!("merged, and kept as it is where it {}", summary(others)),
                };
                let remarks = vec![remark];
                return Ok(Done { remarks, left_out });
            }
            // Its lists are of what was read.
            Err(error) if error.status() == Some(409) && attempt < UPDATES_MAX => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

pub(super) async fn replace(run: &Execution<'_>, prepared: &Prepared) -> Result<Done, StepError> {
    if prepared.is_shared() {
        return complete(run, prepared).await;
    }
    let path = prepared.object_path();
    let live = match run.api.call(&Call::get(path.clone())).await {
        Ok(live) => live,
        Err(error) if error.is_not_found() => return Err(StepError::Changed),
        Err(error) => return Err(error.into()),
    };
    let is_released = volumes::is_released(prepared, &live);
    match compare(prepared, &live) {
        Likeness::Equal if is_released => {}
        Likeness::Equal => return Ok(Done::with("already as it should be")),
        // Owners and suspension are the business of the end.
        Likeness::Unfinished(_) => return Ok(Done::default()),
        Likeness::Different(_) => {}
    }
    if volumes::other_claim(prepared, &live).is_some() || volumes::is_doomed(prepared, &live) {
        return Err(StepError::Changed);
    }
    let wanted = wanted(prepared, &live)?;
    let call = Call::replace(path, &wanted);
    // What was copied from the live object the server may take away again.
    match store(run, prepared, &call, &asked(prepared)).await {
        Ok(left_out) => {
            if prepared.layer == Layer::Definitions {
                definitions::established(run.api, prepared).await?;
            }
            let remarks = vec!["replaced".to_owned()];
            Ok(Done { remarks, left_out })
        }
        Err(error) if error.status() == Some(409) => Err(StepError::Changed),
        Err(error) if error.status() == Some(422) && prepared.fields.is_empty() => {
            recreate(run, prepared, &live, error).await
        }
        Err(error) => Err(error.into()),
    }
}

/// What the restore itself asks for, or has its fields from.
fn asked(prepared: &Prepared) -> Value {
    match prepared.fields.as_slice() {
        [] => held(prepared),
        _ => prepared.object.clone(),
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
