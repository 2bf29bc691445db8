//! OpenShift's kinds, served as definitions of our own: what is captured of them, what they need, and
//! how they come back. No controller of OpenShift runs here: what its controllers write is put in by
//! hand.
//!
//! Invariant: what a point holds of an application is checked as a whole, not by example.

use refloat_kubernetes::KubernetesTarget;
use refloat_model::cancel::Cancel;
use refloat_model::item::Inventory;
use refloat_model::plan::{Action, RestorePlan, RestoreRequest};
use refloat_model::progress::Silent;
use refloat_source::Target as _;
use serde_json::{Value, json};

use crate::bed::{Adapter as _, Cluster, clusters, globs, wait_for};
use crate::memory::MemoryPoint;

/// Group, plural, kind, whether it is in namespaces.
const KINDS: [(&str, &str, &str, &str); 7] = [
    ("route.openshift.io", "routes", "Route", "Namespaced"),
    (
        "apps.openshift.io",
        "deploymentconfigs",
        "DeploymentConfig",
        "Namespaced",
    ),
    (
        "build.openshift.io",
        "buildconfigs",
        "BuildConfig",
        "Namespaced",
    ),
    ("build.openshift.io", "builds", "Build", "Namespaced"),
    (
        "image.openshift.io",
        "imagestreams",
        "ImageStream",
        "Namespaced",
    ),
    ("project.openshift.io", "projects", "Project", "Cluster"),
    (
        "security.openshift.io",
        "securitycontextconstraints",
        "SecurityContextConstraints",
        "Cluster",
    ),
];
const CONSTRAINTS: &str = "securitycontextconstraints.security.openshift.io";

