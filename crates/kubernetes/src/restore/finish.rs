//! What can be done only when everything is there: owners, and what was held back and may go.
//!
//! Invariant: an object is linked to an owner that exists, by the UID it has in this cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use refloat_model::plan::{Action, StepOutcome};
use serde_json::{Value, json};

use super::execute::{Execution, WAIT_POLL, WRITES_AT_ONCE};
use super::hold::{self, Hold};
use super::prepare::Prepared;
use crate::catalogue::Catalogue;
use crate::client::{Api, Call};
use crate::error::ApiError;
use crate::kind::{elements, text};

/// How long the service of a parked webhook may take to answer; its image may have to be pulled.
const WEBHOOK_WAIT_MAX: Duration = Duration::from_secs(120);

/// How often an object is read and written anew if somebody else writes it too.
pub(super) const UPDATES_MAX: u32 = 5;

/// A step that was carried out, with its object.
fn written<'a, 'o>(
    run: &Execution<'a>,
    outcomes: &'o [Option<StepOutcome>],
) -> impl Iterator<Item = (usize, &'a Prepared)> + use<'a, 'o> {
    let is_written = |action: &Action| {
        matches!(
            action,
            Action::Create | Action::Rename { .. } | Action::Replace { .. }
        )
    };
    let by_path = run.by_path.clone();
    outcomes
        .iter()
        .enumerate()
        .filter_map(|(index, outcome)| Some((index, outcome.as_ref()?)))
        .filter(move |(_, outcome)| outcome.error.is_none() && is_written(&outcome.step.action))
        .filter_map(move |(index, outcome)| Some((index, *by_path.get(&outcome.step.path)?)))
}

/// Links what is there to its owners, as far as these are there too. What is linked is not linked
/// again; at the last call, an owner that is missing is told.
pub(super) async fn link(
    run: &Execution<'_>,
    outcomes: &mut [Option<StepOutcome>],
    linked: &mut BTreeSet<usize>,
    is_last: Last,
) {
    let open: Vec<(usize, &Prepared)> = written(run, outcomes)
        .filter(|(index, p)| !p.owners.is_empty() && !linked.contains(index))
        .collect();
    let owners = open
        .iter()
        .flat_map(|(_, p)| p.owners.iter().map(|owner| (owner_key(p, owner), owner)));
    let uids = owner_uids(run.api, owners.collect()).await;
    let mut done = stream::iter(open)
        .map(|(index, p)| {
            let uids = &uids;
            async move { (index, link_one(run.api, p, uids, is_last).await) }
        })
        .buffer_unordered(WRITES_AT_ONCE);
    let mut results = Vec::new();
    while let Some(result) = done.next().await {
        results.push(result);
    }
    drop(done);
    for (index, result) in results {
        let Some(Some(outcome)) = outcomes.get_mut(index) else {
            continue;
        };
        match result {
            Ok(None) => continue,
            Ok(Some(remarks)) => outcome.remarks.extend(remarks),
            Err(error) => outcome.error = Some(format!("its owners cannot be linked: {error}")),
        }
        linked.insert(index);
    }
}

/// Whether more objects will come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    No,
    Yes,
}

type Uids = BTreeMap<OwnerKey, Result<String, ApiError>>;
pub(super) type OwnerKey = (String, String, Option<String>, String);

pub(super) fn owner_key(p: &Prepared, owner: &Value) -> OwnerKey {
    let field = |pointer| text(owner, pointer).unwrap_or_default().to_owned();
    (
        field("/apiVersion"),
        field("/kind"),
        p.namespace().map(str::to_owned),
        field("/name"),
    )
}

/// The UIDs of owners, each asked for once.
pub(super) async fn owner_uids(api: &Api, owners: BTreeMap<OwnerKey, &Value>) -> Uids {
    stream::iter(owners)
        .map(|(key, owner)| async move {
            let uid = owner_uid(api, owner, key.2.as_deref()).await;
            (key, uid)
        })
        .buffer_unordered(WRITES_AT_ONCE)
        .collect()
        .await
}

/// Links one object; none if an owner is not there yet.
async fn link_one(
    api: &Api,
    p: &Prepared,
    uids: &Uids,
    is_last: Last,
) -> Result<Option<Vec<String>>, String> {
    let (mut owners, mut remarks) = (Vec::new(), Vec::new());
    for owner in &p.owners {
        match uids.get(&owner_key(p, owner)) {
            Some(Ok(uid)) => {
                let mut owner = owner.clone();
                if let Some(fields) = owner.as_object_mut() {
                    fields.insert("uid".into(), uid.clone().into());
                }
                owners.push(owner);
            }
            Some(Err(error)) if !error.is_not_found() => return Err(error.to_string()),
            _ if is_last == Last::No => return Ok(None),
            _ => {
                let name = text(owner, "/name").unwrap_or_default();
                remarks.push(format!("its owner {name} is not there: not linked"));
            }
        }
    }
    let patch = json!({"metadata": {"ownerReferences": owners}});
    api.bytes(&Call::merge_patch(p.object_path(), &patch))
        .await
        .map_err(|error| error.to_string())?;
    Ok(Some(remarks))
}

