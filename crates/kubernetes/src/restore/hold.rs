//! What is held back until everything is there, and let go at the end: CronJobs that would run
//! without their data (P15), webhooks whose service does not answer yet (P4), operators that would
//! make again what is still to come (P2), GitOps controllers that would undo what came (P17).
//!
//! *Crash behaviour*: what is held says so in an annotation; the next restore lets it go.
//!
//! Invariant: pure; letting go puts back exactly what the recovery point says.

use serde_json::{Map, Value, json};

use super::sanitise::{HELD, map_at};
use crate::kind::{elements, text};

/// In which way an object is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hold {
    /// `spec.suspend` of CronJobs and Flux objects.
    Suspended,
    /// Webhooks that would refuse are told to let pass.
    Parked,
    /// No pods.
    Stopped,
    /// Argo CD does not synchronise by itself.
    Manual,
}

/// Where Argo CD keeps whether it synchronises by itself.
const POLICY: &str = "/spec/syncPolicy";

/// How an object of the kind `id` has to be held; none for most. Operators are found elsewhere.
pub(super) fn hold(id: &str, object: &Value) -> Option<Hold> {
    let is_active = object.pointer("/spec/suspend") != Some(&Value::Bool(true));
    match id {
        "cronjobs.batch"
        | "kustomizations.kustomize.toolkit.fluxcd.io"
        | "helmreleases.helm.toolkit.fluxcd.io" => is_active.then_some(Hold::Suspended),
        "applications.argoproj.io" => {
            let automated = object.pointer(POLICY).and_then(|p| p.get("automated"));
            automated.map(|_| Hold::Manual)
        }
        id if is_webhook(id) => elements(object, "/webhooks")
            .any(refuses)
            .then_some(Hold::Parked),
        _ => None,
    }
}

/// Whether objects of this kind are lists of webhooks.
pub(super) fn is_webhook(id: &str) -> bool {
    id.ends_with("webhookconfigurations.admissionregistration.k8s.io")
}

/// Whether a webhook that cannot be asked makes the server refuse. Those outside the cluster are
/// not ours to wait for.
fn refuses(webhook: &Value) -> bool {
    text(webhook, "/failurePolicy") != Some("Ignore")
        && webhook.pointer("/clientConfig/service").is_some()
}

/// The services that the webhooks of an object need, as namespace and name.
pub(super) fn services(object: &Value) -> Vec<(String, String)> {
    elements(object, "/webhooks")
        .filter(|webhook| refuses(webhook))
        .filter_map(|webhook| webhook.pointer("/clientConfig/service"))
        .filter_map(|service| {
            let field = |pointer| text(service, pointer).map(str::to_owned);
            Some((field("/namespace")?, field("/name")?))
        })
        .collect()
}

/// Holds an object: it is marked, and what it would do it does not.
pub(super) fn apply(hold: Hold, object: &mut Value) {
    match hold {
        Hold::Suspended => set(object, "/spec", "suspend", Some(true.into())),
        Hold::Stopped => set(object, "/spec", "replicas", Some(0.into())),
        Hold::Manual => set(object, POLICY, "automated", None),
        Hold::Parked => {
            for webhook in webhooks(object).filter(|webhook| refuses(webhook)) {
                set(webhook, "", "failurePolicy", Some("Ignore".into()));
            }
        }
    }
    if let Some(metadata) = map_at(object, "/metadata") {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(HELD.into(), "true".into());
        }
    }
}

/// Lets a live object go: what holding changed is again as in `wanted`.
pub(super) fn undo(hold: Hold, live: &mut Value, wanted: &Value) {
    let original = |pointer: &str| wanted.pointer(pointer).cloned();
    match hold {
        Hold::Suspended => set(live, "/spec", "suspend", original("/spec/suspend")),
        Hold::Stopped => set(live, "/spec", "replicas", original("/spec/replicas")),
        Hold::Manual => {
            let automated = original(&format!("{POLICY}/automated"));
            if automated.is_some()
                && let Some(spec) = map_at(live, "/spec")
            {
                spec.entry("syncPolicy").or_insert_with(|| json!({}));
            }
            set(live, POLICY, "automated", automated);
        }
        Hold::Parked => {
            let policy = |name: Option<&str>| {
                elements(wanted, "/webhooks")
                    .find(|webhook| text(webhook, "/name") == name)
                    .map(|webhook| webhook.get("failurePolicy").cloned())
            };
            for webhook in webhooks(live) {
                if let Some(policy) = policy(text(webhook, "/name")) {
                    set(webhook, "", "failurePolicy", policy);
                }
            }
        }
    }
    if let Some(annotations) = map_at(live, "/metadata/annotations") {
        annotations.remove(HELD);
    }
}

fn webhooks(object: &mut Value) -> impl Iterator<Item = &mut Value> {
    let webhooks = object.get_mut("webhooks").and_then(Value::as_array_mut);
    webhooks.into_iter().flatten()
}

fn set(object: &mut Value, pointer: &str, key: &str, value: Option<Value>) {
    let Some(fields): Option<&mut Map<String, Value>> = map_at(object, pointer) else {
        return;
    };
    match value {
        Some(value) => drop(fields.insert(key.to_owned(), value)),
        None => drop(fields.remove(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holding and letting go gives the object back, whatever the server added meanwhile.
    fn check(id: &str, fields: &Value, held: &Value) {
        let mut object = json!({"metadata": {"name": "x"}});
        object
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let hold = hold(id, &object).expect(id);
        let mut live = object.clone();
        apply(hold, &mut live);
        for (key, value) in held.as_object().unwrap() {
            assert_eq!(&live[key], value, "{id}");
        }
        assert_eq!(live["metadata"]["annotations"][HELD], "true");
        undo(hold, &mut live, &object);
        live["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("annotations");
        assert_eq!(live, object, "{id}");
    }

    #[test]
    fn what_is_held_comes_free_as_it_was() {
        check(
            "cronjobs.batch",
            &json!({"spec": {"schedule": "* * * * *"}}),
            &json!({"spec": {"schedule": "* * * * *", "suspend": true}}),
        );
        check(
            "cronjobs.batch",
            &json!({"spec": {"suspend": false}}),
            &json!({"spec": {"suspend": true}}),
        );
        check(
            "applications.argoproj.io",
            &json!({"spec": {"syncPolicy": {"automated": {"prune": true}, "retry": {}}}}),
            &json!({"spec": {"syncPolicy": {"retry": {}}}}),
        );
        let hook = |name: &str, policy: &str| {
            json!({"name": name, "failurePolicy": policy,
                   "clientConfig": {"service": {"namespace": "n", "name": name}}})
        };
        let outside =
            json!({"name": "out", "failurePolicy": "Fail", "clientConfig": {"url": "https://x"}});
        check(
            "validatingwebhookconfigurations.admissionregistration.k8s.io",
            &json!({"webhooks": [hook("a", "Fail"), hook("b", "Ignore"), outside]}),
            &json!({"webhooks": [hook("a", "Ignore"), hook("b", "Ignore"), outside]}),
        );
    }

    #[test]
    fn what_does_nothing_by_itself_is_not_held() {
        let idle = |id, object: &Value| hold(id, object).is_none();
        assert!(idle("cronjobs.batch", &json!({"spec": {"suspend": true}})));
        assert!(idle(
            "applications.argoproj.io",
            &json!({"spec": {"syncPolicy": {}}})
        ));
        assert!(idle("deployments.apps", &json!({"spec": {}})));
    }
}
