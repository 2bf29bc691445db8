//! New names for namespaces, storage classes, images and hosts (P16, P18).
//!
//! Invariant: a name is replaced where its field says what it names, never inside other text.

mod labels;

use refloat_model::plan::RestoreRequest;
use serde_json::Value;

use labels::LabelRename;

use super::sanitise::{map_at, remove};
use crate::pod_spec::{containers_mut, pod_spec_mut};

/// What is renamed, as `(old, new)`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Mapping {
    namespaces: Vec<(String, String)>,
    storage_classes: Vec<(String, String)>,
    /// Beginnings of image names.
    images: Vec<(String, String)>,
    /// Hosts of ingresses and routes, whole.
    hosts: Vec<(String, String)>,
    ingress_classes: Vec<(String, String)>,
    labels: Vec<LabelRename>,
}

/// What can be renamed.
pub(super) const KINDS: [&str; 7] = [
    "namespace:NAME",
    "storage-class:NAME",
    "image:BEGINNING",
    "host:NAME",
    "ingress-class:NAME",
    "node:NAME",
    "label:KEY:VALUE",
];

/// The label by which objects mean a node.
const NODE: &str = "kubernetes.io/hostname";

impl Mapping {
    /// Reads `namespace:old` → `new` and the like; the text that is none is the error.
    pub(super) fn parse(request: &RestoreRequest) -> Result<Self, String> {
        let mut mapping = Self::default();
        for (from, to) in &request.rename {
            let (kind, old) = from.split_once(':').ok_or_else(|| from.clone())?;
            let list = match kind {
                "namespace" => &mut mapping.namespaces,
                "storage-class" => &mut mapping.storage_classes,
                "image" => &mut mapping.images,
                "host" => &mut mapping.hosts,
                "ingress-class" => &mut mapping.ingress_classes,
                "node" | "label" => {
                    let old = if kind == "node" {
                        format!("{NODE}:{old}")
                    } else {
                        old.to_owned()
                    };
                    let rename = LabelRename::parse(&old, to).ok_or_else(|| from.clone())?;
                    mapping.labels.push(rename);
                    continue;
                }
                _ => return Err(from.clone()),
            };
            list.push((old.to_owned(), to.clone()));
        }
        Ok(mapping)
    }

    /// Renames everything in an object of the kind `id`.
    pub(super) fn apply(&self, id: &str, object: &mut Value) {
        let before = object.clone();
        if id == "namespaces" {
            self.space(object.pointer_mut("/metadata/name"));
        }
        self.space(object.pointer_mut("/metadata/namespace"));
        match id {
            "persistentvolumes" => {
                self.space(object.pointer_mut("/spec/claimRef/namespace"));
                self.class(object.pointer_mut("/spec/storageClassName"));
            }
            "volumesnapshotcontents.snapshot.storage.k8s.io" => {
                self.space(object.pointer_mut("/spec/volumeSnapshotRef/namespace"));
            }
            "persistentvolumeclaims" => self.class(object.pointer_mut("/spec/storageClassName")),
            "apiservices.apiregistration.k8s.io" => {
                self.space(object.pointer_mut("/spec/service/namespace"));
            }
            "ingresses.networking.k8s.io" => self.ingress(object),
            "routes.route.openshift.io" => self.host(object.pointer_mut("/spec/host")),
            "httproutes.gateway.networking.k8s.io" => {
                for host in list(object.pointer_mut("/spec/hostnames")) {
                    self.host(Some(host));
                }
            }
            "networkpolicies.networking.k8s.io" => self.network_policy(object),
            id if id.ends_with("bindings.rbac.authorization.k8s.io") => self.subjects(object),
            _ => {}
        }
        self.space(object.pointer_mut("/spec/conversion/webhook/clientConfig/service/namespace"));
        for webhook in list(object.get_mut("webhooks")) {
            self.space(webhook.pointer_mut("/clientConfig/service/namespace"));
            self.selector(webhook.get_mut("namespaceSelector"));
        }
        for claim in list(object.pointer_mut("/spec/volumeClaimTemplates")) {
            self.class(claim.pointer_mut("/spec/storageClassName"));
        }
        self.pods(object);
        labels::rename(&self.labels, object);
        if *object != before {
            // It says what was applied elsewhere; the next kubectl apply writes its own.
            let key = "kubectl.kubernetes.io/last-applied-configuration";
            remove(object, "/metadata/annotations", &[key]);
            if map_at(object, "/metadata/annotations").is_some_and(|all| all.is_empty()) {
                remove(object, "/metadata", &["annotations"]);
            }
        }
    }

