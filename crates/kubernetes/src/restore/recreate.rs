//! P10: what cannot be changed is deleted and made again, unless data would go with it.
//!
//! Invariant: nothing is deleted here that holds data, or that a claim belongs to.

use std::time::Instant;

use futures_util::stream::{self, StreamExt};
use refloat_model::finding::Finding;
use refloat_model::plan::Action;
use serde_json::{Value, json};

use super::checks::would_leave_out;
use super::compare::{Likeness, compare, left_out};
use super::definitions::redefined;
use super::execute::{Execution, WAIT_MAX, WAIT_POLL};
use super::layer::{Layer, layer};
use super::plan::REQUESTS_AT_ONCE;
use super::prepare::Prepared;
use super::situation::Situation;
use super::write::{Done, StepError, held, store, wanted};
use crate::client::{Api, Call, List};
use crate::error::ApiError;
use crate::kind::{Kind, elements, name, text};

/// Kinds whose deletion takes data with it.
const HOLDS_DATA: [&str; 4] = [
    "persistentvolumeclaims",
    "persistentvolumes",
    "namespaces",
    "customresourcedefinitions.apiextensions.k8s.io",
];

/// Says in a plan what would be deleted and made again, and refuses what may not be.
pub(super) async fn foresee(
    api: &Api,
    prepared: &[Prepared],
    situation: &Situation,
    actions: &mut [Action],
) -> Vec<Finding> {
    // What will be replaced first decides what may be changed then.
    let redefined = redefined(prepared, actions);
    let tried = prepared.iter().zip(actions.iter()).enumerate();
    let tried: Vec<(usize, &Prepared, &Value)> = tried
        .filter(|(_, (p, action))| matches!(action, Action::Replace { .. }) && is_replaced(p))
        .filter_map(|(index, (p, _))| Some((index, p, situation.live.get(&p.title())?)))
        .filter(|(_, p, live)| !redefined.contains(&p.id) && is_fixed(p, live))
        .collect();
    let mut answers = stream::iter(tried)
        .map(|(index, p, live)| async move { (index, verdict(api, p, live).await) })
        .buffer_unordered(REQUESTS_AT_ONCE);
    let mut findings = Vec::new();
    while let Some((index, verdict)) = answers.next().await {
        if let (Some(Verdict::Cut(fields)), Some(p)) = (&verdict, prepared.get(index)) {
            findings.extend(would_leave_out(p, fields));
        }
        if let (Some(verdict), Some(action)) = (verdict, actions.get_mut(index)) {
            *action = match (verdict, &*action) {
                (Verdict::Again(refusal), Action::Replace { why }) => Action::Replace {
                    why: format!("{why}; it is deleted and made again: {refusal}"),
                },
                (Verdict::Again(_), other) => other.clone(),
                (Verdict::Never(why), _) => Action::Conflict { why },
                (Verdict::Cut(_), other) => other.clone(),
            };
        }
    }
    findings
}

/// What is known of a change that was tried.
enum Verdict {
    /// It is deleted and made again; how the server refuses the change.
    Again(ApiError),
    /// It stays; why.
    Never(String),
    /// It can be changed, without these fields.
    Cut(Vec<String>),
}

/// Whether the whole object is replaced, not merged.
fn is_replaced(prepared: &Prepared) -> bool {
    prepared.fields.is_empty() && !prepared.is_shared()
}

/// Whether a change may be refused. There are many Secrets and ConfigMaps, and these say so.
fn is_fixed(prepared: &Prepared, live: &Value) -> bool {
    let is_open = matches!(prepared.id.as_str(), "secrets" | "configmaps")
        && live.get("immutable") != Some(&Value::Bool(true))
        && live.get("type") == prepared.object.get("type");
    !is_open && matches!(compare(prepared, live), Likeness::Different(_))
}

