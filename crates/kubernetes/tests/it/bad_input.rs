//! What is missing, forbidden, broken or in the way: a named outcome each, and the rest goes on.
//!
//! Invariant: no test here ends in silence about what was not done.

use refloat_kubernetes::{Access, KubernetesSource, KubernetesTarget, Options};
use refloat_model::cancel::Cancel;
use refloat_model::finding::Severity;
use refloat_model::plan::{Action, RestoreRequest};
use refloat_source::{Source as _, SourceError, Target as _, TargetError};

use crate::bed::{Adapter as _, Cluster, clusters, globs, named, wait_for};
use crate::memory::MemoryPoint;

const RBAC: &str = include_str!("../../rbac-backup.yaml");

/// A kubeconfig of the same cluster with other credentials.
pub fn kubeconfig(
    cluster: &Cluster,
    folder: &std::path::Path,
    account: &str,
    token: &str,
) -> Access {
    let path = folder.join(account);
    std::fs::copy(&cluster.kubeconfig, &path).unwrap();
    let set = |arguments: &[&str]| {
        let path = path.to_str().unwrap();
        cluster.kubectl(&[&["config", "--kubeconfig", path], arguments].concat(), "");
    };
    set(&["set-credentials", account, "--token", token]);
    let context = cluster.kubectl(&["config", "current-context"], "");
    set(&["set-context", context.trim(), "--user", account]);
    Access::Kubeconfig {
        files: vec![path],
        context: None,
    }
}

/// The token of a service account, made by the controllers.
pub fn token(cluster: &Cluster, space: &str, account: &str) -> String {
    let secrets = || cluster.get(&["-n", space, "secrets"]);
    let of_account = |secret: &&serde_json::Value| {
        secret["metadata"]["annotations"]["kubernetes.io/service-account.name"] == account
            && secret["data"]["token"].is_string()
    };
    let has = || {
        secrets()["items"]
            .as_array()
            .unwrap()
            .iter()
            .any(|s| of_account(&s))
    };
    wait_for("a token", has);
    let all = secrets();
    let secret = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(of_account)
        .unwrap();
    let name = secret["metadata"]["name"].as_str().unwrap();
    let template = "go-template={{.data.token | base64decode}}";
    cluster.kubectl(&["-n", space, "get", "secret", name, "-o", template], "")
}

#[test]
fn the_shipped_role_reads_everything_but_secrets_and_says_so() {
    let Some((a, _)) = clusters() else { return };
    a.kubectl(&["create", "namespace", "refloat"], "");
    a.kubectl(&["create", "namespace", "limited"], "");
    a.apply(RBAC);
    let folder = tempfile::tempdir().unwrap();
    let access = kubeconfig(
        a,
        folder.path(),
        "refloat-backup",
        &token(a, "refloat", "refloat-backup"),
    );
    let mut options = Options::new(access);
    options.namespaces = vec![named(&["limited"])];
    let discover = || {
        let source = KubernetesSource::connect("prod", options.clone()).unwrap();
        source.discover(&Cancel::default()).unwrap()
    };
    let hidden = |inventory: &refloat_model::item::Inventory| {
        let errors = inventory
            .findings
            .iter()
            .filter(|f| f.severity == Severity::Error);
        errors
            .map(|f| f.message.clone())
            .filter(|m| !m.contains("widgets"))
            .collect::<Vec<_>>()
    };
    let inventory = discover();
    assert_eq!(
        hidden(&inventory),
        ["these credentials cannot list secrets in limited"]
    );
    assert!(
        inventory
            .items
            .iter()
            .any(|i| i.title == "serviceaccounts in limited")
    );

    a.kubectl(
        &[
            "-n",
            "limited",
            "create",
            "rolebinding",
            "refloat-backup-secrets",
            "--clusterrole",
            "refloat-backup-secrets",
            "--serviceaccount",
            "refloat:refloat-backup",
        ],
        "",
    );
    wait_for("the binding counts", || hidden(&discover()).is_empty());
}

/// A role that grows is a decision: only reading, no wildcards, no Secrets cluster-wide.
#[test]
fn the_shipped_role_only_reads() {
    for line in RBAC
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
    {
        assert!(!line.contains('*'), "{line}");
        assert!(
            !line.contains("verbs:") || line.trim() == "verbs: [get, list]",
            "{line}"
        );
    }
    let documents: Vec<&str> = RBAC.split("\n---\n").collect();
    let with_secrets: Vec<_> = documents
        .iter()
        .filter(|d| d.contains("resources: [secrets]"))
        .collect();
    assert_eq!(with_secrets.len(), 1);
    let bindings = documents
        .iter()
        .filter(|d| d.contains("kind: ClusterRoleBinding"));
    assert!(bindings.clone().count() == 2);
    for binding in bindings {
        assert!(
            !binding.contains("name: refloat-backup-secrets}"),
            "{binding}"
        );
    }
}

