//! Whether what comes back fits the quotas of its namespaces, all of it together.
//!
//! A dry run asks the server about one object at a time, and about pods that a controller makes
//! later nobody asks it at all: sums are made here.
//!
//! Invariant: what the server itself would refuse is an error; pods that would be missing, a
//! warning.

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::finding::Finding;
use refloat_model::plan::Action;
use serde_json::Value;

use super::super::prepare::{Prepared, Wish};
use super::super::situation::Situation;
use super::is_new;
use crate::client::{Api, Call};
use crate::kind::{elements, name, text};
use crate::pod_spec::pod_spec;
use crate::quantity::Quantity;

/// Amounts by the names that quotas have for them.
type Amounts = BTreeMap<String, Quantity>;

/// What is asked of a namespace.
#[derive(Default)]
struct Demand {
    /// By objects that the restore makes.
    direct: Amounts,
    /// By pods and claims that controllers make of them.
    indirect: Amounts,
}

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
    for (space, demand) in demands {
        let mut there = BTreeSet::new();
        if situation.namespaces.contains_key(space) {
            let path = format!("/api/v1/namespaces/{space}/resourcequotas");
            match api.call(&Call::get(path)).await {
                Ok(answer) => {
                    for quota in elements(&answer, "/items") {
                        there.insert(name(quota).to_owned());
                        findings.extend(judge(space, quota, &demand));
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
        findings.extend(coming.flat_map(|p| judge(space, &p.object, &demand)));
    }
    findings
}

fn judge(space: &str, quota: &Value, demand: &Demand) -> Vec<Finding> {
    let subject = format!("resourcequotas/{space}/{}", name(quota));
    let is_scoped = ["/spec/scopes", "/spec/scopeSelector"]
        .iter()
        .any(|field| quota.pointer(field).is_some_and(|v| !v.is_null()));
    if is_scoped {
        let message = "it counts some pods only: whether what comes back fits it is not computed";
        return vec![Finding::note(subject, message)];
    }
    let hard = quota.pointer("/spec/hard").and_then(Value::as_object);
    let amount = |map: &Amounts, key: &str| map.get(key).copied().unwrap_or_default();
    let mut findings = Vec::new();
    for (resource, limit) in hard.into_iter().flatten() {
        let Some(limit) = Quantity::of(limit) else {
            continue;
        };
        let used = quota
            .pointer("/status/used")
            .and_then(|used| used.get(resource));
        let used = used.and_then(Quantity::of).unwrap_or_default();
        let key = canonical(resource);
        let (direct, indirect) = (amount(&demand.direct, key), amount(&demand.indirect, key));
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

impl Demand {
    fn add(&mut self, p: &Prepared) {
        let one = Quantity::whole(1);
        let key = format!("count/{}", p.id);
        add(&mut self.direct, canonical(&key), one);
        match p.id.as_str() {
            "services" => self.service(&p.object),
            "persistentvolumeclaims" => claim(&mut self.direct, &p.object, 1),
            "pods" => pods(&mut self.direct, &p.object, 1),
            _ => self.workload(p),
        }
    }

    fn service(&mut self, object: &Value) {
        let kind = text(object, "/spec/type").unwrap_or_default();
        let has_ports = kind == "NodePort" || kind == "LoadBalancer";
        let ports = elements(object, "/spec/ports")
            .filter(|_| has_ports)
            .count();
        let count = u64::try_from(ports).unwrap_or(u64::MAX);
        add(
            &mut self.direct,
            "services.nodeports",
            Quantity::whole(count),
        );
        let balancers = u64::from(kind == "LoadBalancer");
        add(
            &mut self.direct,
            "services.loadbalancers",
            Quantity::whole(balancers),
        );
    }

    fn workload(&mut self, p: &Prepared) {
        let field = match p.id.as_str() {
            "deployments.apps"
            | "statefulsets.apps"
            | "replicasets.apps"
            | "replicationcontrollers" => "/spec/replicas",
            "jobs.batch" => "/spec/parallelism",
            // How many pods others make, nobody knows beforehand.
            _ => return,
        };
        let count = p.object.pointer(field).and_then(Value::as_u64).unwrap_or(1);
        if count == 0 {
            return;
        }
        add(&mut self.indirect, "pods", Quantity::whole(count));
        pods(&mut self.indirect, &p.object, count);
        for template in elements(&p.object, "/spec/volumeClaimTemplates") {
            add(
                &mut self.indirect,
                "persistentvolumeclaims",
                Quantity::whole(count),
            );
            claim(&mut self.indirect, template, count);
        }
    }
}

/// The storage that a claim asks for, for all and for its class.
fn claim(amounts: &mut Amounts, object: &Value, count: u64) {
    let wanted = object.pointer("/spec/resources/requests/storage");
    let wanted = wanted
        .and_then(Quantity::of)
        .unwrap_or_default()
        .times(count);
    add(amounts, "requests.storage", wanted);
    if let Some(class) = text(object, "/spec/storageClassName") {
        let prefix = format!("{class}.storageclass.storage.k8s.io");
        add(amounts, format!("{prefix}/requests.storage"), wanted);
        add(
            amounts,
            format!("{prefix}/persistentvolumeclaims"),
            Quantity::whole(count),
        );
    }
}

/// What `count` pods ask for. Containers before the start run one by one: the largest counts if it
/// is more than all others together.
fn pods(amounts: &mut Amounts, object: &Value, count: u64) {
    let Some(spec) = pod_spec(object) else {
        return;
    };
    for (section, other) in [("requests", Some("limits")), ("limits", None)] {
        for resource in ["cpu", "memory", "ephemeral-storage"] {
            let of = |container: &Value| {
                let field =
                    |section: &str| container.pointer(&format!("/resources/{section}/{resource}"));
                let value = field(section).or_else(|| field(other?));
                value.and_then(Quantity::of).unwrap_or_default()
            };
            let running: Quantity = elements(spec, "/containers").map(of).sum();
            let before = elements(spec, "/initContainers")
                .map(of)
                .max()
                .unwrap_or_default();
            let key = format!("{section}.{resource}");
            add(amounts, key, running.max(before).times(count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use refloat_model::finding::Severity;
    use serde_json::json;

    fn judged(amounts: Demand, hard: Value, used: Value) -> Vec<(Severity, String)> {
        let quota =
            json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"used": used}});
        let findings = judge("shop", &quota, &amounts).into_iter();
        findings.map(|f| (f.severity, f.message)).collect()
    }

    fn web() -> Demand {
        let mut demand = Demand::default();
        let object = json!({"spec": {"replicas": 3, "template": {"spec": {
            "initContainers": [{"resources": {"limits": {"cpu": "2"}}}],
            "containers": [{"resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}},
                           {"resources": {"limits": {"memory": "512Mi"}}}]}},
            "volumeClaimTemplates": [{"spec": {"storageClassName": "fast",
                "resources": {"requests": {"storage": "10Gi"}}}}]}});
        pods(&mut demand.indirect, &object, 3);
        claim(
            &mut demand.indirect,
            &object["spec"]["volumeClaimTemplates"][0],
            3,
        );
        add(&mut demand.indirect, "pods", Quantity::whole(3));
        add(&mut demand.direct, "configmaps", Quantity::whole(5));
        demand
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_numbers() {
        let few = judged(
            web(),
            json!({"configmaps": "10"}),
            json!({"configmaps": "6"}),
        );
        assert_eq!(few.len(), 1);
        assert_eq!(few[0].0, Severity::Error);
        assert!(
            few[0]
                .1
                .starts_with("it allows configmaps 10; 6 are used and 5 would come")
        );
        assert_eq!(
            judged(
                web(),
                json!({"count/configmaps": "11"}),
                json!({"count/configmaps": 6})
            ),
            []
        );
        // Three pods: 2 cpu each before they start, 1.5 GiB each.
        for (hard, amount) in [
            (json!({"pods": "2"}), "3"),
            (json!({"cpu": "5"}), "6"),
            (json!({"requests.memory": "4Gi"}), "4608Mi"),
            (json!({"limits.memory": "1Gi"}), "1536Mi"),
            (json!({"requests.storage": "20Gi"}), "30Gi"),
            (
                json!({"fast.storageclass.storage.k8s.io/persistentvolumeclaims": "2"}),
                "3",
            ),
        ] {
            let judged = judged(web(), hard.clone(), json!({}));
            assert_eq!(judged.len(), 1, "{hard}");
            assert_eq!(judged[0].0, Severity::Warning);
            assert!(
                judged[0]
                    .1
                    .contains(&format!("0 are used and {amount} would come")),
                "{judged:?}"
            );
        }
        let enough = json!({"pods": 3, "cpu": "6", "requests.memory": "4608Mi", "secrets": "0"});
        assert_eq!(judged(web(), enough, json!({})), []);
    }
}