/// What becomes of an object that differs; none if it can be changed as a whole, or the server says
/// nothing.
async fn verdict(api: &Api, prepared: &Prepared, live: &Value) -> Option<Verdict> {
    let wanted = wanted(prepared, live).ok()?;
    let trial = Call::replace(prepared.object_path(), &wanted).dry_run();
    let refusal = match api.call(&trial).await {
        Ok(answer) => {
            let fields = left_out(prepared, &held(prepared), &answer);
            return (!fields.is_empty()).then_some(Verdict::Cut(fields));
        }
        Err(refusal) => refusal,
    };
    if refusal.status() != Some(422) {
        return None;
    }
    Some(match hung_on(api, prepared, live).await {
        Some(why) => {
            Verdict::Never(StepError::Undeletable(format!("{why}: {refusal}")).to_string())
        }
        None => Verdict::Again(refusal),
    })
}

/// Deletes the live object and makes it anew; `refusal` is why it cannot be changed.
pub(super) async fn recreate(
    run: &Execution<'_>,
    prepared: &Prepared,
    live: &Value,
    refusal: ApiError,
) -> Result<Done, StepError> {
    let api = run.api;
    if let Some(why) = hung_on(api, prepared, live).await {
        return Err(StepError::Undeletable(format!("{why}: {refusal}")));
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
    gone(api, prepared, &path).await?;
    let object = held(prepared);
    let call = Call::create(prepared.list_path(), &object);
    let left_out = store(run, prepared, &call, &object).await?;
    let remark = "deleted and made again: a field that cannot be changed differs";
    Ok(Done {
        remarks: vec![remark.to_owned()],
        left_out,
    })
}

/// Waits until a deleted object is gone.
async fn gone(api: &Api, prepared: &Prepared, path: &str) -> Result<(), StepError> {
    let started = Instant::now();
    loop {
        match api.bytes(&Call::get(path)).await {
            Err(error) if error.is_not_found() => return Ok(()),
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
}

/// Which data would go with the live object; none if there is none.
async fn hung_on(api: &Api, prepared: &Prepared, live: &Value) -> Option<String> {
    match by_kind(&prepared.id, live) {
        None => claims(api, prepared, live).await,
        why => why,
    }
}

/// As far as the kind tells.
fn by_kind(id: &str, live: &Value) -> Option<String> {
    let why = if HOLDS_DATA.contains(&id) {
        "it holds data"
    } else if id.ends_with(".snapshot.storage.k8s.io") {
        "the storage's snapshot may go with it"
    } else if layer(id) == Layer::Custom {
        "what its controller made for it would go with it"
    } else if text(
        live,
        "/spec/persistentVolumeClaimRetentionPolicy/whenDeleted",
    ) == Some("Delete")
    {
        "its claims go with it (persistentVolumeClaimRetentionPolicy)"
    } else {
        return None;
    };
    Some(why.to_owned())
}

/// Claims that belong to the live object: the cluster deletes them after it.
async fn claims(api: &Api, prepared: &Prepared, live: &Value) -> Option<String> {
    let uid = text(live, "/metadata/uid")?;
    let kind = Kind {
        group: String::new(),
        version: "v1".to_owned(),
        resource: "persistentvolumeclaims".to_owned(),
        kind: "PersistentVolumeClaim".to_owned(),
        namespaced: true,
        verbs: Vec::new(),
    };
    let list = List::new(api, &kind, prepared.namespace()).metadata_only();
    let all = match list.all().await {
        Ok(all) => all,
        Err(error) => {
            return Some(format!(
                "whether claims belong to it is not known ({error})"
            ));
        }
    };
    let owned = all.iter().find(|claim| {
        elements(claim, "/metadata/ownerReferences").any(|o| text(o, "/uid") == Some(uid))
    })?;
    Some(format!("claim {} belongs to it", name(owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_data_along_is_told_by_its_kind() {
        let check = |id: &str, live: Value| by_kind(id, &live).is_some();
        for id in [
            "persistentvolumeclaims",
            "volumesnapshots.snapshot.storage.k8s.io",
            "volumesnapshotcontents.snapshot.storage.k8s.io",
            "clusters.postgresql.cnpg.io",
        ] {
            assert!(check(id, json!({})), "{id}");
        }
        let set = |when: &str| json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": when}}});
        assert!(check("statefulsets.apps", set("Delete")));
        assert!(!check("statefulsets.apps", set("Retain")));
        assert!(!check("statefulsets.apps", json!({})));
        assert!(!check("services", json!({})));
    }
}
