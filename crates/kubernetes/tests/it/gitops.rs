//! P17 on a real API server: whoever declares an object in Git is suspended and resumed, or the
//! restore refuses.
//!
//! Invariant: afterwards a keeper is as it was, without a trace of us.

use refloat_model::cancel::Cancel;
use refloat_model::finding::Severity;
use refloat_model::plan::{GitKeepers, RestoreRequest};
use refloat_model::progress::Silent;
use refloat_source::Target as _;
use serde_json::{Value, json};

use crate::bed::{Adapter as _, Cluster, clusters, wait_for};
use crate::memory::MemoryPoint;

fn definition(group: &str, plural: &str, kind: &str) -> String {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": "Namespaced",
                 "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                 "versions": [{"name": "v1", "served": true, "storage": true, "schema":
                    {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
    .to_string()
}

fn install(cluster: &Cluster) {
    let flux = "kustomize.toolkit.fluxcd.io";
    cluster.apply(&definition(flux, "kustomizations", "Kustomization"));
    cluster.apply(&definition("argoproj.io", "applications", "Application"));
    wait_for("both are served", || {
        let served = cluster.kubectl(&["api-resources"], "");
        served.contains("Kustomization") && served.contains("argoproj.io")
    });
    cluster.apply("{apiVersion: v1, kind: Namespace, metadata: {name: declared}}");
    cluster.apply(
        "{apiVersion: kustomize.toolkit.fluxcd.io/v1, kind: Kustomization,
          metadata: {name: site, namespace: declared}, spec: {interval: 1m}}",
    );
    cluster.apply(
        "{apiVersion: argoproj.io/v1, kind: Application, metadata: {name: pay, namespace: declared},
          spec: {syncPolicy: {automated: {prune: true}}}}",
    );
    cluster.apply(
        "{apiVersion: v1, kind: List, items: [
          {apiVersion: v1, kind: ConfigMap, metadata: {name: by-flux, namespace: declared, labels: {
             kustomize.toolkit.fluxcd.io/name: site, kustomize.toolkit.fluxcd.io/namespace: declared}}},
          {apiVersion: v1, kind: ConfigMap, metadata: {name: by-argo, namespace: declared, annotations: {
             argocd.argoproj.io/tracking-id: 'pay:/ConfigMap:declared/by-argo'}}}]}",
    );
}

fn keepers(cluster: &Cluster) -> [(Value, Value); 2] {
    ["kustomization/site", "application/pay"].map(|name| {
        let live = cluster.get(&["-n", "declared", name]);
        let held = live["metadata"]["annotations"]["refloat.io/held"].clone();
        (live["spec"].clone(), held)
    })
}

#[test]
fn p17_keepers_are_suspended_and_resumed_or_the_restore_refuses() {
    let Some((_, b)) = clusters() else { return };
    install(b);
    let before = keepers(b);
    let point = MemoryPoint::capture(&b.source(&["declared"]));
    b.kubectl(
        &[
            "-n",
            "declared",
            "delete",
            "configmap",
            "by-flux",
            "by-argo",
        ],
        "",
    );
    let request = |git_keepers| RestoreRequest {
        only: vec![
            "config:declared/by-flux".into(),
            "config:declared/by-argo".into(),
        ],
        git_keepers,
        ..RestoreRequest::default()
    };
    let target = b.target();
    let refused = target.plan(&point, &request(GitKeepers::Refuse)).unwrap();
    let errors = refused
        .findings
        .iter()
        .filter(|f| f.severity == Severity::Error);
    let subjects: Vec<&str> = errors.map(|f| f.subject.as_str()).collect();
    assert_eq!(
        subjects,
        [
            "kustomizations.kustomize.toolkit.fluxcd.io/declared/site",
            "applications.argoproj.io/declared/pay"
        ]
    );
    assert!(!refused.is_executable());
    assert!(
        target
            .plan(&point, &request(GitKeepers::Ignore))
            .unwrap()
            .is_executable()
    );

    let request = request(GitKeepers::Suspend);
    let plan = target.plan(&point, &request).unwrap();
    assert!(plan.is_executable(), "{plan:#?}");
    let (silent, cancel) = (Silent::default(), Cancel::default());
    let report = target
        .execute(&plan, &point, &request, &silent, &cancel)
        .unwrap();
    assert!(report.is_complete(), "{report:#?}");
    let remarks = |name: &str| {
        let step = report.steps.iter().find(|s| s.step.name == name);
        step.unwrap().remarks.join(" ")
    };
    for subject in subjects {
        assert_eq!(remarks(subject), "suspended resumed");
    }
    assert_eq!(keepers(b), before);
    b.get(&["-n", "declared", "configmap", "by-flux"]);
    b.get(&["-n", "declared", "configmap", "by-argo"]);
}
