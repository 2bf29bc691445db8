//! What a policy wants of a cluster.
//!
//! Invariant: the defaults capture everything that the credentials can see and no rule leaves out.

use std::collections::BTreeMap;

use refloat_model::glob::Glob;
use serde_json::Value;

use crate::client::Access;
use crate::expression::Expression;
use crate::kind::{Kind, label, name};

/// How one cluster is captured.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the cluster is reached.
    pub access: Access,
    /// Which namespaces are captured: those that fit every one of these.
    pub namespaces: Vec<Namespaces>,
    /// Only objects that this label selector selects, `app in (shop, pay),tier!=test`. Namespaces
    /// themselves are always captured.
    pub labels: Option<String>,
    /// Kinds to capture, as `secrets` or `deployments.apps`; empty means all.
    pub kinds: Vec<Glob>,
    /// Kinds to leave out.
    pub exclude_kinds: Vec<Glob>,
    /// Objects to capture, by name; empty means all.
    pub names: Vec<Glob>,
    /// Applications to capture, `shop/web`, with all that their objects own; empty means all
    /// objects. What is in no namespace is not asked.
    pub applications: Vec<Glob>,
    /// A condition on objects that are in a namespace. One that it cannot judge is captured.
    pub expression: Option<Expression>,
    /// What is captured that is in no namespace.
    pub cluster_wide: ClusterWide,
    /// In which versions objects are captured.
    pub versions: Versions,
    /// How much of what discovery reads is kept in memory, compressed, for the captures after it; in
    /// bytes. What is not kept is read again. With 0, discovery reads no more than it must.
    pub kept_bytes_max: usize,
}

/// What is kept by default. Objects become about six times smaller.
const KEPT_BYTES_MAX: usize = 96 << 20;

/// Namespaces, by name and label: those that fit all that is said.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Namespaces {
    /// Patterns of names; empty means all.
    pub names: Vec<Glob>,
    /// Patterns of names that are left out.
    pub exclude: Vec<Glob>,
    /// Labels that a namespace must have.
    pub labels: BTreeMap<String, String>,
}

impl Namespaces {
    fn is_everywhere(&self) -> bool {
        self.names.is_empty() && self.exclude.is_empty() && self.labels.is_empty()
    }

    fn selects_name(&self, name: &str) -> bool {
        selects(&self.names, &self.exclude, name)
    }
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
            labels: None,
            kinds: Vec::new(),
            exclude_kinds: Vec::new(),
            names: Vec::new(),
            applications: Vec::new(),
            expression: None,
            cluster_wide: ClusterWide::All,
            versions: Versions::Preferred,
            kept_bytes_max: KEPT_BYTES_MAX,
        }
    }

    /// Whether a namespace is wanted, as far as its name tells.
    pub(crate) fn selects_namespace_name(&self, name: &str) -> bool {
        self.namespaces.iter().all(|n| n.selects_name(name))
    }

    /// Whether a namespace is wanted.
    pub(crate) fn selects_namespace(&self, namespace: &Value) -> bool {
        let has = |(key, value): (&String, &String)| label(namespace, key) == Some(value);
        self.selects_namespace_name(name(namespace))
            && self.namespaces.iter().all(|n| n.labels.iter().all(has))
    }

    /// The namespaces that are named without a pattern, for credentials that cannot list them.
    /// None can be told from labels.
    pub(crate) fn named_namespaces(&self) -> impl Iterator<Item = &str> {
        let by_label = self.namespaces.iter().any(|n| !n.labels.is_empty());
        self.namespaces
            .iter()
            .filter(move |_| !by_label)
            .flat_map(|n| &n.names)
            .filter(|glob| glob.is_literal())
            .map(Glob::pattern)
            .filter(|name| self.selects_namespace_name(name))
    }

    pub(crate) fn selects_kind(&self, kind: &Kind) -> bool {
        let is_namespace = kind.id() == "namespaces";
        (is_namespace || kind.namespaced || self.cluster_wide == ClusterWide::All)
            && selects(&self.kinds, &self.exclude_kinds, &kind.id())
    }

    pub(crate) fn selects_object(&self, name: &str) -> bool {
        selects(&self.names, &[], name)
    }

    /// Whether an application of a namespace is wanted.
    pub(crate) fn selects_application(&self, namespace: &str, application: &str) -> bool {
        selects(
            &self.applications,
            &[],
            &format!("{namespace}/{application}"),
        )
    }

    /// The same applications whatever their objects are.
    pub(crate) fn of_applications(&self) -> Self {
        Self {
            labels: None,
            kinds: Vec::new(),
            exclude_kinds: Vec::new(),
            names: Vec::new(),
            expression: None,
            ..self.clone()
        }
    }

    /// Whether the look must read objects whole.
    pub(crate) const fn reads_fields(&self) -> bool {
        self.expression.is_some()
    }

    /// What the expression says of an object; why it says nothing is the error.
    pub(crate) fn judges(&self, kind: &Kind, object: &Value) -> Result<bool, String> {
        match &self.expression {
            Some(expression) if kind.namespaced => expression.fits(&kind.id(), object),
            _ => Ok(true),
        }
    }

    /// Whether every namespace is wanted.
    pub(crate) fn is_everywhere(&self) -> bool {
        self.namespaces.iter().all(Namespaces::is_everywhere)
    }
}

fn selects(include: &[Glob], exclude: &[Glob], name: &str) -> bool {
    let fits = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(name));
    (include.is_empty() || fits(include)) && !fits(exclude)
}
