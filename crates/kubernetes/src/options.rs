//! What a policy wants of a cluster.
//!
//! Invariant: the defaults capture everything that the credentials can see and no rule leaves out.

use std::collections::BTreeMap;

use refloat_model::glob::Glob;

use crate::client::Access;
use crate::kind::Kind;

/// How one cluster is captured.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the cluster is reached.
    pub access: Access,
    /// Namespaces to capture, by name; empty means all.
    pub namespaces: Vec<Glob>,
    /// Namespaces to leave out, by name.
    pub exclude_namespaces: Vec<Glob>,
    /// Only namespaces with all of these labels.
    pub namespace_labels: BTreeMap<String, String>,
    /// Only objects that this label selector selects, `app in (shop, pay),tier!=test`. Namespaces
    /// themselves are always captured.
    pub labels: Option<String>,
    /// Kinds to capture, as `secrets` or `deployments.apps`; empty means all.
    pub kinds: Vec<Glob>,
    /// Kinds to leave out.
    pub exclude_kinds: Vec<Glob>,
    /// Objects to capture, by name; empty means all.
    pub names: Vec<Glob>,
    /// What is captured that is in no namespace.
    pub cluster_wide: ClusterWide,
    /// In which versions objects are captured.
    pub versions: Versions,
}

/// What is captured that is in no namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ClusterWide {
    /// Everything.
    #[default]
    All,
    /// Nothing, except the captured namespaces themselves.
    None,
}

/// In which versions objects are captured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Versions {
    /// In the one that the server prefers.
    #[default]
    Preferred,
    /// In every one that is served, so that an older cluster finds one it knows.
    All,
}

impl Options {
    /// Everything of the cluster that `access` reaches.
    #[must_use]
    pub const fn new(access: Access) -> Self {
        Self {
            access,
            namespaces: Vec::new(),
            exclude_namespaces: Vec::new(),
            namespace_labels: BTreeMap::new(),
            labels: None,
            kinds: Vec::new(),
            exclude_kinds: Vec::new(),
            names: Vec::new(),
            cluster_wide: ClusterWide::All,
            versions: Versions::Preferred,
        }
    }

    pub(crate) fn selects_namespace(&self, name: &str) -> bool {
        selects(&self.namespaces, &self.exclude_namespaces, name)
    }

    pub(crate) fn selects_kind(&self, kind: &Kind) -> bool {
        let is_namespace = kind.id() == "namespaces";
        (is_namespace || kind.namespaced || self.cluster_wide == ClusterWide::All)
            && selects(&self.kinds, &self.exclude_kinds, &kind.id())
    }

    pub(crate) fn selects_object(&self, name: &str) -> bool {
        selects(&self.names, &[], name)
    }

    /// Whether every namespace is wanted.
    pub(crate) fn is_everywhere(&self) -> bool {
        self.namespaces.is_empty()
            && self.exclude_namespaces.is_empty()
            && self.namespace_labels.is_empty()
    }
}

fn selects(include: &[Glob], exclude: &[Glob], name: &str) -> bool {
    let fits = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(name));
    (include.is_empty() || fits(include)) && !fits(exclude)
}
