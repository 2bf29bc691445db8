//! Writing one object: making it, completing it, replacing it.
//!
//! Invariant: what somebody else wrote since the plan was made is not overwritten.

use std::time::{Duration, Instant};

use refloat_model::plan::OnConflict;
use serde_json::{Value, json};

use super::compare::{Likeness, Merge, compare, merge, summary, unite};
use super::execute::WAIT_POLL;
use super::finish::{self, UPDATES_MAX};
use super::layer::Layer;
use super::prepare::Prepared;
use super::recreate::recreate;
use super::sanitise::map_at;
use super::volumes::PLACE;
use super::{hold, volumes};
use crate::client::{Api, Call};
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
pub(super) type Remarks = Vec<String>;

/// The object as it is written first.
pub(super) fn held(prepared: &Prepared) -> Value {
    let mut object = prepared.object.clone();
    if let Some(hold) = prepared.hold {
        hold::apply(hold, &mut object);
    }
    object
}

pub(super) async fn create(
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

pub(super) async fn replace(
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