fn define(cluster: &Cluster) {
    for (group, plural, kind, scope) in KINDS {
        let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {"group": group, "scope": scope,
                "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind},
                "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
        cluster.apply_server_side(&definition.to_string());
    }
    wait_for("OpenShift's kinds are served", || {
        let served = cluster.kubectl(&["api-resources"], "");
        KINDS.iter().all(|(_, plural, ..)| served.contains(plural))
    });
}

fn object(version: &str, kind: &str, name: &str, more: Value) -> Value {
    let mut object = json!({"apiVersion": version, "kind": kind,
        "metadata": {"name": name, "namespace": "oc-shop"}});
    for (key, value) in more.as_object().unwrap() {
        match key.as_str() {
            "annotations" | "labels" | "ownerReferences" => object["metadata"][key] = value.clone(),
            _ => object[key] = value.clone(),
        }
    }
    object
}

fn owner(version: &str, object: &Value) -> Value {
    json!([{"apiVersion": version, "kind": object["kind"], "name": object["metadata"]["name"],
        "uid": object["metadata"]["uid"], "controller": true}])
}

/// An application as `oc new-app` and the controllers behind it leave it.
fn install(cluster: &Cluster) {
    define(cluster);
    let make = |object: &Value| cluster.apply_server_side(&object.to_string());
    cluster.kubectl(&["create", "namespace", "oc-shop"], "");
    let outside = |version: &str, kind: &str, name: &str| json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
    make(&outside("project.openshift.io/v1", "Project", "oc-shop"));
    let mut constraints = outside(
        "security.openshift.io/v1",
        "SecurityContextConstraints",
        "oc-anyuid",
    );
    constraints["users"] = json!(["system:serviceaccount:oc-shop:web"]);
    make(&constraints);
    let issued = "openshift.io/internal-registry-auth-token.service-account";
    make(&object(
        "v1",
        "Secret",
        "web-dockercfg-x7k2p",
        json!({"annotations": {issued: "web"},
        "type": "kubernetes.io/dockercfg", "data": {".dockercfg": "e30="}}),
    ));
    make(&object(
        "v1",
        "Secret",
        "push",
        json!({"type": "kubernetes.io/dockercfg",
        "data": {".dockercfg": "e30="}}),
    ));
    make(&object(
        "v1",
        "ServiceAccount",
        "web",
        json!({
        "imagePullSecrets": [{"name": "web-dockercfg-x7k2p"}, {"name": "push"}]}),
    ));
    make(&object(
        "image.openshift.io/v1",
        "ImageStream",
        "web",
        json!({
        "spec": {"tags": [{"name": "1", "from": {"kind": "DockerImage", "name": "registry.local/web:1"}}]},
        "status": {"dockerImageRepository": "image-registry/oc-shop/web"}}),
    ));
    make(&object(
        "v1",
        "Service",
        "web",
        json!({"spec": {"ports": [{"port": 80, "protocol": "TCP"}], "selector": {"app": "web"}}}),
    ));
    routes_and_builds(cluster);
    rollout(cluster);
}

fn routes_and_builds(cluster: &Cluster) {
    let make = |object: &Value| cluster.apply_server_side(&object.to_string());
    let to = json!({"kind": "Service", "name": "web", "weight": 100});
    make(&object(
        "route.openshift.io/v1",
        "Route",
        "made",
        json!({
        "annotations": {"openshift.io/host.generated": "true"},
        "spec": {"host": "made-oc-shop.apps.old.example", "to": to.clone()}}),
    ));
    make(&object(
        "route.openshift.io/v1",
        "Route",
        "chosen",
        json!({
        "spec": {"host": "shop.example.org", "to": to}}),
    ));
    make(&object(
        "build.openshift.io/v1",
        "BuildConfig",
        "web",
        json!({"spec": {
        "output": {"to": {"kind": "ImageStreamTag", "name": "web:1"}, "pushSecret": {"name": "push"}},
        "triggers": [{"type": "ImageChange", "imageChange": {"lastTriggeredImageID": "old@sha256:1"}}]}}),
    ));
    let config = cluster.get(&["-n", "oc-shop", "buildconfig", "web"]);
    make(&object(
        "build.openshift.io/v1",
        "Build",
        "web-1",
        json!({
        "ownerReferences": owner("build.openshift.io/v1", &config), "status": {"phase": "Complete"}}),
    ));
}

/// A DeploymentConfig with its ReplicationController, its pods, and what rolled it out.
fn rollout(cluster: &Cluster) {
    let make = |object: &Value| cluster.apply_server_side(&object.to_string());
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"serviceAccountName": "web",
        "containers": [{"name": "web", "image": "registry.local/web:1"}]}});
    make(&object(
        "apps.openshift.io/v1",
        "DeploymentConfig",
        "web",
        json!({"spec": {"replicas": 2,
        "selector": {"app": "web"}, "template": template.clone(),
        "triggers": [{"type": "ImageChange", "imageChangeParams": {"automatic": true,
            "containerNames": ["web"], "from": {"kind": "ImageStreamTag", "name": "web:1"},
            "lastTriggeredImage": "image-registry/oc-shop/web@sha256:1"}}]},
        "status": {"latestVersion": 1}}),
    ));
    let config = cluster.get(&["-n", "oc-shop", "deploymentconfig", "web"]);
    make(&object(
        "v1",
        "ReplicationController",
        "web-1",
        json!({
        "ownerReferences": owner("apps.openshift.io/v1", &config),
        "spec": {"replicas": 2, "selector": {"app": "web"}, "template": template}}),
    ));
    make(&object(
        "v1",
        "Pod",
        "web-1-deploy",
        json!({
        "labels": {"openshift.io/deployer-pod-for.name": "web-1"},
        "spec": {"containers": [{"name": "d", "image": "deployer"}]}}),
    ));
    wait_for("pods of the controller", || {
        let pods = cluster.get(&["-n", "oc-shop", "pods", "-l", "app=web"]);
        pods["items"].as_array().unwrap().len() == 2
    });
}

/// What is in the point of the application, by kind and name.
fn saved(point: &MemoryPoint) -> Vec<String> {
    let files = point.files("/kubernetes/prod/resources").into_keys();
    let ours = files
        .filter(|path| path.ends_with(".yaml"))
        .filter_map(|path| {
            let parts: Vec<&str> = path.trim_end_matches(".yaml").rsplit('/').collect();
            let is_ours = parts[1] == "oc-shop" || parts[0].starts_with("oc-");
            is_ours.then(|| format!("{}/{}", parts[2], parts[0]))
        });
    let mut ours: Vec<String> = ours
        .filter(|name| name != "serviceaccounts/default")
        .collect();
    ours.sort();
    ours
}

fn left_out(inventory: &Inventory) -> Vec<String> {
    let items = inventory.items.iter().filter(|item| item.skip.is_some());
    let path = items.map(|item| item.path.to_string());
    let mut of = path
        .filter_map(|path| {
            path.strip_prefix("/kubernetes/prod/skipped/")
                .map(str::to_owned)
        })
        .filter(|path| path.contains("openshift") || path.ends_with("/oc-shop"))
        .collect::<Vec<_>>();
    of.sort();
    of
}

