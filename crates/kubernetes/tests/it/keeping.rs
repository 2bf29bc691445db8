//! What a restore must leave as it is: claims that would go with what they belong to, and what others
//! wrote into a namespace.
//!
//! Invariant: what is not restored for that is named.

use refloat_model::cancel::Cancel;
use refloat_model::plan::{Action, OnConflict, RestorePlan, RestoreRequest};
use refloat_model::progress::Silent;
use refloat_source::Target as _;
use serde_json::{Value, json};

use crate::bed::{Adapter as _, Cluster, clusters, execute, wait_for};
use crate::memory::MemoryPoint;

fn request(only: &str, on_conflict: OnConflict) -> RestoreRequest {
    RestoreRequest {
        only: vec![only.into()],
        on_conflict,
        ..RestoreRequest::default()
    }
}

fn plan(cluster: &Cluster, point: &MemoryPoint, request: &RestoreRequest) -> RestorePlan {
    cluster.target().plan(point, request).unwrap()
}

fn action<'p>(plan: &'p RestorePlan, name: &str) -> &'p Action {
    &plan.steps.iter().find(|s| s.name == name).unwrap().action
}

fn set(service: &str) -> String {
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": "db", "namespace": "owners"},
        "spec": {"replicas": 0, "serviceName": service, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
    .to_string()
}

#[test]
fn p10_what_claims_belong_to_is_not_deleted() {
    let Some((a, _)) = clusters() else { return };
    a.kubectl(&["create", "namespace", "owners"], "");
    a.apply_server_side(&set("one"));
    let point = MemoryPoint::capture(&a.source(&["owners"]));
    a.kubectl(&["-n", "owners", "delete", "statefulset", "db"], "");
    a.apply_server_side(&set("two"));
    let live = a.get(&["-n", "owners", "statefulset", "db"]);
    // As the controller does where claims are to go with their set.
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data-db-0", "namespace": "owners", "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": live["metadata"]["uid"]}]},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "resources": {"requests": {"storage": "1Gi"}}}});
    a.apply_server_side(&claim.to_string());

    let request = request("object:statefulsets.apps/owners/db", OnConflict::Replace);
    let announced = plan(a, &point, &request);
    let Action::Conflict { why } = action(&announced, "statefulsets.apps/owners/db") else {
        panic!("{announced:?}");
    };
    let expected = "it can be changed only by deleting it, and its data with it: claim data-db-0 \
                    belongs to it: the API server answers 422";
    assert!(why.starts_with(expected), "{why}");

    // It came to belong to it after the plan was made.
    a.kubectl(&["-n", "owners", "delete", "pvc", "data-db-0"], "");
    let calm = plan(a, &point, &request);
    let Action::Replace { why } = action(&calm, "statefulsets.apps/owners/db") else {
        panic!("{calm:?}");
    };
    assert!(why.contains("it is deleted and made again"), "{why}");
    a.apply_server_side(&claim.to_string());
    let (progress, cancel) = (Silent::default(), Cancel::default());
    let target = a.target();
    let report = target
        .execute(&calm, &point, &request, &progress, &cancel)
        .unwrap();
    let failed = report.steps.iter().filter_map(|s| s.error.as_deref());
    let failed: Vec<&str> = failed.collect();
    assert!(
        failed.len() == 1 && failed[0].starts_with(expected),
        "{failed:?}"
    );
    let after = a.get(&["-n", "owners", "statefulset", "db"]);
    assert_eq!(after["metadata"]["uid"], live["metadata"]["uid"]);
    let claim = a.get(&["-n", "owners", "pvc", "data-db-0"]);
    assert_eq!(claim["metadata"].get("deletionTimestamp"), None);
}

const LEVEL: &str = "pod-security.kubernetes.io/enforce";

fn labels(cluster: &Cluster) -> Value {
    let mut labels = cluster.get(&["namespace", "lived-in"])["metadata"]["labels"].clone();
    let _newer = labels
        .as_object_mut()
        .unwrap()
        .remove("kubernetes.io/metadata.name");
    labels
}

#[test]
fn what_others_wrote_into_a_namespace_stays_unless_it_is_to_be_replaced() {
    let Some((a, _)) = clusters() else { return };
    let space = |labels: Value| {
        let object = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "lived-in", "labels": labels}});
        a.apply(&object.to_string());
    };
    space(json!({LEVEL: "restricted", "team": "a", "old": "1"}));
    a.kubectl(&["-n", "lived-in", "create", "secret", "generic", "db"], "");
    let point = MemoryPoint::capture(&a.source(&["lived-in"]));
    let today = json!({LEVEL: "privileged", "team": "b"});
    space(today.clone());

    // It only comes along.
    for on_conflict in [OnConflict::Fail, OnConflict::Skip, OnConflict::Replace] {
        a.kubectl(&["-n", "lived-in", "delete", "secret", "db"], "");
        let request = request("secret:lived-in/db", on_conflict);
        assert_eq!(
            action(&plan(a, &point, &request), "namespaces/lived-in"),
            &Action::Reuse
        );
        let report = execute(a, &point, &request);
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(labels(a), today);
    }
    // It was asked for.
    let differs = format!("differs in metadata.labels.{LEVEL}, metadata.labels.team");
    let whole = |on_conflict| request("lived-in", on_conflict);
    assert_eq!(
        action(
            &plan(a, &point, &whole(OnConflict::Fail)),
            "namespaces/lived-in"
        ),
        &Action::Conflict {
            why: format!("it is there and {differs}: choose to skip or to replace it")
        }
    );
    let report = execute(a, &point, &whole(OnConflict::Skip));
    assert!(report.is_complete(), "{report:?}");
    let mut steps = report.steps.iter();
    let space = steps
        .find(|s| s.step.name == "namespaces/lived-in")
        .unwrap();
    assert_eq!(
        space.remarks,
        [format!("merged, and kept as it is where it {differs}")]
    );
    assert_eq!(
        labels(a),
        json!({LEVEL: "privileged", "team": "b", "old": "1"})
    );
    assert_eq!(
        action(
            &plan(a, &point, &whole(OnConflict::Skip)),
            "namespaces/lived-in"
        ),
        &Action::Skip {
            why: format!("kept as it is: {differs}")
        }
    );
    let report = execute(a, &point, &whole(OnConflict::Replace));
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(
        labels(a),
        json!({LEVEL: "restricted", "team": "a", "old": "1"})
    );
}

