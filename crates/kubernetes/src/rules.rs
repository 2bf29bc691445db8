//! What is never saved, each by a rule with a name.
//!
//! Rules look at metadata only (of Secrets nothing else is read before they are captured).
//!
//! Invariant: an object that no rule names is saved.

mod flow_control;
mod openshift;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::kind::{Kind, annotation, controller, label, name, namespace};

/// Why something is not saved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Rule {
    /// The stable word for reports.
    pub(crate) word: &'static str,
    /// For people.
    pub(crate) why: &'static str,
}

const fn rule(word: &'static str, why: &'static str) -> Rule {
    Rule { word, why }
}

const OWNED: Rule = rule("owned", "a controller makes it again from what is saved");
const GENERATED: Rule = rule("generated", "the cluster makes it by itself");
const TOKEN: Rule = rule(
    "token",
    "a token that this cluster issued is worth nothing elsewhere",
);
const SELECTED: Rule = rule(
    "selected-endpoints",
    "a controller finds the endpoints of a service with a selector",
);

/// Kinds that are left out as a whole.
const KINDS: [(&str, Rule); 12] = [
    ("events", rule("events", "events are a log, not a state")),
    (
        "events.events.k8s.io",
        rule("events", "events are a log, not a state"),
    ),
    (
        "leases.coordination.k8s.io",
        rule("leases", "a lease belongs to a running process"),
    ),
    (
        "csinodes.storage.k8s.io",
        rule("node-state", "the node's driver makes it"),
    ),
    (
        "csistoragecapacities.storage.k8s.io",
        rule("node-state", "the storage driver makes it"),
    ),
    (
        "volumeattachments.storage.k8s.io",
        rule("node-state", "the cluster attaches volumes"),
    ),
    (
        "certificatesigningrequests.certificates.k8s.io",
        rule("requests", "a request that was answered"),
    ),
    (
        "certificaterequests.cert-manager.io",
        rule("requests", "asking again would issue twice"),
    ),
    (
        "orders.acme.cert-manager.io",
        rule("requests", "asking again would issue twice"),
    ),
    (
        "challenges.acme.cert-manager.io",
        rule("requests", "asking again would issue twice"),
    ),
    ("ipaddresses.networking.k8s.io", GENERATED),
    (
        "ingresses.extensions",
        rule("duplicate", "the same objects are in networking.k8s.io"),
    ),
];

/// The rule for a whole kind.
pub(crate) fn kind_rule(kind: &Kind) -> Option<Rule> {
    let id = kind.id();
    if let Some((_, rule)) = KINDS.iter().find(|(name, _)| *name == id) {
        return Some(*rule);
    }
    if let Some(rule) = openshift::kind_rule(&id) {
        return Some(rule);
    }
    if !kind.can("create") {
        return Some(rule("view", "it is computed when asked for, not stored"));
    }
    None
}

/// What rules must know beside the object.
#[derive(Default)]
pub(crate) struct Surroundings {
    /// Services with a selector, as namespace and name.
    pub(crate) selecting_services: BTreeSet<(String, String)>,
}

/// Kinds whose objects controllers own as a matter of course.
const OWNED_KINDS: [&str; 7] = [
    "pods",
    "replicationcontrollers",
    "replicasets.apps",
    "controllerrevisions.apps",
    "jobs.batch",
    "endpointslices.discovery.k8s.io",
    "builds.build.openshift.io",
];

/// ConfigMaps that every namespace gets.
pub(crate) const GENERATED_CONFIG: [&str; 3] = [
    "kube-root-ca.crt",
    "openshift-service-ca.crt",
    "istio-ca-root-cert",
];

/// The rule for one object of a kind that is saved.
pub(crate) fn object_rule(kind: &Kind, object: &Value, around: &Surroundings) -> Option<Rule> {
    match kind.id().as_str() {
        id if OWNED_KINDS.contains(&id) && controller(object).is_some() => Some(OWNED),
        "pods" if openshift::is_deployer(object) => Some(OWNED),
        "pods" if annotation(object, "kubernetes.io/config.mirror").is_some() => {
            Some(rule("mirror-pod", "the node makes it from a file"))
        }
        "configmaps" if GENERATED_CONFIG.contains(&name(object)) => Some(GENERATED),
        "secrets" => secret_rule(object),
        "endpoints" => is_selected(object, around).then_some(SELECTED),
        "endpointslices.discovery.k8s.io" => {
            label(object, "endpointslice.kubernetes.io/managed-by")
                .filter(|by| by.ends_with("controller.k8s.io"))
                .map(|_| SELECTED)
        }
        "flowschemas.flowcontrol.apiserver.k8s.io"
        | "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io" => {
            flow_control::is_of_server(object).then_some(GENERATED)
        }
        "apiservices.apiregistration.k8s.io" => {
            label(object, "kube-aggregator.kubernetes.io/automanaged").map(|_| GENERATED)
        }
        _ => None,
    }
}

fn is_selected(object: &Value, around: &Surroundings) -> bool {
    let key = (
        namespace(object).unwrap_or_default().to_owned(),
        name(object).to_owned(),
    );
    around.selecting_services.contains(&key)
        || annotation(object, "endpoints.kubernetes.io/last-change-trigger-time").is_some()
        // The API server's own address.
        || (key.0 == "default" && key.1 == "kubernetes")
}

fn secret_rule(object: &Value) -> Option<Rule> {
    if let Some(account) = annotation(object, "kubernetes.io/service-account.name")
        && is_issued_name(name(object), account)
    {
        return Some(TOKEN);
    }
    openshift::is_issued(object).then_some(TOKEN)
}

