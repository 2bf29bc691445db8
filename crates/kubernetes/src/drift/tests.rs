use serde_json::{Value, json};

use super::owners::is_by_hand;
use super::*;

fn document(object: Value, managed_fields: Value) -> Document {
    let read = Document::read(object.to_string().as_bytes()).unwrap();
    let [document] = read.try_into().unwrap();
    document.written_by(managed_fields.as_array().unwrap().clone())
}

fn fields(found: &[FieldDrift]) -> Vec<&str> {
    found.iter().map(|drift| drift.field.as_str()).collect()
}

fn deployment(replicas: u32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
        "spec": {"replicas": replicas, "template": {"spec": {"containers": [
            {"name": "log", "image": "log:1"}, {"name": "web", "image": image}]}}}
    })
}

fn writers() -> Value {
    json!([
        {"manager": "kubectl-edit", "operation": "Update", "time": "2026-11-02T10:00:00Z",
         "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": {
             "k:{\"name\":\"web\"}": {"f:image": {}}}}}}}},
        {"manager": "flux", "operation": "Apply", "time": "2026-11-01T10:00:00Z",
         "fieldsV1": {"f:metadata": {"f:labels": {"f:app": {}}},
                      "f:spec": {"f:replicas": {}}}},
    ])
}

#[test]
fn a_field_names_its_newest_writer() {
    let before = document(deployment(1, "web:1"), json!([]));
    let after = document(deployment(3, "web:2"), writers());
    let found = compare(&before, &after, Compare::Whole);
    let summary: Vec<_> = found
        .iter()
        .map(|d| {
            let manager = &d.managers[0];
            (d.field.as_str(), manager.name.as_str(), manager.by_hand)
        })
        .collect();
    assert_eq!(
        summary,
        [
            ("spec.replicas", "flux", false),
            (
                "spec.template.spec.containers[web].image",
                "kubectl-edit",
                true
            ),
        ]
    );
    assert_eq!(found[1].before, Some(json!("web:1")));
    assert_eq!(found[1].managers[0].time, "2026-11-02T10:00:00Z");
    assert_eq!(compare(&before, &before, Compare::Whole), []);
}

#[test]
fn order_of_named_elements_is_no_drift_and_their_loss_is() {
    let before = deployment(1, "web:1");
    let mut after = before.clone();
    let containers = after.pointer_mut("/spec/template/spec/containers").unwrap();
    containers.as_array_mut().unwrap().reverse();
    let of = |object: &Value| document(object.clone(), json!([]));
    assert_eq!(compare(&of(&before), &of(&after), Compare::Whole), []);
    let containers = after.pointer_mut("/spec/template/spec/containers").unwrap();
    containers.as_array_mut().unwrap().pop();
    let found = compare(&of(&before), &of(&after), Compare::Whole);
    assert_eq!(found[0].field, "spec.template.spec.containers[log]");
    assert_eq!(found[0].after, None);
}

#[test]
fn defaults_are_no_drift_of_what_was_declared_but_a_hand_is() {
    let before = document(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
               "spec": {"selector": {"app": "web"}}}),
        json!([]),
    );
    let after = document(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
               "spec": {"selector": {"app": "web"}, "type": "ClusterIP",
                        "sessionAffinity": "ClientIP"}}),
        json!([
            {"manager": "kube-apiserver", "operation": "Update", "time": "t",
             "fieldsV1": {"f:spec": {"f:type": {}}}},
            {"manager": "kubectl-client-side-apply", "operation": "Update", "time": "t",
             "fieldsV1": {"f:spec": {"f:sessionAffinity": {}}}},
        ]),
    );
    let found = compare(&before, &after, Compare::Declared);
    let fields: Vec<_> = found.iter().map(|d| d.field.as_str()).collect();
    assert_eq!(fields, ["spec.sessionAffinity"]);
    // What every server fills in is nobody's.
    let whole = compare(&before, &after, Compare::Whole);
    assert_eq!(whole.len(), 1, "{whole:?}");
}

#[test]
fn secrets_show_what_differs_and_no_value() {
    let secret = |word: &str| {
        let object = json!({"kind": "Secret", "data": {"p": word}, "metadata": {"name": "s"}});
        document(object, json!([]))
    };
    let found = compare(&secret("b25l"), &secret("dHdv"), Compare::Whole);
    assert_eq!(found[0].field, "data.p");
    assert_eq!(
        (&found[0].before, &found[0].after),
        (&Some(json!("***")), &Some(json!("***")))
    );
    assert!(!serde_json::to_string(&found).unwrap().contains("dHdv"));
}

