//! A whole application: captured, lost with its namespace, brought back, and moved to another
//! cluster under another name.
//!
//! Invariant: the oracle is a second capture: what came back reads as what was lost.

mod inventory;

use std::collections::BTreeMap;
use std::time::Instant;

use refloat_model::cancel::Cancel;
use refloat_model::plan::{Action, OnConflict, RestorePlan, RestoreReport, RestoreRequest};
use refloat_model::progress::Silent;
use refloat_source::Target as _;
use serde_json::{Value, json};

use crate::bed::{Adapter as _, Cluster, clusters, globs, wait_for};
use crate::memory::MemoryPoint;

const MANIFEST: &str = include_str!("application.yaml");

/// All that a cluster administrator must name for this application.
const INCLUDE: [&str; 4] = [
    "roles.rbac.authorization.k8s.io/*",
    "rolebindings.rbac.authorization.k8s.io/*",
    "customresourcedefinitions.apiextensions.k8s.io/*.example.org",
    "validatingwebhookconfigurations.admissionregistration.k8s.io/shop-*",
];

fn install(cluster: &Cluster) {
    cluster.apply(MANIFEST);
    cluster.kubectl(
        &[
            "wait",
            "--for=condition=Established",
            "crd/widgets.example.org",
        ],
        "",
    );
    wait_for("widgets are served", || {
        cluster.kubectl(&["api-resources"], "").contains("widgets")
    });
    cluster.apply_server_side(
        &json!({"apiVersion": "example.org/v1", "kind": "Widget",
            "metadata": {"name": "main", "namespace": "shop"},
            "spec": {"ratio": 0.1, "big": 9_007_199_254_740_993_i64, "float": 1e21,
                     "list": [{"a": null}, []], "unknown": {"yes": "no"}}})
        .to_string(),
    );
    let widget = cluster.get(&["-n", "shop", "widget", "main"]);
    cluster.apply_server_side(
        &json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "owned", "namespace": "shop", "ownerReferences": [{
                "apiVersion": "example.org/v1", "kind": "Widget", "name": "main",
                "uid": widget["metadata"]["uid"]}]},
            "stringData": {"key": "value"}})
        .to_string(),
    );
    wait_for("pods of the deployment", || {
        cluster.get(&["-n", "shop", "pods"])["items"]
            .as_array()
            .unwrap()
            .len()
            >= 5
    });
}

fn lose(cluster: &Cluster) {
    let finalizers = r#"{"metadata":{"finalizers":null}}"#;
    cluster.kubectl(
        &[
            "-n",
            "shop",
            "patch",
            "configmap",
            "settings",
            "--type=merge",
            "-p",
            finalizers,
        ],
        "",
    );
    cluster.kubectl(&["delete", "namespace", "shop", "--timeout=60s"], "");
    let hook = "validatingwebhookconfiguration/shop-hook";
    cluster.kubectl(
        &[
            "delete",
            hook,
            "crd/widgets.example.org",
            "storageclass/shop-disk",
        ],
        "",
    );
}

/// The objects of a namespace, and those the application needs outside, as they read in a point;
/// without what a cluster chooses anew.
fn objects(point: &MemoryPoint, space: &str) -> BTreeMap<String, Value> {
    let files = point.files("/kubernetes/prod/resources");
    let is_ours = |path: &String| {
        path.ends_with(".yaml")
            && (path.contains(&format!("/{space}/"))
                || (path.contains("_cluster") && path.contains("shop-"))
                || path.ends_with(&format!("/namespaces/_cluster/{space}.yaml"))
                || path.ends_with("widgets.example.org.yaml"))
    };
    files
        .into_iter()
        .filter(|(path, _)| is_ours(path))
        .map(|(path, text)| {
            let mut object: Value = serde_saphyr::from_str(&text).unwrap();
            normalise(&mut object);
            (path.replace("/kubernetes/prod/resources/", ""), object)
        })
        .collect()
}

