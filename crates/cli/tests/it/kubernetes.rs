//! A small application on a real node: lost with its namespace, and back with its pods ready.
//!
//! Skipped, saying so, without the Kubernetes test bed or without root.

use std::collections::BTreeMap;
use std::fs;

use refloat_testkit::kubernetes::{Cluster, Level, busybox_image, start, wait_for};
use serde_json::{Value, json};

use crate::cli_env::CliEnv;

const SHOP: &str = include_str!("kubernetes/shop.yaml");
/// A value that must not be seen anywhere.
const SECRET: &str = "hunter2-in-the-cluster";
/// What an administrator must name.
const PRIVILEGED: [&str; 4] = [
    "roles.rbac.authorization.k8s.io/shop/*",
    "rolebindings.rbac.authorization.k8s.io/shop/*",
    "customresourcedefinitions.apiextensions.k8s.io/orders.shop.example.org",
    "validatingwebhookconfigurations.admissionregistration.k8s.io/shop-hook",
];
/// Kinds whose objects must come back, as kubectl calls them.
const KINDS: &str = "serviceaccounts,roles,rolebindings,configmaps,secrets,persistentvolumeclaims,\
                     services,deployments,statefulsets,ingresses,networkpolicies,\
                     poddisruptionbudgets,horizontalpodautoscalers,cronjobs,orders";

fn install(cluster: &Cluster) {
    busybox_image();
    cluster.apply(SHOP);
    wait_for("orders are served", || {
        cluster.kubectl(&["api-resources"], "").contains("orders")
    });
    let order = json!({"apiVersion": "shop.example.org/v1", "kind": "Order",
        "metadata": {"name": "first", "namespace": "shop"},
        "spec": {"amount": 0.1, "big": 9_007_199_254_740_993_i64}});
    cluster.apply_server_side(&order.to_string());
    let order = cluster.get(&["-n", "shop", "order", "first"]);
    let owned = json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"token": SECRET},
        "metadata": {"name": "first-token", "namespace": "shop", "ownerReferences": [{
            "apiVersion": "shop.example.org/v1", "kind": "Order", "name": "first",
            "uid": order["metadata"]["uid"]}]}});
    cluster.apply_server_side(&owned.to_string());
    pods_are_ready(cluster);
}

/// Two of the web, the database and the operator.
fn pods_are_ready(cluster: &Cluster) {
    wait_for("four pods are ready", || {
        let pods = cluster.get(&["-n", "shop", "pods"]);
        let is_ready = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array();
            conditions.is_some_and(|all| {
                all.iter()
                    .any(|c| c["type"] == "Ready" && c["status"] == "True")
            })
        };
        pods["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(is_ready)
            .count()
            == 4
    });
}

/// What somebody wrote of all objects, without what a cluster chooses anew.
fn objects(cluster: &Cluster) -> BTreeMap<String, Value> {
    let all = cluster.get(&["-n", "shop", KINDS]);
    all["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|object| {
            let metadata = &object["metadata"];
            let name = format!("{} {}", object["kind"], metadata["name"]);
            let mut spec = object["spec"].clone();
            if let Some(fields) = spec.as_object_mut() {
                for chosen in ["clusterIP", "clusterIPs", "volumeName"] {
                    fields.remove(chosen);
                }
            }
            let what = json!({"spec": spec, "data": object["data"], "rules": object["rules"],
                "subjects": object["subjects"], "labels": metadata["labels"]});
            (name, what)
        })
        .filter(|(name, _)| !name.contains("-token-"))
        .filter(|(name, _)| !name.contains("kube-root-ca.crt"))
        .collect()
}

fn lose(cluster: &Cluster) {
    cluster.kubectl(&["delete", "namespace", "shop", "--timeout=120s"], "");
    let hook = "validatingwebhookconfiguration/shop-hook";
    cluster.kubectl(&["delete", hook, "crd/orders.shop.example.org"], "");
}

#[test]
fn a_lost_namespace_comes_back_on_a_node_with_its_pods_ready() {
    let Some(cluster) = start(Level::Node) else {
        return;
    };
    install(&cluster);
    let before = objects(&cluster);
    let env = CliEnv::with_repository();
    let kubeconfig = cluster.kubeconfig.to_str().unwrap();
    let address = format!("kubernetes:{kubeconfig}");
    let backup = env.run(&["-v", "backup", "--source", &address]);
    // Neither images nor volumes' data are in this point, and it says so.
    assert!(backup.starts_with("exit code: 3"), "{backup}");
    assert!(backup.contains("MISSING  volume:shop/uploads"), "{backup}");
    assert!(
        backup.contains("MISSING  image:localhost/refloat-busybox:1@sha256:"),
        "{backup}"
    );
    let shown = env.run(&["-v", "show", "latest"]);
    lose(&cluster);

    let mut only = vec!["restore", "latest", "--to", &address, "--only", "shop"];
    let without = env.run(&[&only[..], &["--dry-run"]].concat());
    assert!(without.starts_with("exit code: 3"), "{without}");
    assert!(
        without.contains("restored only if it is named"),
        "{without}"
    );
    only.extend(PRIVILEGED.iter().flat_map(|name| ["--privileged", name]));
    let plan = env.succeed(&[&only[..], &["--dry-run", "--json"]].concat());
    fs::write(env.path("plan.json"), &plan).unwrap();

    // What is there when the plan is executed must be what was there when it was made.
    cluster.kubectl(&["create", "namespace", "shop"], "");
    let accepted = ["restore", "latest", "--to", &address, "--plan", "plan.json"];
    let refused = env.run(&accepted);
    assert!(refused.starts_with("exit code: 1"), "{refused}");
    assert!(
        refused.contains("no longer: create namespaces/shop"),
        "{refused}"
    );
    cluster.kubectl(&["delete", "namespace", "shop", "--timeout=60s"], "");

    let restored = env.run(&accepted);
    assert!(restored.starts_with("exit code: 0"), "{restored}");
    pods_are_ready(&cluster);
    assert_eq!(objects(&cluster), before);
    owner_is_linked(&cluster);
    for text in [backup, shown, without, plan, refused, restored] {
        assert!(!text.contains(SECRET), "{text}");
    }

    // A single field, and nothing else.
    cluster.kubectl(
        &["-n", "shop", "scale", "deployment/web", "--replicas=1"],
        "",
    );
    cluster.kubectl(&["-n", "shop", "label", "deployment/web", "mine=1"], "");
    let field = "field:deployments.apps/shop/web:/spec/replicas";
    let restored = env.run(&[
        "restore", "latest", "--to", &address, "--only", field, "--yes",
    ]);
    assert!(restored.starts_with("exit code: 0"), "{restored}");
    let web = cluster.get(&["-n", "shop", "deployment", "web"]);
    assert_eq!(web["spec"]["replicas"], 2);
    assert_eq!(web["metadata"]["labels"]["mine"], "1");
}

fn owner_is_linked(cluster: &Cluster) {
    let order = cluster.get(&["-n", "shop", "order", "first"]);
    let owned = cluster.get(&["-n", "shop", "secret", "first-token"]);
    assert_eq!(
        owned["metadata"]["ownerReferences"][0]["uid"],
        order["metadata"]["uid"]
    );
}
