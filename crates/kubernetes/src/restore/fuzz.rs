//! F1: whatever a point holds, and whatever a request says, becomes objects or a refusal without a
//! panic, and reaches no path of the API that is not its own.

use refloat_model::plan::{RestorePlan, RestoreRequest};
use refloat_model::tree_path::TreePath;
use refloat_testkit::fuzz::{Target, run};
use serde_json::{Value, json};

use std::collections::{BTreeMap, BTreeSet};

use super::change::Changes;
use super::compare::compare;
use super::mapping::Mapping;
use super::prepare::{Wish, prepare};
use super::selection::Selection;
use super::stored::{Selected, Stored};
use super::transform::Transforms;
use super::unread::Gaps;
use crate::catalogue::Catalogue;
use crate::layout::Folder;
use crate::yaml;

const KINDS: [(&str, &str); 8] = [
    ("", "services"),
    ("", "secrets"),
    ("", "persistentvolumes"),
    ("apps", "deployments"),
    ("batch", "cronjobs"),
    ("networking.k8s.io", "ingresses"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
];

fn catalogue() -> Catalogue {
    let mut all = Catalogue::default();
    for (group, resource) in KINDS {
        let list = json!({"resources": [{"name": resource, "kind": "Thing", "namespaced": true,
                                         "verbs": ["list", "create"]}]});
        all.kinds
            .extend(Catalogue::of_group(group, "v1", &list).kinds);
    }
    all
}

fn objects() -> Vec<Vec<u8>> {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "shop",
        "finalizers": ["x"], "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}},
        "spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80, "nodePort": 30_000}]}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "a", "namespace": "shop", "ownerReferences": [{"kind": "X", "name": "y", "uid": "z"}]},
        "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "c", "image": "old/i"}],
            "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["shop"]}]}}}},
            "volumeClaimTemplates": [{"spec": {"storageClassName": "fast"}}]}});
    let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "a", "namespace": "shop"},
        "spec": {"backend": {"serviceName": "x", "servicePort": 80}, "rules": [{"host": "h", "http": {"paths":
            [{"path": "/", "backend": {"serviceName": "x", "servicePort": "http"}}]}}], "tls": [{"hosts": ["h"]}]}});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "a", "namespace": "shop"}, "subjects": [{"kind": "User", "name": "system:serviceaccount:shop:web"}]});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1beta1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "a.b"}, "spec": {"group": "b", "names": {"plural": "a"}, "version": "v1",
            "validation": {"openAPIV3Schema": {}}, "preserveUnknownFields": true,
            "versions": [{"name": "v1", "served": true, "storage": true}]}});
    let all = [service, deployment, ingress, binding, definition];
    all.iter().map(|o| yaml::write(o).into_bytes()).collect()
}

fn request() -> RestoreRequest {
    let pairs = [
        ("namespace:shop", "copy"),
        ("image:old/", "new/"),
        ("host:h", "i"),
        ("storage-class:fast", "slow"),
        ("label:a:b", "c"),
    ];
    RestoreRequest {
        rename: pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).into(),
        leave_stopped: true,
        ..RestoreRequest::default()
    }
}

/// One object on its way back, as each of several kinds.
fn prepared(object: &Value, changes: &Changes, catalogue: &Catalogue) {
    for (group, resource) in KINDS {
        let stored = Stored {
            folder: Folder {
                group: group.into(),
                version: "v1".into(),
                resource: resource.into(),
                namespace: Some("shop".into()),
            },
            path: TreePath::parse("/a.yaml").unwrap(),
            object: object.clone(),
            server: Some(json!({"status": object.get("spec")})),
            is_server_lost: false,
        };
        let selected = Selected {
            objects: vec![stored],
            named: BTreeSet::new(),
            namespaces: BTreeSet::new(),
            companions: BTreeSet::new(),
            fields: BTreeMap::new(),
            gaps: Gaps::default(),
        };
        for p in prepare(selected, &request(), changes, catalogue) {
            let _likeness = compare(&p, object);
            if p.wish == Wish::Wanted {
                let path = p.object_path();
                let is_plain =
                    !path.contains("/../") && !path.contains("//") && !path.ends_with('/');
                assert!(is_plain, "{path}");
                assert_eq!(
                    path.matches('/').count(),
                    p.list_path().matches('/').count() + 1,
                    "{path}"
                );
            }
        }
    }
}

#[test]
fn no_point_and_no_request_makes_a_restore_panic() {
    let catalogue = catalogue();
    let changes = Changes::parse(&request()).unwrap();
    let plan = json!({"target": "https://a", "state": "00", "findings": [{"severity": "note", "subject": "a", "message": "b"}],
        "steps": [{"kind": "object", "name": "secrets/a/b", "path": "/kubernetes/p", "workload": null,
                   "action": "rename", "to": "secrets/c/b", "bytes": null}]});
    let rules = "- when: {kinds: [deployments.*], labels: {a: b}, fields: {/spec/replicas: 2}, expression: 'name == \"a\"'}
  merge: {spec: {replicas: 1}, metadata: {labels: null}}
- patch: [{op: add, path: /spec/x, value: 1}, {op: move, from: /spec/x, path: /spec/y}, {op: test, path: /kind, value: Service}]
";
    let object: Value = serde_json::from_str(
        r#"{"apiVersion": "apps/v1", "kind": "Service", "metadata": {"name": "a",
        "labels": {"a": "b"}}, "spec": {"replicas": 2}}"#,
    )
    .unwrap();
    let targets = [
        Target::new("object on its way back", objects(), |bytes| {
            if let Ok(object) = yaml::read(bytes) {
                prepared(&object, &changes, &catalogue);
            }
        }),
        Target::text("transforms and patches", [rules], |text| {
            if let Ok(transforms) = Transforms::parse(&[text.to_owned()]) {
                let mut changed = object.clone();
                if transforms.apply("deployments.apps", &mut changed).is_ok() {
                    assert_eq!(changed["kind"], object["kind"]);
                }
            }
        }),
        Target::new("plan file", [serde_json::to_vec(&plan).unwrap()], |bytes| {
            if let Ok(plan) = serde_json::from_slice::<RestorePlan>(bytes) {
                let text = serde_json::to_string(&plan).unwrap();
                assert_eq!(serde_json::from_str::<RestorePlan>(&text).unwrap(), plan);
            }
        }),
        Target::text(
            "new name",
            ["namespace:a", "label:k/x:v", "node:n"],
            |text| {
                let request = RestoreRequest {
                    rename: vec![(text.to_owned(), "b".to_owned())],
                    ..RestoreRequest::default()
                };
                if let Ok(mapping) = Mapping::parse(&request) {
                    mapping.apply("deployments.apps", &mut object.clone());
                }
            },
        ),
        Target::text(
            "selection",
            ["field:a/b/c:/spec/x", "where:kind == 'a'", "shop/web"],
            |text| {
                let _selection = Selection::parse(&[text.to_owned()]);
            },
        ),
    ];
    run("F1 Kubernetes, restoring", &targets);
}
