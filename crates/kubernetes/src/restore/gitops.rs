//! Whoever keeps objects as Git says, Flux or Argo CD, would undo or delete what a restore brings
//! back (P17). It is found, and then the restore refuses, or suspends it and resumes it at the end.
//!
//! *Crash behaviour*: a suspended keeper carries its own policy in an annotation; the next restore
//! finds it there and resumes it.
//!
//! Invariant: nothing is suspended that the plan does not name, and nothing else of it is changed.

use std::collections::BTreeSet;

use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::plan::{Action, GitKeepers, Step};
use refloat_model::tree_path::TreePath;
use serde_json::{Value, json};

use super::hold::{self, Hold};
use super::prepare::Prepared;
use super::sanitise::{HELD, map_at};
use super::situation::Situation;
use crate::client::{Api, Call};
use crate::error::ApiError;
use crate::kind::{annotation, elements, label, name, namespace, object_name, text};

/// The kinds of keepers: group, plural, and what people call it.
const TOOLS: [(&str, &str, &str); 3] = [
    (
        "kustomize.toolkit.fluxcd.io",
        "kustomizations",
        "Flux Kustomization",
    ),
    ("helm.toolkit.fluxcd.io", "helmreleases", "Flux HelmRelease"),
    ("argoproj.io", "applications", "Argo CD application"),
];
const ARGO: usize = 2;

/// A keeper: one that is at work, or as an object calls it.
struct Keeper {
    tool: usize,
    /// None if an object does not say it.
    namespace: Option<String>,
    name: String,
}

/// A keeper that is at work, and what it says itself that it keeps.
struct Working {
    keeper: Keeper,
    /// Kind, namespace and name.
    kept: BTreeSet<(String, String, String)>,
}

impl Keeper {
    fn title(&self) -> String {
        let (group, plural, _) = TOOLS[self.tool];
        object_name(
            &format!("{plural}.{group}"),
            self.namespace.as_deref(),
            &self.name,
        )
    }
}

/// What is to be said of keepers, and the steps that suspend them.
pub(super) async fn find(
    api: &Api,
    prepared: &[Prepared],
    situation: &Situation,
    actions: &[Action],
    wanted: GitKeepers,
) -> Result<(Vec<Step>, Vec<Finding>), ApiError> {
    let changed: Vec<&Prepared> = prepared
        .iter()
        .zip(actions)
        .filter(|(_, action)| {
            matches!(
                action,
                Action::Create | Action::Rename { .. } | Action::Replace { .. }
            )
        })
        .map(|(p, _)| p)
        .collect();
    let live = at_work(api).await?;
    let (mut steps, mut findings) = (Vec::new(), Vec::new());
    for working in &live {
        let keeper = &working.keeper;
        let kept: BTreeSet<String> = changed
            .iter()
            .filter(|p| keeps(working, p, situation))
            .map(|p| p.title())
            .collect();
        let Some(first) = kept.first() else { continue };
        let what = TOOLS[keeper.tool].2;
        let title = keeper.title();
        let all = format!("{first} and {} more", kept.len() - 1);
        match wanted {
            GitKeepers::Suspend => steps.push(Step {
                kind: ItemKind::Object,
                name: title,
                path: TreePath::root(),
                workload: keeper.namespace.clone(),
                action: Action::Replace {
                    why: format!(
                        "suspended while what it declares comes back ({all}), then resumed"
                    ),
                },
                bytes: None,
            }),
            GitKeepers::Refuse => findings.push(Finding::error(
                title,
                format!(
                    "this {what} declares {all} and would undo or delete what is restored: have it \
                     suspended and resumed (--gitops suspend), or say that it does not matter \
                     (--gitops ignore)"
                ),
            )),
            GitKeepers::Ignore => findings.push(Finding::warning(
                title,
                format!("this {what} declares {all} and may undo or delete what is restored"),
            )),
        }
    }
    Ok((steps, findings))
}

