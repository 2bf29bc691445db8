//! What a target does not take: an object that is too large, one that it rejects, and a namespace
//! that cannot end.
//!
//! Invariant: what was left out is a failed step each, and the rest is in the cluster.

use refloat_testkit::kubernetes::Cluster;
use serde_json::{Value, json};

use crate::cli_env::CliEnv;

pub fn a_target_refuses(env: &CliEnv, cluster: &Cluster) {
    captured(env, cluster);
    stand_in_the_way(env, cluster);
    let address = format!("kubernetes:{}", cluster.kubeconfig.display());
    let rules = ["--transforms", "rules.yaml"];
    let restore = [&["restore", "latest", "--to", &address], &rules[..]].concat();
    let refused = env.run(&restore);
    assert!(refused.starts_with("exit code: 1"), "{refused}");
    for told in ["namespace stuck is being deleted", "--allow"] {
        assert!(refused.contains(told), "{refused}");
    }
    let restore = [&restore[..], &["--allow", "incomplete"]].concat();
    let looked = env.json(&[&restore[..], &["--dry-run"]].concat());
    let ends = (&looked["exit_code"], &looked["executable"]);
    assert_eq!(ends, (&3.into(), &true.into()), "{looked}");
    let report = env.json(&restore);
    let ends = (&report["exit_code"], &report["complete"]);
    assert_eq!(ends, (&3.into(), &false.into()), "{report}");
    told_apart(&report);
    let kinds = "configmaps,podtemplates";
    let names = cluster.kubectl(&["-n", "picky", "get", kinds, "-o", "name"], "");
    for name in ["configmap/good", "podtemplate/good"] {
        assert!(names.contains(name), "{names}");
    }
    hold(cluster, "null");
}

fn told_apart(report: &Value) {
    let steps = report["steps"].as_array().unwrap();
    for (name, told) in [
        ("configmaps/stuck/inside", "is being deleted"),
        ("podtemplates/picky/large", "too large"),
        ("configmaps/picky/bad", "422"),
        ("configmaps/picky/good", "null"),
        ("podtemplates/picky/good", "null"),
    ] {
        let step = steps.iter().find(|step| step["name"] == name);
        let step = step.unwrap_or_else(|| panic!("{name}: {report}"));
        assert!(step["error"].to_string().contains(told), "{step}");
    }
}

fn captured(env: &CliEnv, cluster: &Cluster) {
    for space in ["picky", "stuck"] {
        cluster.kubectl(&["create", "namespace", space], "");
    }
    for name in ["good", "large"] {
        let template = json!({"apiVersion": "v1", "kind": "PodTemplate",
            "metadata": {"name": name, "namespace": "picky"},
            "template": {"spec": {"containers": [{"name": "a", "image": "a",
                "env": [{"name": "E", "value": "v"}]}]}}});
        cluster.kubectl(&["create", "-f", "-"], &template.to_string());
    }
    for (space, name) in [("picky", "good"), ("picky", "bad"), ("stuck", "inside")] {
        cluster.kubectl(&["-n", space, "create", "configmap", name], "");
    }
    let config = "sources:\n  prod:\n    kubernetes:\n      kubeconfig: kubeconfig\n      namespaces: \
                  {names: [picky, stuck]}\n      cluster-wide: none\n      kinds: [namespaces, configmaps, \
                  podtemplates]\npolicies:\n  all: {select: [{source: prod}]}\n";
    env.write("refloat.yaml", config);
    // The image of the templates is in no source.
    env.run(&["backup", "all"]);
}

fn stand_in_the_way(env: &CliEnv, cluster: &Cluster) {
    cluster.kubectl(&["delete", "namespace", "picky", "--timeout=90s"], "");
    hold(cluster, r#"["example.org/never"]"#);
    cluster.kubectl(&["delete", "namespace", "stuck", "--wait=false"], "");
    let long = "x".repeat(1_700_000);
    let place = "/template/spec/containers/0/env/0/value";
    let rules = json!([
        {"when": {"kinds": ["configmaps"], "names": ["bad"]}, "merge": {"data": {"no/key": "v"}}},
        {"when": {"kinds": ["podtemplates"], "names": ["large"]},
         "patch": [{"op": "replace", "path": place, "value": long}]}]);
    env.write("rules.yaml", &rules.to_string());
}

/// Finalizers, by which a namespace cannot end.
fn hold(cluster: &Cluster, finalizers: &str) {
    let patch = format!("{{\"metadata\":{{\"finalizers\":{finalizers}}}}}");
    let object = ["-n", "stuck", "patch", "configmap", "inside"];
    cluster.kubectl(&[&object[..], &["--type=merge", "-p", &patch]].concat(), "");
}