#[test]
fn wrong_credentials_and_dead_servers_are_told_apart() {
    let Some((a, _)) = clusters() else { return };
    let folder = tempfile::tempdir().unwrap();
    let expired = KubernetesSource::connect(
        "prod",
        Options::new(kubeconfig(a, folder.path(), "nobody", "not-a-token")),
    )
    .unwrap();
    let Err(SourceError::Unavailable { cause, hint, .. }) = expired.discover(&Cancel::default())
    else {
        panic!("an expired token was accepted");
    };
    assert!(cause.to_string().contains("401"), "{cause}");
    assert_eq!(
        hint.as_deref(),
        Some("the credentials have expired or are wrong: log in again")
    );

    let text = std::fs::read_to_string(&a.kubeconfig).unwrap();
    let path = folder.path().join("dead");
    let port = text
        .split("127.0.0.1:")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    std::fs::write(
        &path,
        text.replace(&format!("127.0.0.1:{port}"), "127.0.0.1:1"),
    )
    .unwrap();
    let dead = Access::Kubeconfig {
        files: vec![path],
        context: None,
    };
    let dead = KubernetesSource::connect("prod", Options::new(dead)).unwrap();
    let Err(SourceError::Unavailable { cause, .. }) = dead.discover(&Cancel::default()) else {
        panic!("nobody answered");
    };
    assert!(cause.to_string().contains("connection"), "{cause}");

    let wrong = Access::Kubeconfig {
        files: vec![a.kubeconfig.clone()],
        context: Some("elsewhere".into()),
    };
    let error = KubernetesSource::connect("prod", Options::new(wrong))
        .err()
        .unwrap();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(
        cause,
        "the kubeconfig gives no usable context \"elsewhere\""
    );
}

#[test]
fn a_dead_aggregated_api_is_a_finding() {
    let Some((_, b)) = clusters() else { return };
    b.apply(
        "{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {name: v1.dead.example.org},
          spec: {group: dead.example.org, version: v1, groupPriorityMinimum: 100, versionPriority: 100,
                 insecureSkipTLSVerify: true, service: {namespace: default, name: nobody}}}",
    );
    let source = b.source(&["default"]);
    wait_for("a finding", || {
        let findings = source.discover(&Cancel::default()).unwrap().findings;
        findings
            .iter()
            .any(|f| f.severity == Severity::Error && f.subject == "dead.example.org/v1")
    });
    b.kubectl(&["delete", "apiservice", "v1.dead.example.org"], "");
}

#[test]
fn what_stands_in_the_way_of_a_restore_is_in_the_plan() {
    let Some((a, b)) = clusters() else { return };
    a.apply(
        "{apiVersion: v1, kind: List, items: [
          {apiVersion: v1, kind: Namespace, metadata: {name: blocked}},
          {apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: blocked-disk},
           provisioner: kubernetes.io/no-provisioner},
          {apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data, namespace: blocked},
           spec: {storageClassName: blocked-disk, accessModes: [ReadWriteOnce],
                  resources: {requests: {storage: 1Gi}}}},
          {apiVersion: v1, kind: Service, metadata: {name: web, namespace: blocked},
           spec: {type: NodePort, ports: [{port: 80, nodePort: 30555}]}},
          {apiVersion: v1, kind: ConfigMap, metadata: {name: plain, namespace: blocked}}]}",
    );
    let point = MemoryPoint::capture(&a.source(&["blocked"]));
    b.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: first, namespace: default},
          spec: {type: NodePort, ports: [{port: 80, nodePort: 30555}]}}",
    );
    let target = b.target();
    let request = |only: &[&str]| RestoreRequest {
        only: only.iter().map(|o| (*o).to_owned()).collect(),
        ..RestoreRequest::default()
    };
    let why = |only: &[&str], name: &str| {
        let plan = target.plan(&point, &request(only)).unwrap();
        match &plan.steps.iter().find(|s| s.name == name).unwrap().action {
            Action::Conflict { why } => why.clone(),
            other => panic!("{name}: {other:?}"),
        }
    };
    assert_eq!(
        why(&["blocked"], "services/blocked/web"),
        "node port 30555 belongs to service default/first"
    );
    b.kubectl(&["delete", "service", "first"], "");

    a_missing_class_is_told(&target, &point, request(&["blocked"]));

    let missing = target.plan(&point, &request(&["elsewhere"])).err().unwrap();
    assert!(
        matches!(missing, TargetError::NotInPoint { what, candidates }
        if what == "workload \"elsewhere\"" && candidates == ["blocked"])
    );

    // A namespace that cannot end.
    b.apply("{apiVersion: v1, kind: Namespace, metadata: {name: blocked}}");
    b.apply(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: stuck, namespace: blocked,
          finalizers: [example.org/never]}}",
    );
    b.kubectl(&["delete", "namespace", "blocked", "--wait=false"], "");
    assert_eq!(
        why(&["config:blocked/plain"], "configmaps/blocked/plain"),
        "namespace blocked is being deleted: wait until it is gone, then plan again"
    );
    let none = r#"{"metadata":{"finalizers":null}}"#;
    b.kubectl(
        &[
            "-n",
            "blocked",
            "patch",
            "configmap",
            "stuck",
            "--type=merge",
            "-p",
            none,
        ],
        "",
    );
}