    fn space(&self, field: Option<&mut Value>) {
        replace(field, |name| {
            exact(&self.namespaces, name).map(str::to_owned)
        });
    }

    fn class(&self, field: Option<&mut Value>) {
        replace(field, |name| {
            exact(&self.storage_classes, name).map(str::to_owned)
        });
    }

    fn host(&self, field: Option<&mut Value>) {
        replace(field, |name| exact(&self.hosts, name).map(str::to_owned));
    }

    fn ingress(&self, object: &mut Value) {
        let class = |name: &str| exact(&self.ingress_classes, name).map(str::to_owned);
        replace(object.pointer_mut("/spec/ingressClassName"), class);
        if let Some(annotations) = map_at(object, "/metadata/annotations") {
            replace(annotations.get_mut("kubernetes.io/ingress.class"), class);
        }
        for rule in list(object.pointer_mut("/spec/rules")) {
            self.host(rule.get_mut("host"));
        }
        for tls in list(object.pointer_mut("/spec/tls")) {
            for host in list(tls.get_mut("hosts")) {
                self.host(Some(host));
            }
        }
    }

    /// Service accounts are named in three ways.
    fn subjects(&self, object: &mut Value) {
        for subject in list(object.get_mut("subjects")) {
            self.space(subject.get_mut("namespace"));
            replace(subject.get_mut("name"), |name| {
                if let Some(space) = name.strip_prefix("system:serviceaccounts:") {
                    let space = exact(&self.namespaces, space)?;
                    return Some(format!("system:serviceaccounts:{space}"));
                }
                let rest = name.strip_prefix("system:serviceaccount:")?;
                let (space, account) = rest.split_once(':')?;
                let space = exact(&self.namespaces, space)?;
                Some(format!("system:serviceaccount:{space}:{account}"))
            });
        }
    }

    fn network_policy(&self, object: &mut Value) {
        for (rules, peers) in [("/spec/ingress", "from"), ("/spec/egress", "to")] {
            for rule in list(object.pointer_mut(rules)) {
                for peer in list(rule.get_mut(peers)) {
                    self.selector(peer.get_mut("namespaceSelector"));
                }
            }
        }
    }

    /// Selectors that mean a namespace by its name.
    fn selector(&self, selector: Option<&mut Value>) {
        const NAME: &str = "kubernetes.io/metadata.name";
        let Some(selector) = selector else {
            return;
        };
        if let Some(labels) = map_at(selector, "/matchLabels") {
            self.space(labels.get_mut(NAME));
        }
        for expression in list(selector.get_mut("matchExpressions")) {
            if expression.get("key").and_then(Value::as_str) == Some(NAME) {
                for value in list(expression.get_mut("values")) {
                    self.space(Some(value));
                }
            }
        }
    }

    fn pods(&self, object: &mut Value) {
        let Some(spec) = pod_spec_mut(object) else {
            return;
        };
        for container in containers_mut(spec) {
            replace(container.get_mut("image"), |image| {
                self.images.iter().find_map(|(old, new)| {
                    let rest = image.strip_prefix(old.as_str())?;
                    Some(format!("{new}{rest}"))
                })
            });
        }
        for affinity in ["podAffinity", "podAntiAffinity"] {
            let required =
                format!("/affinity/{affinity}/requiredDuringSchedulingIgnoredDuringExecution");
            for term in list(spec.pointer_mut(&required)) {
                for space in list(term.get_mut("namespaces")) {
                    self.space(Some(space));
                }
            }
            let preferred =
                format!("/affinity/{affinity}/preferredDuringSchedulingIgnoredDuringExecution");
            for term in list(spec.pointer_mut(&preferred)) {
                for space in list(term.pointer_mut("/podAffinityTerm/namespaces")) {
                    self.space(Some(space));
                }
            }
        }
    }
}

fn exact<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let pair = pairs.iter().find(|(old, _)| old == name)?;
    Some(&pair.1)
}

fn replace(field: Option<&mut Value>, new: impl Fn(&str) -> Option<String>) {
    if let Some(field) = field
        && let Some(text) = field.as_str().and_then(new)
    {
        *field = text.into();
    }
}