/// Keepers that act by themselves now, or did before an interrupted restore.
async fn at_work(api: &Api) -> Result<Vec<Working>, ApiError> {
    let mut found = Vec::new();
    for tool in 0..TOOLS.len() {
        for object in list(api, tool).await? {
            if holding(tool, &object).is_none() {
                continue;
            }
            let resources = elements(&object, "/status/resources").filter_map(|resource| {
                let field = |pointer| text(resource, pointer).unwrap_or_default().to_owned();
                Some((
                    text(resource, "/kind")?.to_owned(),
                    field("/namespace"),
                    field("/name"),
                ))
            });
            let keeper = Keeper {
                tool,
                namespace: namespace(&object).map(str::to_owned),
                name: name(&object).to_owned(),
            };
            let kept = resources.collect();
            found.push(Working { keeper, kept });
        }
    }
    Ok(found)
}

/// All objects of a tool; none where it is not installed or must not be looked at.
async fn list(api: &Api, tool: usize) -> Result<Vec<Value>, ApiError> {
    let Some(path) = list_path(api, tool, None).await? else {
        return Ok(Vec::new());
    };
    match api.call(&Call::get(path)).await {
        Ok(list) => Ok(elements(&list, "/items").cloned().collect()),
        Err(error) if error.is_not_found() || error.is_forbidden() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

async fn list_path(
    api: &Api,
    tool: usize,
    namespace: Option<&str>,
) -> Result<Option<String>, ApiError> {
    let (group, plural, _) = TOOLS[tool];
    let answer = match api
        .call(&Call::get(format!("/apis/{group}")).attempts(2))
        .await
    {
        Ok(answer) => answer,
        Err(error) if error.is_not_found() || error.is_forbidden() => return Ok(None),
        Err(error) => return Err(error),
    };
    let version = text(&answer, "/preferredVersion/version");
    let space = namespace.map_or_else(String::new, |space| format!("/namespaces/{space}"));
    Ok(version.map(|version| format!("/apis/{group}/{version}{space}/{plural}")))
}

/// In which way a keeper would be suspended; none if it is and we did not do it.
fn holding(tool: usize, object: &Value) -> Option<Hold> {
    let (group, plural, _) = TOOLS[tool];
    let active = hold::hold(&format!("{plural}.{group}"), object);
    let ours = annotation(object, HELD).is_some();
    let way = if tool == ARGO {
        Hold::Manual
    } else {
        Hold::Suspended
    };
    active.or_else(|| ours.then_some(way))
}

/// Whether a keeper keeps an object.
fn keeps(working: &Working, p: &Prepared, situation: &Situation) -> bool {
    let Working { keeper, kept } = working;
    let place = (
        p.kind.kind.clone(),
        p.namespace().unwrap_or_default().to_owned(),
        p.name().to_owned(),
    );
    let live = situation.live.get(&p.title());
    let claims = live.into_iter().chain([&p.object]).filter_map(claim);
    let is_claimed = claims.into_iter().any(|claim| {
        claim.tool == keeper.tool
            && claim.name == keeper.name
            && (claim.namespace.is_none() || claim.namespace == keeper.namespace)
    });
    is_claimed || kept.contains(&place)
}

fn claim(object: &Value) -> Option<Keeper> {
    for (tool, (group, _, _)) in TOOLS.iter().enumerate().take(ARGO) {
        if let Some(name) = label(object, &format!("{group}/name")) {
            return Some(Keeper {
                tool,
                namespace: label(object, &format!("{group}/namespace")).map(str::to_owned),
                name: name.to_owned(),
            });
        }
    }
    let tracked = annotation(object, "argocd.argoproj.io/tracking-id")
        .and_then(|id| id.split(':').next())
        .or_else(|| label(object, "argocd.argoproj.io/instance"))?;
    let (namespace, name) = match tracked.split_once('_') {
        Some((namespace, name)) => (Some(namespace.to_owned()), name),
        None => (None, tracked),
    };
    Some(Keeper {
        tool: ARGO,
        namespace,
        name: name.to_owned(),
    })
}

/// The tool that a step of a plan suspends; none for every other step.
fn tool_of(step: &Step) -> Option<(usize, &str, &str)> {
    let mut parts = step.name.splitn(3, '/');
    let (id, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
    let is_it = |(group, plural, _): &(&str, &str, &str)| {
        id.strip_prefix(plural)
            .and_then(|rest| rest.strip_prefix('.'))
            == Some(*group)
    };
    let tool = TOOLS.iter().position(is_it)?;
    (step.path == TreePath::root()).then_some((tool, namespace, name))
}

/// Whether a step suspends a keeper instead of restoring an object.
pub(super) fn is_keeper(step: &Step) -> bool {
    tool_of(step).is_some()
}

/// Suspends the keeper of a step.
pub(super) async fn suspend(api: &Api, step: &Step) -> Result<(), ApiError> {
    change(api, step, |tool, live| {
        let Some(hold) = holding(tool, live) else {
            return false;
        };
        if annotation(live, HELD).is_some() {
            return false;
        }
        let policy = json!({"spec": {
            "suspend": live.pointer("/spec/suspend"),
            "syncPolicy": {"automated": live.pointer("/spec/syncPolicy/automated")},
        }});
        hold::apply(hold, live);
        if let Some(annotations) = map_at(live, "/metadata/annotations") {
            annotations.insert(HELD.into(), policy.to_string().into());
        }
        true
    })
    .await
}

/// Puts back what [`suspend`] took.
pub(super) async fn resume(api: &Api, step: &Step) -> Result<(), ApiError> {
    change(api, step, |tool, live| {
        let Some(policy) = annotation(live, HELD) else {
            return false;
        };
        // Written by ourselves; whatever else it is means that nothing was asked for.
        let policy: Value = serde_json::from_str(policy).unwrap_or(Value::Null);
        let mut wanted = policy;
        drop_null(&mut wanted);
        if let Some(hold) = holding(tool, live) {
            hold::undo(hold, live, &wanted);
        }
        true
    })
    .await
}

fn drop_null(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.retain(|_, inner| !inner.is_null());
        fields.values_mut().for_each(drop_null);
    }
}

/// Reads, changes and writes a keeper; again if somebody else wrote meanwhile.
async fn change(
    api: &Api,
    step: &Step,
    mut how: impl FnMut(usize, &mut Value) -> bool,
) -> Result<(), ApiError> {
    let Some((tool, namespace, name)) = tool_of(step) else {
        return Ok(());
    };
    let Some(list) = list_path(api, tool, Some(namespace)).await? else {
        return Ok(());
    };
    super::finish::update(api, &format!("{list}/{name}"), |live| how(tool, live)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p17_whoever_declares_an_object_is_recognised() {
        let check = |metadata: Value| {
            claim(&json!({ "metadata": metadata }))
                .map(|c| (c.tool, c.namespace.unwrap_or_default(), c.name))
        };
        let found = |tool, space: &str| Some((tool, space.to_owned(), "shop".to_owned()));
        let flux = |group: &str| json!({"labels": {format!("{group}/name"): "shop", format!("{group}/namespace"): "flux"}});
        assert_eq!(check(flux("kustomize.toolkit.fluxcd.io")), found(0, "flux"));
        assert_eq!(check(flux("helm.toolkit.fluxcd.io")), found(1, "flux"));
        assert_eq!(
            check(json!({"labels": {"argocd.argoproj.io/instance": "shop"}})),
            found(2, "")
        );
        let tracked = |id: &str| json!({"annotations": {"argocd.argoproj.io/tracking-id": id}});
        assert_eq!(check(tracked("shop:apps/Deployment:n/web")), found(2, ""));
        assert_eq!(
            check(tracked("apps_shop:apps/Deployment:n/web")),
            found(2, "apps")
        );
        assert_eq!(check(json!({"labels": {"app": "shop"}})), None);
    }
}
