use super::demand::{Made, Pods, claim};
use super::*;
use refloat_model::finding::Severity;
use serde_json::json;

fn judged(amounts: Demand, hard: Value, used: Value) -> Vec<(Severity, String)> {
    let quota =
        json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"used": used}});
    let findings = judge("shop", &quota, &amounts).into_iter();
    findings.map(|f| (f.severity, f.message)).collect()
}

fn web() -> Demand {
    let mut demand = Demand::default();
    let object = json!({"spec": {"replicas": 3, "template": {"spec": {
        "initContainers": [{"resources": {"limits": {"cpu": "2"}}}],
        "containers": [{"resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}},
                       {"resources": {"limits": {"memory": "512Mi"}}}]}},
        "volumeClaimTemplates": [{"spec": {"storageClassName": "fast",
            "resources": {"requests": {"storage": "10Gi"}}}}]}});
    demand.pods.extend(Pods::of(&object, 3, Made::ByController));
    claim(
        &mut demand.indirect,
        &object["spec"]["volumeClaimTemplates"][0],
        3,
    );
    add(&mut demand.direct, "configmaps", Quantity::whole(5));
    demand
}

#[test]
fn what_does_not_fit_is_told_with_its_numbers() {
    let few = judged(
        web(),
        json!({"configmaps": "10"}),
        json!({"configmaps": "6"}),
    );
    assert_eq!(few.len(), 1);
    assert_eq!(few[0].0, Severity::Error);
    assert!(
        few[0]
            .1
            .starts_with("it allows configmaps 10; 6 are used and 5 would come")
    );
    assert_eq!(
        judged(
            web(),
            json!({"count/configmaps": "11"}),
            json!({"count/configmaps": 6})
        ),
        []
    );
    // Three pods: 2 cpu each before they start, 1.5 GiB each.
    for (hard, amount) in [
        (json!({"pods": "2"}), "3"),
        (json!({"cpu": "5"}), "6"),
        (json!({"requests.memory": "4Gi"}), "4608Mi"),
        (json!({"limits.memory": "1Gi"}), "1536Mi"),
        (json!({"requests.storage": "20Gi"}), "30Gi"),
        (
            json!({"fast.storageclass.storage.k8s.io/persistentvolumeclaims": "2"}),
            "3",
        ),
    ] {
        let judged = judged(web(), hard.clone(), json!({}));
        assert_eq!(judged.len(), 1, "{hard}");
        assert_eq!(judged[0].0, Severity::Warning);
        assert!(
            judged[0]
                .1
                .contains(&format!("0 are used and {amount} would come")),
            "{judged:?}"
        );
    }
    let enough = json!({"pods": 3, "cpu": "6", "requests.memory": "4608Mi", "secrets": "0"});
    assert_eq!(judged(web(), enough, json!({})), []);
}

#[test]
fn a_scoped_quota_counts_the_pods_that_it_means() {
    let judged = |demand: &Demand, scopes: Value, hard: Value| {
        let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard, "scopes": scopes}});
        let findings = judge("shop", &quota, demand).into_iter();
        findings
            .map(|f| (f.severity, f.message))
            .collect::<Vec<_>>()
    };
    let demand = web();
    // These ask for something, and run on.
    for (scopes, expected) in [
        (json!(["BestEffort"]), 0),
        (json!(["NotBestEffort"]), 1),
        (json!(["Terminating"]), 0),
        (json!(["NotBestEffort", "NotTerminating"]), 1),
    ] {
        let found = judged(&demand, scopes.clone(), json!({"pods": "2"}));
        assert_eq!(found.len(), expected, "{scopes} {found:?}");
    }
    let enough = judged(
        &demand,
        json!(["NotBestEffort"]),
        json!({"pods": "3", "configmaps": "0"}),
    );
    assert_eq!(enough, []);
    let mut urgent = web();
    assert_eq!(
        judged(&urgent, json!(["PriorityClass"]), json!({"pods": "2"})),
        []
    );
    urgent.take_priority(Some("default"));
    assert_eq!(
        judged(&urgent, json!(["PriorityClass"]), json!({"pods": "2"})).len(),
        1
    );
    let unknown = judged(&demand, json!(["Unheard"]), json!({"pods": "0"}));
    assert_eq!(unknown[0].0, Severity::Note);
    assert!(unknown[0].1.contains("scope Unheard"), "{unknown:?}");
}

#[test]
fn what_defaults_may_change_is_not_judged() {
    let judged = |demand: &Demand, scope: &str| {
        let quota =
            json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}, "scopes": [scope]}});
        let findings = judge("shop", &quota, demand);
        let [finding] = findings.as_slice() else {
            panic!("{scope}: {findings:?}");
        };
        let is_left_open = finding.message.ends_with("is not computed");
        assert_eq!(is_left_open, finding.severity == Severity::Note);
        is_left_open
    };
    let mut ranged = web();
    ranged.has_limit_range = true;
    for (scope, expected) in [
        ("BestEffort", true),
        ("NotBestEffort", true),
        ("NotTerminating", false),
    ] {
        assert_eq!(judged(&ranged, scope), expected, "{scope}");
    }
    let mut hidden = web();
    hidden.is_priority_hidden = true;
    for (scope, expected) in [("PriorityClass", true), ("NotBestEffort", false)] {
        assert_eq!(judged(&hidden, scope), expected, "{scope}");
    }
}
