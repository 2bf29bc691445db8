//! What cannot be had whole or put back whole: a definition whose conversion is down, objects that
//! vanish, objects that the target does not take, credentials of half a cluster.
//!
//! Invariant: each has a named outcome, and the rest goes on.

use refloat_kubernetes::{Access, ClusterWide, KubernetesSource, KubernetesTarget, Options};
use refloat_model::cancel::Cancel;
use refloat_model::finding::{Finding, Severity};
use refloat_model::plan::{Action, RestorePlan, RestoreReport, RestoreRequest};
use refloat_model::progress::Silent;
use refloat_source::{Source as _, Target as _};
use serde_json::{Value, json};

use crate::bad_input::{kubeconfig, token};
use crate::bed::{Adapter as _, Cluster, clusters, globs, named, wait_for};
use crate::memory::{MemoryPoint, MemorySink};

const GIZMOS: &str = "gizmos.broken.example.org";

/// A definition that is stored as v1, and then as v2 with a conversion that nobody answers.
fn gizmos(cluster: &Cluster, second: bool) {
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema":
               {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
    };
    let mut spec = json!({"group": "broken.example.org", "scope": "Namespaced",
        "names": {"plural": "gizmos", "singular": "gizmo", "kind": "Gizmo"},
        "versions": [version("v1", !second)]});
    if second {
        spec["versions"] = json!([version("v1", false), version("v2", true)]);
        spec["conversion"] = json!({"strategy": "Webhook", "webhook": {
            "clientConfig": {"url": "https://127.0.0.1:1/convert"}, "conversionReviewVersions": ["v1"]}});
    }
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": GIZMOS}, "spec": spec});
    cluster.apply_server_side(&definition.to_string());
    let version = if second { "v2" } else { "v1" };
    wait_for("gizmos are served", || {
        let resources = cluster.kubectl(&["api-resources", "--api-group=broken.example.org"], "");
        let path = format!("/apis/broken.example.org/{version}");
        let mut raw = cluster.kubectl_command(&["get", "--raw", &path]);
        resources.contains("gizmos") && raw.output().unwrap().status.success()
    });
}

fn gizmo(cluster: &Cluster, version: &str, name: &str) {
    let object = json!({"apiVersion": format!("broken.example.org/{version}"), "kind": "Gizmo",
        "metadata": {"name": name, "namespace": "broken",
            "labels": {"app.kubernetes.io/instance": name}}, "spec": {"x": 1}});
    cluster.kubectl(
        &["create", "--validate=false", "-f", "-"],
        &object.to_string(),
    );
}

fn about(findings: &[Finding], subject: &str) -> Vec<(Severity, String)> {
    let of = findings.iter().filter(|f| f.subject == subject);
    of.map(|f| (f.severity, f.message.clone())).collect()
}

#[test]
fn a_dead_conversion_webhook_costs_at_most_what_needs_it() {
    let Some((a, _)) = clusters() else { return };
    a.kubectl(&["create", "namespace", "broken"], "");
    a.kubectl(&["-n", "broken", "create", "configmap", "plain"], "");
    gizmos(a, false);
    gizmo(a, "v1", "old");
    gizmos(a, true);
    // Stored as v1: v2 cannot be had, v1 needs no conversion.
    let source = a.source(&["broken"]);
    let findings = || source.discover(&Cancel::default()).unwrap().findings;
    wait_for("the preferred version is v2", || {
        !about(&findings(), GIZMOS).is_empty()
    });
    let told = about(&findings(), GIZMOS);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, Severity::Warning);
    assert!(told[0].1.contains("saved as v1"), "{told:?}");
    assert!(told[0].1.contains("conversion webhook"), "{told:?}");
    let point = MemoryPoint::capture(&source);
    let place = "/kubernetes/prod/resources/broken.example.org/v1/gizmos/broken/old.yaml";
    assert!(point.text(place).contains("kind: Gizmo"));

    // It belongs to its application in whatever version it can be had.
    let mut options = Options::new(a.access());
    options.namespaces = vec![named(&["broken"])];
    options.applications = globs(&["broken/old"]);
    let of_application = KubernetesSource::connect("prod", options).unwrap();
    let its_own = MemoryPoint::capture(&of_application);
    assert!(its_own.text(place).contains("kind: Gizmo"));
    let found = of_application.discover(&Cancel::default()).unwrap();
    assert_eq!(about(&found.findings, GIZMOS).len(), 1);

    // One stored as v2 as well: now neither version can be listed.
    gizmo(a, "v2", "new");
    let told = about(&findings(), GIZMOS);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, Severity::Error);
    assert!(
        told[0]
            .1
            .starts_with("gizmos.broken.example.org in broken cannot be listed")
    );
    let unsure = of_application.discover(&Cancel::default()).unwrap();
    let told = about(&unsure.findings, GIZMOS);
    assert!(
        told.iter()
            .all(|(severity, _)| *severity == Severity::Error)
    );
    assert!(
        told.iter().any(|(_, m)| m.contains("may be missing")),
        "{told:?}"
    );
    let rest = MemoryPoint::capture(&source);
    rest.text("/kubernetes/prod/resources/core/v1/configmaps/broken/plain.yaml");

    // The same definition in the way of a restore: those objects are a conflict, the rest is not.
    let request = RestoreRequest {
        only: vec!["broken".into()],
        ..RestoreRequest::default()
    };
    let plan = a.target().plan(&point, &request).unwrap();
    let action = |name: &str| &plan.steps.iter().find(|s| s.name == name).unwrap().action;
    let gizmo = action("gizmos.broken.example.org/broken/old");
    assert!(
        matches!(gizmo, Action::Conflict { why } if why.contains("cannot be seen") && why.contains("webhook")),
        "{gizmo:?}"
    );
    assert_eq!(action("configmaps/broken/plain"), &Action::Reuse);
}