#[test]
fn openshifts_kinds_are_captured_under_their_rules_and_come_back() {
    let Some((a, b)) = clusters() else { return };
    install(a);
    define(b);
    let point = MemoryPoint::capture(&a.source(&["oc-shop"]));
    assert_eq!(
        saved(&point),
        [
            "buildconfigs/web",
            "deploymentconfigs/web",
            "imagestreams/web",
            "namespaces/oc-shop",
            "routes/chosen",
            "routes/made",
            "secrets/push",
            "securitycontextconstraints/oc-anyuid",
            "serviceaccounts/web",
            "services/web",
        ]
    );
    assert_eq!(
        left_out(&point.inventory),
        [
            "duplicate/project.openshift.io/v1/projects",
            "generated/core/v1/configmaps/oc-shop",
            "owned/build.openshift.io/v1/builds/oc-shop",
            "owned/core/v1/pods/oc-shop",
            "owned/core/v1/replicationcontrollers/oc-shop",
            "owned/discovery.k8s.io/v1beta1/endpointslices/oc-shop",
            "selected-endpoints/core/v1/endpoints/oc-shop",
            "token/core/v1/secrets/oc-shop",
        ]
    );
    let space = point
        .inventory
        .workloads
        .iter()
        .find(|w| w.name == "oc-shop");
    let needs: Vec<String> = space
        .unwrap()
        .requires
        .iter()
        .map(ToString::to_string)
        .collect();
    for expected in [
        "image:registry.local/web:1",
        "object:imagestreams.image.openshift.io/oc-shop/web",
        "object:services/oc-shop/web",
        "secret:oc-shop/push",
    ] {
        assert!(
            needs.iter().any(|need| need == expected),
            "{expected}: {needs:?}"
        );
    }
    // Issued, so left out: nothing may ask for it.
    assert!(
        !needs.iter().any(|need| need.contains("-dockercfg-")),
        "{needs:?}"
    );
    comes_back(b, &point);
}

fn comes_back(cluster: &Cluster, point: &MemoryPoint) {
    let target = cluster.target();
    let plain = RestoreRequest::default();
    let plan = target.plan(point, &plain).unwrap();
    let constraints = format!("{CONSTRAINTS}/oc-anyuid");
    let action = |plan: &RestorePlan, name: &str| {
        plan.steps
            .iter()
            .find(|s| s.name == name)
            .unwrap()
            .action
            .clone()
    };
    let left = action(&plan, &constraints);
    assert!(
        matches!(&left, Action::Skip { why } if why.contains("restored only if it is named")),
        "{left:?}"
    );
    let request = RestoreRequest {
        only: vec!["oc-shop".into(), format!("object:{constraints}")],
        privileged: globs(&[&constraints]),
        rename: vec![("host:shop.example.org".into(), "dr.example.org".into())],
        ..RestoreRequest::default()
    };
    restore(&target, point, &request);
    let get = |kind: &str, name: &str| cluster.get(&["-n", "oc-shop", kind, name]);
    let made = get("route", "made");
    assert_eq!(made["spec"]["host"], Value::Null);
    assert_eq!(
        made["metadata"]["annotations"]["openshift.io/host.generated"],
        Value::Null
    );
    assert_eq!(get("route", "chosen")["spec"]["host"], "dr.example.org");
    let config = get("deploymentconfig", "web");
    assert_eq!(
        config["spec"]["template"]["spec"]["containers"][0]["image"],
        "registry.local/web:1"
    );
    assert_eq!(config["spec"]["replicas"], 2);
    let trigger = &config["spec"]["triggers"][0]["imageChangeParams"];
    assert_eq!(trigger["lastTriggeredImage"], Value::Null);
    assert_eq!(trigger["from"]["name"], "web:1");
    assert_eq!(get("imagestream", "web")["spec"]["tags"][0]["name"], "1");
    assert_eq!(
        get("serviceaccount", "web")["imagePullSecrets"],
        json!([{"name": "push"}])
    );
    let granted = cluster.get(&["securitycontextconstraints", "oc-anyuid"]);
    assert_eq!(
        granted["users"],
        json!(["system:serviceaccount:oc-shop:web"])
    );
    // Once more: nothing to do.
    let again = target.plan(point, &request).unwrap();
    let odd = again
        .steps
        .iter()
        .filter(|s| !matches!(s.action, Action::Reuse | Action::Skip { .. }));
    assert_eq!(odd.map(|s| s.name.as_str()).collect::<Vec<_>>(), [""; 0]);
}

fn restore(target: &KubernetesTarget, point: &MemoryPoint, request: &RestoreRequest) {
    let plan = target.plan(point, request).unwrap();
    assert!(plan.is_executable(), "{plan:?}");
    let (progress, cancel) = (Silent::default(), Cancel::default());
    let report = target
        .execute(&plan, point, request, &progress, &cancel)
        .unwrap();
    assert!(report.is_complete(), "{report:?}");
}