/// `web-token-x7k2p`: how the cluster calls the tokens it makes without being asked.
pub(crate) fn is_issued_name(name: &str, account: &str) -> bool {
    let suffix = name
        .strip_prefix(account)
        .and_then(|rest| rest.strip_prefix("-token-"));
    suffix.is_some_and(|s| s.len() == 5 && s.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// `web-dockercfg-x7k2p`: how OpenShift calls the pull secrets that it issues to an account.
pub(crate) fn is_issued_pull_secret(name: &str, account: &str) -> bool {
    let rest = name.strip_prefix(account);
    rest.is_some_and(|rest| rest.starts_with("-dockercfg-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kind(id: &str, verbs: &[&str]) -> Kind {
        let (resource, group) = id.split_once('.').unwrap_or((id, ""));
        Kind {
            group: group.into(),
            version: "v1".into(),
            resource: resource.into(),
            kind: String::new(),
            namespaced: true,
            verbs: verbs.iter().map(|v| (*v).to_owned()).collect(),
        }
    }

    #[test]
    fn kinds_that_are_left_out() {
        let word = |id, verbs: &[&str]| kind_rule(&kind(id, verbs)).map(|r| r.word);
        assert_eq!(word("events", &["list", "create"]), Some("events"));
        assert_eq!(word("pods.metrics.k8s.io", &["list", "get"]), Some("view"));
        assert_eq!(word("componentstatuses", &["list", "get"]), Some("view"));
        for (id, expected) in [
            ("projects.project.openshift.io", Some("duplicate")),
            ("rolebindings.authorization.openshift.io", Some("duplicate")),
            ("imagestreamtags.image.openshift.io", Some("duplicate")),
            ("oauthaccesstokens.oauth.openshift.io", Some("token")),
            ("imagestreams.image.openshift.io", None),
            ("routes.route.openshift.io", None),
        ] {
            assert_eq!(word(id, &["list", "create"]), expected, "{id}");
        }
        assert_eq!(word("secrets", &["list", "create"]), None);
    }

    #[test]
    fn objects_that_are_left_out() {
        let around = Surroundings {
            selecting_services: [("shop".into(), "web".into())].into(),
        };
        let owned = json!({"name": "a", "ownerReferences":
                           [{"kind": "ReplicaSet", "name": "x", "controller": true}]});
        let friend = json!({"name": "a", "ownerReferences": [{"kind": "Shop", "name": "x"}]});
        let token = |name: &str| json!({"name": name, "annotations": {"kubernetes.io/service-account.name": "web"}});
        let managed = json!({"name": "a", "labels": {
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}});
        let mirror = json!({"name": "a", "annotations": {"kubernetes.io/config.mirror": "1"}});
        let automanaged = json!({"name": "v1.", "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}});
        let named = |name: &str| json!({"name": name, "namespace": "shop"});
        let cases = [
            ("pods", owned.clone(), Some("owned")),
            ("pods", friend.clone(), None),
            ("pods", named("naked"), None),
            ("pods", mirror, Some("mirror-pod")),
            ("replicasets.apps", owned.clone(), Some("owned")),
            ("jobs.batch", owned.clone(), Some("owned")),
            // What an operator owns is not always made again as it was.
            ("secrets", owned, None),
            ("secrets", token("web-token-x7k2p"), Some("token")),
            ("secrets", token("web-token-made-by-hand"), None),
            (
                "secrets",
                json!({"name": "web-dockercfg-x7k2p", "annotations": {
                    "openshift.io/internal-registry-auth-token.service-account": "web"}}),
                Some("token"),
            ),
            (
                "pods",
                json!({"name": "web-1-deploy", "labels": {
                    "openshift.io/deployer-pod-for.name": "web-1"}}),
                Some("owned"),
            ),
            ("secrets", named("db"), None),
            ("configmaps", named("kube-root-ca.crt"), Some("generated")),
            ("configmaps", named("settings"), None),
            ("endpoints", named("web"), Some("selected-endpoints")),
            ("endpoints", named("external-db"), None),
            (
                "endpointslices.discovery.k8s.io",
                managed,
                Some("selected-endpoints"),
            ),
            ("endpointslices.discovery.k8s.io", named("by-hand"), None),
            (
                "apiservices.apiregistration.k8s.io",
                automanaged,
                Some("generated"),
            ),
        ];
        for (id, metadata, expected) in cases {
            let object = json!({ "metadata": metadata });
            let rule = object_rule(&kind(id, &[]), &object, &around);
            assert_eq!(rule.map(|r| r.word), expected, "{id} {object}");
        }
    }

    #[test]
    fn flow_schemas_that_people_made_or_took_over_are_saved() {
        let rule = |metadata: Value| {
            let object = json!({ "metadata": metadata });
            let kind = kind("flowschemas.flowcontrol.apiserver.k8s.io", &[]);
            object_rule(&kind, &object, &Surroundings::default()).map(|rule| rule.word)
        };
        let updated = |by: &str| json!({"name": "exempt", "annotations": {"apf.kubernetes.io/autoupdate-spec": by}});
        assert_eq!(rule(updated("true")), Some("generated"));
        assert_eq!(rule(updated("false")), None);
        // Before the server wrote it down.
        assert_eq!(rule(json!({"name": "exempt"})), Some("generated"));
        assert_eq!(rule(json!({"name": "team-a"})), None);
    }
}
