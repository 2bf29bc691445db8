//! Every bad input of a cluster through the command: what became of it is named, the rest is there,
//! and the exit code says that something is missing.
//!
//! Invariant: one server, and a proxy that misbehaves before it in one way after the other.

mod cases;
mod refused;

use std::process::Command;

use refloat_testkit::http_proxy::HttpProxy;
use refloat_testkit::kubernetes::{Cluster, Level, plain_kubeconfig, start, wait_for};
use serde_json::{Value, json};

use crate::cli_env::CliEnv;
use cases::cases;
use refused::a_target_refuses;

/// More than one page.
const OBJECTS: usize = 520;
fn prepare(cluster: &Cluster) {
    let one = |n: usize| {
        format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: c-{n:03}, namespace: bumpy}}}}"
        )
    };
    let all: Vec<String> = (0..OBJECTS).map(one).collect();
    cluster.kubectl(&["create", "namespace", "bumpy"], "");
    let list = format!(
        "{{apiVersion: v1, kind: List, items: [{}]}}",
        all.join(", ")
    );
    cluster.kubectl(&["create", "-f", "-"], &format!("---\n{list}"));
}

/// Configures the cluster that `kubeconfig` leads to, and a folder beside it.
fn configure(env: &CliEnv, kubeconfig: &str) {
    env.write("kubeconfig", kubeconfig);
    env.write("data/file", "beside the cluster\n");
    let config = format!(
        "sources:\n  prod:\n    kubernetes:\n      kubeconfig: kubeconfig\n      namespaces: \
         {{names: [bumpy]}}\n      cluster-wide: none\n  disk:\n    files: {{paths: ['{}']}}\n\
         policies:\n  all: {{select: [{{source: prod}}, {{source: disk}}]}}\n",
        env.path("data").display()
    );
    env.write("refloat.yaml", &config);
}

/// The outcome of each item that was not left out by a rule, by its title.
fn outcome(point: &Value, title: &str) -> String {
    let items = point["items"].as_array().unwrap();
    let mut found = items
        .iter()
        .filter(|item| item["title"] == title && item["outcome"] != "skipped");
    found.next().map_or_else(
        || "absent".to_owned(),
        |item| item["outcome"].as_str().unwrap().to_owned(),
    )
}

fn behind_a_proxy(env: &CliEnv, cluster: &Cluster) {
    let way = cluster.plain_way();
    for case in cases() {
        let proxy = HttpProxy::start(way.port, case.fault);
        configure(env, &plain_kubeconfig(proxy.port));
        let report = env.json(&["backup", "all"]);
        assert_eq!(
            report["exit_code"], case.exit_code,
            "{}: {report}",
            case.name
        );
        let point = &report["points"][0];
        let found =
            ["configmaps in bumpy", "serviceaccounts in bumpy"].map(|title| outcome(point, title));
        assert_eq!(found, case.outcomes, "{}: {report}", case.name);
        let text = report.to_string();
        for told in case.told {
            assert!(text.contains(told), "{}: {told}: {report}", case.name);
        }
        the_folder_is_there(env, case.name);
    }
}

fn the_folder_is_there(env: &CliEnv, case: &str) {
    let found = env.run(&["find", "file", "--point", "latest"]);
    assert!(found.contains("data/file"), "{case}: {found}");
}

/// Objects that vanish while they are listed are in the list as it was.
fn objects_vanish(env: &CliEnv, cluster: &Cluster) {
    let way = cluster.plain_way();
    let kubectl: Command = cluster.kubectl_command(&[]);
    let (program, arguments) = (
        kubectl.get_program().to_owned(),
        kubectl
            .get_args()
            .map(std::ffi::OsStr::to_owned)
            .collect::<Vec<_>>(),
    );
    let proxy = HttpProxy::start(way.port, move |seen| {
        if seen.path.contains("continue=") {
            let _deleted = Command::new(&program)
                .args(&arguments)
                .args([
                    "-n",
                    "bumpy",
                    "delete",
                    "--ignore-not-found",
                    "configmap",
                    "c-519",
                ])
                .output();
        }
        None
    });
    configure(env, &plain_kubeconfig(proxy.port));
    let report = env.json(&["backup", "all"]);
    assert_eq!(report["exit_code"], 0, "{report}");
    let found = env.run(&["find", "c-519.yaml", "--point", "latest"]);
    assert!(found.contains("configmaps/bumpy/c-519.yaml"), "{found}");
    let left = cluster.kubectl(&["-n", "bumpy", "get", "configmaps", "-o", "name"], "");
    assert!(!left.contains("c-519"), "{left}");
}

fn nobody_answers(env: &CliEnv) {
    configure(env, &plain_kubeconfig(1));
    let report = env.json(&["backup", "all"]);
    assert_eq!(report["exit_code"], 3, "{report}");
    let text = report["points"][0]["findings"].to_string();
    assert!(
        text.contains("source prod") && text.contains("connection"),
        "{text}"
    );
    the_folder_is_there(env, "nobody answers");
    // Alone there is nothing to save.
    let alone = env.run(&[
        "backup",
        "--source",
        &format!("kubernetes:{}", env.path("kubeconfig").display()),
    ]);
    assert!(
        alone.starts_with("exit code: 1") && alone.contains("hint"),
        "{alone}"
    );
}

