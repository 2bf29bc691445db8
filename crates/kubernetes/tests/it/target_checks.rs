//! What a plan finds out about its target before anything is written there, and P13.
//!
//! Invariant: a check names the object, what is in the way, and the numbers where there are some.

use refloat_model::cancel::Cancel;
use refloat_model::finding::Severity;
use refloat_model::plan::{Action, RestorePlan, RestoreRequest};
use refloat_model::progress::Silent;
use refloat_source::Target as _;
use serde_json::{Value, json};

use crate::bed::{Adapter as _, Cluster, clusters, wait_for};
use crate::memory::MemoryPoint;

fn deployment(name: &str, spec: Value) -> (String, Value) {
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "tight"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": spec}}});
    (name.to_owned(), object)
}

/// A point with what cannot fit the namespace `tight`.
fn point(cluster: &Cluster) -> MemoryPoint {
    let container =
        |requests: Value| json!([{"name": "a", "image": "a", "resources": {"requests": requests}}]);
    cluster.kubectl(&["create", "namespace", "tight"], "");
    for name in ["urgent", "sandboxed"] {
        let class = match name {
            "urgent" => json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
                "metadata": {"name": name}, "value": 5}),
            _ => json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
                "metadata": {"name": name}, "handler": "runc"}),
        };
        cluster.apply_server_side(&class.to_string());
    }
    let all = [
        deployment(
            "hungry",
            json!({"containers": container(json!({"cpu": "500m"}))}),
        ),
        deployment(
            "open",
            json!({"hostNetwork": true, "containers": container(json!({}))}),
        ),
        deployment(
            "urgent",
            json!({"priorityClassName": "urgent", "containers": container(json!({}))}),
        ),
        deployment(
            "boxed",
            json!({"runtimeClassName": "sandboxed", "containers": container(json!({}))}),
        ),
    ];
    for (_, object) in all {
        cluster.apply_server_side(&object.to_string());
    }
    for name in ["one", "two"] {
        cluster.kubectl(&["-n", "tight", "create", "configmap", name], "");
    }
    let point = MemoryPoint::capture(&cluster.source(&["tight"]));
    cluster.kubectl(&["delete", "namespace", "tight", "--timeout=60s"], "");
    cluster.kubectl(
        &["delete", "priorityclass/urgent", "runtimeclass/sandboxed"],
        "",
    );
    point
}

fn plan(cluster: &Cluster, point: &MemoryPoint, only: &[&str]) -> RestorePlan {
    let request = RestoreRequest {
        only: only.iter().map(|o| (*o).to_owned()).collect(),
        ..RestoreRequest::default()
    };
    cluster.target().plan(point, &request).unwrap()
}

fn told(plan: &RestorePlan, subject: &str) -> Vec<(Severity, String)> {
    let of = plan.findings.iter().filter(|f| f.subject == subject);
    of.map(|f| (f.severity, f.message.clone())).collect()
}

#[test]
fn quotas_pod_security_and_classes_of_the_target_are_checked_before() {
    let Some((a, b)) = clusters() else { return };
    let point = point(a);
    b.apply(
        "{apiVersion: v1, kind: List, items: [
          {apiVersion: v1, kind: Namespace, metadata: {name: tight,
            labels: {pod-security.kubernetes.io/enforce: baseline}}},
          {apiVersion: v1, kind: ResourceQuota, metadata: {name: limits, namespace: tight},
            spec: {hard: {count/configmaps: '2', requests.cpu: '1'}}}]}",
    );
    // The cluster's own ConfigMap is the first of the two.
    wait_for("the quota counts", || {
        b.get(&["-n", "tight", "resourcequota", "limits"])["status"]["used"]["count/configmaps"]
            == "1"
    });
    let all = plan(b, &point, &["tight"]);
    assert!(!all.is_executable());
    let quota = told(&all, "resourcequotas/tight/limits");
    assert_eq!(
        quota,
        [
            (
                Severity::Error,
                "it allows count/configmaps 2; 1 are used and 2 would come: raise it, or restore less"
                    .to_owned()
            ),
            (
                Severity::Warning,
                "it allows requests.cpu 1; 0 are used and 1500m would come with the pods of what is \
                 restored: some would not be made"
                    .to_owned()
            ),
        ]
    );
    let open = told(&all, "deployments.apps/tight/open");
    assert!(
        open[0]
            .1
            .contains("level baseline, which refuses its pods: hostNetwork"),
        "{open:?}"
    );
    // Classes that come back with what needs them.
    let coming = all
        .steps
        .iter()
        .any(|s| s.name == "priorityclasses.scheduling.k8s.io/urgent");
    assert!(coming, "what comes along is not missing");

    // Less fits.
    let less = plan(
        b,
        &point,
        &["config:tight/one", "object:deployments.apps/tight/hungry"],
    );
    assert!(less.is_executable(), "{:?}", less.findings);
}

