use super::*;
use serde_json::json;

fn check(kind: &str, object: &Value, expected: &[&str]) {
    let found: BTreeSet<String> = references(kind, object)
        .iter()
        .map(|reference| reference.subject("prod").to_string())
        .collect();
    let expected: BTreeSet<String> = expected.iter().map(|s| (*s).to_owned()).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_workload_needs_all_that_its_pods_mount_and_run() {
    let pod = json!({
        "serviceAccountName": "web",
        "priorityClassName": "gold",
        "imagePullSecrets": [{"name": "pull"}],
        "initContainers": [{"image": "init:1"}],
        "containers": [{
            "image": "registry.local/web@sha256:aa",
            "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "env", "key": "a"}}},
                    {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "not", "optional": true}}}],
            "envFrom": [{"configMapRef": {"name": "settings"}}],
        }],
        "volumes": [{"secret": {"secretName": "tls"}}, {"configMap": {"name": "files"}},
                    {"persistentVolumeClaim": {"claimName": "data"}},
                    {"projected": {"sources": [{"secret": {"name": "projected"}}]}}],
    });
    let expected = [
        "object:namespaces/shop",
        "object:serviceaccounts/shop/web",
        "object:priorityclasses.scheduling.k8s.io/gold",
        "secret:shop/pull",
        "image:init:1",
        "image:registry.local/web@sha256:aa",
        "secret:shop/env",
        "config:shop/settings",
        "secret:shop/tls",
        "config:shop/files",
        "object:persistentvolumeclaims/shop/data",
        "secret:shop/projected",
    ];
    let metadata = json!({"name": "web", "namespace": "shop"});
    for (kind, spec) in [
        ("pods", pod.clone()),
        (
            "deployments.apps",
            json!({"template": {"spec": pod.clone()}}),
        ),
        (
            "cronjobs.batch",
            json!({"jobTemplate": {"spec": {"template": {"spec": pod}}}}),
        ),
    ] {
        check(
            kind,
            &json!({"metadata": metadata, "spec": spec}),
            &expected,
        );
    }
}

#[test]
fn claims_bindings_ingresses_and_webhooks_name_what_they_need() {
    let metadata = json!({"name": "x", "namespace": "shop"});
    check(
        "persistentvolumeclaims",
        &json!({"metadata": metadata, "spec": {"storageClassName": "fast", "volumeName": "pv1"}}),
        &[
            "object:namespaces/shop",
            "object:storageclasses.storage.k8s.io/fast",
            "object:persistentvolumes/pv1",
            "volume:shop/x",
        ],
    );
    check(
        "rolebindings.rbac.authorization.k8s.io",
        &json!({"metadata": metadata, "roleRef": {"kind": "Role", "name": "r"},
                "subjects": [{"kind": "ServiceAccount", "name": "web"}, {"kind": "User", "name": "u"}]}),
        &[
            "object:namespaces/shop",
            "object:roles.rbac.authorization.k8s.io/shop/r",
            "object:serviceaccounts/shop/web",
        ],
    );
    check(
        "ingresses.networking.k8s.io",
        &json!({"metadata": metadata, "spec": {"ingressClassName": "nginx",
                "tls": [{"secretName": "tls"}], "rules": [{"http": {"paths": [
                    {"backend": {"service": {"name": "web"}}}]}}]}}),
        &[
            "object:namespaces/shop",
            "object:ingressclasses.networking.k8s.io/nginx",
            "secret:shop/tls",
            "object:services/shop/web",
        ],
    );
    check(
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        &json!({"metadata": {"name": "x"}, "webhooks": [
            {"clientConfig": {"service": {"namespace": "shop", "name": "hook"}}}]}),
        &["object:services/shop/hook"],
    );
}

#[test]
fn openshifts_kinds_need_services_streams_and_secrets() {
    let metadata = json!({"name": "web", "namespace": "shop"});
    check(
        "routes.route.openshift.io",
        &json!({"metadata": metadata, "spec": {"host": "web.apps.example", "to": {"kind": "Service", "name": "web"},
            "alternateBackends": [{"kind": "Service", "name": "other"}],
            "tls": {"termination": "edge", "externalCertificate": {"name": "tls"}}}}),
        &[
            "object:namespaces/shop",
            "object:services/shop/web",
            "object:services/shop/other",
            "secret:shop/tls",
        ],
    );
    check(
        "deploymentconfigs.apps.openshift.io",
        &json!({"metadata": metadata, "spec": {
            "triggers": [{"type": "ConfigChange"}, {"type": "ImageChange", "imageChangeParams": {
                "containerNames": ["a"], "from": {"kind": "ImageStreamTag", "name": "web:1", "namespace": "images"}}}],
            "template": {"spec": {"containers": [{"image": " "}, {"image": "registry.local/side:2"}]}}}}),
        &[
            "object:namespaces/shop",
            "object:imagestreams.image.openshift.io/images/web",
            "image:registry.local/side:2",
        ],
    );
    check(
        "buildconfigs.build.openshift.io",
        &json!({"metadata": metadata, "spec": {
            "output": {"to": {"kind": "ImageStreamTag", "name": "web:1"}, "pushSecret": {"name": "push"}},
            "source": {"git": {"uri": "https://git.example/web"}, "sourceSecret": {"name": "git"},
                       "configMaps": [{"configMap": {"name": "settings"}}]},
            "strategy": {"type": "Docker", "dockerStrategy": {"from": {"kind": "DockerImage", "name": "base:1"}}}}}),
        &[
            "object:namespaces/shop",
            "object:imagestreams.image.openshift.io/shop/web",
            "secret:shop/push",
            "secret:shop/git",
            "config:shop/settings",
        ],
    );
}

#[test]
fn what_openshift_issues_to_accounts_is_not_needed() {
    let metadata = json!({"name": "web", "namespace": "shop"});
    let pull = json!([{"name": "web-dockercfg-x7k2p"}, {"name": "other-dockercfg-x7k2p"},
        {"name": "default-dockercfg-b2b2b"}, {"name": "web-dockercfg"}]);
    check(
        "serviceaccounts",
        &json!({"metadata": metadata, "imagePullSecrets": pull}),
        &[
            "object:namespaces/shop",
            "secret:shop/other-dockercfg-x7k2p",
            "secret:shop/default-dockercfg-b2b2b",
            "secret:shop/web-dockercfg",
        ],
    );
    let spec = json!({"containers": [], "imagePullSecrets": pull});
    check(
        "pods",
        &json!({"metadata": metadata, "spec": spec}),
        &[
            "object:namespaces/shop",
            "secret:shop/web-dockercfg-x7k2p",
            "secret:shop/other-dockercfg-x7k2p",
            "secret:shop/web-dockercfg",
        ],
    );
}