fn normalise(object: &mut Value) {
    let kind = object["kind"].as_str().unwrap().to_owned();
    if kind == "Service" {
        let spec = object["spec"].as_object_mut().unwrap();
        if spec.get("clusterIP") != Some(&json!("None")) {
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
        for port in spec["ports"].as_array_mut().unwrap() {
            if port["port"] == json!(81) {
                port.as_object_mut().unwrap().remove("nodePort");
            }
        }
    }
    if kind == "ServiceAccount" {
        object.as_object_mut().unwrap().remove("secrets");
    }
    if kind == "Job" {
        object["spec"].as_object_mut().unwrap().remove("selector");
        object["spec"]["template"]["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("labels");
        object["metadata"].as_object_mut().unwrap().remove("labels");
    }
    if kind == "Pod" {
        // The mount of a token has a name of its own in each cluster.
        object["spec"].as_object_mut().unwrap().remove("volumes");
        object["spec"]["containers"][0]
            .as_object_mut()
            .unwrap()
            .remove("volumeMounts");
    }
    let metadata = object["metadata"].as_object_mut().unwrap();
    // Finalizers of controllers that may not be there do not come back.
    metadata.remove("finalizers");
    metadata.remove("annotations");
    for owner in metadata
        .get_mut("ownerReferences")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        owner["uid"] = json!("new");
    }
}

fn words(plan: &RestorePlan) -> BTreeMap<&'static str, usize> {
    let mut words = BTreeMap::new();
    for step in &plan.steps {
        *words.entry(step.action.word()).or_default() += 1;
    }
    words
}

fn assert_executable(plan: &RestorePlan) {
    let conflicts: Vec<_> = plan
        .steps
        .iter()
        .filter(|s| matches!(s.action, Action::Conflict { .. }))
        .collect();
    assert!(plan.is_executable(), "{conflicts:#?} {:#?}", plan.findings);
}

fn restore(
    cluster: &Cluster,
    point: &MemoryPoint,
    request: &RestoreRequest,
) -> (RestorePlan, RestoreReport) {
    let target = cluster.target();
    let plan = target.plan(point, request).unwrap();
    assert_executable(&plan);
    let report = target
        .execute(
            &plan,
            point,
            request,
            &Silent::default(),
            &Cancel::default(),
        )
        .unwrap();
    let failed: Vec<_> = report.steps.iter().filter(|s| s.error.is_some()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(report.steps.len(), plan.steps.len());
    (plan, report)
}

#[test]
fn a_lost_namespace_comes_back_in_place_and_moves_to_another_cluster() {
    let Some((a, b)) = clusters() else { return };
    install(a);
    let point = MemoryPoint::capture(&a.source(&["shop"]));
    let before = objects(&point, "shop");
    assert!(before.len() == 32, "{:#?}", before.keys());
    inventory::is_complete(&point);

    lose(a);
    let request = RestoreRequest {
        only: vec!["shop".into()],
        privileged: globs(&INCLUDE),
        ..RestoreRequest::default()
    };
    without_names_rights_stay_out(a, &point, &request);
    let started = Instant::now();
    let (plan, _) = restore(a, &point, &request);
    eprintln!(
        "in place: {:?} in {:.1} s",
        words(&plan),
        started.elapsed().as_secs_f32()
    );

    let after = objects(&MemoryPoint::capture(&a.source(&["shop"])), "shop");
    assert_same(&before, &after);
    owner_is_linked(a, "shop");
    let cron = a.get(&["-n", "shop", "cronjob", "nightly"]);
    assert_eq!(cron["spec"]["suspend"], json!(false));
    assert_eq!(
        cron["metadata"]["annotations"]["refloat.io/held"],
        Value::Null
    );

    // Again: nothing is left to do.
    let plan = a.target().plan(&point, &request).unwrap();
    let writes: Vec<_> = plan
        .steps
        .iter()
        .filter(|s| !matches!(s.action, Action::Reuse | Action::Skip { .. }))
        .collect();
    assert!(writes.is_empty(), "{writes:#?}");

    changed_objects_are_replaced(a, &point, &request, &before);
    moves(b, &point, &before);
}

fn without_names_rights_stay_out(cluster: &Cluster, point: &MemoryPoint, request: &RestoreRequest) {
    let request = RestoreRequest {
        privileged: Vec::new(),
        ..request.clone()
    };
    let plan = cluster.target().plan(point, &request).unwrap();
    let action = |name: &str| &plan.steps.iter().find(|s| s.name == name).unwrap().action;
    for name in [
        "roles.rbac.authorization.k8s.io/shop/reader",
        "validatingwebhookconfigurations.admissionregistration.k8s.io/shop-hook",
        "customresourcedefinitions.apiextensions.k8s.io/widgets.example.org",
    ] {
        assert!(
            matches!(action(name), Action::Skip { .. }),
            "{name}: {:?}",
            action(name)
        );
    }
    // Without its definition the custom resource cannot be there, and the plan says so.
    assert!(
        matches!(action("widgets.example.org/shop/main"), Action::Conflict { why }
        if why.contains("widgets.example.org"))
    );
    assert!(!plan.is_executable());
}

fn assert_same(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) {
    let keys = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(before), keys(after));
    for (path, object) in before {
        assert_eq!(Some(object), after.get(path), "{path}");
    }
}