#[test]
fn classes_that_are_nowhere_are_conflicts() {
    let Some((_, b)) = clusters() else { return };
    let pod = |name: &str, field: &str| {
        let controller = json!({"apiVersion": "v1", "kind": "ReplicationController",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"replicas": 1, "selector": {"a": name}, "template": {"metadata": {"labels": {"a": name}},
                "spec": {field: "nowhere", "containers": [{"name": "a", "image": "a"}]}}}});
        (
            format!("replicationcontrollers/default/{name}.yaml"),
            controller.to_string(),
        )
    };
    let point = MemoryPoint::of_files([
        pod("first", "priorityClassName"),
        pod("second", "runtimeClassName"),
    ]);
    let plan = plan(b, &point, &[]);
    let why: Vec<&str> = plan
        .steps
        .iter()
        .map(|s| match &s.action {
            Action::Conflict { why } => why.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(
        why[0].starts_with(
            "the target has no priority class nowhere: restore object:priorityclasses"
        ),
        "{why:?}"
    );
    assert!(
        why[1].starts_with("the target has no runtime class nowhere"),
        "{why:?}"
    );
}

/// P13 on a server: the status of a custom resource comes back where the object asks for it.
#[test]
fn p13_a_status_is_put_back_through_its_subresource() {
    let Some((a, _)) = clusters() else { return };
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "orders.p13.example.org"},
        "spec": {"group": "p13.example.org", "scope": "Namespaced",
            "names": {"plural": "orders", "singular": "order", "kind": "Order"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema,
                          "subresources": {"status": {}}}]}});
    a.apply_server_side(&definition.to_string());
    a.kubectl(&["create", "namespace", "p13"], "");
    wait_for("orders are served", || {
        let mut raw = a.kubectl_command(&["get", "--raw", "/apis/p13.example.org/v1/orders"]);
        raw.output().unwrap().status.success()
    });
    for (name, asks) in [("asks", true), ("silent", false)] {
        let mut object = json!({"apiVersion": "p13.example.org/v1", "kind": "Order",
            "metadata": {"name": name, "namespace": "p13"}, "spec": {"x": 1}});
        if asks {
            object["metadata"]["annotations"] = json!({"velero.io/restore-status": "true"});
        }
        a.apply_server_side(&object.to_string());
        let mut stored = a.get(&["-n", "p13", "order", name]);
        stored["status"] = json!({"url": "https://issued.example.org/1"});
        let path = format!("/apis/p13.example.org/v1/namespaces/p13/orders/{name}/status");
        a.kubectl(&["replace", "--raw", &path, "-f", "-"], &stored.to_string());
    }
    let point = MemoryPoint::capture(&a.source(&["p13"]));
    a.kubectl(&["-n", "p13", "delete", "orders", "--all"], "");
    let request = RestoreRequest {
        only: vec![
            "object:orders.p13.example.org/p13/asks".into(),
            "object:orders.p13.example.org/p13/silent".into(),
        ],
        ..RestoreRequest::default()
    };
    let target = a.target();
    let plan = target.plan(&point, &request).unwrap();
    let (progress, cancel) = (Silent::default(), Cancel::default());
    let report = target
        .execute(&plan, &point, &request, &progress, &cancel)
        .unwrap();
    assert!(report.is_complete(), "{report:?}");
    let status = |name: &str| a.get(&["-n", "p13", "order", name])["status"].clone();
    assert_eq!(
        status("asks"),
        json!({"url": "https://issued.example.org/1"})
    );
    assert_eq!(status("silent"), Value::Null);
}

