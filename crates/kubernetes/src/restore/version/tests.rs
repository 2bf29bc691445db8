use super::*;

fn served(kinds: &[(&str, &str, &str)]) -> Catalogue {
    let kind = |(group, version, resource): &(&str, &str, &str)| Kind {
        group: (*group).into(),
        version: (*version).into(),
        resource: (*resource).into(),
        kind: "K".into(),
        namespaced: true,
        verbs: Vec::new(),
    };
    Catalogue {
        kinds: kinds.iter().map(kind).collect(),
        ..Catalogue::default()
    }
}

fn folder(group: &str, version: &str, resource: &str) -> Folder {
    Folder {
        group: group.into(),
        version: version.into(),
        resource: resource.into(),
        namespace: Some("shop".into()),
    }
}

#[test]
fn p11_an_old_ingress_becomes_a_new_one() {
    let mut object = json!({"apiVersion": "extensions/v1beta1", "spec": {
        "backend": {"serviceName": "d", "servicePort": 80},
        "rules": [{"http": {"paths": [{"path": "/", "backend": {"serviceName": "a", "servicePort": "http"}}]}}]}});
    let catalogue = served(&[("networking.k8s.io", "v1", "ingresses")]);
    let kind = choose(
        &catalogue,
        &folder("extensions", "v1beta1", "ingresses"),
        &mut object,
    )
    .unwrap();
    assert_eq!(kind.api_version(), "networking.k8s.io/v1");
    assert_eq!(
        object,
        json!({"apiVersion": "networking.k8s.io/v1", "spec": {
            "defaultBackend": {"service": {"name": "d", "port": {"number": 80}}},
            "rules": [{"http": {"paths": [{"path": "/", "pathType": "ImplementationSpecific",
                "backend": {"service": {"name": "a", "port": {"name": "http"}}}}]}}]}})
    );
}

#[test]
fn p11_kinds_that_changed_their_version_only_go_both_ways() {
    for (have, want) in [("v1beta1", "v1"), ("v1", "v1beta1")] {
        let catalogue = served(&[("batch", want, "cronjobs")]);
        let mut object = json!({"apiVersion": format!("batch/{have}")});
        let kind = choose(&catalogue, &folder("batch", have, "cronjobs"), &mut object).unwrap();
        assert_eq!(kind.version, want);
        assert_eq!(object, json!({"apiVersion": format!("batch/{want}")}));
    }
}

#[test]
fn p11_meaning_is_kept_where_versions_differ() {
    let catalogue = served(&[
        ("policy", "v1", "poddisruptionbudgets"),
        ("apps", "v1", "deployments"),
    ]);
    let mut budget = json!({"spec": {"selector": {}}});
    choose(
        &catalogue,
        &folder("policy", "v1beta1", "poddisruptionbudgets"),
        &mut budget,
    )
    .unwrap();
    assert!(budget.pointer("/spec/selector/matchExpressions").is_some());

    let mut deployment = json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}});
    choose(
        &catalogue,
        &folder("extensions", "v1beta1", "deployments"),
        &mut deployment,
    )
    .unwrap();
    assert_eq!(
        deployment.pointer("/spec/selector"),
        Some(&json!({"matchLabels": {"a": "b"}}))
    );
}

#[test]
fn p12_an_old_definition_becomes_a_new_one() {
    let catalogue = served(&[("apiextensions.k8s.io", "v1", "customresourcedefinitions")]);
    let mut object = json!({"spec": {"version": "v1alpha1", "group": "g",
        "additionalPrinterColumns": [{"name": "A", "JSONPath": ".a"}]}});
    let old = folder(
        "apiextensions.k8s.io",
        "v1beta1",
        "customresourcedefinitions",
    );
    choose(&catalogue, &old, &mut object).unwrap();
    assert_eq!(
        object.get("spec"),
        Some(
            &json!({"group": "g", "versions": [{"name": "v1alpha1", "served": true, "storage": true,
            "additionalPrinterColumns": [{"name": "A", "jsonPath": ".a"}],
            "schema": {"openAPIV3Schema": {"type": "object",
                       "x-kubernetes-preserve-unknown-fields": true}}}]})
        )
    );
}

#[test]
fn p11_what_cannot_be_converted_is_refused_by_name() {
    let catalogue = served(&[("example.org", "v2", "widgets")]);
    let refuse = |group, version, resource| {
        choose(
            &catalogue,
            &folder(group, version, resource),
            &mut json!({}),
        )
        .unwrap_err()
    };
    assert_eq!(
        refuse("example.org", "v1", "widgets"),
        "the target serves widgets in example.org/v1 only as v2, and there is no rule to convert it"
    );
    assert!(refuse("policy", "v1beta1", "podsecuritypolicies").contains("Pod Security"));
    assert!(refuse("other.org", "v1", "things").contains("things.other.org"));
}

#[test]
fn a_group_that_is_down_is_not_unknown() {
    let mut catalogue = served(&[("half.example.org", "v2", "things")]);
    let down = |name: &str| (name.to_owned(), "503".to_owned());
    catalogue.unavailable = vec![down("dead.example.org/v1"), down("half.example.org/v1")];
    let why = |group: &str, version: &str| {
        let folder = folder(group, version, "things");
        choose(&catalogue, &folder, &mut json!({})).err().unwrap()
    };
    let told = |name: &str| format!("the API server cannot serve {name} now: 503");
    assert_eq!(why("dead.example.org", "v1"), told("dead.example.org/v1"));
    assert_eq!(
        why("dead.example.org", "v1beta1"),
        told("dead.example.org/v1")
    );
    assert_eq!(why("half.example.org", "v1"), told("half.example.org/v1"));
    assert!(why("half.example.org", "v1beta1").contains("serves"));
    assert!(why("example.org", "v1").contains("does not know"));
}
