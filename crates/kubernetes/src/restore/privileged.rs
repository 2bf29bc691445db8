//! What never comes back unless a cluster administrator names it.
//!
//! A backup must not be a way to get rights: somebody who may write into the repository, or choose
//! an old point, would hand out roles, admission rules or host access with it.
//!
//! Invariant: a rule here is waived by a name only, never by a wildcard that means "everything".

use refloat_model::glob::Glob;
use serde_json::Value;

use super::sanitise::is_bootstrap;
use crate::kind::{annotation, namespace, text};

/// Kinds that are made by a cluster for itself, in every cluster.
const NEVER: [(&str, &str); 3] = [
    ("nodes", "nodes register themselves"),
    ("events", "events are a log, not a state"),
    (
        "leases.coordination.k8s.io",
        "a lease belongs to a running process",
    ),
];

const PRIVILEGED: [&str; 14] = [
    "roles.rbac.authorization.k8s.io",
    "rolebindings.rbac.authorization.k8s.io",
    "clusterroles.rbac.authorization.k8s.io",
    "clusterrolebindings.rbac.authorization.k8s.io",
    "customresourcedefinitions.apiextensions.k8s.io",
    "apiservices.apiregistration.k8s.io",
    "certificatesigningrequests.certificates.k8s.io",
    "podsecuritypolicies.policy",
    "securitycontextconstraints.security.openshift.io",
    "persistentvolumes",
    "volumesnapshotcontents.snapshot.storage.k8s.io",
    "csidrivers.storage.k8s.io",
    "flowschemas.flowcontrol.apiserver.k8s.io",
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
];

/// Groups of other backup programs: their records would make them act (P14).
const BACKUP_GROUPS: [&str; 2] = ["velero.io", "k8up.io"];

/// Namespaces of the cluster itself.
const SYSTEM_SPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Why an object stays out; none if it may come back. `is_named` is whether somebody named it,
/// `is_space_named` whether its namespace was named.
pub(super) fn stays_out(
    id: &str,
    object: &Value,
    is_named: bool,
    is_space_named: bool,
) -> Option<String> {
    if let Some((_, why)) = NEVER.iter().find(|(kind, _)| *kind == id) {
        return Some((*why).to_owned());
    }
    if is_named {
        return None;
    }
    if is_bootstrap(id, object) {
        return Some("every cluster has its own".to_owned());
    }
    let group = id.split_once('.').map_or("", |(_, group)| group);
    if BACKUP_GROUPS.contains(&group) {
        return Some(
            "the record of another backup program, which would act on it: restored only if it \
             is named"
                .to_owned(),
        );
    }
    let space =
        namespace(object).or_else(|| text(object, "/metadata/name").filter(|_| id == "namespaces"));
    if space.is_some_and(|space| SYSTEM_SPACES.contains(&space)) && !is_space_named {
        return Some("belongs to the cluster itself; name its namespace to restore it".to_owned());
    }
    let is_token = annotation(object, "kubernetes.io/service-account.name").is_some();
    let is_admission = id.ends_with(".admissionregistration.k8s.io");
    if PRIVILEGED.contains(&id) || is_admission || (id == "secrets" && is_token) {
        return Some(
            "gives rights or changes the cluster: restored only if it is named".to_owned(),
        );
    }
    None
}

/// Whether one of the patterns names an object. A pattern must say the kind.
pub(super) fn is_named(patterns: &[Glob], name: &str) -> bool {
    patterns
        .iter()
        .any(|glob| says_kind(glob) && glob.matches(name))
}

/// Whether a pattern begins with a kind.
pub(super) fn says_kind(glob: &Glob) -> bool {
    let kind = glob.pattern().split_once('/').map(|(kind, _)| kind);
    kind.is_some_and(|kind| !kind.contains(['*', '?', '[', '{']))
}

/// The label by which a namespace says what its pods may do (Pod Security).
pub(super) const SPACE_RIGHTS: &str = "pod-security.kubernetes.io/enforce";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rights_come_back_only_by_name() {
        let in_space = |space: &str| json!({"metadata": {"name": "x", "namespace": space}});
        let outside = json!({"metadata": {"name": "x"}});
        let token = json!({"metadata": {"name": "x", "namespace": "shop",
            "annotations": {"kubernetes.io/service-account.name": "a"}}});
        let cases = [
            ("roles.rbac.authorization.k8s.io", in_space("shop"), true),
            (
                "validatingwebhookconfigurations.admissionregistration.k8s.io",
                outside.clone(),
                true,
            ),
            (
                "customresourcedefinitions.apiextensions.k8s.io",
                outside.clone(),
                true,
            ),
            ("persistentvolumes", outside.clone(), true),
            ("secrets", token, true),
            ("secrets", in_space("shop"), false),
            ("secrets", in_space("kube-system"), true),
            ("deployments.apps", in_space("shop"), false),
            ("storageclasses.storage.k8s.io", outside.clone(), false),
            (
                "namespaces",
                json!({"metadata": {"name": "kube-system"}}),
                true,
            ),
        ];
        for (id, object, stays) in cases {
            assert_eq!(
                stays_out(id, &object, false, false).is_some(),
                stays,
                "{id}"
            );
            assert_eq!(stays_out(id, &object, true, false), None, "{id}");
        }
        assert!(stays_out("nodes", &outside, true, true).is_some());
    }

    #[test]
    fn a_pattern_without_a_kind_names_nothing() {
        let globs = |pattern: &str| vec![Glob::new(pattern).unwrap()];
        let role = "roles.rbac.authorization.k8s.io/shop/reader";
        assert!(is_named(
            &globs("roles.rbac.authorization.k8s.io/shop/*"),
            role
        ));
        assert!(!is_named(&globs("*"), role));
        assert!(!is_named(&globs("*/shop/reader"), role));
    }
}