/// A document of the core group, as it lies in a point.
fn core(folder: &str, kind: &str, name: &str, more: &Value) -> (String, String) {
    let space = folder.split('/').nth(1).unwrap();
    let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
    if space != "_cluster" {
        object["metadata"]["namespace"] = json!(space);
    }
    for (key, value) in more.as_object().unwrap() {
        object[key] = value.clone();
    }
    (format!("{folder}/{name}.yaml"), object.to_string())
}

/// What is tried in another namespace is not refused for that one's sake.
#[test]
fn a_new_namespace_is_not_judged_by_the_one_where_objects_are_tried() {
    let Some((_, b)) = clusters() else { return };
    b.apply(
        "{apiVersion: v1, kind: ResourceQuota, metadata: {name: full, namespace: default},
          spec: {hard: {services: '1'}}}",
    );
    wait_for("the quota counts", || {
        b.get(&["resourcequota", "full"])["status"]["used"]["services"] == "1"
    });
    let pod =
        json!({"spec": {"serviceAccountName": "web", "containers": [{"name": "c", "image": "i"}]}});
    let service = json!({"spec": {"ports": [{"port": 80}]}});
    let point = MemoryPoint::of_files([
        core("namespaces/_cluster", "Namespace", "fresh", &json!({})),
        core("serviceaccounts/fresh", "ServiceAccount", "web", &json!({})),
        core("pods/fresh", "Pod", "naked", &pod),
        core("services/fresh", "Service", "web", &service),
    ]);
    let plan = plan(b, &point, &[]);
    b.kubectl(&["delete", "resourcequota", "full"], "");
    for step in &plan.steps {
        assert_eq!(step.action, Action::Create, "{}", step.name);
    }
    let told = told(&plan, "services/fresh/web");
    assert!(
        matches!(told.as_slice(), [(Severity::Warning, why)]
            if why.starts_with("whether the target takes it is not known") && why.contains("exceeded quota")),
        "{told:?}"
    );
    assert!(plan.is_executable(), "{:?}", plan.findings);
}

/// P2: what the plan leaves out, owners too, is not tried afterwards.
#[test]
fn an_owner_that_the_plan_drops_fails_no_step() {
    let Some((_, b)) = clusters() else { return };
    let owner = json!({"apiVersion": "v1", "kind": "Gone", "name": "o", "uid": "1"});
    let (path, mut object) = (
        "secrets/default/orphan.yaml".to_owned(),
        json!({"apiVersion": "v1", "kind": "Secret"}),
    );
    object["metadata"] =
        json!({"name": "orphan", "namespace": "default", "ownerReferences": [owner]});
    let point = MemoryPoint::of_files([(path, object.to_string())]);
    let plan = plan(b, &point, &[]);
    let message = "its owner Gone o does not come back: it will have none".to_owned();
    assert_eq!(
        told(&plan, "secrets/default/orphan"),
        [(Severity::Warning, message)]
    );
    let (progress, cancel) = (Silent::default(), Cancel::default());
    let report = b
        .target()
        .execute(
            &plan,
            &point,
            &RestoreRequest::default(),
            &progress,
            &cancel,
        )
        .unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(report.findings, plan.findings);
    let live = b.get(&["secret", "orphan"]);
    assert_eq!(live["metadata"].get("ownerReferences"), None);
}
