//! What the target would refuse or could not fulfil, asked before anything is written.
//!
//! Invariant: a check only ever turns a step into a conflict, never the other way.

mod classes;
mod pod_security;
mod quotas;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt};
use refloat_model::finding::Finding;
use refloat_model::plan::Action;
use serde_json::{Value, json};

use super::compare::{LEFT_OUT_WHY, left_out, listed};
use super::definitions::redefined;
use super::layer::Layer;
use super::plan::REQUESTS_AT_ONCE;
use super::prepare::Prepared;
use super::situation::Situation;
use crate::client::{Answer, Api, Call};
use crate::error::ApiError;
use crate::kind::{elements, name, object_name, text};

pub(super) use classes::classes;
pub(super) use pod_security::pod_security;
pub(super) use quotas::quotas;

/// What etcd takes in one piece, as servers are set up unless somebody raised it.
const OBJECT_BYTES_MAX: usize = 3 << 19;

/// The namespace in which objects are tried whose own is not there yet.
const STAND_IN_SPACE: &str = "default";

const fn writes(action: &Action) -> bool {
    is_new(action) || matches!(action, Action::Replace { .. })
}

const fn is_new(action: &Action) -> bool {
    matches!(action, Action::Create | Action::Rename { .. })
}

/// Node ports that another service has.
pub(super) async fn node_ports(
    api: &Api,
    prepared: &[Prepared],
    actions: &mut [Action],
) -> Result<(), ApiError> {
    let ports = |service: &Value| -> Vec<u64> {
        elements(service, "/spec/ports")
            .filter_map(|port| port.get("nodePort")?.as_u64())
            .collect()
    };
    let wants = |p: &&Prepared| p.id == "services" && !ports(&p.object).is_empty();
    if !prepared.iter().any(|p| wants(&p)) {
        return Ok(());
    }
    let answer = match api.call(&Call::get("/api/v1/services")).await {
        Ok(answer) => answer,
        Err(error) if error.is_forbidden() => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut taken: BTreeMap<u64, String> = BTreeMap::new();
    for service in elements(&answer, "/items") {
        for port in ports(service) {
            let space = text(service, "/metadata/namespace").unwrap_or_default();
            taken.insert(port, format!("{space}/{}", name(service)));
        }
    }
    for (p, action) in prepared.iter().zip(actions) {
        if wants(&p) && is_new(action) {
            let clash = ports(&p.object)
                .into_iter()
                .find_map(|port| Some((port, taken.get(&port)?)));
            if let Some((port, owner)) = clash {
                *action = Action::Conflict {
                    why: format!("node port {port} belongs to service {owner}"),
                };
            }
        }
    }
    Ok(())
}

/// Whether the caller may do what the plan says: one question per kind, namespace and verb.
pub(super) async fn permissions(
    api: &Api,
    prepared: &[Prepared],
    actions: &[Action],
) -> Vec<Finding> {
    let mut questions: BTreeSet<(String, String, Option<&str>, &str)> = BTreeSet::new();
    for (p, action) in prepared
        .iter()
        .zip(actions)
        .filter(|(_, action)| writes(action))
    {
        let verb = match action {
            _ if p.is_shared() => "patch",
            Action::Replace { .. } => "update",
            _ => "create",
        };
        let kind = (p.kind.group.clone(), p.kind.resource.clone());
        questions.insert((kind.0, kind.1, p.namespace(), verb));
    }
    let answers = stream::iter(questions)
        .map(|(group, resource, space, verb)| async move {
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": {"group": group, "resource": resource,
                         "namespace": space.unwrap_or_default(), "verb": verb}},
            });
            let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
            let answer = api.call(&Call::review(path, &review)).await;
            let subject = format!("{resource} {}", space.unwrap_or_default())
                .trim()
                .to_owned();
            match answer {
                Ok(answer) if answer.pointer("/status/allowed") == Some(&Value::Bool(true)) => None,
                Ok(_) => Some(Finding::error(
                    subject,
                    format!("these credentials may not {verb} {resource} here"),
                )),
                Err(error) => Some(Finding::warning(
                    subject,
                    format!("whether these credentials may {verb} it cannot be asked: {error}"),
                )),
            }
        })
        .buffered(REQUESTS_AT_ONCE);
    answers
        .filter_map(|finding| async move { finding })
        .collect()
        .await
}

