use super::*;
use serde_json::json;

/// Sanitises `object` and expects `expected`; twice must be the same as once.
fn check(id: &str, mut object: Value, expected: &Value) {
    sanitise(id, &mut object, None);
    assert_eq!(&object, expected, "{id}");
    sanitise(id, &mut object, None);
    assert_eq!(&object, expected, "{id}, the second time");
}

#[test]
fn p1_stale_metadata_and_unknown_finalizers_go() {
    check(
        "configmaps",
        json!({"metadata": {"name": "a", "namespace": "n", "generateName": "a-", "uid": "1",
               "deletionTimestamp": "t", "clusterName": "c", "labels": {"l": "1"},
               "finalizers": ["gone.example.org/x", "kubernetes.io/pvc-protection"],
               "annotations": {"deployment.kubernetes.io/revision": "3", "mine": "1"}},
               "status": {"a": 1}}),
        &json!({"metadata": {"name": "a", "namespace": "n", "labels": {"l": "1"},
                "annotations": {"mine": "1"}}}),
    );
}

/// In `autoscaling/v1` that annotation is the field `spec.behavior` of later versions.
#[test]
fn an_autoscaler_keeps_its_behaviour() {
    let key = |word: &str| format!("autoscaling.alpha.kubernetes.io/{word}");
    check(
        "horizontalpodautoscalers.autoscaling",
        json!({"metadata": {"name": "a", "annotations": {key("behavior"): "b", key("metrics"): "m",
               key("conditions"): "c", key("current-metrics"): "d"}}}),
        &json!({"metadata": {"name": "a", "annotations": {key("behavior"): "b", key("metrics"): "m"}}}),
    );
}

#[test]
fn p5_issued_tokens_go_and_hand_made_ones_are_emptied() {
    check(
        "secrets",
        json!({"metadata": {"name": "mine", "annotations": {"kubernetes.io/service-account.name": "a",
               "kubernetes.io/service-account.uid": "1"}},
               "type": "kubernetes.io/service-account-token",
               "data": {"token": "x", "ca.crt": "y", "namespace": "z", "extra": "e"}}),
        &json!({"metadata": {"name": "mine",
                "annotations": {"kubernetes.io/service-account.name": "a"}},
                "type": "kubernetes.io/service-account-token", "data": {"extra": "e"}}),
    );
    check(
        "secrets",
        json!({"metadata": {"name": "s"}, "type": "Opaque", "data": {"token": "x"}}),
        &json!({"metadata": {"name": "s"}, "type": "Opaque", "data": {"token": "x"}}),
    );
    check(
        "serviceaccounts",
        json!({"metadata": {"name": "a", "annotations": {
                   "openshift.io/internal-registry-pull-secret-ref": "a-dockercfg-x"}},
               "imagePullSecrets": [{"name": "pull"}, {"name": "a-dockercfg-x"}],
               "secrets": [{"name": "a-token-x7k2p"}]}),
        &json!({"metadata": {"name": "a"}, "imagePullSecrets": [{"name": "pull"}]}),
    );
}

#[test]
fn p6_addresses_go_and_chosen_ports_stay() {
    let ports = json!([{"port": 80, "nodePort": 30080}, {"port": 81, "nodePort": 31111}]);
    let spec = json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": ports,
                      "healthCheckNodePort": 32000, "type": "NodePort"});
    let applied = r#"{"spec":{"ports":[{"port":80,"nodePort":30080}]}}"#;
    let key = "kubectl.kubernetes.io/last-applied-configuration";
    check(
        "services",
        json!({"metadata": {"name": "s", "annotations": {key: applied}}, "spec": spec}),
        &json!({"metadata": {"name": "s", "annotations": {key: applied}}, "spec": {
                "ports": [{"port": 80, "nodePort": 30080}, {"port": 81}], "type": "NodePort"}}),
    );

    let mut owned = json!({"metadata": {"name": "s"}, "spec": spec});
    let server = json!({"metadata": {"managedFields": [{"fieldsV1": {"f:spec": {"f:ports": {
        "k:{\"port\":81,\"protocol\":\"TCP\"}": {"f:nodePort": {}}}}}}]}});
    sanitise("services", &mut owned, Some(&server));
    assert_eq!(
        owned.pointer("/spec/ports"),
        Some(&json!([{"port": 80}, {"port": 81, "nodePort": 31111}]))
    );

    check(
        "services",
        json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "None"}}),
        &json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "None"}}),
    );
}