/// Both points were restored by us: what the first wrote is not the second's to take away.
#[test]
fn what_an_earlier_restore_wrote_stays_where_it_is_kept_as_it_is() {
    let Some((a, _)) = clusters() else { return };
    let space = |labels: Value| {
        let object = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "lived-in-twice", "labels": labels}});
        a.apply_server_side(&object.to_string());
        MemoryPoint::capture(&a.source(&["lived-in-twice"]))
    };
    let other = space(json!({LEVEL: "baseline", "team": "b", "more": "1"}));
    let one = space(json!({LEVEL: "restricted", "team": "a"}));
    a.kubectl(
        &["delete", "namespace", "lived-in-twice", "--timeout=60s"],
        "",
    );
    for (point, on_conflict) in [(&one, OnConflict::Replace), (&other, OnConflict::Skip)] {
        let report = execute(a, point, &request("lived-in-twice", on_conflict));
        assert!(report.is_complete(), "{report:?}");
    }
    let labels = &a.get(&["namespace", "lived-in-twice"])["metadata"]["labels"];
    assert_eq!(labels[LEVEL], "restricted");
    assert_eq!(labels["team"], "a");
    assert_eq!(labels["more"], "1");
}

/// The server replaces this list as a whole, and controllers write into it.
#[test]
fn pull_secrets_of_an_account_are_added_to_those_that_are_there() {
    let Some((a, _)) = clusters() else { return };
    a.kubectl(&["create", "namespace", "pulling"], "");
    wait_for("the account is there", || {
        let accounts = a.get(&["-n", "pulling", "serviceaccounts"]);
        accounts["items"] != json!([])
    });
    let account = |secrets: &[&str]| {
        let names: Vec<Value> = secrets.iter().map(|name| json!({"name": name})).collect();
        let patch = json!({ "imagePullSecrets": names }).to_string();
        let patch = ["patch", "sa", "default", "--type=merge", "-p", &patch];
        a.kubectl(&[&["-n", "pulling"], patch.as_slice()].concat(), "");
    };
    account(&["stored"]);
    let point = MemoryPoint::capture(&a.source(&["pulling"]));
    for on_conflict in [OnConflict::Replace, OnConflict::Skip] {
        account(&["theirs", "default-dockercfg-x7k2p"]);
        let report = execute(a, &point, &request("pulling", on_conflict));
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(
            a.get(&["-n", "pulling", "sa", "default"])["imagePullSecrets"],
            json!([{"name": "theirs"}, {"name": "default-dockercfg-x7k2p"}, {"name": "stored"}]),
            "{on_conflict:?}"
        );
    }
}

#[test]
fn two_namespaces_become_one() {
    let Some((a, _)) = clusters() else { return };
    for name in ["part-a", "part-b"] {
        let space = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {name: "1"}}});
        a.apply_server_side(&space.to_string());
        a.kubectl(&["-n", name, "create", "secret", "generic", name], "");
    }
    let point = MemoryPoint::capture(&a.source(&["part-a", "part-b"]));
    let request = RestoreRequest {
        only: vec!["part-a".into(), "part-b".into()],
        rename: ["part-a", "part-b"]
            .map(|name| (format!("namespace:{name}"), "both".to_owned()))
            .into(),
        ..RestoreRequest::default()
    };
    let report = execute(a, &point, &request);
    assert!(report.is_complete(), "{report:?}");
    let labels = &a.get(&["namespace", "both"])["metadata"]["labels"];
    assert_eq!([&labels["part-a"], &labels["part-b"]], ["1", "1"]);
    a.kubectl(&["-n", "both", "get", "secret", "part-a", "part-b"], "");
}
