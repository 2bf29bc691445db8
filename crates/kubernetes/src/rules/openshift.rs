//! What OpenShift shows twice, issues by itself, or makes again.
//!
//! Invariant: whatever is left out here is in the point in another form, or worth nothing elsewhere.

use serde_json::Value;

use super::{Rule, TOKEN, rule};
use crate::kind::{annotation, label};

/// The same objects under another name.
const DUPLICATES: [(&str, Rule); 3] = [
    (
        "projects.project.openshift.io",
        rule(
            "duplicate",
            "a project is shown for each namespace, which is saved",
        ),
    ),
    ("imagestreamtags.image.openshift.io", OF_STREAMS),
    ("imagetags.image.openshift.io", OF_STREAMS),
];

const OF_STREAMS: Rule = rule(
    "duplicate",
    "tags are in the image streams, which are saved",
);

/// Logins of people.
const TOKENS: [&str; 3] = [
    "oauthaccesstokens.oauth.openshift.io",
    "oauthauthorizetokens.oauth.openshift.io",
    "useroauthaccesstokens.oauth.openshift.io",
];

/// The rule for a whole kind.
pub(super) fn kind_rule(id: &str) -> Option<Rule> {
    if id.ends_with(".authorization.openshift.io") {
        return Some(rule(
            "duplicate",
            "the same objects are in rbac.authorization.k8s.io",
        ));
    }
    if TOKENS.contains(&id) {
        return Some(TOKEN);
    }
    let found = DUPLICATES.iter().find(|(name, _)| *name == id);
    found.map(|(_, rule)| *rule)
}

/// Whether a pod carries out one rollout of a DeploymentConfig. It names no controller.
pub(super) fn is_deployer(pod: &Value) -> bool {
    label(pod, "openshift.io/deployer-pod-for.name").is_some()
}

/// Whether a Secret is a login of a service account at the cluster's own registry.
pub(super) fn is_issued(secret: &Value) -> bool {
    [
        "openshift.io/token-secret.name",
        "openshift.io/internal-registry-auth-token.service-account",
    ]
    .iter()
    .any(|key| annotation(secret, key).is_some())
}