#[test]
fn what_is_deleted_between_the_look_and_the_capture_is_named() {
    let Some((a, _)) = clusters() else { return };
    a.kubectl(&["create", "namespace", "fading"], "");
    for name in ["stays", "goes"] {
        a.kubectl(&["-n", "fading", "create", "configmap", name], "");
    }
    let mut options = Options::new(a.access());
    options.namespaces = vec![named(&["fading"])];
    let keeping = KubernetesSource::connect("prod", options.clone()).unwrap();
    options.kept_bytes_max = 0;
    let source = KubernetesSource::connect("prod", options).unwrap();
    let cancel = Cancel::default();
    keeping.discover(&cancel).unwrap();
    let inventory = source.discover(&cancel).unwrap();
    a.kubectl(&["-n", "fading", "delete", "configmap", "goes"], "");
    let title = "configmaps in fading";
    let item = inventory
        .items
        .iter()
        .find(|i| i.title == title && i.skip.is_none());
    // What the look kept is saved as of then, with what it needs.
    let mut sink = MemorySink::default();
    let captured = keeping.capture(item.unwrap(), &mut sink, &cancel).unwrap();
    assert_eq!((captured.findings, sink.files), (vec![], 3));

    let mut sink = MemorySink::default();
    let captured = source.capture(item.unwrap(), &mut sink, &cancel).unwrap();
    assert_eq!(
        captured.findings,
        [Finding::warning(
            title,
            "deleted while the backup ran, and not in it: 1 (fading/goes)"
        )]
    );
    assert_eq!(sink.files, 2);

    // With its namespace everything is gone: an empty folder, and each object named.
    a.kubectl(&["delete", "namespace", "fading", "--timeout=60s"], "");
    let captured = source.capture(item.unwrap(), &mut sink, &cancel).unwrap();
    assert!(
        captured.findings[0]
            .message
            .contains("fading/goes, fading/stays")
    );
}

fn execute(
    target: &KubernetesTarget,
    plan: &RestorePlan,
    point: &MemoryPoint,
    request: &RestoreRequest,
) -> RestoreReport {
    let (progress, cancel) = (Silent::default(), Cancel::default());
    target
        .execute(plan, point, request, &progress, &cancel)
        .unwrap()
}

/// Objects of which the target takes some: they have the shape of one that it takes, so that only
/// their making shows it.
fn picky() -> MemoryPoint {
    let template = |name: &str, length: usize| {
        let object = json!({"apiVersion": "v1", "kind": "PodTemplate",
            "metadata": {"name": name, "namespace": "picky"},
            "template": {"spec": {"containers": [{"name": "a", "image": "a",
                "env": [{"name": "LONG", "value": "x".repeat(length)}]}]}}});
        (
            format!("podtemplates/picky/{name}.yaml"),
            object.to_string(),
        )
    };
    let secret = |name: &str, key: &str| {
        let object = json!({"apiVersion": "v1", "kind": "Secret", "data": {key: "aHVudGVyMg=="},
            "metadata": {"name": name, "namespace": "picky"}});
        (format!("secrets/picky/{name}.yaml"), object.to_string())
    };
    let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "picky"}});
    let space = (
        "namespaces/_cluster/picky.yaml".to_owned(),
        space.to_string(),
    );
    MemoryPoint::of_files([
        template("a-short", 10),
        // More than etcd takes, and more than the API server takes.
        template("b-long", 1_700_000),
        template("c-longer", 4 << 20),
        secret("a-good", "key"),
        secret("b-bad", "no/key"),
        secret("c-good", "key"),
        space,
    ])
}

