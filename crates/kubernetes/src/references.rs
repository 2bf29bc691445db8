//! What an object needs to work again.
//!
//! Invariant: what is marked optional in the object is no reference.

mod openshift;
mod pods;

use std::collections::BTreeSet;

use refloat_model::subject::{Subject, SubjectKind};
use serde_json::Value;

use crate::kind::{elements, label, name, namespace, object_name, text};
use crate::pod_spec::pod_spec;
use crate::rules::is_issued_pull_secret;

/// Something an object refers to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Reference {
    /// An image, as the object writes it.
    Image(String),
    /// Another object, by kind, namespace and name.
    Object {
        kind: &'static str,
        namespace: Option<String>,
        name: String,
    },
    /// The data behind a claim.
    Volume { namespace: String, claim: String },
}

impl Reference {
    fn object(kind: &'static str, namespace: Option<&str>, name: &str) -> Self {
        Self::Object {
            kind,
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        }
    }

    /// The subject of the same name.
    pub(crate) fn subject(&self, source: &str) -> Subject {
        match self {
            // An image by digest is the same everywhere.
            Self::Image(image) if image.contains('@') => {
                Subject::new("", SubjectKind::Image, image.clone())
            }
            Self::Image(image) => Subject::new(source, SubjectKind::Image, image.clone()),
            Self::Volume { namespace, claim } => {
                Subject::new(source, SubjectKind::Volume, format!("{namespace}/{claim}"))
            }
            Self::Object {
                kind,
                namespace,
                name,
            } => subject(source, kind, namespace.as_deref(), name),
        }
    }
}

/// How an object is called by whoever provides or needs it.
pub(crate) fn subject(source: &str, kind: &str, namespace: Option<&str>, name: &str) -> Subject {
    let short = || namespace.map_or_else(|| name.to_owned(), |n| format!("{n}/{name}"));
    match kind {
        "secrets" => Subject::new(source, SubjectKind::Secret, short()),
        "configmaps" => Subject::new(source, SubjectKind::Config, short()),
        kind => Subject::new(
            source,
            SubjectKind::Object,
            object_name(kind, namespace, name),
        ),
    }
}

/// Whether what discovery wants of a kind is in whole objects only: references, and of nodes the
/// platform. Of all other kinds metadata is enough.
pub(crate) fn has_references(kind: &str) -> bool {
    matches!(
        kind,
        "pods"
            | "nodes"
            | "replicationcontrollers"
            | "services"
            | "serviceaccounts"
            | "persistentvolumeclaims"
            | "persistentvolumes"
            | "replicasets.apps"
            | "deployments.apps"
            | "statefulsets.apps"
            | "daemonsets.apps"
            | "jobs.batch"
            | "cronjobs.batch"
            | "deploymentconfigs.apps.openshift.io"
            | "buildconfigs.build.openshift.io"
            | "routes.route.openshift.io"
            | "ingresses.networking.k8s.io"
            | "storageclasses.storage.k8s.io"
            | "rolebindings.rbac.authorization.k8s.io"
            | "clusterrolebindings.rbac.authorization.k8s.io"
            | "mutatingwebhookconfigurations.admissionregistration.k8s.io"
            | "validatingwebhookconfigurations.admissionregistration.k8s.io"
            | "apiservices.apiregistration.k8s.io"
            | "customresourcedefinitions.apiextensions.k8s.io"
            | "horizontalpodautoscalers.autoscaling"
            | "volumesnapshots.snapshot.storage.k8s.io"
    )
}