#[test]
fn programs_of_people() {
    for (manager, expected) in [
        ("kubectl-edit", true),
        ("kubectl", true),
        ("kubectl-client-side-apply", true),
        ("oc", true),
        ("ocp-controller", false),
        ("Mozilla", true),
        ("kube-controller-manager", false),
        ("flux", false),
    ] {
        assert_eq!(is_by_hand(manager), expected, "{manager}");
    }
}

#[test]
fn what_programs_note_beside_is_no_drift() {
    let with = |note: &str| {
        let object = json!({"metadata": {"name": "a", "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": note, "x.example/y": note}}});
        document(object, json!([]))
    };
    let found = compare(&with("1"), &with("2"), Compare::Whole);
    assert_eq!(fields(&found), ["metadata.annotations[\"x.example/y\"]"]);
}

#[test]
fn no_copy_of_a_secret_is_told() {
    let secret = |metadata: Value, data: Value| {
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata,
                            "data": data, "type": "Opaque"});
        document(object, json!([]))
    };
    let plain = secret(json!({"name": "s"}), json!({}));
    let applied = "kubectl.kubernetes.io/last-applied-configuration";
    let noted = secret(
        json!({"name": "s", "labels": {"a": "shown"},
               "annotations": {(applied): "hunter2", "copy": "hunter2"}}),
        json!({"p": "hunter2", "deep": {"er": ["hunter2"]}}),
    );
    for (before, after) in [(&plain, &noted), (&noted, &plain)] {
        let found = compare(before, after, Compare::Whole);
        let text = serde_json::to_string(&found).unwrap();
        assert!(
            !text.contains("hunter2") && text.contains("shown"),
            "{text}"
        );
        assert!(fields(&found).contains(&"data.p"), "{text}");
    }
}

#[test]
fn what_the_server_filled_in_is_no_drift_and_what_somebody_added_is() {
    let before = json!({"kind": "Service", "metadata": {"name": "s"}, "spec": {
        "clusterIP": "10.0.0.1", "ports": [{"port": 80}]}});
    let after = json!({"kind": "Service", "metadata": {"name": "s"}, "spec": {
        "clusterIP": "10.0.0.2", "ipFamilies": ["IPv4"], "externalName": "x",
        "ports": [{"port": 443, "protocol": "TCP"}, {"port": 80, "protocol": "TCP"}]}});
    let managed = json!([{"manager": "operator", "operation": "Update", "time": "t", "fieldsV1":
        {"f:spec": {"f:externalName": {}, "f:ports": {
            "k:{\"port\":443,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:protocol": {}}}}}}]);
    let before = document(before, json!([]));
    let found = compare(&before, &document(after.clone(), managed), Compare::Whole);
    assert_eq!(
        fields(&found),
        ["spec.externalName", "spec.ports[443/TCP].port"]
    );
    assert_eq!(found[1].managers[0].name, "operator");
    // Where nobody records writers, every field may be somebody's.
    let found = compare(&before, &document(after, json!([])), Compare::Whole);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn amounts_lists_and_empty_fields_are_read_as_the_server_reads_them() {
    let declared = json!({"kind": "Pod", "metadata": {"name": "p", "labels": {}, "annotations": null},
        "spec": {"containers": [{"name": "a", "command": [],
                 "resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}}}],
                 "tolerations": [{"key": "a"}, {"key": "a", "effect": "NoSchedule"}],
                 "volumes": [{"name": "v", "emptyDir": {}}]}});
    let live = json!({"kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "a",
                 "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}],
                 "tolerations": [{"key": "a"}, {"key": "a", "effect": "NoSchedule"}],
                 "volumes": [{"name": "v", "emptyDir": {}}]}});
    let (declared, live) = (document(declared, json!([])), document(live, json!([])));
    assert_eq!(compare(&declared, &live, Compare::Declared), []);
    let mut other = live.clone();
    other.object["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "600m".into();
    other.object["spec"]["tolerations"] = json!([{"key": "a"}]);
    let found = compare(&declared, &other, Compare::Declared);
    assert_eq!(
        fields(&found),
        [
            "spec.containers[a].resources.limits.cpu",
            "spec.tolerations"
        ]
    );
}

#[test]
fn words_of_others_have_no_defaults_and_no_amounts() {
    let writers = json!([{"manager": "kubectl-edit", "operation": "Update", "time": "t",
        "fieldsV1": {"f:data": {"f:protocol": {}}, "f:metadata": {"f:labels": {"f:replicas": {}}},
            "f:spec": {"f:protocol": {}}}}]);
    let map = |data: Value, labels: Value| {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
               "metadata": {"name": "c", "labels": labels}, "data": data})
    };
    let widget = |spec: Value| {
        json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "w"},
               "spec": spec})
    };
    for (before, after, expected) in [
        (
            map(json!({"memory": "1k"}), json!({})),
            map(json!({"memory": "1000"}), json!({})),
            "data.memory",
        ),
        (
            map(json!({"a": "b"}), json!({"a": "b"})),
            map(json!({"a": "b", "protocol": "TCP"}), json!({"a": "b"})),
            "data.protocol",
        ),
        (
            widget(json!({"a": 1, "limits": {"memory": "1k"}})),
            widget(json!({"a": 1, "limits": {"memory": "1000"}})),
            "spec.limits.memory",
        ),
        (
            widget(json!({"a": 1})),
            widget(json!({"a": 1, "protocol": "TCP"})),
            "spec.protocol",
        ),
    ] {
        let (before, after) = (
            document(before, json!([])),
            document(after, writers.clone()),
        );
        for how in [Compare::Whole, Compare::Declared] {
            assert_eq!(fields(&compare(&before, &after, how)), [expected]);
        }
    }
}

