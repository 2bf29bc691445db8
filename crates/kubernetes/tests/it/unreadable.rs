//! Documents that the repository cannot give.
//!
//! Invariant: what cannot be read costs itself, and is named.

use refloat_kubernetes::KubernetesTarget;
use refloat_model::cancel::Cancel;
use refloat_model::finding::Severity;
use refloat_model::plan::{Action, Permission, RestoreReport, RestoreRequest};
use refloat_model::progress::Silent;
use refloat_source::{Target as _, TargetError};
use serde_json::{Value, json};

use crate::bed::{Adapter as _, clusters};
use crate::memory::MemoryPoint;

const ROOT: &str = "/kubernetes/prod/resources/core/v1";

fn document(folder: &str, kind: &str, name: &str) -> (String, String) {
    let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
    let space = folder.split('/').nth(1).unwrap();
    if space != "_cluster" {
        object["metadata"]["namespace"] = json!(space);
    }
    (format!("{folder}/{name}.yaml"), object.to_string())
}

fn point() -> MemoryPoint {
    let mut user = document("pods/torn", "Pod", "user");
    let mut pod: Value = serde_json::from_str(&user.1).unwrap();
    pod["spec"] = json!({"containers": [{"name": "c", "image": "i",
        "envFrom": [{"secretRef": {"name": "lost"}}]}]});
    user.1 = pod.to_string();
    MemoryPoint::of_files([
        document("namespaces/_cluster", "Namespace", "torn"),
        document("persistentvolumes/_cluster", "PersistentVolume", "pv"),
        document("secrets/torn", "Secret", "lost"),
        document("secrets/torn", "Secret", "whole"),
        document("configmaps/folder", "ConfigMap", "inside"),
        user,
    ])
}

fn request(only: &[&str]) -> RestoreRequest {
    RestoreRequest {
        only: only.iter().map(|o| (*o).to_owned()).collect(),
        allow: [Permission::Incomplete].into(),
        ..RestoreRequest::default()
    }
}

/// The steps that conflict, by name, with why.
fn conflicts(
    target: &KubernetesTarget,
    point: &MemoryPoint,
    only: &[&str],
) -> Vec<(String, String)> {
    let plan = target.plan(point, &request(only)).unwrap();
    plan.steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::Conflict { why } => Some((step.name.clone(), why.clone())),
            _ => None,
        })
        .collect()
}

fn execute(target: &KubernetesTarget, point: &MemoryPoint, only: &[&str]) -> RestoreReport {
    let request = request(only);
    let plan = target.plan(point, &request).unwrap();
    let warned = plan
        .findings
        .iter()
        .filter(|f| f.severity == Severity::Warning);
    let warned: Vec<&str> = warned.map(|f| f.subject.as_str()).collect();
    assert_eq!(warned, ["persistentvolumes/pv"], "{:?}", plan.findings);
    let (progress, cancel) = (Silent::default(), Cancel::default());
    target
        .execute(&plan, point, &request, &progress, &cancel)
        .unwrap()
}

#[test]
fn what_cannot_be_read_costs_itself_alone() {
    let Some((a, _)) = clusters() else { return };
    let target = a.target();
    let mut point = point();
    for lost in [
        "secrets/torn/lost.yaml",
        "persistentvolumes/_cluster/pv.yaml",
        "configmaps/folder",
    ] {
        point.lose(&format!("{ROOT}/{lost}"));
    }
    let why = |path: &str| {
        let operation = format!("cannot read {ROOT}/{path} of the recovery point");
        format!("{operation}: not there")
    };
    let secret = (
        "secrets/torn/lost".to_owned(),
        why("secrets/torn/lost.yaml"),
    );
    let volume = (
        "persistentvolumes/pv".to_owned(),
        why("persistentvolumes/_cluster/pv.yaml"),
    );
    let folder = ("configmaps/folder/*".to_owned(), why("configmaps/folder"));
    let conflicts = |only: &[&str]| conflicts(&target, &point, only);
    assert_eq!(conflicts(&["torn"]), std::slice::from_ref(&secret));
    assert_eq!(conflicts(&["secret:torn/whole"]), []);
    assert_eq!(
        conflicts(&["secret:torn/lost"]),
        std::slice::from_ref(&secret)
    );
    // It is needed by what was asked for.
    assert_eq!(
        conflicts(&["object:pods/torn/user"]),
        std::slice::from_ref(&secret)
    );
    assert_eq!(
        conflicts(&["config:folder/inside"]),
        std::slice::from_ref(&folder)
    );
    assert_eq!(conflicts(&["folder"]), std::slice::from_ref(&folder));
    let mut all = conflicts(&[]);
    all.sort();
    assert_eq!(all, [folder, volume, secret]);

    let only = ["namespace:torn"];
    let strict = RestoreRequest {
        allow: [].into(),
        ..request(&only)
    };
    assert!(!target.plan(&point, &strict).unwrap().is_executable());
    let report = execute(&target, &point, &only);
    let failed = report.steps.iter().filter(|s| s.error.is_some());
    let failed: Vec<&str> = failed.map(|s| s.step.name.as_str()).collect();
    assert_eq!(failed, ["secrets/torn/lost"]);
    let whole = a.get(&["-n", "torn", "secret", "whole"]);
    assert_eq!(whole["metadata"]["name"], "whole");
}

#[test]
fn storage_that_gives_nothing_is_no_damage_of_objects() {
    let Some((a, _)) = clusters() else { return };
    let mut point = point();
    point.lose(ROOT);
    let error = a.target().plan(&point, &request(&[])).err().unwrap();
    assert!(matches!(error, TargetError::Stored(_)), "{error:?}");
}