/// Objects that most servers refuse for their length: a dry run stores nothing and does not tell.
pub(super) fn too_long(prepared: &[Prepared], actions: &[Action]) -> Vec<Finding> {
    let both = prepared.iter().zip(actions);
    both.filter(|(_, action)| writes(action))
        .map(|(p, _)| (p, p.object.to_string().len()))
        .filter(|(_, bytes)| *bytes > OBJECT_BYTES_MAX)
        .map(|(p, bytes)| {
            let message = format!(
                "it has {bytes} bytes, and servers store no more than {OBJECT_BYTES_MAX} of one \
                 object unless their etcd is set up for it"
            );
            Finding::warning(p.title(), message)
        })
        .collect()
}

/// Namespaces that come back stricter than they were.
pub(super) fn lost_rights(prepared: &[Prepared], actions: &[Action]) -> Vec<Finding> {
    let both = prepared.iter().zip(actions);
    both.filter(|(p, action)| p.lost_rights && writes(action))
        .map(|(p, _)| {
            let message = format!(
                "its Pod Security level is left out, because it lets pods do more: name \
                 namespaces/{} with --privileged to restore it",
                p.name()
            );
            Finding::warning(p.title(), message)
        })
        .collect()
}

/// Asks the server about one object of each shape as if it were created.
pub(super) async fn dry_runs(
    api: &Api,
    prepared: &[Prepared],
    situation: &Situation,
    actions: &mut [Action],
) -> Vec<Finding> {
    let coming: BTreeSet<String> = prepared
        .iter()
        .zip(actions.iter())
        .filter(|(_, action)| is_new(action))
        .map(|(p, _)| p.title())
        .collect();
    let redefined = redefined(prepared, actions);
    let mut shapes: BTreeMap<(String, Option<&str>, Vec<String>), usize> = BTreeMap::new();
    for (index, (p, action)) in prepared.iter().zip(actions.iter()).enumerate() {
        // A kind that is still to be defined, or defined anew, cannot be tried.
        let is_known = !redefined.contains(&p.id)
            && (p.layer != Layer::Custom || situation.live.contains_key(&p.title()) || {
                p.kind.verbs.iter().any(|verb| verb == "deletecollection")
            });
        if is_new(action) && !p.is_shared() && is_known && !awaits(p, &coming) {
            let key = (p.id.clone(), p.namespace(), shape(&p.object));
            shapes.entry(key).or_insert(index);
        }
    }
    let answers: Vec<(usize, Result<Answer, ApiError>)> = stream::iter(shapes.into_values())
        .map(|index| async move {
            let p = &prepared[index];
            (index, api.answer(&trial(p, situation)).await)
        })
        .buffer_unordered(REQUESTS_AT_ONCE)
        .collect()
        .await;
    let mut findings = Vec::new();
    for (index, answer) in answers {
        let (Some(p), Some(action)) = (prepared.get(index), actions.get_mut(index)) else {
            continue;
        };
        match answer {
            Ok(answer) => findings.extend(told(p, &answer)),
            Err(error) if error.is_already_there() => {}
            // By a quota, a limit, a level or an account of that namespace, not of its own.
            Err(error) if !situation.has_space(p) && error.status() == Some(403) => {
                let message = format!(
                    "whether the target takes it is not known: its namespace is not there yet, and \
                     in {STAND_IN_SPACE}, where it was tried, it is refused: {error}"
                );
                findings.push(Finding::warning(p.title(), message));
            }
            Err(error) => {
                *action = Action::Conflict {
                    why: format!("the target refuses it: {error}"),
                };
            }
        }
    }
    findings
}

