//! Whether what comes back fits the quotas of its namespaces, all of it together.
//!
//! A dry run asks the server about one object at a time, and about pods that a controller makes
//! later nobody asks it at all: sums are made here.
//!
//! Invariant: what the server itself would refuse is an error; pods that would be missing, a
//! warning.

mod demand;
mod scope;

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::finding::Finding;
use refloat_model::plan::Action;
use serde_json::Value;

use super::super::prepare::{Prepared, Wish};
use super::super::situation::Situation;
use super::is_new;
use crate::client::{Api, Call};
use crate::error::ApiError;
use crate::kind::{elements, name};
use crate::quantity::Quantity;
use demand::Demand;

/// Amounts by the names that quotas have for them.
type Amounts = BTreeMap<String, Quantity>;

/// Finds quotas that would be exceeded.
pub(in crate::restore) async fn quotas(
    api: &Api,
    prepared: &[Prepared],
    situation: &Situation,
    actions: &[Action],
) -> Vec<Finding> {
    let mut demands: BTreeMap<&str, Demand> = BTreeMap::new();
    let new = prepared
        .iter()
        .zip(actions)
        .filter(|(_, action)| is_new(action));
    for (p, _) in new {
        if let Some(space) = p.namespace() {
            demands.entry(space).or_default().add(p);
        }
    }
    let mut findings = Vec::new();
    let mut judged: Vec<(&str, Value)> = Vec::new();
    for space in demands.keys().copied() {
        let mut there = BTreeSet::new();
        if situation.namespaces.contains_key(space) {
            let path = format!("/api/v1/namespaces/{space}/resourcequotas");
            match api.call(&Call::get(path)).await {
                Ok(answer) => {
                    for quota in elements(&answer, "/items") {
                        there.insert(name(quota).to_owned());
                        judged.push((space, quota.clone()));
                    }
                }
                Err(error) => findings.push(Finding::note(
                    format!("resourcequotas in {space}"),
                    format!("whether what comes back fits them cannot be told: {error}"),
                )),
            }
        }
        let coming = prepared.iter().filter(|p| {
            p.id == "resourcequotas"
                && p.wish == Wish::Wanted
                && p.namespace() == Some(space)
                && !there.contains(p.name())
        });
        judged.extend(coming.map(|p| (space, p.object.clone())));
    }
    for (space, quota) in &judged {
        let asks = scope::of(quota).is_ok_and(|scope| scope.asks_for_effort());
        if let Some(demand) = demands.get_mut(space).filter(|_| asks) {
            let is_there = situation.namespaces.contains_key(*space);
            demand.has_limit_range = gets_limit_range(prepared, space)
                || (is_there && may_have_limit_range(api, space).await);
        }
    }
    if judged
        .iter()
        .any(|(_, quota)| scope::of(quota).is_ok_and(|scope| scope.asks_for_priority()))
    {
        let priority = default_priority(api, prepared).await;
        for demand in demands.values_mut() {
            demand.is_priority_hidden = priority.is_err();
            let priority = priority.as_ref().ok().and_then(Option::as_deref);
            demand.take_priority(priority);
        }
    }
    for (space, quota) in judged {
        if let Some(demand) = demands.get(space) {
            findings.extend(judge(space, &quota, demand));
        }
    }
    findings
}

fn gets_limit_range(prepared: &[Prepared], space: &str) -> bool {
    prepared
        .iter()
        .any(|p| p.id == "limitranges" && p.wish == Wish::Wanted && p.namespace() == Some(space))
}

/// Whether a namespace has a LimitRange; also if that cannot be told.
async fn may_have_limit_range(api: &Api, space: &str) -> bool {
    let path = format!("/api/v1/namespaces/{space}/limitranges");
    let there = api.call(&Call::get(path)).await;
    there.map_or(true, |there| elements(&there, "/items").next().is_some())
}

/// The priority class of pods that name none.
async fn default_priority(api: &Api, prepared: &[Prepared]) -> Result<Option<String>, ApiError> {
    const PATH: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let there = api.call(&Call::get(PATH)).await?;
    let coming = prepared
        .iter()
        .filter(|p| p.id == "priorityclasses.scheduling.k8s.io" && p.wish == Wish::Wanted);
    let mut all = elements(&there, "/items").chain(coming.map(|p| &p.object));
    let default = all.find(|class| class.get("globalDefault") == Some(&Value::Bool(true)));
    Ok(default.map(|class| name(class).to_owned()))
}

fn judge(space: &str, quota: &Value, demand: &Demand) -> Vec<Finding> {
    let subject = format!("resourcequotas/{space}/{}", name(quota));
    let mut findings = Vec::new();
    let (direct, indirect) = match scope::of(quota) {
        Ok(scope) => match demand.unsure(&scope) {
            None => demand.counted(&scope),
            Some(why) => {
                let message = format!(
                    "it counts only what its scopes say, and {why}: whether what comes back fits \
                     it is not computed"
                );
                return vec![Finding::note(subject, message)];
            }
        },
        Err(unknown) => {
            let message = format!(
                "it counts only what its scope {unknown} says, which is not known here: whether \
                 what comes back fits it is not computed"
            );
            return vec![Finding::note(subject, message)];
        }
    };
    let hard = quota.pointer("/spec/hard").and_then(Value::as_object);
    let amount = |map: &Amounts, key: &str| map.get(key).copied().unwrap_or_default();
    for (resource, limit) in hard.into_iter().flatten() {
        let Some(limit) = Quantity::of(limit) else {
            continue;
        };
        let used = quota
            .pointer("/status/used")
            .and_then(|used| used.get(resource));
        let used = used.and_then(Quantity::of).unwrap_or_default();
        let key = canonical(resource);
        let (direct, indirect) = (amount(&direct, key), amount(&indirect, key));
        let sums = |more: &[Quantity]| -> Quantity { more.iter().copied().sum() };
        if direct > Quantity::default() && sums(&[used, direct]) > limit {
            let message = format!(
                "it allows {resource} {limit}; {used} are used and {direct} would come: raise it, \
                 or restore less"
            );
            findings.push(Finding::error(subject.clone(), message));
        } else if indirect > Quantity::default() && sums(&[used, direct, indirect]) > limit {
            let message = format!(
                "it allows {resource} {limit}; {used} are used and {} would come with the pods of \
                 what is restored: some would not be made",
                sums(&[direct, indirect])
            );
            findings.push(Finding::warning(subject.clone(), message));
        }
    }
    findings
}

/// Quotas have two names for some things.
fn canonical(resource: &str) -> &str {
    match resource {
        "cpu" => "requests.cpu",
        "memory" => "requests.memory",
        "count/pods" => "pods",
        "count/services" => "services",
        "count/secrets" => "secrets",
        "count/configmaps" => "configmaps",
        "count/persistentvolumeclaims" => "persistentvolumeclaims",
        "count/replicationcontrollers" => "replicationcontrollers",
        "count/resourcequotas" => "resourcequotas",
        other => other,
    }
}

fn add(amounts: &mut Amounts, key: impl Into<String>, quantity: Quantity) {
    *amounts.entry(key.into()).or_default() += quantity;
}

#[cfg(test)]
mod tests;