#[test]
fn p6_chosen_families_stay_with_their_policy() {
    let service = json!({"metadata": {"name": "s"},
        "spec": {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"]}});
    let families = |field: &str| {
        let server =
            json!({"metadata": {"managedFields": [{"fieldsV1": {"f:spec": {field: {}}}}]}});
        let mut service = service.clone();
        sanitise("services", &mut service, Some(&server));
        service.get("spec").cloned()
    };
    assert_eq!(families("f:ipFamilies").as_ref(), service.get("spec"));
    assert_eq!(families("f:ports"), Some(json!({})));
}

#[test]
fn p7_claims_and_volumes_are_bound_anew() {
    check(
        "persistentvolumeclaims",
        json!({"metadata": {"name": "d", "finalizers": ["kubernetes.io/pvc-protection"],
               "annotations": {"pv.kubernetes.io/bind-completed": "yes",
               "pv.kubernetes.io/bound-by-controller": "yes",
               "volume.beta.kubernetes.io/storage-provisioner": "p",
               "volume.kubernetes.io/selected-node": "n"}},
               "spec": {"volumeName": "pvc-1", "storageClassName": "fast"}}),
        &json!({"metadata": {"name": "d"}, "spec": {"storageClassName": "fast"}}),
    );
    check(
        "persistentvolumes",
        json!({"metadata": {"name": "p"}, "spec": {"claimRef": {"name": "d", "namespace": "n",
               "uid": "1", "resourceVersion": "2"}}}),
        &json!({"metadata": {"name": "p"}, "spec": {"claimRef": {"name": "d", "namespace": "n"}}}),
    );
}

#[test]
fn p4_and_p12_webhooks_and_definitions_become_valid() {
    check(
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        json!({"metadata": {"name": "w"}, "webhooks": [{"name": "a", "sideEffects": "Unknown"},
               {"name": "b", "sideEffects": "NoneOnDryRun", "admissionReviewVersions": ["v1"]}]}),
        &json!({"metadata": {"name": "w"}, "webhooks": [
                {"name": "a", "sideEffects": "None", "admissionReviewVersions": ["v1", "v1beta1"]},
                {"name": "b", "sideEffects": "NoneOnDryRun", "admissionReviewVersions": ["v1"]}]}),
    );
    check(
        "customresourcedefinitions.apiextensions.k8s.io",
        json!({"metadata": {"name": "w"}, "spec": {"preserveUnknownFields": true, "versions": [
               {"name": "v1", "schema": {"openAPIV3Schema": {"type": "object"}}}]}}),
        &json!({"metadata": {"name": "w"}, "spec": {"versions": [
                {"name": "v1", "schema": {"openAPIV3Schema": {"type": "object",
                 "x-kubernetes-preserve-unknown-fields": true}}}]}}),
    );
}

#[test]
fn p15_jobs_lose_the_labels_of_their_old_controller() {
    let labels = json!({"controller-uid": "1", "batch.kubernetes.io/controller-uid": "1",
                        "job-name": "j", "app": "a"});
    check(
        "jobs.batch",
        json!({"metadata": {"name": "j", "labels": labels}, "spec": {
               "selector": {"matchLabels": {"controller-uid": "1"}},
               "template": {"metadata": {"labels": labels, "creationTimestamp": null}}}}),
        &json!({"metadata": {"name": "j", "labels": {"app": "a"}}, "spec": {
                "template": {"metadata": {"labels": {"app": "a"}}}}}),
    );
    let manual = json!({"metadata": {"name": "j"}, "spec": {"manualSelector": true,
        "selector": {"matchLabels": {"job-name": "x"}},
        "template": {"metadata": {"labels": {"job-name": "x"}}}}});
    check("jobs.batch", manual.clone(), &manual);
}

#[test]
fn p8_snapshots_are_bound_to_the_handle_that_the_storage_has() {
    let mut snapshot = json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {
        "volumeSnapshotClassName": "old", "source": {"persistentVolumeClaimName": "d"}}});
    let bound = json!({"status": {"boundVolumeSnapshotContentName": "snapcontent-1"}});
    sanitise(
        "volumesnapshots.snapshot.storage.k8s.io",
        &mut snapshot,
        Some(&bound),
    );
    let mut content = json!({"metadata": {"name": "snapcontent-1", "finalizers": ["x"]}, "spec": {
        "deletionPolicy": "Delete", "driver": "d.csi", "volumeSnapshotClassName": "old",
        "source": {"volumeHandle": "vol-1"},
        "volumeSnapshotRef": {"name": "s", "namespace": "n", "uid": "1", "resourceVersion": "2"}}});
    let said = json!({"status": {"snapshotHandle": "snap-1"}});
    let id = "volumesnapshotcontents.snapshot.storage.k8s.io";
    sanitise(id, &mut content, Some(&said));
    let name = content["metadata"]["name"].clone();
    assert!(name.as_str().unwrap().starts_with("refloat-"), "{name}");
    assert_eq!(
        snapshot["spec"],
        json!({"source": {"volumeSnapshotContentName": name}})
    );
    let expected = json!({"metadata": {"name": name}, "spec": {
        "deletionPolicy": "Retain", "driver": "d.csi", "source": {"snapshotHandle": "snap-1"},
        "volumeSnapshotRef": {"name": "s", "namespace": "n"}}});
    assert_eq!(content, expected);
    // As it is when it is read back.
    check(id, content, &expected);
}

#[test]
fn p9_the_init_container_of_another_program_is_not_waited_for() {
    check(
        "pods",
        json!({"metadata": {"name": "p"}, "spec": {
               "initContainers": [{"name": "restore-wait"}, {"name": "mine"}], "containers": []}}),
        &json!({"metadata": {"name": "p"}, "spec": {
                "initContainers": [{"name": "mine"}], "containers": []}}),
    );
}

#[test]
fn pods_lose_node_priority_and_tokens() {
    check(
        "pods",
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "priority": 0,
               "serviceAccountName": "web",
               "volumes": [{"name": "web-token-x7k2p"}, {"name": "kube-api-access-abcde"}, {"name": "d"}],
               "containers": [{"name": "c", "volumeMounts": [{"name": "web-token-x7k2p"}, {"name": "d"}]}]}}),
        &json!({"metadata": {"name": "p"}, "spec": {"serviceAccountName": "web",
                "volumes": [{"name": "d"}],
                "containers": [{"name": "c", "volumeMounts": [{"name": "d"}]}]}}),
    );
}

#[test]
fn what_every_cluster_has_is_recognised() {
    let role = "clusterroles.rbac.authorization.k8s.io";
    let named = |name: &str| json!({"metadata": {"name": name}});
    assert!(is_bootstrap(role, &named("system:node")));
    assert!(is_bootstrap(
        role,
        &json!({"metadata": {"name": "admin", "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}})
    ));
    assert!(!is_bootstrap(role, &named("shop-reader")));
    assert!(is_bootstrap(
        "services",
        &json!({"metadata": {"name": "kubernetes", "namespace": "default"}})
    ));
}
