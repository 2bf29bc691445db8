//! What would happen on the real target, object by object.
//!
//! Invariant: planning writes nothing; every write it asks about is a dry run.

use std::collections::BTreeSet;

use refloat_model::finding::{Finding, Severity};
use refloat_model::item::ItemKind;
use refloat_model::plan::{Action, OnConflict, Permission, RestorePlan, RestoreRequest, Step};
use serde_json::Value;

use super::compare::{Likeness, Merge, compare, merge, summary};
use super::finish::{OwnerKey, is_absent, owner_key, owner_uids};
use super::prepare::{Prepared, Wish};
use super::situation::Situation;
use super::{checks, gitops, recreate, volumes};
use crate::client::Api;
use crate::error::ApiError;
use crate::kind::text;

/// How many requests are under way at once.
pub(super) const REQUESTS_AT_ONCE: usize = 8;

/// Decides every step.
pub(super) async fn plan(
    api: &Api,
    address: &str,
    prepared: &mut [Prepared],
    request: &RestoreRequest,
) -> Result<RestorePlan, ApiError> {
    let situation = Situation::read(api, prepared).await?;
    let mut findings = drop_lost_owners(api, prepared).await;
    let mut actions: Vec<Action> = prepared
        .iter()
        .map(|p| decide(p, &situation, request.on_conflict))
        .collect();
    findings.extend(volumes::release(prepared, &actions));
    findings.extend(checks::classes(api, prepared, &mut actions).await?);
    checks::node_ports(api, prepared, &mut actions).await?;
    let goes_on = request.allow.contains(&Permission::Incomplete);
    let mut refused = checks::quotas(api, prepared, &situation, &actions).await;
    findings.extend(checks::pod_security(prepared, &situation, &actions));
    findings.extend(checks::too_long(prepared, &actions));
    refused.extend(checks::permissions(api, prepared, &actions).await);
    findings.extend(refused.into_iter().map(|finding| match goes_on {
        // The server refuses those objects one by one, and each is named.
        true => Finding {
            severity: finding.severity.min(Severity::Warning),
            ..finding
        },
        false => finding,
    }));
    findings.extend(checks::dry_runs(api, prepared, &situation, &mut actions).await);
    findings.extend(recreate::foresee(api, prepared, &situation, &mut actions).await);
    findings.extend(checks::lost_rights(prepared, &actions));
    let (mut steps, kept) =
        gitops::find(api, prepared, &situation, &actions, request.git_keepers).await?;
    findings.extend(kept);
    let objects = prepared
        .iter()
        .zip(actions)
        .map(|(p, action)| step(p, action));
    steps.extend(objects);
    Ok(RestorePlan {
        target: address.to_owned(),
        steps,
        findings,
        state: situation.fingerprint(),
        goes_on,
    })
}

fn step(prepared: &Prepared, action: Action) -> Step {
    Step {
        kind: ItemKind::Object,
        name: prepared.stored_name.clone(),
        path: prepared.path.clone(),
        workload: prepared.workload.clone(),
        action,
        bytes: None,
    }
}

fn decide(prepared: &Prepared, situation: &Situation, on_conflict: OnConflict) -> Action {
    match &prepared.wish {
        Wish::Out(why) => return Action::Skip { why: why.clone() },
        Wish::Impossible(why) => return Action::Conflict { why: why.clone() },
        Wish::Wanted => {}
    }
    let space = prepared.namespace().or_else(|| {
        let is_space = prepared.id == "namespaces";
        is_space.then(|| prepared.name())
    });
    if let Some(space) = space.filter(|space| situation.is_ending(space)) {
        return Action::Conflict {
            why: format!(
                "namespace {space} is being deleted: wait until it is gone, then plan again"
            ),
        };
    }
    if let Some(why) = situation.unreadable(prepared) {
        return Action::Conflict {
            why: format!("whether the target has it cannot be seen: {why}"),
        };
    }
    let title = prepared.title();
    let Some(live) = situation.live.get(&title) else {
        if !prepared.fields.is_empty() {
            return Action::Conflict {
                why: "it is not there: a field needs its object, which must come back first"
                    .to_owned(),
            };
        }
        return if title == prepared.stored_name {
            Action::Create
        } else {
            Action::Rename { to: title }
        };
    };
    beside(prepared, live, on_conflict)
}

