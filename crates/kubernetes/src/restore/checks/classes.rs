//! Classes that objects name and the target has not: of storage, priorities, runtimes, ingresses.
//!
//! Invariant: a class that comes back with the restore is not missing.

use std::collections::BTreeSet;

use refloat_model::finding::Finding;
use refloat_model::plan::Action;
use serde_json::Value;

use super::super::prepare::{Prepared, Wish};
use super::is_new;
use crate::client::{Api, Call};
use crate::error::ApiError;
use crate::kind::{elements, name, text};
use crate::pod_spec::pod_spec;

/// One sort of classes.
struct Sort {
    word: &'static str,
    id: &'static str,
    path: &'static str,
    /// The classes that an object names.
    named: fn(&Value) -> Vec<&str>,
    missing: Missing,
}

/// What a missing class means for an object.
enum Missing {
    /// It would wait for ever, or its pods would never be made; what to do.
    Conflict(fn(&str) -> String),
    /// It is there and nobody acts on it; what to do.
    Warning(fn(&str) -> String),
}

const SORTS: [Sort; 4] = [
    Sort {
        word: "storage class",
        id: "storageclasses.storage.k8s.io",
        path: "/apis/storage.k8s.io/v1/storageclasses",
        named: storage,
        missing: Missing::Conflict(|class| format!("name one it has (storage-class:{class}=NEW)")),
    },
    Sort {
        word: "priority class",
        id: "priorityclasses.scheduling.k8s.io",
        path: "/apis/scheduling.k8s.io/v1/priorityclasses",
        named: |object| of_pods(object, "/priorityClassName"),
        missing: Missing::Conflict(|class| {
            format!(
                "restore object:priorityclasses.scheduling.k8s.io/{class} too, or take it out with a transform"
            )
        }),
    },
    Sort {
        word: "runtime class",
        id: "runtimeclasses.node.k8s.io",
        path: "/apis/node.k8s.io/v1/runtimeclasses",
        named: |object| of_pods(object, "/runtimeClassName"),
        missing: Missing::Conflict(|class| {
            format!(
                "restore object:runtimeclasses.node.k8s.io/{class} too, or take it out with a transform"
            )
        }),
    },
    Sort {
        word: "ingress class",
        id: "ingressclasses.networking.k8s.io",
        path: "/apis/networking.k8s.io/v1/ingressclasses",
        named: |object| text(object, "/spec/ingressClassName").into_iter().collect(),
        missing: Missing::Warning(|class| {
            format!("no controller will serve it: name one it has (ingress-class:{class}=NEW)")
        }),
    },
];

/// Claims name theirs, and so do the templates of claims. The empty name asks for a volume without
/// a class, and a claim of a volume by name is bound to that.
fn storage(object: &Value) -> Vec<&str> {
    if text(object, "/kind") == Some("PersistentVolume") {
        return Vec::new();
    }
    let own = text(object, "/spec/storageClassName")
        .filter(|_| text(object, "/spec/volumeName").is_none());
    let templates = elements(object, "/spec/volumeClaimTemplates")
        .filter_map(|claim| text(claim, "/spec/storageClassName"));
    own.into_iter()
        .chain(templates)
        .filter(|class| !class.is_empty())
        .collect()
}

fn of_pods<'a>(object: &'a Value, field: &str) -> Vec<&'a str> {
    let class = pod_spec(object).and_then(|spec| text(spec, field));
    class
        .filter(|class| !class.is_empty())
        .into_iter()
        .collect()
}

/// Finds classes that are neither there nor come back.
pub(in crate::restore) async fn classes(
    api: &Api,
    prepared: &[Prepared],
    actions: &mut [Action],
) -> Result<Vec<Finding>, ApiError> {
    let mut findings = Vec::new();
    for sort in &SORTS {
        let is_needed = |(p, action): (&Prepared, &Action)| {
            is_new(action) && !(sort.named)(&p.object).is_empty()
        };
        if !prepared.iter().zip(actions.iter()).any(is_needed) {
            continue;
        }
        let answer = match api.call(&Call::get(sort.path)).await {
            Ok(answer) => answer,
            // Then it shows when it is used; not knowing is no reason to refuse.
            Err(error) if error.is_forbidden() || error.is_not_found() => continue,
            Err(error) => return Err(error),
        };
        let mut known: BTreeSet<&str> = elements(&answer, "/items").map(name).collect();
        let coming = prepared
            .iter()
            .filter(|p| p.id == sort.id && p.wish == Wish::Wanted);
        known.extend(coming.map(Prepared::name));
        for (p, action) in prepared.iter().zip(actions.iter_mut()) {
            let named = (sort.named)(&p.object);
            let missing = named.into_iter().find(|class| !known.contains(class));
            let Some(class) = missing.filter(|_| is_new(action)) else {
                continue;
            };
            let why = |hint: String| format!("the target has no {} {class}: {hint}", sort.word);
            match sort.missing {
                Missing::Conflict(hint) => {
                    *action = Action::Conflict {
                        why: why(hint(class)),
                    };
                }
                Missing::Warning(hint) => {
                    findings.push(Finding::warning(p.title(), why(hint(class))));
                }
            }
        }
    }
    Ok(findings)
}