fn list(value: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    value.and_then(Value::as_array_mut).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mapping() -> Mapping {
        let pairs = [
            ("namespace:shop", "copy"),
            ("storage-class:fast", "slow"),
            ("image:registry.old/", "registry.new/"),
            ("host:shop.example.org", "copy.example.org"),
        ];
        let rename = pairs.map(|(from, to)| (from.to_owned(), to.to_owned()));
        Mapping::parse(&RestoreRequest {
            rename: rename.into(),
            ..RestoreRequest::default()
        })
        .unwrap()
    }

    fn check(id: &str, mut object: Value, expected: &Value) {
        mapping().apply(id, &mut object);
        assert_eq!(&object, expected, "{id}");
    }

    #[test]
    fn p16_every_way_to_name_a_namespace_is_renamed() {
        check(
            "rolebindings.rbac.authorization.k8s.io",
            json!({"metadata": {"namespace": "shop"}, "subjects": [
                {"kind": "ServiceAccount", "name": "shop", "namespace": "shop"},
                {"kind": "ServiceAccount", "name": "x", "namespace": "other"},
                {"kind": "User", "name": "system:serviceaccount:shop:web"},
                {"kind": "Group", "name": "system:serviceaccounts:shop"}]}),
            &json!({"metadata": {"namespace": "copy"}, "subjects": [
                {"kind": "ServiceAccount", "name": "shop", "namespace": "copy"},
                {"kind": "ServiceAccount", "name": "x", "namespace": "other"},
                {"kind": "User", "name": "system:serviceaccount:copy:web"},
                {"kind": "Group", "name": "system:serviceaccounts:copy"}]}),
        );
        let by_name = |name: &str| json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
        let policy = |name: &str| {
            json!({"metadata": {"namespace": name}, "spec": {"ingress": [
            {"from": [{"namespaceSelector": by_name(name)}]}]}})
        };
        check(
            "networkpolicies.networking.k8s.io",
            policy("shop"),
            &policy("copy"),
        );
        let hooks = |name: &str| {
            json!({"webhooks": [{"namespaceSelector": by_name(name),
            "clientConfig": {"service": {"namespace": name, "name": "shop"}}}]})
        };
        check(
            "mutatingwebhookconfigurations.admissionregistration.k8s.io",
            hooks("shop"),
            &hooks("copy"),
        );
        let volume = |name: &str| json!({"spec": {"claimRef": {"namespace": name}}});
        check("persistentvolumes", volume("shop"), &volume("copy"));
        let space = |name: &str| json!({"metadata": {"name": name}});
        check("namespaces", space("shop"), &space("copy"));
        check("configmaps", space("shop"), &space("shop"));
    }

    #[test]
    fn p18_classes_images_and_hosts_are_renamed() {
        let set = |image: &str, class: &str, space: &str| {
            json!({"spec": {
            "template": {"spec": {"containers": [{"image": image}], "initContainers": [{"image": image}],
                "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                    [{"namespaces": [space]}]}}}},
            "volumeClaimTemplates": [{"spec": {"storageClassName": class}}]}})
        };
        check(
            "statefulsets.apps",
            set("registry.old/a:1", "fast", "shop"),
            &set("registry.new/a:1", "slow", "copy"),
        );
        let ingress =
            |host: &str| json!({"spec": {"rules": [{"host": host}], "tls": [{"hosts": [host]}]}});
        check(
            "ingresses.networking.k8s.io",
            ingress("shop.example.org"),
            &ingress("copy.example.org"),
        );
    }

    #[test]
    fn what_kubectl_applied_elsewhere_goes_with_a_rename() {
        let key = "kubectl.kubernetes.io/last-applied-configuration";
        let object =
            |space: &str| json!({"metadata": {"namespace": space, "annotations": {key: "{}"}}});
        check("configmaps", object("other"), &object("other"));
        check(
            "configmaps",
            object("shop"),
            &json!({"metadata": {"namespace": "copy"}}),
        );
    }

    #[test]
    fn unknown_kinds_of_names_are_refused() {
        let request = RestoreRequest {
            rename: vec![("volume:a".into(), "b".into())],
            ..RestoreRequest::default()
        };
        assert_eq!(Mapping::parse(&request), Err("volume:a".to_owned()));
    }
}
