use super::*;
use crate::layout::Folder;
use serde_json::json;

fn catalogue() -> Catalogue {
    let kind = |group: &str, resource: &str, kind: &str, namespaced| Kind {
        group: group.into(),
        version: "v1".into(),
        resource: resource.into(),
        kind: kind.into(),
        namespaced,
        verbs: Vec::new(),
    };
    Catalogue {
        kinds: vec![
            kind("", "pods", "Pod", true),
            kind("", "namespaces", "Namespace", false),
            kind("", "persistentvolumeclaims", "PersistentVolumeClaim", true),
            kind("", "persistentvolumes", "PersistentVolume", false),
            kind("", "secrets", "Secret", true),
            kind("apps", "deployments", "Deployment", true),
            kind("batch", "jobs", "Job", true),
            kind(
                "apiextensions.k8s.io",
                "customresourcedefinitions",
                "CustomResourceDefinition",
                false,
            ),
        ],
        ..Catalogue::default()
    }
}

fn stored(group: &str, resource: &str, object: Value) -> Stored {
    let folder = Folder {
        group: group.into(),
        version: "v1".into(),
        resource: resource.into(),
        namespace: namespace(&object).map(str::to_owned),
    };
    Stored {
        path: folder.path("prod").child("x.yaml"),
        folder,
        object,
        server: None,
    }
}

fn run(objects: Vec<Stored>, request: &RestoreRequest, include: &[&str]) -> Vec<Prepared> {
    let selected = Selected {
        objects,
        named: BTreeSet::new(),
        namespaces: BTreeSet::new(),
    };
    let include: Vec<Glob> = include
        .iter()
        .map(|glob| Glob::new(glob).unwrap())
        .collect();
    let mapping = Mapping::parse(request).unwrap();
    prepare(selected, request, &mapping, &catalogue(), &include)
}

#[test]
fn p2_owners_are_set_apart_without_their_old_identity() {
    let object = json!({"metadata": {"name": "s", "namespace": "n", "ownerReferences":
        [{"apiVersion": "v1", "kind": "Shop", "name": "o", "uid": "old", "controller": true}]}});
    let prepared = run(
        vec![stored("", "secrets", object)],
        &RestoreRequest::default(),
        &[],
    );
    assert_eq!(
        prepared[0].object,
        json!({"metadata": {"name": "s", "namespace": "n"}})
    );
    assert_eq!(
        prepared[0].owners,
        [json!({"apiVersion": "v1", "kind": "Shop", "name": "o", "controller": true})]
    );
}

#[test]
fn p14_what_ran_to_its_end_stays_out() {
    let wish = |group, resource, status: Value| {
        let mut object = stored(
            group,
            resource,
            json!({"metadata": {"name": "x", "namespace": "n"}}),
        );
        object.server = Some(json!({"status": status}));
        run(vec![object], &RestoreRequest::default(), &[])[0]
            .wish
            .clone()
    };
    let over = Wish::Out("it had run to its end".into());
    assert_eq!(wish("", "pods", json!({"phase": "Succeeded"})), over);
    assert_eq!(wish("", "pods", json!({"phase": "Running"})), Wish::Wanted);
    let condition = |kind: &str| json!({"conditions": [{"type": kind, "status": "True"}]});
    assert_eq!(wish("batch", "jobs", condition("Complete")), over);
    assert_eq!(wish("batch", "jobs", condition("Suspended")), Wish::Wanted);
}

#[test]
fn p7_a_claim_keeps_its_volume_only_if_that_comes_back_too() {
    let objects = || {
        vec![
            stored(
                "",
                "persistentvolumeclaims",
                json!({"metadata": {"name": "d", "namespace": "n"}, "spec": {"volumeName": "pv"}}),
            ),
            stored("", "persistentvolumes", json!({"metadata": {"name": "pv"}})),
        ]
    };
    let volume = |include: &[&str]| {
        let prepared = run(objects(), &RestoreRequest::default(), include);
        let claim = prepared
            .iter()
            .find(|p| p.id == "persistentvolumeclaims")
            .unwrap();
        text(&claim.object, "/spec/volumeName").map(str::to_owned)
    };
    assert_eq!(volume(&[]), None);
    assert_eq!(volume(&["persistentvolumes/pv"]), Some("pv".to_owned()));
}

#[test]
fn p3_custom_resources_are_possible_with_their_definition() {
    let objects = || {
        let definition = json!({"metadata": {"name": "widgets.example.org"},
            "spec": {"versions": [{"name": "v1", "served": true}]}});
        vec![
            stored(
                "example.org",
                "widgets",
                json!({"kind": "Widget", "metadata": {"name": "w", "namespace": "n"}}),
            ),
            stored(
                "apiextensions.k8s.io",
                "customresourcedefinitions",
                definition,
            ),
        ]
    };
    let wish = |include: &[&str]| {
        let prepared = run(objects(), &RestoreRequest::default(), include);
        prepared
            .iter()
            .find(|p| p.id == "widgets.example.org")
            .unwrap()
            .wish
            .clone()
    };
    assert!(matches!(wish(&[]), Wish::Impossible(why) if why.contains("widgets.example.org")));
    assert_eq!(
        wish(&["customresourcedefinitions.apiextensions.k8s.io/*"]),
        Wish::Wanted
    );
}

#[test]
fn namespaces_lose_rights_and_workloads_can_be_left_stopped() {
    let space = json!({"metadata": {"name": "n", "labels": {
        "pod-security.kubernetes.io/enforce": "privileged",
        "pod-security.kubernetes.io/warn": "restricted"}}});
    let prepared = run(
        vec![stored("", "namespaces", space)],
        &RestoreRequest::default(),
        &[],
    );
    assert_eq!(
        prepared[0].object.pointer("/metadata/labels"),
        Some(&json!({"pod-security.kubernetes.io/warn": "restricted"}))
    );
    let deployment = json!({"metadata": {"name": "d", "namespace": "n"}, "spec": {"replicas": 3}});
    let request = RestoreRequest {
        leave_stopped: true,
        ..RestoreRequest::default()
    };
    let prepared = run(
        vec![stored("apps", "deployments", deployment)],
        &request,
        &[],
    );
    assert_eq!(
        prepared[0].object,
        json!({"metadata": {"name": "d", "namespace": "n", "annotations": {"refloat.io/replicas": "3"}},
               "spec": {"replicas": 0}})
    );
}