#[test]
fn order_is_drift_where_it_means_something() {
    let pod = |first: &str, second: &str| {
        let named = json!([{"name": first}, {"name": second}]);
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"initContainers": named, "containers": [{"name": "c", "env": named}],
                "volumes": named}})
    };
    let before = document(pod("a", "b"), json!([]));
    let after = document(pod("b", "a"), json!([]));
    let found = compare(&before, &after, Compare::Declared);
    assert_eq!(
        fields(&found),
        ["spec.containers[c].env", "spec.initContainers"]
    );
    assert_eq!(found[0].before, Some(json!(["a", "b"])));
}

#[test]
fn what_people_write_as_text_is_the_secret_that_the_server_keeps() {
    let declared = json!({"kind": "Secret", "metadata": {"name": "s"}, "stringData": {"p": "one"}});
    let live = json!({"kind": "Secret", "metadata": {"name": "s"}, "data": {"p": "b25l"},
                      "type": "Opaque"});
    let (declared, live) = (document(declared, json!([])), document(live, json!([])));
    assert_eq!(compare(&declared, &live, Compare::Declared), []);
}

#[test]
fn lists_are_read_as_their_objects() {
    let text = "kind: ConfigMapList\nitems:\n- kind: ConfigMap\n  apiVersion: v1\n  metadata: \
                {name: a}\n- kind: ConfigMap\n  apiVersion: v1\n  metadata: {name: b}\n";
    let names: Vec<_> = Document::read(text.as_bytes())
        .unwrap()
        .iter()
        .map(|document| document.key().unwrap().name)
        .collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn defaults_that_came_with_what_was_applied_are_no_drift() {
    let declared = json!({"kind": "Widget", "metadata": {"name": "w"}, "spec": {"a": 1}});
    let live = json!({"kind": "Widget",
        "metadata": {"name": "w", "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration":
                r#"{"spec":{"a":1,"parts":[{"name":"x","size":2}]}}"#}},
        "spec": {"a": 1, "filled": true, "parts": [{"name": "x", "size": 2, "unit": "m"}]}});
    let managed = json!([{"manager": "kubectl-client-side-apply", "operation": "Update",
        "time": "t", "fieldsV1": {"f:spec": {"f:a": {}, "f:filled": {}, "f:parts": {}}}}]);
    let (declared, live) = (document(declared, json!([])), document(live, managed));
    let found = compare(&declared, &live, Compare::Declared);
    assert_eq!(fields(&found), ["spec.parts"]);
}

#[test]
fn no_document_makes_a_comparison_panic() {
    use refloat_model::secret::Secret;
    use refloat_testkit::fuzz::{Target, run};

    let live = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web",
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{\"spec\":{\"replicas\":1}}"},
        "managedFields": writers()}, "spec": deployment(2, "web:2")["spec"]});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
        "data": {"p": "dHdv"}, "stringData": {"q": "x"}});
    let corpus = [
        live.to_string(),
        secret.to_string(),
        deployment(1, "web:1").to_string(),
    ];
    let before = document(deployment(1, "web:1"), json!([]));
    let sealer = crate::sops::Sealer::new(&Secret::new([7; 32]), Vec::new()).unwrap();
    let targets = [
        Target::new("document", corpus.clone(), |bytes| {
            for document in Document::read(bytes).into_iter().flatten() {
                let _key = document.key();
                for how in [Compare::Whole, Compare::Declared] {
                    let _found = compare(&before, &document, how);
                    let _found = compare(&document, &before, how);
                }
            }
        }),
        Target::new("server's line", corpus.clone(), |bytes| {
            let _none = server_line(bytes);
        }),
        Target::new("sealed document", corpus, |bytes| {
            let _refused = sealer.seal(bytes, "2026-11-02T10:00:00Z");
        }),
    ];
    run("F1 drift", &targets);
}