/// What is done with an object that is there already.
fn beside(prepared: &Prepared, live: &Value, on_conflict: OnConflict) -> Action {
    if live.pointer("/metadata/deletionTimestamp").is_some() {
        return Action::Conflict {
            why: "it is being deleted: wait until it is gone, then plan again".to_owned(),
        };
    }
    if let Some(claim) = volumes::other_claim(prepared, live) {
        let why = format!(
            "here it belongs to claim {claim}, which would lose its data: leave the volume out, and \
             the claim that comes back gets a new one"
        );
        return match on_conflict {
            OnConflict::Skip => Action::Skip { why },
            _ => Action::Conflict { why },
        };
    }
    if volumes::is_doomed(prepared, live) {
        return Action::Conflict {
            why: "its claim is gone and the storage deletes it: set its \
                  persistentVolumeReclaimPolicy to Retain and plan again, or leave it out"
                .to_owned(),
        };
    }
    match compare(prepared, live) {
        Likeness::Equal if volumes::is_released(prepared, live) => Action::Replace {
            why: "its claim is gone: it becomes free for the one of that name".to_owned(),
        },
        Likeness::Equal => Action::Reuse,
        Likeness::Unfinished(why) => Action::Replace { why },
        Likeness::Different(why) if prepared.is_shared() => {
            shared(prepared, live, on_conflict, &why)
        }
        // Nobody names a field to leave it as it is.
        Likeness::Different(why) if !prepared.fields.is_empty() => Action::Replace { why },
        Likeness::Different(why) if prepared.is_companion && on_conflict != OnConflict::Replace => {
            Action::Skip {
                why: format!("only needed by what was asked for, and kept as it is: {why}"),
            }
        }
        Likeness::Different(why) => differing(why, on_conflict),
    }
}

/// What is done with an object that is there and differs.
fn differing(why: String, on_conflict: OnConflict) -> Action {
    match on_conflict {
        OnConflict::Replace => Action::Replace { why },
        OnConflict::Skip => Action::Skip {
            why: format!("kept as it is: {why}"),
        },
        OnConflict::Fail => Action::Conflict {
            why: format!("it is there and {why}: choose to skip or to replace it"),
        },
        OnConflict::Rename => Action::Conflict {
            why: format!(
                "it is there and {why}: objects refer to each other by name, so rename the \
                     namespace (namespace:OLD=NEW)"
            ),
        },
    }
}

/// What is done with an object that others have their say in: what it lacks is added, which takes
/// nothing away from anybody; what they wrote is theirs as with all other objects.
fn shared(prepared: &Prepared, live: &Value, on_conflict: OnConflict, why: &str) -> Action {
    if prepared.is_companion && prepared.id == "namespaces" {
        return Action::Reuse;
    }
    let Merge {
        is_lacking, others, ..
    } = merge(prepared, live);
    if others.is_empty() && !is_lacking {
        return Action::Reuse;
    }
    if others.is_empty() || on_conflict == OnConflict::Replace {
        return Action::Replace {
            why: format!("merged: {why}"),
        };
    }
    if !prepared.is_companion && on_conflict != OnConflict::Skip {
        return differing(summary(&others), on_conflict);
    }
    if !is_lacking {
        return differing(summary(&others), OnConflict::Skip);
    }
    Action::Replace {
        why: format!("merged, and kept as it is where it {}", summary(&others)),
    }
}

/// P2: an owner that is neither there nor comes back would make the cluster delete the object.
pub(super) async fn drop_lost_owners(api: &Api, prepared: &mut [Prepared]) -> Vec<Finding> {
    let coming: BTreeSet<(String, Option<String>, String)> = prepared
        .iter()
        .filter(|p| p.wish == Wish::Wanted)
        .map(|p| {
            let kind = text(&p.object, "/kind").unwrap_or_default().to_owned();
            (kind, p.namespace().map(str::to_owned), p.name().to_owned())
        })
        .collect();
    let is_coming = |(_, kind, space, name): &OwnerKey| {
        coming.contains(&(kind.clone(), space.clone(), name.clone()))
            || coming.contains(&(kind.clone(), None, name.clone()))
    };
    let wanted = prepared.iter().filter(|p| p.wish == Wish::Wanted);
    let owners = wanted.flat_map(|p| p.owners.iter().map(|owner| (owner_key(p, owner), owner)));
    let asked = owners.filter(|(key, _)| !is_coming(key)).collect();
    let uids = owner_uids(api, asked).await;
    let mut findings = Vec::new();
    for p in prepared.iter_mut().filter(|p| p.wish == Wish::Wanted) {
        for owner in std::mem::take(&mut p.owners) {
            let key = owner_key(p, &owner);
            // Who cannot be seen now is linked later, or that says why not. Who comes was not asked for.
            if matches!(uids.get(&key), Some(Err(error)) if is_absent(error)) {
                let (_, kind, _, name) = &key;
                let message =
                    format!("its owner {kind} {name} does not come back: it will have none");
                findings.push(Finding::warning(p.title(), message));
            } else {
                p.owners.push(owner);
            }
        }
    }
    findings
}
