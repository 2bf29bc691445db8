//! What is captured by application and expression, what is restored by expression, and what
//! transforms with conditions make of it, on real servers.
//!
//! Invariant: what a selection leaves out is not in the point.

use refloat_kubernetes::{Expression, KubernetesSource, KubernetesTarget, Options};
use refloat_model::cancel::Cancel;
use refloat_model::finding::Severity;
use refloat_model::plan::RestoreRequest;
use refloat_model::progress::Silent;
use refloat_model::subject::SubjectKind;
use refloat_source::{Source as _, Target as _, TargetError};
use serde_json::{Value, json};

use crate::bed::{Adapter as _, Cluster, clusters, globs, named};
use crate::memory::MemoryPoint;

const PARTS: &str = "{apiVersion: v1, kind: List, items: [
  {apiVersion: v1, kind: Namespace, metadata: {name: parts}},
  {apiVersion: v1, kind: ConfigMap, metadata: {name: web, namespace: parts,
    labels: {app.kubernetes.io/instance: web}}, data: {size: '1'}},
  {apiVersion: v1, kind: ConfigMap, metadata: {name: db, namespace: parts,
    annotations: {meta.helm.sh/release-name: db}}, data: {size: '20'}},
  {apiVersion: v1, kind: ConfigMap, metadata: {name: alone, namespace: parts}},
  {apiVersion: v1, kind: Secret, metadata: {name: sh.helm.release.v1.db.v1, namespace: parts,
    labels: {owner: helm, name: db}}, type: helm.sh/release.v1},
  {apiVersion: apps/v1, kind: Deployment, metadata: {name: big, namespace: parts,
    labels: {app.kubernetes.io/name: web, tier: front}},
    spec: {replicas: 3, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}},
      spec: {containers: [{name: a, image: 'registry.old/a:1'}]}}}},
  {apiVersion: apps/v1, kind: Deployment, metadata: {name: small, namespace: parts},
    spec: {replicas: 1, selector: {matchLabels: {a: c}}, template: {metadata: {labels: {a: c}},
      spec: {containers: [{name: a, image: 'other/a:1'}]}}}},
  {apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: front, namespace: parts},
    spec: {ingressClassName: old, rules: [{host: shop.example.org}], defaultBackend:
      {service: {name: x, port: {number: 80}}}}},
  {apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data, namespace: parts},
    spec: {storageClassName: fast, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]}";

/// Objects that belong to the ConfigMap of `web`, one through the other.
fn owned(cluster: &Cluster) {
    let mut owner = cluster.get(&["-n", "parts", "configmap", "web"]);
    for name in ["child", "grandchild"] {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "parts", "ownerReferences": [{"apiVersion": "v1",
                "kind": "ConfigMap", "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}]}});
        cluster.apply_server_side(&object.to_string());
        owner = cluster.get(&["-n", "parts", "configmap", name]);
    }
}

/// A ConfigMap that belongs to `web` through a Secret.
fn owned_through_a_secret(cluster: &Cluster) {
    let owner = |kind: &str, object: &Value| {
        json!([{"apiVersion": "v1", "kind": kind, "name": object["metadata"]["name"],
            "uid": object["metadata"]["uid"]}])
    };
    let web = cluster.get(&["-n", "parts", "configmap", "web"]);
    let between = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "between",
        "namespace": "parts", "ownerReferences": owner("ConfigMap", &web)}});
    cluster.apply_server_side(&between.to_string());
    let between = cluster.get(&["-n", "parts", "secret", "between"]);
    let leaf = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "leaf",
        "namespace": "parts", "ownerReferences": owner("Secret", &between)}});
    cluster.apply_server_side(&leaf.to_string());
}

/// The names of what a capture holds of the namespace, beside its own furniture.
fn names(cluster: &Cluster, change: impl FnOnce(&mut Options)) -> Vec<String> {
    let mut options = Options::new(cluster.access());
    options.namespaces = vec![named(&["parts"])];
    change(&mut options);
    let point = MemoryPoint::capture(&KubernetesSource::connect("prod", options).unwrap());
    let files = point.files("/kubernetes/prod/resources");
    let names = files
        .keys()
        .filter(|path| path.contains("/parts/") && path.ends_with(".yaml"));
    let mut names: Vec<String> = names
        .map(|path| {
            let parts: Vec<&str> = path.rsplit('/').collect();
            format!("{}/{}", parts[2], parts[0].trim_end_matches(".yaml"))
        })
        .filter(|name| name != "serviceaccounts/default")
        .collect();
    names.sort();
    names
}

