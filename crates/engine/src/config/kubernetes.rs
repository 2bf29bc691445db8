//! Kubernetes clusters in `refloat.yaml`.
//!
//! Invariant: what is not said selects everything.

use std::collections::BTreeMap;
use std::path::PathBuf;

use refloat_model::glob::Glob;
use schemars::JsonSchema;
use serde::Deserialize;

/// A Kubernetes cluster: every object that its API holds.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct KubernetesConfig {
    /// The context of the kubeconfig; its current one if not given.
    pub context: Option<String>,
    /// The kubeconfig, relative to this file; if not given those that `KUBECONFIG` names, else
    /// `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// Whether to speak to the cluster as the pod that this process runs in.
    pub in_cluster: bool,
    /// Which namespaces are captured.
    pub namespaces: Namespaces,
    /// Which objects are captured, by label selector: `app in (shop, pay),tier!=test`.
    pub labels: Option<String>,
    /// Patterns of names; all if not given.
    #[schemars(with = "Vec<String>")]
    pub names: Vec<Glob>,
    /// Applications, `shop/web`: Helm releases, or what `app.kubernetes.io/instance` or `/name`
    /// says, with all that their objects own; all objects if not given.
    #[schemars(with = "Vec<String>")]
    pub applications: Vec<Glob>,
    /// A condition in CEL on objects in namespaces: `kind == 'secrets' && labels['tier'] == 'db'`.
    pub expression: Option<String>,
    /// Patterns of kinds, `secrets` or `deployments.apps`; all if not given.
    #[schemars(with = "Vec<String>")]
    pub kinds: Vec<Glob>,
    /// Patterns of kinds that are left out.
    #[schemars(with = "Vec<String>")]
    pub exclude_kinds: Vec<Glob>,
    /// What is captured that is in no namespace.
    pub cluster_wide: ClusterWide,
    /// In which versions objects are captured.
    pub versions: ServedVersions,
}

/// Namespaces, by name and label: those that fit all that is said.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Namespaces {
    /// Patterns of names; all if not given.
    #[schemars(with = "Vec<String>")]
    pub names: Vec<Glob>,
    /// Patterns of names that are left out.
    #[schemars(with = "Vec<String>")]
    pub exclude: Vec<Glob>,
    /// Labels that a namespace must have.
    pub labels: BTreeMap<String, String>,
}

/// What is captured that is in no namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterWide {
    /// Everything.
    #[default]
    All,
    /// Nothing but the captured namespaces themselves.
    None,
}

/// In which versions objects are captured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ServedVersions {
    /// In the one that the server prefers.
    #[default]
    Preferred,
    /// In every one that it serves, so that an older or newer cluster finds one it knows.
    All,
}
