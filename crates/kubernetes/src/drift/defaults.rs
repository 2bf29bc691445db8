//! What servers fill in where nobody said anything.
//!
//! A server records its defaults as written by whoever sent the object, so the record of writers
//! does not tell them; these are Kubernetes' own, by the field's name.
//!
//! Invariant: only a field that was not there can be a default.

use serde_json::Value;

/// Fields and the values they are filled in with, as JSON.
const DEFAULTS: [(&str, &[&str]); 58] = [
    ("allocateLoadBalancerNodePorts", &["true"]),
    ("apiGroup", &[r#""rbac.authorization.k8s.io""#, r#""""#]),
    ("apiVersion", &[r#""v1""#]),
    ("backoffLimit", &["6"]),
    ("completionMode", &[r#""NonIndexed""#]),
    ("completions", &["1"]),
    ("concurrencyPolicy", &[r#""Allow""#]),
    ("defaultMode", &["420"]),
    ("dnsPolicy", &[r#""ClusterFirst""#]),
    ("enableServiceLinks", &["true"]),
    ("externalTrafficPolicy", &[r#""Cluster""#]),
    ("failedJobsHistoryLimit", &["1"]),
    ("failurePolicy", &[r#""Fail""#]),
    ("failureThreshold", &["3"]),
    ("imagePullPolicy", &[r#""IfNotPresent""#, r#""Always""#]),
    ("internalTrafficPolicy", &[r#""Cluster""#]),
    ("ipFamilies", &[r#"["IPv4"]"#, r#"["IPv6"]"#]),
    ("ipFamilyPolicy", &[r#""SingleStack""#]),
    ("kubernetes.io/metadata.name", &[]),
    ("matchPolicy", &[r#""Equivalent""#]),
    ("maxSurge", &[r#""25%""#, "0"]),
    ("maxUnavailable", &[r#""25%""#, "1"]),
    ("minReplicas", &["1"]),
    ("namespaceSelector", &["{}"]),
    ("objectSelector", &["{}"]),
    ("parallelism", &["1"]),
    ("partition", &["0"]),
    ("pathType", &[r#""ImplementationSpecific""#]),
    ("periodSeconds", &["10"]),
    (
        "persistentVolumeReclaimPolicy",
        &[r#""Retain""#, r#""Delete""#],
    ),
    ("podManagementPolicy", &[r#""OrderedReady""#]),
    (
        "policyTypes",
        &[r#"["Ingress"]"#, r#"["Ingress","Egress"]"#, r#"["Egress"]"#],
    ),
    ("preemptionPolicy", &[r#""PreemptLowerPriority""#]),
    ("preserveUnknownFields", &["false"]),
    ("progressDeadlineSeconds", &["600"]),
    ("protocol", &[r#""TCP""#]),
    ("reclaimPolicy", &[r#""Delete""#]),
    ("reinvocationPolicy", &[r#""Never""#]),
    ("replicas", &["1"]),
    ("restartPolicy", &[r#""Always""#]),
    ("revisionHistoryLimit", &["10"]),
    ("schedulerName", &[r#""default-scheduler""#]),
    ("scheme", &[r#""HTTP""#]),
    ("scope", &[r#""*""#]),
    ("securityContext", &["{}"]),
    ("sessionAffinity", &[r#""None""#]),
    ("strategy", &[r#""None""#]),
    ("successThreshold", &["1"]),
    ("successfulJobsHistoryLimit", &["3"]),
    ("suspend", &["false"]),
    ("terminationGracePeriodSeconds", &["30"]),
    ("terminationMessagePath", &[r#""/dev/termination-log""#]),
    ("terminationMessagePolicy", &[r#""File""#]),
    ("timeoutSeconds", &["1", "10"]),
    (
        "type",
        &[
            r#""RollingUpdate""#,
            r#""ClusterIP""#,
            r#""Opaque""#,
            r#""""#,
        ],
    ),
    ("volumeBindingMode", &[r#""Immediate""#]),
    ("volumeMode", &[r#""Filesystem""#]),
    ("whenUnsatisfiable", &[r#""DoNotSchedule""#]),
];

/// Whether a server fills in the field `name` with `value`, in an object whose fields are
/// `beside` it.
pub(super) fn is_default(name: &str, value: &Value, beside: Option<&Value>) -> bool {
    let of = |field: &str| beside.and_then(|beside| beside.get(field));
    match name {
        // Where nobody says otherwise, the port of the pods is that of the service.
        "targetPort" => of("port") == Some(value),
        // The old name of another field.
        "serviceAccount" => of("serviceAccountName") == Some(value),
        _ => {
            let known = DEFAULTS.iter().find(|(field, _)| *field == name);
            let text = || value.to_string();
            known.is_some_and(|(_, values)| values.is_empty() || values.contains(&text().as_str()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_are_known_by_name_and_value() {
        let port = json!({"port": 80, "targetPort": 80});
        for (name, value, expected) in [
            ("restartPolicy", json!("Always"), true),
            ("restartPolicy", json!("Never"), false),
            ("policyTypes", json!(["Ingress"]), true),
            ("image", json!("web:1"), false),
            ("targetPort", json!(80), true),
            ("targetPort", json!(8080), false),
            ("kubernetes.io/metadata.name", json!("shop"), true),
        ] {
            assert_eq!(is_default(name, &value, Some(&port)), expected, "{name}");
        }
        assert!(DEFAULTS.is_sorted_by_key(|(name, _)| name));
    }
}