/// No field ties a claim to the set that its controller made it for.
#[test]
fn claims_of_a_stateful_set_belong_to_its_application() {
    let Some((a, _)) = clusters() else { return };
    let claim = |name: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name,
            "namespace": "stores"}, "spec": {"storageClassName": "", "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}})
    };
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "es-master",
        "namespace": "stores", "annotations": {"meta.helm.sh/release-name": "es"}},
        "spec": {"replicas": 0, "serviceName": "es", "selector": {"matchLabels": {"app": "es"}},
            "template": {"metadata": {"labels": {"app": "es"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let (own, other) = ("data-es-master-0", "data-other-0");
    let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "stores"}});
    for object in [space, set, claim(own), claim(other)] {
        a.apply(&object.to_string());
    }
    let mut options = Options::new(a.access());
    options.namespaces = vec![named(&["stores"])];
    options.applications = globs(&["stores/es"]);
    let source = KubernetesSource::connect("prod", options).unwrap();
    let captured = MemoryPoint::capture(&source);
    let files = captured.files("/kubernetes/prod/resources");
    let is_saved = |claim: &str| {
        files
            .keys()
            .any(|path| path.ends_with(&format!("/{claim}.yaml")))
    };
    assert_eq!([is_saved(own), is_saved(other)], [true, false]);

    let source = a.source(&["stores"]);
    let inventory = source.discover(&Cancel::default()).unwrap();
    let application = inventory
        .workloads
        .iter()
        .find(|w| w.name == "stores/es")
        .unwrap();
    let needs = |claim: &str| {
        let mut requires = application.requires.iter();
        requires.any(|subject| subject.kind == SubjectKind::Volume && subject.name.ends_with(claim))
    };
    assert_eq!([needs(own), needs(other)], [true, false]);

    let point = MemoryPoint::capture(&source);
    a.kubectl(
        &[
            "-n",
            "stores",
            "delete",
            "--wait=false",
            "statefulset/es-master",
        ],
        "",
    );
    let request = RestoreRequest {
        only: vec!["stores/es".into()],
        ..RestoreRequest::default()
    };
    let plan = a.target().plan(&point, &request).unwrap();
    let is_planned = |claim: &str| {
        let name = format!("persistentvolumeclaims/stores/{claim}");
        plan.steps.iter().any(|step| step.name == name)
    };
    assert_eq!([is_planned(own), is_planned(other)], [true, false]);
}

fn expression(text: &str) -> Option<Expression> {
    Some(Expression::parse(text).unwrap())
}

#[test]
fn applications_and_expressions_select_what_is_captured_and_restored() {
    let Some((a, b)) = clusters() else { return };
    a.apply(PARTS);
    owned(a);
    assert_eq!(
        names(a, |o| o.applications = globs(&["parts/web"])),
        [
            "configmaps/child",
            "configmaps/grandchild",
            "configmaps/web",
            "deployments/big"
        ]
    );
    assert_eq!(
        names(a, |o| o.applications = globs(&["*/db"])),
        ["configmaps/db", "secrets/sh.helm.release.v1.db.v1"]
    );
    assert_eq!(
        names(a, |o| o.expression = expression(
            "kind == 'deployments.apps' && object.spec.replicas > 2"
        )),
        ["deployments/big"]
    );
    assert_eq!(
        names(a, |o| o.expression = expression(
            "kind == 'configmaps' && has(object.data) && 'size' in object.data"
        )),
        ["configmaps/db", "configmaps/web"]
    );
    // What it cannot judge is saved, and told.
    let mut options = Options::new(a.access());
    options.namespaces = vec![named(&["parts"])];
    options.kinds = globs(&["configmaps"]);
    options.expression = expression("object.data.size == '20'");
    let source = KubernetesSource::connect("prod", options).unwrap();
    let inventory = source.discover(&Cancel::default()).unwrap();
    let told = inventory
        .findings
        .iter()
        .find(|f| f.severity == Severity::Warning)
        .unwrap();
    // Not judged: alone, child, grandchild and the cluster's own certificate have no data or size.
    assert!(
        told.message
            .starts_with("the expression cannot judge 4 configmaps"),
        "{told:?}"
    );
    let item = inventory.items.iter().find(|i| i.skip.is_none()).unwrap();
    assert_eq!(item.provides.len(), 4, "{:?}", item.provides);

    // What else is left out does not cut off what lies behind it.
    owned_through_a_secret(a);
    for leave_out in [
        (|o| o.exclude_kinds = globs(&["secrets"])) as fn(&mut Options),
        |o| o.kinds = globs(&["configmaps"]),
        |o| o.names = globs(&["leaf"]),
    ] {
        let seen = names(a, |o| {
            o.applications = globs(&["parts/web"]);
            leave_out(o);
        });
        assert!(seen.contains(&"configmaps/leaf".to_owned()), "{seen:?}");
        assert!(!seen.contains(&"secrets/between".to_owned()), "{seen:?}");
    }
    a.kubectl(
        &["-n", "parts", "delete", "configmap/leaf", "secret/between"],
        "",
    );

    restored_by_expression(b, &MemoryPoint::capture(&a.source(&["parts"])));
}