/// Credentials that may see the ConfigMaps of the namespace, and nothing else.
fn half_the_rights(env: &CliEnv, cluster: &Cluster) {
    let run = |arguments: &[&str]| cluster.kubectl(&[&["-n", "bumpy"], arguments].concat(), "");
    run(&["create", "serviceaccount", "half"]);
    run(&[
        "create",
        "role",
        "half",
        "--verb=get,list",
        "--resource=configmaps",
    ]);
    run(&[
        "create",
        "rolebinding",
        "half",
        "--role=half",
        "--serviceaccount=bumpy:half",
    ]);
    let token = || {
        let secrets = cluster.get(&["-n", "bumpy", "secrets"]);
        let all = secrets["items"].as_array().unwrap().clone();
        let of = |s: &Value| {
            s["metadata"]["annotations"]["kubernetes.io/service-account.name"] == "half"
        };
        all.into_iter()
            .find(|s| of(s) && s["data"]["token"].is_string())
    };
    wait_for("a token", || token().is_some());
    let name = token().unwrap()["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let template = "go-template={{.data.token | base64decode}}";
    let token = run(&["get", "secret", &name, "-o", template]);
    let text = std::fs::read_to_string(&cluster.kubeconfig).unwrap();
    configure(env, &text);
    let path = env.path("kubeconfig");
    let path = path.to_str().unwrap();
    let set = |arguments: &[&str]| {
        cluster.kubectl(&[&["config", "--kubeconfig", path], arguments].concat(), "")
    };
    set(&["set-credentials", "half", "--token", &token]);
    let context = set(&["current-context"]);
    set(&["set-context", context.trim(), "--user", "half"]);
    let report = env.json(&["backup", "all"]);
    assert_eq!(report["exit_code"], 3, "{report}");
    let text = report.to_string();
    assert!(
        text.contains("these credentials cannot list secrets in bumpy"),
        "{text}"
    );
    assert!(!text.contains(&token));
    assert_eq!(
        outcome(&report["points"][0], "configmaps in bumpy"),
        "saved"
    );
    run(&[
        "delete",
        "serviceaccount/half",
        "role/half",
        "rolebinding/half",
    ]);
}

/// A definition with two versions; the conversion between them is asked of nobody.
fn gizmos(cluster: &Cluster, storage: &str) {
    let version = |name: &str| {
        json!({"name": name, "served": true, "storage": name == storage, "schema": {"openAPIV3Schema":
               {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
    };
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gizmos.bumpy.example.org"},
        "spec": {"group": "bumpy.example.org", "scope": "Namespaced", "versions": [version("v1"), version("v2")],
            "names": {"plural": "gizmos", "singular": "gizmo", "kind": "Gizmo"},
            "conversion": {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
                "clientConfig": {"url": "https://127.0.0.1:1/convert"}}}}});
    cluster.apply_server_side(&definition.to_string());
    wait_for("gizmos are served", || {
        let path = format!("/apis/bumpy.example.org/{storage}");
        cluster
            .kubectl_command(&["get", "--raw", &path])
            .output()
            .unwrap()
            .status
            .success()
    });
    let gizmo = json!({"apiVersion": format!("bumpy.example.org/{storage}"), "kind": "Gizmo",
        "metadata": {"name": format!("stored-{storage}"), "namespace": "bumpy"}});
    let made = || {
        let file = cluster.kubeconfig.with_extension("gizmo");
        std::fs::write(&file, gizmo.to_string()).unwrap();
        let path = file.to_str().unwrap().to_owned();
        let mut create = cluster.kubectl_command(&["create", "--validate=false", "-f", &path]);
        create.output().unwrap().status.success()
    };
    wait_for("a gizmo is made", made);
}

fn a_conversion_is_down(env: &CliEnv, cluster: &Cluster) {
    // One stored in each version: neither can be listed.
    gizmos(cluster, "v1");
    gizmos(cluster, "v2");
    configure(env, &std::fs::read_to_string(&cluster.kubeconfig).unwrap());
    let report = env.json(&["backup", "all"]);
    assert_eq!(report["exit_code"], 3, "{report}");
    let text = report["points"][0]["findings"].to_string();
    assert!(
        text.contains("gizmos.bumpy.example.org in bumpy cannot be listed"),
        "{text}"
    );
    assert!(text.contains("conversion webhook"), "{text}");
    assert_eq!(
        outcome(&report["points"][0], "configmaps in bumpy"),
        "saved"
    );
    cluster.kubectl(
        &["delete", "crd", "gizmos.bumpy.example.org", "--wait=false"],
        "",
    );
}

#[test]
fn each_bad_input_has_its_outcome_and_the_rest_is_there() {
    let Some(cluster) = start(Level::Controllers) else {
        return;
    };
    let env = CliEnv::with_repository();
    prepare(&cluster);
    behind_a_proxy(&env, &cluster);
    objects_vanish(&env, &cluster);
    nobody_answers(&env);
    half_the_rights(&env, &cluster);
    a_conversion_is_down(&env, &cluster);
    a_target_refuses(&env, &cluster);
}
