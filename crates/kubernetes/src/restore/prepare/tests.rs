use refloat_model::finding::Finding;

use super::*;
use crate::layout::Folder;
use crate::restore::unread::Gaps;
use crate::restore::volumes::release;
use refloat_model::plan::Action;
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
            kind("", "serviceaccounts", "ServiceAccount", true),
            kind("apps", "deployments", "Deployment", true),
            kind("batch", "jobs", "Job", true),
            kind("batch", "cronjobs", "CronJob", true),
            kind(
                "snapshot.storage.k8s.io",
                "volumesnapshots",
                "VolumeSnapshot",
                true,
            ),
            kind(
                "snapshot.storage.k8s.io",
                "volumesnapshotcontents",
                "VolumeSnapshotContent",
                false,
            ),
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
        is_server_lost: false,
    }
}

fn selected(objects: Vec<Stored>) -> Selected {
    Selected {
        objects,
        named: BTreeSet::new(),
        namespaces: BTreeSet::new(),
        companions: BTreeSet::new(),
        fields: BTreeMap::new(),
        gaps: Gaps::default(),
    }
}

fn run(objects: Vec<Stored>, request: &RestoreRequest, privileged: &[&str]) -> Vec<Prepared> {
    let selected = selected(objects);
    let privileged = privileged.iter().map(|glob| Glob::new(glob).unwrap());
    let request = RestoreRequest {
        privileged: privileged.collect(),
        ..request.clone()
    };
    let changes = Changes::parse(&request).unwrap();
    prepare(selected, &request, &changes, &catalogue())
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
fn objects_that_would_get_one_name_are_refused_and_named() {
    let secret = |space: &str| {
        stored(
            "",
            "secrets",
            json!({"metadata": {"name": "db", "namespace": space}}),
        )
    };
    let request = RestoreRequest {
        rename: [("namespace:a", "copy"), ("namespace:b", "copy")]
            .map(|(from, to)| (from.to_owned(), to.to_owned()))
            .into(),
        ..RestoreRequest::default()
    };
    let prepared = run(vec![secret("a"), secret("b"), secret("c")], &request, &[]);
    let wishes: Vec<(&str, Wish)> = prepared
        .iter()
        .map(|p| (p.stored_name.as_str(), p.wish.clone()))
        .collect();
    let other = |name: &str| Wish::Impossible(format!("{name} would get the same name"));
    assert_eq!(
        wishes,
        [
            ("secrets/c/db", Wish::Wanted),
            ("secrets/a/db", other("secrets/b/db")),
            ("secrets/b/db", other("secrets/a/db")),
        ]
    );
    // Every namespace has these.
    let shared = |space: &str| {
        let of = json!({"metadata": {"name": "default", "namespace": space}});
        let itself = stored("", "namespaces", json!({"metadata": {"name": space}}));
        [itself, stored("", "serviceaccounts", of)]
    };
    let prepared = run(
        shared("a").into_iter().chain(shared("b")).collect(),
        &request,
        &[],
    );
    let titles: Vec<(String, &Wish)> = prepared.iter().map(|p| (p.title(), &p.wish)).collect();
    let (space, account) = ("namespaces/copy", "serviceaccounts/copy/default");
    assert_eq!(
        titles,
        [space, space, account, account].map(|title| (title.to_owned(), &Wish::Wanted))
    );
}

/// One object that was captured in several versions is one still.
#[test]
fn an_object_in_several_versions_comes_back_once() {
    let set = |group: &str, version: &str| {
        let object = json!({"metadata": {"name": "d", "namespace": "n"}, "spec": {"replicas": 3}});
        let mut stored = stored(group, "deployments", object);
        stored.folder.version = version.into();
        stored
    };
    let objects = vec![
        set("extensions", "v1beta1"),
        set("apps", "v1beta2"),
        set("apps", "v1"),
    ];
    let prepared = run(objects, &RestoreRequest::default(), &[]);
    assert_eq!(prepared.len(), 1);
    assert_eq!(prepared[0].wish, Wish::Wanted);
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

/// P14: it would run once more.
#[test]
fn p14_what_may_have_run_to_its_end_is_refused() {
    let wish = |group, resource| {
        let object = json!({"metadata": {"name": "x", "namespace": "n"}});
        let mut object = stored(group, resource, object);
        object.is_server_lost = true;
        run(vec![object], &RestoreRequest::default(), &[])[0]
            .wish
            .clone()
    };
    let why = "what the server had said of it cannot be read, so whether it had run to its end is \
               not known";
    assert_eq!(wish("", "pods"), Wish::Impossible(why.into()));
    assert_eq!(wish("batch", "jobs"), Wish::Impossible(why.into()));
    assert_eq!(wish("", "secrets"), Wish::Wanted);
}

#[test]
fn p7_a_claim_keeps_its_volume_only_if_that_comes_back_too() {
    let source = json!({"kind": "VolumeSnapshot", "name": "s"});
    let objects = || {
        let claim = json!({"metadata": {"name": "d", "namespace": "n"},
            "spec": {"volumeName": "pv", "dataSource": source}});
        let volume = json!({"metadata": {"name": "pv"}});
        vec![
            stored("", "persistentvolumeclaims", claim),
            stored("", "persistentvolumes", volume),
        ]
    };
    let check = |privileged: &[&str], action: Action, spec: &Value, told: &[&str]| {
        let mut prepared = run(objects(), &RestoreRequest::default(), privileged);
        let actions = prepared.iter().map(|p| match p.id.as_str() {
            "persistentvolumes" => action.clone(),
            _ => Action::Create,
        });
        let actions: Vec<Action> = actions.collect();
        let findings = release(&mut prepared, &actions);
        let messages: Vec<&str> = findings.iter().map(|f| f.message.as_str()).collect();
        assert_eq!(messages, told);
        let mut claims = prepared.iter().filter(|p| p.layer == Layer::Claims);
        assert_eq!(claims.next().unwrap().object.get("spec"), Some(spec));
    };
    let why = || String::new();
    let source_is_left = "its volume was made from VolumeSnapshot s, which is left out: the new one is \
                          made without it";
    let other = "its volume pv, with the data, does not come with it: it gets a new, empty one \
                 (--privileged persistentvolumes/pv brings the volume, if its storage is there)";
    let kept = json!({"volumeName": "pv", "dataSource": source});
    let named = ["persistentvolumes/pv"];
    check(
        &[],
        Action::Skip { why: why() },
        &json!({}),
        &[other, source_is_left],
    );
    check(&named, Action::Create, &kept, &[]);
    check(&named, Action::Reuse, &kept, &[]);
    check(&named, Action::Replace { why: why() }, &kept, &[]);
    let mut chosen = run(
        objects(),
        &RestoreRequest {
            transforms: vec![
                "[{when: {kinds: [persistentvolumeclaims]}, merge: {spec: {dataSource: {name: mine}}}}]"
                    .into(),
            ],
            ..RestoreRequest::default()
        },
        &[],
    );
    let actions = [Action::Skip { why: why() }, Action::Create];
    let told = release(&mut chosen, &actions);
    assert_eq!(
        told,
        [Finding::warning("persistentvolumeclaims/n/d", other)]
    );
    assert_eq!(
        chosen[1].object["spec"],
        json!({"dataSource": {"kind": "VolumeSnapshot", "name": "mine"}})
    );
    let told = [other, source_is_left];
    check(&named, Action::Skip { why: why() }, &json!({}), &told);
    check(&named, Action::Conflict { why: why() }, &json!({}), &told);
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
        "pod-security.kubernetes.io/enforce": "baseline",
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

#[test]
fn p8_a_snapshot_without_its_content_stays_out() {
    let objects = || {
        let mut snapshot = stored(
            "snapshot.storage.k8s.io",
            "volumesnapshots",
            json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {"source": {"persistentVolumeClaimName": "d"}}}),
        );
        snapshot.server = Some(json!({"status": {"boundVolumeSnapshotContentName": "c"}}));
        let mut content = stored(
            "snapshot.storage.k8s.io",
            "volumesnapshotcontents",
            json!({"metadata": {"name": "c"}, "spec": {"source": {"volumeHandle": "v"}}}),
        );
        content.server = Some(json!({"status": {"snapshotHandle": "h"}}));
        vec![snapshot, content]
    };
    let wish = |privileged: &[&str]| {
        let prepared = run(objects(), &RestoreRequest::default(), privileged);
        let snapshot = prepared
            .iter()
            .find(|p| p.id.starts_with("volumesnapshots."));
        snapshot.unwrap().wish.clone()
    };
    assert!(matches!(wish(&[]), Wish::Out(why) if why.contains("volumesnapshotcontents")));
    assert_eq!(
        wish(&["volumesnapshotcontents.snapshot.storage.k8s.io/*"]),
        Wish::Wanted
    );
}

#[test]
fn p13_a_status_comes_back_where_the_object_asks_for_it() {
    let status = |annotations: Value| {
        let mut object = stored(
            "",
            "secrets",
            json!({"metadata": {"name": "o", "namespace": "n", "annotations": annotations}}),
        );
        object.server = Some(json!({"status": {"state": "valid"}}));
        run(vec![object], &RestoreRequest::default(), &[])[0]
            .status
            .clone()
    };
    let valid = Some(json!({"state": "valid"}));
    assert_eq!(status(json!({"velero.io/restore-status": "true"})), valid);
    assert_eq!(status(json!({"refloat.io/restore-status": "true"})), valid);
    assert_eq!(status(json!({"refloat.io/restore-status": "false"})), None);
    assert_eq!(status(json!({})), None);
}

#[test]
fn p14_what_the_cluster_or_another_program_makes_stays_out() {
    let wish = |group, resource, name: &str| {
        let object = json!({"metadata": {"name": name, "namespace": "n"}});
        let objects = vec![stored(group, resource, object)];
        run(objects, &RestoreRequest::default(), &[])[0]
            .wish
            .clone()
    };
    for (group, resource) in [
        ("", "nodes"),
        ("", "events"),
        ("coordination.k8s.io", "leases"),
        ("velero.io", "restores"),
        ("k8up.io", "backups"),
        ("certificates.k8s.io", "certificatesigningrequests"),
    ] {
        assert!(
            matches!(wish(group, resource, "x"), Wish::Out(_)),
            "{resource}"
        );
    }
    assert_eq!(wish("", "secrets", "x"), Wish::Wanted);
}

#[test]
fn p20_a_hostile_name_reaches_no_path() {
    let wish = |space: &str, name: &str| {
        let object = json!({"metadata": {"name": name, "namespace": space}});
        let objects = vec![stored("", "secrets", object)];
        run(objects, &RestoreRequest::default(), &[])[0]
            .wish
            .clone()
    };
    for (space, name) in [
        ("n", ".."),
        ("n", "a/../b"),
        ("..", "a"),
        ("n/x", "a"),
        ("n", "a%2fb"),
        ("n", ""),
    ] {
        assert!(
            matches!(wish(space, name), Wish::Impossible(_)),
            "{space} {name}"
        );
    }
    assert_eq!(wish("n", "system:a.b-c"), Wish::Wanted);
}

#[test]
fn p2_operators_wait_for_what_they_own() {
    let rbac = "rbac.authorization.k8s.io";
    let deployment = |name: &str| {
        let object = json!({"kind": "Deployment", "metadata": {"name": name, "namespace": "n"},
            "spec": {"replicas": 2, "template": {"spec": {"serviceAccountName": name, "containers": []}}}});
        stored("apps", "deployments", object)
    };
    let definition = json!({"metadata": {"name": "widgets.example.org"},
        "spec": {"versions": [{"name": "v1", "served": true}]}});
    let objects = |with_custom: bool| {
        let widget = json!({"kind": "Widget", "metadata": {"name": "w", "namespace": "n"}});
        let mut all = vec![
            deployment("operator"),
            deployment("web"),
            stored(
                "apiextensions.k8s.io",
                "customresourcedefinitions",
                definition.clone(),
            ),
            stored(
                rbac,
                "clusterroles",
                json!({"metadata": {"name": "op"}, "rules": [
                {"apiGroups": ["example.org"], "resources": ["*"], "verbs": ["get", "watch"]}]}),
            ),
            stored(
                rbac,
                "clusterrolebindings",
                json!({"metadata": {"name": "op"},
                "roleRef": {"kind": "ClusterRole", "name": "op"},
                "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": "n"}]}),
            ),
        ];
        if with_custom {
            all.push(stored("example.org", "widgets", widget));
        }
        all
    };
    let held = |with_custom| {
        let named = ["customresourcedefinitions.apiextensions.k8s.io/*"];
        let prepared = run(objects(with_custom), &RestoreRequest::default(), &named);
        let held = prepared.iter().filter(|p| p.hold == Some(Hold::Stopped));
        held.map(|p| p.name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(held(true), ["operator"]);
    assert_eq!(held(false), [""; 0]);
}

/// Who suspended it meanwhile did so on purpose.
#[test]
fn a_field_is_put_into_an_object_that_acts_as_it_did() {
    let hold = |fields: &[&str]| {
        let job =
            json!({"metadata": {"name": "j", "namespace": "n"}, "spec": {"schedule": "* * * * *"}});
        let mut selected = selected(vec![stored("batch", "cronjobs", job)]);
        if !fields.is_empty() {
            let fields = fields.iter().map(|&field| field.to_owned()).collect();
            selected.fields.insert("cronjobs.batch/n/j".into(), fields);
        }
        let request = RestoreRequest::default();
        let changes = Changes::parse(&request).unwrap();
        prepare(selected, &request, &changes, &catalogue())[0].hold
    };
    assert_eq!(hold(&[]), Some(Hold::Suspended));
    assert_eq!(hold(&["/spec/schedule"]), None);
}
