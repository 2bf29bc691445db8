//! Volumes and their claims on real servers with their controllers (P7).
//!
//! Invariant: whatever is restored, a claim that is bound stays bound to its volume.

use refloat_model::plan::{Action, OnConflict, Permission, RestoreRequest};
use refloat_source::Target as _;
use serde_json::json;

use crate::bed::{Adapter as _, Cluster, clusters, execute, globs, wait_for};
use crate::memory::MemoryPoint;

/// A claim `data` in a namespace of its own, bound to a volume.
fn bound(cluster: &Cluster, space: &str, volume: &str) {
    cluster.kubectl(&["create", "namespace", space], "");
    let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": ""});
    let mut wanted = spec.clone();
    wanted["capacity"] = json!({"storage": "1Gi"});
    wanted["hostPath"] = json!({"path": format!("/{volume}")});
    wanted["claimRef"] = json!({"namespace": space, "name": "data"});
    let mut claim = spec;
    claim["resources"] = json!({"requests": {"storage": "1Gi"}});
    claim["volumeName"] = json!(volume);
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": wanted},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim",
         "metadata": {"name": "data", "namespace": space}, "spec": claim}]});
    cluster.apply(&objects.to_string());
    wait_for("the claim is bound", || phase(cluster, space) == "Bound");
}

fn phase(cluster: &Cluster, space: &str) -> String {
    let claim = cluster.get(&["-n", space, "pvc", "data"]);
    claim["status"]["phase"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn request(space: &str, on_conflict: OnConflict) -> RestoreRequest {
    RestoreRequest {
        only: vec![space.into()],
        privileged: globs(&["persistentvolumes/*"]),
        on_conflict,
        ..RestoreRequest::default()
    }
}

#[test]
fn a_copy_of_a_namespace_does_not_take_its_volume_away() {
    let Some((a, _)) = clusters() else { return };
    bound(a, "owner", "pv-owner");
    let point = MemoryPoint::capture(&a.source(&["owner"]));
    for on_conflict in [OnConflict::Replace, OnConflict::Skip] {
        let request = RestoreRequest {
            rename: vec![("namespace:owner".into(), "copy-of-owner".into())],
            allow: [Permission::Incomplete].into(),
            ..request("owner", on_conflict)
        };
        let plan = a.target().plan(&point, &request).unwrap();
        let mut steps = plan.steps.iter();
        let volume = steps.find(|s| s.name == "persistentvolumes/pv-owner");
        let why = "here it belongs to claim owner/data, which would lose its data: leave the \
                   volume out, and the claim that comes back gets a new one"
            .to_owned();
        let is_skipped = on_conflict == OnConflict::Skip;
        let expected = if is_skipped {
            Action::Skip { why }
        } else {
            Action::Conflict { why }
        };
        assert_eq!(volume.unwrap().action, expected);
        let report = execute(a, &point, &request);
        let failed = report.steps.iter().filter(|s| s.error.is_some());
        let failed: Vec<&str> = failed.map(|s| s.step.name.as_str()).collect();
        let left_out = ["persistentvolumes/pv-owner"];
        assert_eq!(failed, if is_skipped { &[][..] } else { &left_out });
        let copy = a.get(&["-n", "copy-of-owner", "pvc", "data"]);
        assert_eq!(copy["spec"].get("volumeName"), None, "{on_conflict:?}");
    }
    let volume = a.get(&["pv", "pv-owner"]);
    assert_eq!(volume["spec"]["claimRef"]["namespace"], "owner");
    assert_eq!(phase(a, "owner"), "Bound");
}

#[test]
fn a_claim_that_was_lost_gets_its_volume_back() {
    let Some((a, _)) = clusters() else { return };
    bound(a, "lost-claim", "pv-kept");
    let point = MemoryPoint::capture(&a.source(&["lost-claim"]));
    a.kubectl(&["delete", "namespace", "lost-claim", "--timeout=60s"], "");
    wait_for("the volume is released", || {
        a.get(&["pv", "pv-kept"])["status"]["phase"] == "Released"
    });
    let report = execute(a, &point, &request("lost-claim", OnConflict::Fail));
    assert!(report.is_complete(), "{report:?}");
    wait_for("the claim is bound", || phase(a, "lost-claim") == "Bound");
    let claim = a.get(&["-n", "lost-claim", "pvc", "data"]);
    assert_eq!(claim["spec"]["volumeName"], "pv-kept");
}

#[test]
fn a_volume_that_goes_with_its_claim_is_not_counted_on() {
    let Some((a, _)) = clusters() else { return };
    bound(a, "doomed", "pv-doomed");
    let delete = "{\"spec\": {\"persistentVolumeReclaimPolicy\": \"Delete\"}}";
    a.kubectl(&["patch", "pv", "pv-doomed", "-p", delete], "");
    let point = MemoryPoint::capture(&a.source(&["doomed"]));
    a.kubectl(&["delete", "namespace", "doomed", "--timeout=60s"], "");
    // There is no storage here that could delete it.
    wait_for("the volume is given up", || {
        a.get(&["pv", "pv-doomed"])["status"]["phase"] != "Bound"
    });
    let request = request("doomed", OnConflict::Replace);
    let plan = a.target().plan(&point, &request).unwrap();
    let mut steps = plan.steps.iter();
    let volume = steps.find(|s| s.name == "persistentvolumes/pv-doomed");
    assert_eq!(
        volume.unwrap().action,
        Action::Conflict {
            why: "its claim is gone and the storage deletes it: set its \
                  persistentVolumeReclaimPolicy to Retain and plan again, or leave it out"
                .to_owned()
        }
    );
    let retain = delete.replace("Delete", "Retain");
    a.kubectl(&["patch", "pv", "pv-doomed", "-p", &retain], "");
    let report = execute(a, &point, &request);
    assert!(report.is_complete(), "{report:?}");
    wait_for("the claim is bound", || phase(a, "doomed") == "Bound");
    let claim = a.get(&["-n", "doomed", "pvc", "data"]);
    assert_eq!(claim["spec"]["volumeName"], "pv-doomed");
}

#[test]
fn a_volume_that_is_replaced_stays_bound() {
    let Some((a, _)) = clusters() else { return };
    bound(a, "labelled", "pv-labelled");
    let point = MemoryPoint::capture(&a.source(&["labelled"]));
    let before = a.get(&["pv", "pv-labelled"]);
    a.kubectl(&["label", "pv", "pv-labelled", "stranger=1"], "");
    let report = execute(a, &point, &request("labelled", OnConflict::Replace));
    assert!(report.is_complete(), "{report:?}");
    let after = a.get(&["pv", "pv-labelled"]);
    assert_eq!(after["metadata"].get("labels"), None);
    assert_eq!(after["spec"]["claimRef"], before["spec"]["claimRef"]);
    assert_eq!(phase(a, "labelled"), "Bound");
}