fn a_missing_class_is_told(
    target: &KubernetesTarget,
    point: &MemoryPoint,
    request: RestoreRequest,
) {
    let renamed = RestoreRequest {
        rename: vec![("storage-class:blocked-disk".into(), "gone".into())],
        ..request
    };
    let plan = target.plan(point, &renamed).unwrap();
    let name = "persistentvolumeclaims/blocked/data";
    let claim = plan.steps.iter().find(|s| s.name == name).unwrap();
    assert!(
        matches!(&claim.action, Action::Conflict { why } if why.contains("no storage class gone"))
    );
}

/// Rights in each namespace, and none across the cluster.
#[test]
fn credentials_by_namespace_see_that_there_is_nothing() {
    let Some((a, _)) = clusters() else { return };
    let binding = |space: &str| {
        format!(
            "{{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding,
               metadata: {{name: by-space, namespace: {space}}},
               roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: by-space}},
               subjects: [{{kind: ServiceAccount, name: by-space, namespace: default}}]}}"
        )
    };
    let spaces = ["default", "kube-system", "kube-node-lease"];
    let bindings: Vec<String> = spaces.iter().map(|space| binding(space)).collect();
    a.apply(&format!(
        "{{apiVersion: v1, kind: List, items: [
          {{apiVersion: v1, kind: ServiceAccount, metadata: {{name: by-space, namespace: default}}}},
          {{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {{name: by-space}},
            rules: [{{apiGroups: [''], resources: [limitranges], verbs: [get, list]}}]}},
          {{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {{name: spaces}},
            rules: [{{apiGroups: [''], resources: [namespaces], verbs: [get, list]}}]}},
          {{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {{name: spaces}},
            roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: spaces}},
            subjects: [{{kind: ServiceAccount, name: by-space, namespace: default}}]}},
          {}]}}",
        bindings.join(", ")
    ));
    let folder = tempfile::tempdir().unwrap();
    let token = token(a, "default", "by-space");
    let mut options = Options::new(kubeconfig(a, folder.path(), "by-space", &token));
    options.kinds = globs(&["limitranges"]);
    let source = KubernetesSource::connect("prod", options).unwrap();
    let hidden = || {
        let found = source.discover(&Cancel::default()).unwrap().findings;
        let about = found.into_iter().filter(|f| f.subject == "limitranges");
        about.map(|f| f.message).collect::<Vec<_>>()
    };
    let one = ["these credentials cannot list limitranges in kube-public"];
    wait_for("the bindings count", || hidden() == one);
    a.apply(&binding("kube-public"));
    wait_for("all bindings count", || hidden().is_empty());
    for space in spaces.iter().chain(&["kube-public"]) {
        a.kubectl(&["-n", space, "delete", "rolebinding", "by-space"], "");
    }
    let all = ["these credentials cannot list limitranges"];
    wait_for("no binding counts", || hidden() == all);
}

#[test]
fn what_is_to_be_captured_and_is_not_there_is_an_error() {
    let Some((a, _)) = clusters() else { return };
    let mut options = Options::new(a.access());
    options.kinds = globs(&["namespaces", "configmaps", "secret"]);
    options.namespaces = vec![named(&["default", "defualt*"])];
    let source = KubernetesSource::connect("prod", options).unwrap();
    let findings = source.discover(&Cancel::default()).unwrap().findings;
    let told = findings.iter().filter(|f| f.severity >= Severity::Warning);
    let told: Vec<(Severity, &str)> = told.map(|f| (f.severity, f.message.as_str())).collect();
    assert_eq!(
        told,
        [
            // It may fit something tomorrow.
            (
                Severity::Warning,
                "the cluster has no namespace defualt*, so nothing of it is saved"
            ),
            (
                Severity::Error,
                "the server has no kind secret, so none is saved; it has secrets"
            ),
        ]
    );
}
