//! What can be done only when everything is there: owners, and CronJobs that may run again.
//!
//! Invariant: an object is linked to an owner that exists, by the UID it has in this cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use refloat_model::plan::{Action, RestoreReport};
use refloat_model::tree_path::TreePath;
use serde_json::{Value, json};

use super::execute::{WAIT_MAX, WAIT_POLL};
use super::prepare::Prepared;
use super::sanitise::HELD;
use crate::catalogue::Catalogue;
use crate::client::{Api, Call};
use crate::error::ApiError;
use crate::kind::{elements, text};

/// Links owners, then lets CronJobs run whose namespace came back without failures.
pub(super) async fn finish(
    api: &Api,
    prepared: &BTreeMap<&TreePath, &Prepared>,
    report: &mut RestoreReport,
) {
    let failed: BTreeSet<Option<String>> = report
        .steps
        .iter()
        .filter(|outcome| outcome.error.is_some())
        .map(|outcome| outcome.step.workload.clone())
        .collect();
    for outcome in &mut report.steps {
        let is_written = matches!(
            outcome.step.action,
            Action::Create | Action::Rename { .. } | Action::Replace { .. }
        );
        let Some(p) = prepared.get(&outcome.step.path) else {
            continue;
        };
        if !is_written || outcome.error.is_some() {
            continue;
        }
        if let Err(error) = link(api, p, &mut outcome.remarks).await {
            outcome.error = Some(format!("its owners cannot be linked: {error}"));
        }
        let is_active = p.object.pointer("/spec/suspend") != Some(&Value::Bool(true));
        if p.id != "cronjobs.batch" || !is_active {
            continue;
        }
        if failed.contains(&outcome.step.workload) {
            let why = "left suspended: something it may need has failed";
            outcome.remarks.push(why.to_owned());
        } else if let Err(error) = release(api, p).await {
            outcome.error = Some(format!("it cannot be resumed: {error}"));
        }
    }
}

async fn link(api: &Api, p: &Prepared, remarks: &mut Vec<String>) -> Result<(), ApiError> {
    if p.owners.is_empty() {
        return Ok(());
    }
    let mut owners = Vec::new();
    for owner in &p.owners {
        match owner_uid(api, owner, p.namespace()).await {
            Ok(uid) => {
                let mut owner = owner.clone();
                if let Some(fields) = owner.as_object_mut() {
                    fields.insert("uid".into(), uid.into());
                }
                owners.push(owner);
            }
            Err(error) if error.is_not_found() => {
                let name = text(owner, "/name").unwrap_or_default();
                remarks.push(format!("its owner {name} is not there: not linked"));
            }
            Err(error) => return Err(error),
        }
    }
    let patch = json!({"metadata": {"ownerReferences": owners}});
    api.bytes(&Call::merge_patch(p.object_path(), &patch))
        .await?;
    Ok(())
}

/// The UID that an owner has here. Owners are in the same namespace or in none.
pub(super) async fn owner_uid(
    api: &Api,
    owner: &Value,
    namespace: Option<&str>,
) -> Result<String, ApiError> {
    let field = |pointer| text(owner, pointer).ok_or(ApiError::Incomplete("owner"));
    let (api_version, kind, name) = (field("/apiVersion")?, field("/kind")?, field("/name")?);
    let root = if api_version.contains('/') {
        "/apis"
    } else {
        "/api"
    };
    let list = api
        .call(&Call::get(format!("{root}/{api_version}")))
        .await?;
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let catalogue = Catalogue::of_group(group, version, &list);
    let Some(kind) = catalogue.of_document(api_version, kind) else {
        return Err(ApiError::Incomplete("resource of the owner's kind"));
    };
    let live = api
        .call(&Call::get(kind.object_path(namespace, name)))
        .await?;
    let uid = text(&live, "/metadata/uid").ok_or(ApiError::Incomplete("uid"))?;
    Ok(uid.to_owned())
}

async fn release(api: &Api, p: &Prepared) -> Result<(), ApiError> {
    let suspend = p.object.pointer("/spec/suspend").cloned();
    let patch = json!({
        "metadata": {"annotations": {HELD: null}},
        "spec": {"suspend": suspend.unwrap_or(Value::Bool(false))},
    });
    api.bytes(&Call::merge_patch(p.object_path(), &patch))
        .await?;
    Ok(())
}

/// Waits until the server serves what a definition defines.
pub(super) async fn established(api: &Api, p: &Prepared) -> Result<(), ApiError> {
    let started = Instant::now();
    let group = text(&p.object, "/spec/group").unwrap_or_default();
    loop {
        let live = api.call(&Call::get(p.object_path())).await?;
        let is_established = elements(&live, "/status/conditions").any(|condition| {
            text(condition, "/type") == Some("Established")
                && text(condition, "/status") == Some("True")
        });
        let served = elements(&p.object, "/spec/versions")
            .filter(|version| version.get("served") == Some(&Value::Bool(true)))
            .filter_map(|version| text(version, "/name"));
        // Established says that the server may; that it does shows in its discovery.
        let mut is_served = true;
        for version in served {
            let path = format!("/apis/{group}/{version}");
            let list = api.call(&Call::get(path).attempts(1)).await;
            let plural = text(&p.object, "/spec/names/plural");
            is_served &= list.is_ok_and(|list| {
                elements(&list, "/resources").any(|resource| text(resource, "/name") == plural)
            });
        }
        if is_established && is_served {
            return Ok(());
        }
        if started.elapsed() > WAIT_MAX {
            return Err(ApiError::NotInTime {
                what: format!("the definition {} being served", p.name()),
                within: WAIT_MAX,
            });
        }
        tokio::time::sleep(WAIT_POLL).await;
    }
}
