//! Which pods a quota counts: all, or those that its scopes describe.
//!
//! Invariant: a scope that is not known is never taken for one that counts nothing.

use serde_json::Value;

use crate::kind::{elements, text};
use crate::pod_spec::containers;
use crate::quantity::Quantity;

/// What a quota counts.
pub(super) enum Scope {
    /// Everything.
    All,
    /// Pods for which all of this holds.
    Pods(Vec<Condition>),
}

/// One scope.
pub(super) enum Condition {
    BestEffort(bool),
    Terminating(bool),
    /// Whether the pod has a priority class, or one of these.
    Priority(Operator, Vec<String>),
    /// Pods that want to be near pods of other namespaces, or far from them.
    AcrossNamespaces,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

const PRIORITY: &str = "PriorityClass";

/// What scopes ask of a pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Traits {
    is_best_effort: bool,
    is_terminating: bool,
    pub(super) priority: Option<String>,
    reaches_across: bool,
}

impl Traits {
    pub(super) fn of(spec: &Value) -> Self {
        // Only these two decide about it.
        let asks = |container: &Value| {
            ["requests", "limits"].iter().any(|section| {
                ["cpu", "memory"].iter().any(|resource| {
                    let amount = container.pointer(&format!("/resources/{section}/{resource}"));
                    amount.and_then(Quantity::of).unwrap_or_default() > Quantity::default()
                })
            })
        };
        Self {
            is_best_effort: !containers(spec).any(asks),
            is_terminating: spec.get("activeDeadlineSeconds").is_some_and(Value::is_u64),
            priority: text(spec, "/priorityClassName")
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
            reaches_across: ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
                let terms = |when: &str| {
                    format!("/affinity/{kind}/{when}DuringSchedulingIgnoredDuringExecution")
                };
                let (required, preferred) = (terms("required"), terms("preferred"));
                let preferred = elements(spec, &preferred).filter_map(|t| t.get("podAffinityTerm"));
                elements(spec, &required).chain(preferred).any(|term| {
                    elements(term, "/namespaces").next().is_some()
                        || term.get("namespaceSelector").is_some_and(|s| !s.is_null())
                })
            }),
        }
    }
}

impl Scope {
    /// Whether it must be known which priority class a pod gets that names none.
    pub(super) fn asks_for_priority(&self) -> bool {
        self.has(|condition| matches!(condition, Condition::Priority(..)))
    }

    /// Whether it must be known what a pod asks for once it is made.
    pub(super) fn asks_for_effort(&self) -> bool {
        self.has(|condition| matches!(condition, Condition::BestEffort(_)))
    }

    fn has(&self, is_one: impl Fn(&Condition) -> bool) -> bool {
        matches!(self, Self::Pods(all) if all.iter().any(is_one))
    }
}

/// Reads a quota's scopes; the first that is not known is the error.
pub(super) fn of(quota: &Value) -> Result<Scope, String> {
    let mut conditions = Vec::new();
    for scope in elements(quota, "/spec/scopes") {
        let scope = scope.as_str().unwrap_or_default();
        conditions.push(condition(scope, Operator::Exists, Vec::new())?);
    }
    for expression in elements(quota, "/spec/scopeSelector/matchExpressions") {
        let field = |pointer| text(expression, pointer).unwrap_or_default();
        let scope = field("/scopeName");
        let operator = match field("/operator") {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => return Err(format!("{scope} {other}")),
        };
        let values = elements(expression, "/values").filter_map(Value::as_str);
        conditions.push(condition(
            scope,
            operator,
            values.map(str::to_owned).collect(),
        )?);
    }
    Ok(match conditions.is_empty() {
        true => Scope::All,
        false => Scope::Pods(conditions),
    })
}

fn condition(scope: &str, operator: Operator, values: Vec<String>) -> Result<Condition, String> {
    match (scope, operator) {
        ("BestEffort", Operator::Exists) => Ok(Condition::BestEffort(true)),
        ("NotBestEffort", Operator::Exists) => Ok(Condition::BestEffort(false)),
        ("Terminating", Operator::Exists) => Ok(Condition::Terminating(true)),
        ("NotTerminating", Operator::Exists) => Ok(Condition::Terminating(false)),
        ("CrossNamespacePodAffinity", Operator::Exists) => Ok(Condition::AcrossNamespaces),
        (PRIORITY, operator) => Ok(Condition::Priority(operator, values)),
        (other, _) => Err(other.to_owned()),
    }
}

impl Condition {
    pub(super) fn fits(&self, pod: &Traits) -> bool {
        match self {
            Self::BestEffort(wanted) => pod.is_best_effort == *wanted,
            Self::Terminating(wanted) => pod.is_terminating == *wanted,
            Self::AcrossNamespaces => pod.reaches_across,
            Self::Priority(operator, values) => {
                let is_one = pod
                    .priority
                    .as_ref()
                    .is_some_and(|own| values.contains(own));
                match operator {
                    Operator::In => is_one,
                    Operator::NotIn => !is_one,
                    Operator::Exists => pod.priority.is_some(),
                    Operator::DoesNotExist => pod.priority.is_none(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scopes_describe_pods() {
        let plain = json!({"containers": [{"name": "a"}]});
        let asking = json!({"containers": [{"name": "a"}], "activeDeadlineSeconds": 5,
            "initContainers": [{"resources": {"limits": {"cpu": "1"}}}], "priorityClassName": "high"});
        let disk = json!({"containers": [{"resources": {"requests": {"ephemeral-storage": "1Gi"}}}],
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                [{"namespaces": ["other"], "topologyKey": "host"}]}}});
        let by = |operator: &str, values: Value| {
            json!({"scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": operator, "values": values}]}})
        };
        for (spec, expected) in [
            (json!({"scopes": ["BestEffort"]}), [true, false, true]),
            (json!({"scopes": ["NotBestEffort"]}), [false, true, false]),
            (json!({"scopes": ["Terminating"]}), [false, true, false]),
            (json!({"scopes": ["NotTerminating"]}), [true, false, true]),
            (
                json!({"scopes": ["NotTerminating", "BestEffort"]}),
                [true, false, true],
            ),
            (json!({"scopes": ["PriorityClass"]}), [false, true, false]),
            (
                json!({"scopes": ["CrossNamespacePodAffinity"]}),
                [false, false, true],
            ),
            (by("In", json!(["high", "low"])), [false, true, false]),
            (by("NotIn", json!(["high"])), [true, false, true]),
            (by("Exists", json!([])), [false, true, false]),
            (by("DoesNotExist", json!([])), [true, false, true]),
        ] {
            let Ok(Scope::Pods(conditions)) = of(&json!({"spec": spec})) else {
                panic!("{spec}");
            };
            let fits = [&plain, &asking, &disk].map(|pod| {
                let pod = Traits::of(pod);
                conditions.iter().all(|condition| condition.fits(&pod))
            });
            assert_eq!(fits, expected, "{spec}");
        }
        assert!(matches!(of(&json!({"spec": {"hard": {}}})), Ok(Scope::All)));
        let unknown = of(&json!({"spec": {"scopes": ["VolumeAttributesClass"]}}));
        assert_eq!(unknown.err().as_deref(), Some("VolumeAttributesClass"));
    }
}
