//! F1: whatever a server answers, and whatever a condition says, is taken or refused without a
//! panic; F5: what is read as an object is written and read the same.

use std::str::FromStr as _;

use http::{HeaderMap, HeaderValue, StatusCode};
use refloat_model::tree_path::TreePath;
use refloat_testkit::fuzz::{Target, run};
use serde_json::{Value, json};

use crate::catalogue::{Catalogue, group_versions};
use crate::client::{Page, refusal, warnings};
use crate::expression::Expression;
use crate::kind::{Kind, name};
use crate::layout::Folder;
use crate::look::application;
use crate::noise;
use crate::references::references;
use crate::rules::{Surroundings, object_rule};
use crate::yaml;

fn kind(resource: &str) -> Kind {
    Kind {
        group: String::new(),
        version: "v1".into(),
        resource: resource.into(),
        kind: "Thing".into(),
        namespaced: true,
        verbs: vec!["list".into()],
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "shop", "uid": "1",
        "labels": {"app.kubernetes.io/name": "web"}, "annotations": {"a": "b\nc"},
        "ownerReferences": [{"kind": "ReplicaSet", "name": "x", "controller": true}]},
        "spec": {"containers": [{"name": "c", "image": "i@sha256:0", "env": [
            {"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}],
            "volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "m"}}]}}]},
        "status": {"phase": "Running", "n": 1.5e300, "m": -9_007_199_254_740_993_i64}})
}

/// What is read as an object can be written, and reads the same; nothing of it is lost in two parts.
fn object(value: &Value) {
    let text = yaml::write(value);
    assert_eq!(&yaml::read(text.as_bytes()).unwrap(), value, "{text}");
    let mut rest = value.clone();
    let _server = noise::split(&mut rest);
    for resource in [
        "pods",
        "secrets",
        "endpoints",
        "services",
        "persistentvolumeclaims",
    ] {
        let _needs = references(resource, value);
        let _rule = object_rule(&kind(resource), value, &Surroundings::default());
    }
    let _application = application(value);
}

fn documents<'a>() -> Vec<Target<'a>> {
    let yaml_text = yaml::write(&pod());
    let anchors = "a: &x [1, 2]\nb: *x\nc: !!str 1\n? d\n: |+\n  text\n\n---\ne: f\n";
    vec![
        Target::new("object as YAML", [yaml_text.as_str(), anchors], |bytes| {
            if let Ok(value) = yaml::read(bytes) {
                object(&value);
            }
        }),
        Target::new("object as JSON", [bytes(&pod())], |bytes| {
            if let Ok(value) = serde_json::from_slice(bytes) {
                object(&value);
            }
        }),
        Target::text(
            "path in a point",
            ["/kubernetes/prod/resources/core/v1/pods/shop/a%2Fb.yaml"],
            |text| {
                if let Ok(path) = TreePath::parse(text)
                    && let Some(folder) = Folder::of_path(&path)
                {
                    let _path = folder.path("prod");
                }
            },
        ),
        Target::text(
            "expression",
            [
                "kind == 'a' && object.spec.n > 2 || labels['x'].matches('^a+$') && [1, 2].exists(x, x == 1u)",
            ],
            |text| {
                if let Ok(expression) = Expression::parse(text) {
                    let _judged = expression.fits("pods", &pod());
                }
            },
        ),
    ]
}

fn answers<'a>() -> Vec<Target<'a>> {
    let page = json!({"metadata": {"continue": "abc", "resourceVersion": "7", "remainingItemCount": 3},
                      "items": [pod(), {"metadata": {"name": "b"}}]});
    let groups = json!({"groups": [{"name": "batch", "versions": [{"version": "v1"}],
        "preferredVersion": {"version": "v1"}}], "versions": ["v1"]});
    let resources = json!({"resources": [{"name": "jobs", "kind": "Job", "namespaced": true, "verbs": ["list"]},
                                         {"name": "jobs/status", "kind": "Job", "namespaced": true}]});
    let status = json!({"kind": "Status", "metadata": {"continue": "abc"}, "message": "too old",
                        "reason": "Expired", "code": 410});
    vec![
        Target::new("page of a list", [bytes(&page)], |bytes| {
            if let Ok(answer) = serde_json::from_slice(bytes)
                && let Ok((page, _, _)) = Page::read(&kind("pods"), answer)
            {
                for object in &page.objects {
                    let _name = name(object);
                }
            }
        }),
        Target::new("discovery", [bytes(&groups), bytes(&resources)], |bytes| {
            if let Ok(answer) = serde_json::from_slice(bytes) {
                let _versions = group_versions(&answer, &answer);
                let catalogue = Catalogue::of_group("batch", "v1", &answer);
                let _preferred = catalogue.preferred().count();
            }
        }),
        Target::new(
            "refusal",
            [bytes(&status), b"<html>bad gateway</html>".to_vec()],
            |bytes| {
                let text = refusal(StatusCode::GONE, bytes).to_string();
                assert!(text.len() < 10_000, "{}", text.len());
            },
        ),
        Target::text(
            "warning header",
            ["299 - \"v1beta1 is \\\"deprecated\\\"\""],
            |text| {
                if let Ok(value) = HeaderValue::from_str(text) {
                    let mut headers = HeaderMap::new();
                    headers.insert(http::header::WARNING, value);
                    let _texts = warnings(&headers);
                }
                let _status = StatusCode::from_str(text);
            },
        ),
    ]
}

#[test]
fn no_answer_and_no_object_makes_a_parser_panic() {
    let mut targets = documents();
    targets.extend(answers());
    run("F1 Kubernetes, reading", &targets);
}