#[test]
fn what_the_target_does_not_take_is_named_and_the_rest_comes_back() {
    let Some((_, b)) = clusters() else { return };
    let (target, point, request) = (b.target(), picky(), RestoreRequest::default());
    let plan = target.plan(&point, &request).unwrap();
    assert!(plan.is_executable(), "{plan:?}");
    let long = about(&plan.findings, "podtemplates/picky/b-long");
    assert!(
        long[0].1.contains("servers store no more than 1572864"),
        "{long:?}"
    );
    let report = execute(&target, &plan, &point, &request);
    assert!(!report.is_complete());
    let failed: Vec<(&str, &str)> = report
        .steps
        .iter()
        .filter_map(|s| Some((s.step.name.as_str(), s.error.as_deref()?)))
        .collect();
    let why = |name: &str| failed.iter().find(|(n, _)| *n == name).unwrap().1;
    assert_eq!(failed.len(), 3, "{failed:?}");
    for (name, part) in [
        ("podtemplates/picky/b-long", "request is too large"),
        ("podtemplates/picky/c-longer", "413"),
        ("secrets/picky/b-bad", "422 Invalid"),
    ] {
        assert!(why(name).contains(part), "{failed:?}");
    }
    assert!(!format!("{failed:?}").contains("aHVudGVyMg"), "{failed:?}");
    let kinds = "podtemplates,secrets";
    let names = b.kubectl(&["-n", "picky", "get", kinds, "-o", "name"], "");
    for name in ["podtemplate/a-short", "secret/a-good", "secret/c-good"] {
        assert!(names.contains(name), "{names}");
    }
    another_shape_is_asked_about(&target);
}

/// Before anything is made.
fn another_shape_is_asked_about(target: &KubernetesTarget) {
    let bad = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "namespace": "picky"},
        "spec": {"ports": [{"port": "a lot"}]}});
    let point = MemoryPoint::of_files([("services/picky/x.yaml".to_owned(), bad.to_string())]);
    let plan = target.plan(&point, &RestoreRequest::default()).unwrap();
    assert!(
        matches!(&plan.steps[0].action, Action::Conflict { why } if why.contains("the target refuses it")),
        "{plan:?}"
    );
}

#[test]
fn credentials_of_one_namespace_restore_what_they_may_and_refuse_the_rest() {
    let Some((_, b)) = clusters() else { return };
    b.kubectl(&["create", "namespace", "half"], "");
    let run = |arguments: &[&str]| b.kubectl(&[&["-n", "half"], arguments].concat(), "");
    run(&["create", "serviceaccount", "half"]);
    let verbs = "--verb=get,list,create,update,patch";
    run(&["create", "role", "half", verbs, "--resource=configmaps"]);
    run(&[
        "create",
        "rolebinding",
        "half",
        "--role=half",
        "--serviceaccount=half:half",
    ]);
    let folder = tempfile::tempdir().unwrap();
    let access = kubeconfig(b, folder.path(), "half", &token(b, "half", "half"));
    let document = |kind: &str, name: &str| {
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "half"}})
            .to_string()
    };
    let owner = json!({"apiVersion": "v1", "kind": "Secret", "name": "unseen", "uid": "1"});
    let mut owned: Value = serde_json::from_str(&document("ConfigMap", "owned")).unwrap();
    owned["metadata"]["ownerReferences"] = json!([owner]);
    let point = MemoryPoint::of_files([
        (
            "configmaps/half/open.yaml".to_owned(),
            document("ConfigMap", "open"),
        ),
        ("configmaps/half/owned.yaml".to_owned(), owned.to_string()),
        (
            "secrets/half/closed.yaml".to_owned(),
            document("Secret", "closed"),
        ),
    ]);
    let target = KubernetesTarget::connect("prod", &access).unwrap();
    let request = |only: &str| RestoreRequest {
        only: vec![only.to_owned()],
        ..RestoreRequest::default()
    };
    let plan = target.plan(&point, &request("half")).unwrap();
    let action = |name: &str| &plan.steps.iter().find(|s| s.name == name).unwrap().action;
    assert_eq!(action("configmaps/half/open"), &Action::Create);
    let closed = action("secrets/half/closed");
    assert!(
        matches!(closed, Action::Conflict { why } if why.contains("403")),
        "{closed:?}"
    );

    let part = request("config:half/open");
    let plan = target.plan(&point, &part).unwrap();
    let report = execute(&target, &plan, &point, &part);
    assert!(report.is_complete(), "{report:?}");
    assert!(run(&["get", "configmap", "open", "-o", "name"]).contains("open"));

    // Whether its owner is there cannot be seen, so it is not said to be gone.
    let part = request("config:half/owned");
    let plan = target.plan(&point, &part).unwrap();
    assert_eq!(about(&plan.findings, "configmaps/half/owned"), []);
    let report = execute(&target, &plan, &point, &part);
    let errors: Vec<&str> = report
        .steps
        .iter()
        .filter_map(|s| s.error.as_deref())
        .collect();
    assert!(
        matches!(errors.as_slice(), [why] if why.starts_with("its owners cannot be linked: the API server answers 403")),
        "{errors:?}"
    );

    visible_to(access);
}

/// As a source: what is hidden is told, what is visible is there.
fn visible_to(access: Access) {
    let mut options = Options::new(access);
    options.namespaces = vec![named(&["half"])];
    options.cluster_wide = ClusterWide::None;
    options.kinds = globs(&["configmaps", "secrets"]);
    let source = KubernetesSource::connect("prod", options).unwrap();
    let inventory = source.discover(&Cancel::default()).unwrap();
    assert!(
        inventory
            .items
            .iter()
            .any(|i| i.title == "configmaps in half")
    );
    let told = about(&inventory.findings, "secrets");
    assert_eq!(
        told,
        [(
            Severity::Error,
            "these credentials cannot list secrets in half".to_owned()
        )]
    );
}
