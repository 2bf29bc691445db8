//! Selection, long folders, and lists that change while they are read.
//!
//! Invariant: what is not selected is neither listed nor written.

use refloat_kubernetes::{ClusterWide, KubernetesSource, Options, Versions};
use refloat_model::glob::Glob;
use serde_json::json;

use crate::bed::{Adapter as _, clusters, globs, named};
use crate::memory::MemoryPoint;

#[test]
fn only_what_is_selected_is_captured() {
    let Some((a, _)) = clusters() else { return };
    a.apply(
        "{apiVersion: v1, kind: List, items: [
          {apiVersion: v1, kind: Namespace, metadata: {name: sel-prod, labels: {tier: prod}}},
          {apiVersion: v1, kind: Namespace, metadata: {name: sel-test, labels: {tier: test}}},
          {apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: sel-prod, labels: {app: x}}},
          {apiVersion: v1, kind: ConfigMap, metadata: {name: b, namespace: sel-prod}},
          {apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: sel-test, labels: {app: x}}}]}",
    );
    let captured = |change: &dyn Fn(&mut Options)| {
        let mut options = Options::new(a.access());
        options.namespaces = vec![named(&["sel-*"])];
        options.cluster_wide = ClusterWide::None;
        options.kinds = vec![Glob::new("configmaps").unwrap()];
        change(&mut options);
        let point = MemoryPoint::capture(&KubernetesSource::connect("prod", options).unwrap());
        let files = point.files("/kubernetes/prod/resources").into_keys();
        files
            .filter_map(|path| {
                Some(
                    path.strip_suffix(".yaml")?
                        .rsplit("/v1/")
                        .next()?
                        .to_owned(),
                )
            })
            .collect::<Vec<_>>()
    };
    let all = [
        "configmaps/sel-prod/a",
        "configmaps/sel-prod/b",
        "configmaps/sel-test/a",
    ];
    assert_eq!(captured(&|_| {}), all);
    assert_eq!(
        captured(&|o| o.namespaces[0].labels = [("tier".into(), "prod".into())].into()),
        all[..2]
    );
    assert_eq!(
        captured(&|o| o.labels = Some("app=x".into())),
        [all[0], all[2]]
    );
    assert_eq!(
        captured(&|o| o.names = vec![Glob::new("b").unwrap()]),
        all[1..2]
    );
    assert_eq!(
        captured(&|o| o.namespaces[0].exclude = globs(&["*-test"])),
        all[..2]
    );
    assert_eq!(
        captured(&|o| o.namespaces.push(named(&["*-prod"]))),
        all[..2]
    );
    assert_eq!(
        captured(&|o| o.kinds = vec![Glob::new("namespaces").unwrap()]),
        [
            "namespaces/_cluster/sel-prod",
            "namespaces/_cluster/sel-test"
        ]
    );
}

#[test]
fn all_versions_are_captured_on_demand() {
    let Some((a, _)) = clusters() else { return };
    a.kubectl(&["create", "namespace", "versions"], "");
    a.apply(
        &json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "h", "namespace": "versions"},
            "spec": {"maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}})
        .to_string(),
    );
    let mut options = Options::new(a.access());
    options.namespaces = vec![named(&["versions"])];
    options.kinds = vec![Glob::new("horizontalpodautoscalers.*").unwrap()];
    options.versions = Versions::All;
    let point = MemoryPoint::capture(&KubernetesSource::connect("prod", options).unwrap());
    for version in ["v1", "v2beta1", "v2beta2"] {
        let path = format!(
            "/kubernetes/prod/resources/autoscaling/{version}/horizontalpodautoscalers/versions/h.yaml"
        );
        assert!(
            point
                .text(&path)
                .starts_with(&format!("apiVersion: autoscaling/{version}\n"))
        );
    }
}

#[test]
fn unchanged_objects_read_the_same_in_every_point() {
    let Some((a, _)) = clusters() else { return };
    a.kubectl(&["create", "namespace", "steady"], "");
    a.kubectl(
        &["-n", "steady", "create", "deployment", "web", "--image=x:1"],
        "",
    );
    let objects = || {
        let mut files =
            MemoryPoint::capture(&a.source(&["steady"])).files("/kubernetes/prod/resources/apps");
        files.retain(|path, _| path.ends_with(".yaml"));
        files
    };
    let first = objects();
    assert_eq!(first.len(), 1);
    assert_eq!(objects(), first);
}