/// Lets go what was held back, in the order in which it may act: operators, webhooks, and then
/// what begins things by itself.
///
/// Operators are mostly in namespaces of their own: none of them acts on a resource that `is_cut`.
pub(super) async fn release(
    run: &Execution<'_>,
    outcomes: &mut [Option<StepOutcome>],
    is_cut: bool,
) {
    let failed: BTreeSet<Option<String>> = outcomes
        .iter()
        .flatten()
        .filter(|outcome| outcome.error.is_some())
        .map(|outcome| outcome.step.workload.clone())
        .collect();
    let held: Vec<(usize, &Prepared, Hold)> = written(run, outcomes)
        .filter_map(|(index, p)| Some((index, p, p.hold?)))
        .collect();
    let deadline = Instant::now() + WEBHOOK_WAIT_MAX;
    for way in [Hold::Stopped, Hold::Parked, Hold::Suspended, Hold::Manual] {
        let of_way = held.iter().filter(|(_, _, hold)| *hold == way);
        let results: Vec<(usize, Result<(), String>)> = stream::iter(of_way)
            .map(|(index, p, _)| {
                let failed = &failed;
                let failed =
                    |p: &Prepared| failed.contains(&p.workload) || (way == Hold::Stopped && is_cut);
                async move { (*index, release_one(run, p, way, failed(p), deadline).await) }
            })
            .buffer_unordered(WRITES_AT_ONCE)
            .collect()
            .await;
        for (index, result) in results {
            let Some(Some(outcome)) = outcomes.get_mut(index) else {
                continue;
            };
            match result {
                Ok(()) => outcome
                    .remarks
                    .push("held back until all was there".to_owned()),
                Err(why) => outcome.error = Some(why),
            }
        }
    }
}

async fn release_one(
    run: &Execution<'_>,
    p: &Prepared,
    way: Hold,
    has_failed: bool,
    deadline: Instant,
) -> Result<(), String> {
    if way != Hold::Parked && has_failed {
        return Err(
            "held back: something it may need has failed; restore again when that is settled"
                .to_owned(),
        );
    }
    if way == Hold::Parked {
        answered(run, p, deadline).await?;
    }
    update(run.api, &p.object_path(), |live| {
        hold::undo(way, live, &p.object);
        true
    })
    .await
    .map_err(|error| format!("it cannot be let go: {error}"))
}

/// P4: waits until the services of a webhook have somebody who answers.
async fn answered(run: &Execution<'_>, p: &Prepared, deadline: Instant) -> Result<(), String> {
    for (namespace, name) in hold::services(&p.object) {
        let path = format!("/api/v1/namespaces/{namespace}/endpoints/{name}");
        loop {
            let answer = run.api.call(&Call::get(path.clone())).await;
            let is_up = answer.is_ok_and(|endpoints| {
                elements(&endpoints, "/subsets")
                    .any(|subset| elements(subset, "/addresses").next().is_some())
            });
            if is_up {
                break;
            }
            if Instant::now() > deadline || run.cancel.is_cancelled() {
                return Err(format!(
                    "its service {namespace}/{name} does not answer yet: left with failurePolicy \
                     Ignore, so that it blocks nothing; restore again when the service is up"
                ));
            }
            tokio::time::sleep(WAIT_POLL).await;
        }
    }
    Ok(())
}

/// Reads, changes and writes an object, again if somebody else wrote it meanwhile. `change` says
/// whether there is something to write.
pub(super) async fn update(
    api: &Api,
    path: &str,
    mut change: impl FnMut(&mut Value) -> bool,
) -> Result<(), ApiError> {
    let mut attempt = 1;
    loop {
        let mut live = api.call(&Call::get(path)).await?;
        if !change(&mut live) {
            return Ok(());
        }
        match api.bytes(&Call::replace(path, &live)).await {
            Err(error) if error.status() == Some(409) && attempt < UPDATES_MAX => attempt += 1,
            result => return result.map(drop),
        }
    }
}

/// Whether an owner is not there, as opposed to not being seen now.
pub(super) const fn is_absent(error: &ApiError) -> bool {
    // Of the latter there is no such kind.
    error.is_not_found() || matches!(error, ApiError::Incomplete(_))
}

/// The UID that an owner has here. Owners are in the same namespace or in none.
async fn owner_uid(api: &Api, owner: &Value, namespace: Option<&str>) -> Result<String, ApiError> {
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