/// Two kinds by expression, everything mapped, and two transforms with conditions.
fn elsewhere() -> RestoreRequest {
    let pairs = [
        ("namespace:parts", "elsewhere"),
        ("storage-class:fast", "slow"),
        ("ingress-class:old", "new"),
        ("image:registry.old/", "registry.new/"),
        ("host:shop.example.org", "copy.example.org"),
        ("label:tier:front", "back"),
    ];
    RestoreRequest {
        only: vec![
            "where:kind == 'deployments.apps' && object.spec.replicas > 2".into(),
            "where:kind in ['ingresses.networking.k8s.io', 'persistentvolumeclaims']".into(),
        ],
        rename: pairs.map(|(from, to)| (from.to_owned(), to.to_owned())).into(),
        transforms: vec![
            "[{when: {expression: \"kind == 'deployments.apps' && \
                object.spec.template.spec.containers.exists(c, c.image.startsWith('registry.new/'))\"},
               patch: [{op: replace, path: /spec/replicas, value: 2}]},
              {when: {expression: \"kind == 'persistentvolumeclaims'\"},
               merge: {spec: {resources: {requests: {storage: 2Gi}}}}}]"
                .into(),
        ],
        ..RestoreRequest::default()
    }
}

fn restored_by_expression(cluster: &Cluster, point: &MemoryPoint) {
    cluster.apply(
        "{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: slow},
        provisioner: kubernetes.io/no-provisioner}",
    );
    let request = elsewhere();
    cluster.kubectl(&["create", "namespace", "elsewhere"], "");
    let target = cluster.target();
    let plan = target.plan(point, &request).unwrap();
    let warned = plan
        .findings
        .iter()
        .any(|f| f.message.starts_with("the target has no ingress class new"));
    assert!(warned, "{:?}", plan.findings);
    let (progress, cancel) = (Silent::default(), Cancel::default());
    let report = target
        .execute(&plan, point, &request, &progress, &cancel)
        .unwrap();
    assert!(report.is_complete(), "{report:?}");
    let get = |kind: &str, name: &str| cluster.get(&["-n", "elsewhere", kind, name]);
    let big = get("deployment", "big");
    assert_eq!(big["spec"]["replicas"], 2);
    assert_eq!(big["metadata"]["labels"]["tier"], "back");
    assert_eq!(
        big["spec"]["template"]["spec"]["containers"][0]["image"],
        "registry.new/a:1"
    );
    let front = get("ingress", "front");
    assert_eq!(front["spec"]["ingressClassName"], "new");
    assert_eq!(front["spec"]["rules"][0]["host"], "copy.example.org");
    let data = get("persistentvolumeclaim", "data");
    assert_eq!(data["spec"]["storageClassName"], "slow");
    assert_eq!(data["spec"]["resources"]["requests"]["storage"], "2Gi");
    let all: Value = cluster.get(&["-n", "elsewhere", "deployments,configmaps"]);
    let names: Vec<&str> = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|o| o["metadata"]["name"].as_str())
        .filter(|name| *name != "kube-root-ca.crt")
        .collect();
    assert_eq!(names, ["big"]);
    wrong_expressions_are_refused(&target, point);
}

fn wrong_expressions_are_refused(target: &KubernetesTarget, point: &MemoryPoint) {
    for (only, part) in [
        ("where:kind == 'nothing'", "object that fits"),
        ("where:kind ==", "not understood"),
    ] {
        let request = RestoreRequest {
            only: vec![only.into()],
            ..RestoreRequest::default()
        };
        let error = target.plan(point, &request).err().unwrap();
        assert!(error.to_string().contains(part), "{error}");
        assert!(matches!(
            error,
            TargetError::NotInPoint { .. } | TargetError::Request { .. }
        ));
    }
}