/// What the server tells of an object that it would take.
fn told(prepared: &Prepared, answer: &Answer) -> Vec<Finding> {
    let stored = answer.document().unwrap_or(Value::Null);
    let left_out = left_out(prepared, &prepared.object, &stored);
    // Newer servers say so themselves, field by field.
    let is_said = |text: &String| {
        left_out
            .iter()
            .any(|path| text.contains(&format!("{path:?}")))
    };
    let warnings = answer.warnings.iter().filter(|text| !is_said(text));
    let warnings = warnings.map(|text| format!("the target warns: {text}"));
    let left_out = would_leave_out(prepared, &left_out);
    let warnings = warnings.map(|message| Finding::warning(prepared.title(), message));
    warnings.chain(left_out).collect()
}

/// The finding that the server would leave out these fields, if there are any.
pub(super) fn would_leave_out(prepared: &Prepared, fields: &[String]) -> Option<Finding> {
    let message = format!(
        "the target would leave out {}: {LEFT_OUT_WHY}",
        listed(fields)
    );
    (!fields.is_empty()).then(|| Finding::warning(prepared.title(), message))
}

/// Whether a pod names an account or a class that comes with it, which the server would miss.
fn awaits(prepared: &Prepared, coming: &BTreeSet<String>) -> bool {
    const NAMED: [(&str, &str); 3] = [
        ("serviceaccounts", "/spec/serviceAccountName"),
        (
            "priorityclasses.scheduling.k8s.io",
            "/spec/priorityClassName",
        ),
        ("runtimeclasses.node.k8s.io", "/spec/runtimeClassName"),
    ];
    prepared.id == "pods"
        && NAMED.iter().any(|(kind, field)| {
            let space = prepared.namespace().filter(|_| *kind == "serviceaccounts");
            let named = text(&prepared.object, field);
            named.is_some_and(|named| coming.contains(&object_name(kind, space, named)))
        })
}

/// A dry run of creating `prepared`, in a namespace that is there.
fn trial(prepared: &Prepared, situation: &Situation) -> Call {
    if situation.has_space(prepared) {
        return Call::create(prepared.list_path(), &prepared.object).dry_run();
    }
    let mut object = prepared.object.clone();
    if let Some(metadata) = super::sanitise::map_at(&mut object, "/metadata") {
        metadata.insert("namespace".into(), STAND_IN_SPACE.into());
    }
    Call::create(prepared.kind.list_path(Some(STAND_IN_SPACE)), &object).dry_run()
}

/// Maps whose keys are data, not structure.
const DATA: [&str; 7] = [
    "data",
    "binaryData",
    "stringData",
    "labels",
    "annotations",
    "matchLabels",
    "nodeSelector",
];

/// Which fields an object has: objects with the same ones are judged alike.
fn shape(object: &Value) -> Vec<String> {
    fn collect(value: &Value, path: &str, paths: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let inner = format!("{path}.{key}");
                    if DATA.contains(&key.as_str()) {
                        paths.insert(inner);
                    } else {
                        collect(value, &inner, paths);
                    }
                }
            }
            Value::Array(list) => list.iter().for_each(|value| collect(value, path, paths)),
            _ => drop(paths.insert(path.to_owned())),
        }
    }
    let mut paths = BTreeSet::new();
    collect(object, "", &mut paths);
    // What a Secret must hold depends on its type.
    paths.extend(text(object, "/type").map(str::to_owned));
    paths.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_that_differ_in_data_only_have_one_shape() {
        let secret = |key: &str, kind: &str| json!({"type": kind, "metadata": {"name": key, "labels": {key: "1"}}, "data": {key: "x"}});
        assert_eq!(shape(&secret("a", "Opaque")), shape(&secret("b", "Opaque")));
        assert_ne!(
            shape(&secret("a", "Opaque")),
            shape(&secret("a", "kubernetes.io/tls"))
        );
        assert_ne!(
            shape(&json!({"spec": {"a": 1}})),
            shape(&json!({"spec": {"b": 1}}))
        );
    }
}