/// Everything `object` refers to.
pub(crate) fn references(kind: &str, object: &Value) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    let space = namespace(object);
    if let Some(space) = space {
        found.insert(Reference::object("namespaces", None, space));
    }
    if let (Some(space), Some(spec)) = (space, pod_spec(object)) {
        pods::references(space, spec, &mut found);
    }
    let mut add = |kind, namespace: Option<&str>, name: Option<&str>| {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            found.insert(Reference::object(kind, namespace, name));
        }
    };
    match kind {
        "statefulsets.apps" => {
            add("services", space, text(object, "/spec/serviceName"));
            for claim in elements(object, "/spec/volumeClaimTemplates") {
                add(CLASS, None, text(claim, "/spec/storageClassName"));
            }
        }
        "persistentvolumeclaims" => {
            add(CLASS, None, text(object, "/spec/storageClassName"));
            add("persistentvolumes", None, text(object, "/spec/volumeName"));
            let claim = name(object).to_owned();
            let namespace = space.unwrap_or_default().to_owned();
            found.insert(Reference::Volume { namespace, claim });
        }
        "persistentvolumes" => {
            add(CLASS, None, text(object, "/spec/storageClassName"));
            add(DRIVER, None, text(object, "/spec/csi/driver"));
        }
        "storageclasses.storage.k8s.io" => {
            let driver = text(object, "/provisioner").filter(|p| p.contains(".csi."));
            add(DRIVER, None, driver);
        }
        "serviceaccounts" => {
            for secret in elements(object, "/imagePullSecrets") {
                // What the cluster issued to it is left out, and issued anew.
                let secret = text(secret, "/name");
                let secret = secret.filter(|secret| !is_issued_pull_secret(secret, name(object)));
                add("secrets", space, secret);
            }
        }
        "ingresses.networking.k8s.io" => ingress(object, &mut add),
        "routes.route.openshift.io" => openshift::route(object, &mut add),
        "deploymentconfigs.apps.openshift.io" => openshift::deployment_config(object, &mut add),
        "buildconfigs.build.openshift.io" => openshift::build_config(object, &mut add),
        "volumesnapshots.snapshot.storage.k8s.io" => add(
            "volumesnapshotclasses.snapshot.storage.k8s.io",
            None,
            text(object, "/spec/volumeSnapshotClassName"),
        ),
        _ => others(kind, object, &mut add),
    }
    found
}

const CLASS: &str = "storageclasses.storage.k8s.io";
const DRIVER: &str = "csidrivers.storage.k8s.io";

type Add<'a> = dyn FnMut(&'static str, Option<&str>, Option<&str>) + 'a;

fn ingress(object: &Value, add: &mut Add<'_>) {
    let space = namespace(object);
    let class = "ingressclasses.networking.k8s.io";
    add(class, None, text(object, "/spec/ingressClassName"));
    for tls in elements(object, "/spec/tls") {
        add("secrets", space, text(tls, "/secretName"));
    }
    let paths = elements(object, "/spec/rules").flat_map(|rule| elements(rule, "/http/paths"));
    for backend in paths
        .filter_map(|path| path.get("backend"))
        .chain(object.pointer("/spec/defaultBackend"))
    {
        let service = text(backend, "/service/name").or_else(|| text(backend, "/serviceName"));
        add("services", space, service);
    }
}

fn others(kind: &str, object: &Value, add: &mut Add<'_>) {
    if kind.ends_with("bindings.rbac.authorization.k8s.io") {
        let (role, space) = match text(object, "/roleRef/kind") {
            Some("Role") => ("roles.rbac.authorization.k8s.io", namespace(object)),
            _ => ("clusterroles.rbac.authorization.k8s.io", None),
        };
        add(role, space, text(object, "/roleRef/name"));
        // The cluster's own bindings name accounts that not every cluster has.
        let is_bootstrap = label(object, "kubernetes.io/bootstrapping").is_some();
        for subject in elements(object, "/subjects").filter(|_| !is_bootstrap) {
            if text(subject, "/kind") == Some("ServiceAccount") {
                let space = text(subject, "/namespace").or(namespace(object));
                add("serviceaccounts", space, text(subject, "/name"));
            }
        }
    }
    let webhooks = elements(object, "/webhooks").filter_map(|w| w.pointer("/clientConfig/service"));
    let conversion = object.pointer("/spec/conversion/webhook/clientConfig/service");
    let aggregated = object
        .pointer("/spec/service")
        .filter(|_| kind == "apiservices.apiregistration.k8s.io");
    for service in webhooks.chain(conversion).chain(aggregated) {
        add(
            "services",
            text(service, "/namespace"),
            text(service, "/name"),
        );
    }
}

#[cfg(test)]
mod tests;
