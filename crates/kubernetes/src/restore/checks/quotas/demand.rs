//! What a restore asks of a namespace, in the names that quotas have for it.
//!
//! Invariant: pods are counted apart from all else, because some quotas count some pods only.

use serde_json::Value;

use super::super::super::prepare::Prepared;
use super::scope::{Scope, Traits};
use super::{Amounts, add, canonical};
use crate::kind::{elements, text};
use crate::pod_spec::pod_spec;
use crate::quantity::Quantity;

/// See the module.
#[derive(Default)]
pub(super) struct Demand {
    /// By objects that the restore makes.
    pub(super) direct: Amounts,
    /// By claims that controllers make of them.
    pub(super) indirect: Amounts,
    pub(super) pods: Vec<Pods>,
    /// Whether a LimitRange may give pods what they do not ask for.
    pub(super) has_limit_range: bool,
    /// Whether the priority class of pods that name none could not be told.
    pub(super) is_priority_hidden: bool,
}

/// Pods that are alike.
pub(super) struct Pods {
    pub(super) traits: Traits,
    pub(super) amounts: Amounts,
    pub(super) made: Made,
}

/// Who makes pods.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    ByRestore,
    ByController,
}

impl Demand {
    /// What a quota of this scope counts: what the restore makes, and what controllers make of it.
    pub(super) fn counted(&self, scope: &Scope) -> (Amounts, Amounts) {
        let (mut direct, mut indirect) = match scope {
            Scope::All => (self.direct.clone(), self.indirect.clone()),
            Scope::Pods(_) => (Amounts::new(), Amounts::new()),
        };
        for pods in &self.pods {
            let is_counted = match scope {
                Scope::All => true,
                Scope::Pods(all) => all.iter().all(|condition| condition.fits(&pods.traits)),
            };
            let sum = match pods.made {
                Made::ByRestore => &mut direct,
                Made::ByController => &mut indirect,
            };
            for (key, amount) in pods.amounts.iter().filter(|_| is_counted) {
                add(sum, key.clone(), *amount);
            }
        }
        (direct, indirect)
    }

    /// Why it cannot be told which pods a quota of this scope counts, if so.
    pub(super) fn unsure(&self, scope: &Scope) -> Option<&'static str> {
        if self.has_limit_range && scope.asks_for_effort() {
            return Some("a LimitRange may give pods what they do not ask for themselves");
        }
        let is_hidden = self.is_priority_hidden && scope.asks_for_priority();
        is_hidden.then_some("the cluster's priority classes cannot be listed")
    }

    /// Pods that name no priority class get this one.
    pub(super) fn take_priority(&mut self, default: Option<&str>) {
        for pods in &mut self.pods {
            let priority = pods.traits.priority.take();
            pods.traits.priority = priority.or_else(|| default.map(str::to_owned));
        }
    }

    pub(super) fn add(&mut self, p: &Prepared) {
        let one = Quantity::whole(1);
        match p.id.as_str() {
            "pods" => return self.pods.extend(Pods::of(&p.object, 1, Made::ByRestore)),
            "services" => self.service(&p.object),
            "persistentvolumeclaims" => claim(&mut self.direct, &p.object, 1),
            _ => self.workload(p),
        }
        let key = format!("count/{}", p.id);
        add(&mut self.direct, canonical(&key), one);
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
            | "replicationcontrollers"
            | "deploymentconfigs.apps.openshift.io" => "/spec/replicas",
            "jobs.batch" => "/spec/parallelism",
            // How many pods others make, nobody knows beforehand.
            _ => return,
        };
        let count = p.object.pointer(field).and_then(Value::as_u64).unwrap_or(1);
        if count == 0 {
            return;
        }
        self.pods
            .extend(Pods::of(&p.object, count, Made::ByController));
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
pub(super) fn claim(amounts: &mut Amounts, object: &Value, count: u64) {
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

impl Pods {
    /// `count` pods of an object. Containers before the start run one by one: the largest counts if
    /// it is more than all others together.
    pub(super) fn of(object: &Value, count: u64, made: Made) -> Option<Self> {
        let spec = pod_spec(object)?;
        let mut amounts = Amounts::from([("pods".to_owned(), Quantity::whole(count))]);
        for (section, other) in [("requests", Some("limits")), ("limits", None)] {
            for resource in ["cpu", "memory", "ephemeral-storage"] {
                let of = |container: &Value| {
                    let field = |section: &str| {
                        container.pointer(&format!("/resources/{section}/{resource}"))
                    };
                    let value = field(section).or_else(|| field(other?));
                    value.and_then(Quantity::of).unwrap_or_default()
                };
                let running: Quantity = elements(spec, "/containers").map(of).sum();
                let before = elements(spec, "/initContainers")
                    .map(of)
                    .max()
                    .unwrap_or_default();
                let key = format!("{section}.{resource}");
                add(&mut amounts, key, running.max(before).times(count));
            }
        }
        Some(Self {
            traits: Traits::of(spec),
            amounts,
            made,
        })
    }
}
