//! In which order kinds come back (P3, P4).
//!
//! Invariant: what an object needs to be accepted or to start is in an earlier layer.

/// A layer; all of one is restored before the next begins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Layer {
    /// Definitions of custom resources, until the server serves them.
    Definitions,
    Namespaces,
    /// Classes, volumes, drivers: cluster-wide settings that others name.
    Classes,
    Accounts,
    Roles,
    Bindings,
    /// Secrets, ConfigMaps, limits.
    Configuration,
    Claims,
    /// Services and network policies: an address, and its limits, before whoever uses it.
    Network,
    Workloads,
    /// Custom resources; whoever acts on them is a workload.
    Custom,
    /// What watches or routes to workloads.
    Edges,
    /// Aggregated APIs: a service that does not answer yet would break discovery.
    Apis,
    /// What judges requests, when everything it could stop is there.
    Webhooks,
}

/// The layer of the kind `id`.
pub(super) fn layer(id: &str) -> Layer {
    match id {
        "customresourcedefinitions.apiextensions.k8s.io" => Layer::Definitions,
        "namespaces" => Layer::Namespaces,
        "persistentvolumes"
        | "storageclasses.storage.k8s.io"
        | "csidrivers.storage.k8s.io"
        | "volumesnapshotclasses.snapshot.storage.k8s.io"
        | "volumesnapshotcontents.snapshot.storage.k8s.io"
        | "priorityclasses.scheduling.k8s.io"
        | "runtimeclasses.node.k8s.io"
        | "ingressclasses.networking.k8s.io"
        | "securitycontextconstraints.security.openshift.io"
        | "podsecuritypolicies.policy" => Layer::Classes,
        "serviceaccounts" => Layer::Accounts,
        "clusterroles.rbac.authorization.k8s.io" | "roles.rbac.authorization.k8s.io" => {
            Layer::Roles
        }
        "clusterrolebindings.rbac.authorization.k8s.io"
        | "rolebindings.rbac.authorization.k8s.io" => Layer::Bindings,
        "secrets"
        | "configmaps"
        | "limitranges"
        | "resourcequotas"
        | "imagestreams.image.openshift.io" => Layer::Configuration,
        "volumesnapshots.snapshot.storage.k8s.io" | "persistentvolumeclaims" => Layer::Claims,
        "services"
        | "endpoints"
        | "endpointslices.discovery.k8s.io"
        | "networkpolicies.networking.k8s.io" => Layer::Network,
        "pods"
        | "replicationcontrollers"
        | "podtemplates"
        | "replicasets.apps"
        | "deployments.apps"
        | "statefulsets.apps"
        | "daemonsets.apps"
        | "controllerrevisions.apps"
        | "jobs.batch"
        | "cronjobs.batch"
        | "deploymentconfigs.apps.openshift.io" => Layer::Workloads,
        "ingresses.networking.k8s.io"
        | "routes.route.openshift.io"
        | "horizontalpodautoscalers.autoscaling"
        | "poddisruptionbudgets.policy" => Layer::Edges,
        "apiservices.apiregistration.k8s.io" => Layer::Apis,
        id if id.ends_with(".admissionregistration.k8s.io") => Layer::Webhooks,
        _ => Layer::Custom,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_comes_back_in_this_order() {
        let mut kinds = [
            "validatingwebhookconfigurations.admissionregistration.k8s.io",
            "widgets.example.org",
            "deployments.apps",
            "services",
            "persistentvolumeclaims",
            "secrets",
            "rolebindings.rbac.authorization.k8s.io",
            "roles.rbac.authorization.k8s.io",
            "serviceaccounts",
            "storageclasses.storage.k8s.io",
            "namespaces",
            "customresourcedefinitions.apiextensions.k8s.io",
        ];
        let reversed: Vec<&str> = kinds.iter().rev().copied().collect();
        kinds.sort_by_key(|id| layer(id));
        assert_eq!(kinds.to_vec(), reversed);
    }
}