/// P2: the secret belongs to the widget that is there now, and is not collected.
fn owner_is_linked(cluster: &Cluster, space: &str) {
    let widget = cluster.get(&["-n", space, "widget", "main"]);
    let owned = cluster.get(&["-n", space, "secret", "owned"]);
    assert_eq!(
        owned["metadata"]["ownerReferences"][0]["uid"],
        widget["metadata"]["uid"]
    );
}

fn changed_objects_are_replaced(
    cluster: &Cluster,
    point: &MemoryPoint,
    request: &RestoreRequest,
    before: &BTreeMap<String, Value>,
) {
    cluster.kubectl(
        &["-n", "shop", "scale", "deployment/web", "--replicas=7"],
        "",
    );
    cluster.kubectl(
        &["-n", "shop", "label", "configmap/settings", "stranger=1"],
        "",
    );
    // Immutable: it can only be made anew.
    cluster.kubectl(
        &[
            "-n",
            "shop",
            "delete",
            "statefulset",
            "db",
            "--cascade=orphan",
        ],
        "",
    );
    let part = MANIFEST
        .split("---")
        .find(|part| part.contains("kind: StatefulSet"))
        .unwrap();
    cluster.apply(&part.replace("serviceName: db", "serviceName: other"));

    let plan = cluster.target().plan(point, request).unwrap();
    let why = |plan: &RestorePlan, name: &str| match &plan
        .steps
        .iter()
        .find(|s| s.name == name)
        .unwrap()
        .action
    {
        Action::Conflict { why } | Action::Replace { why } | Action::Skip { why } => why.clone(),
        other => panic!("{name}: {other:?}"),
    };
    assert!(!plan.is_executable());
    assert!(why(&plan, "deployments.apps/shop/web").contains("differs in spec.replicas"));

    let request = RestoreRequest {
        on_conflict: OnConflict::Replace,
        ..request.clone()
    };
    let (plan, report) = restore(cluster, point, &request);
    assert_eq!(
        why(&plan, "configmaps/shop/settings"),
        "differs in metadata.labels"
    );
    let remarks = |name: &str| {
        report
            .steps
            .iter()
            .find(|s| s.step.name == name)
            .unwrap()
            .remarks
            .join(" ")
    };
    assert_eq!(remarks("deployments.apps/shop/web"), "replaced");
    assert!(remarks("statefulsets.apps/shop/db").contains("made again"));
    let after = objects(&MemoryPoint::capture(&cluster.source(&["shop"])), "shop");
    assert_same(before, &after);
}

/// Into another cluster, under another namespace, with another class and registry.
fn moves(cluster: &Cluster, point: &MemoryPoint, before: &BTreeMap<String, Value>) {
    let pairs = [
        ("namespace:shop", "copy"),
        ("image:registry.old/", "registry.new/"),
        ("host:shop.example.org", "copy.example.org"),
    ];
    let request = RestoreRequest {
        only: vec!["shop".into()],
        privileged: globs(&INCLUDE),
        rename: pairs
            .map(|(from, to)| (from.to_owned(), to.to_owned()))
            .into(),
        ..RestoreRequest::default()
    };
    let (plan, _) = restore(cluster, point, &request);
    eprintln!("elsewhere: {:?}", words(&plan));
    let after = objects(&MemoryPoint::capture(&cluster.source(&["copy"])), "copy");
    let renamed: BTreeMap<String, Value> = before
        .iter()
        .map(|(path, object)| {
            let path = path
                .replace("/shop/", "/copy/")
                .replace("_cluster/shop.yaml", "_cluster/copy.yaml");
            (
                path,
                serde_json::from_str(&rename(&object.to_string())).unwrap(),
            )
        })
        .collect();
    assert_same(&renamed, &after);
    owner_is_linked(cluster, "copy");
}

fn rename(text: &str) -> String {
    text.replace("\"namespace\":\"shop\"", "\"namespace\":\"copy\"")
        .replace("system:serviceaccounts:shop", "system:serviceaccounts:copy")
        .replace(
            "\"kubernetes.io/metadata.name\":\"shop\"",
            "\"kubernetes.io/metadata.name\":\"copy\"",
        )
        .replace(
            "\"labels\":{\"env\":\"prod\"},\"name\":\"shop\"",
            "\"labels\":{\"env\":\"prod\"},\"name\":\"copy\"",
        )
        .replace("registry.old/", "registry.new/")
        .replace("shop.example.org", "copy.example.org")
}
