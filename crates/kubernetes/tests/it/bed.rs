//! Two clusters of the test bed, shared by all tests of this binary, as source and target.
//!
//! Invariant: they end with this process, however it ends.

use std::sync::OnceLock;

use refloat_kubernetes::{Access, KubernetesSource, KubernetesTarget, Namespaces, Options};
use refloat_model::cancel::Cancel;
use refloat_model::glob::Glob;
use refloat_model::plan::{RestoreReport, RestoreRequest};
use refloat_model::progress::Silent;
use refloat_source::Target as _;
use refloat_testkit::kubernetes::{Level, start_pair};

use crate::memory::MemoryPoint;

pub use refloat_testkit::kubernetes::{Cluster, wait_for};

/// The clusters `a` and `b`, where pods stay Pending; none, after saying so, without a test bed.
pub fn clusters() -> Option<&'static (Cluster, Cluster)> {
    static CLUSTERS: OnceLock<Option<(Cluster, Cluster)>> = OnceLock::new();
    CLUSTERS
        .get_or_init(|| start_pair(Level::Controllers))
        .as_ref()
}

/// A cluster as the adapter sees it.
pub trait Adapter {
    /// How it is reached.
    fn access(&self) -> Access;
    /// A source of the given namespaces and what is in none.
    fn source(&self, namespaces: &[&str]) -> KubernetesSource;
    /// Something to restore into.
    fn target(&self) -> KubernetesTarget;
}

impl Adapter for Cluster {
    fn access(&self) -> Access {
        Access::Kubeconfig {
            files: vec![self.kubeconfig.clone()],
            context: None,
        }
    }

    fn source(&self, namespaces: &[&str]) -> KubernetesSource {
        let mut options = Options::new(self.access());
        options.namespaces = vec![named(namespaces)];
        KubernetesSource::connect("prod", options).unwrap()
    }

    fn target(&self) -> KubernetesTarget {
        KubernetesTarget::connect("prod", &self.access()).unwrap()
    }
}

/// Namespaces by name.
pub fn named(names: &[&str]) -> Namespaces {
    Namespaces {
        names: globs(names),
        ..Namespaces::default()
    }
}

/// Patterns.
pub fn globs(patterns: &[&str]) -> Vec<Glob> {
    patterns.iter().map(|n| Glob::new(n).unwrap()).collect()
}

/// What a restore into the cluster comes to, by a plan made for it.
pub fn execute(cluster: &Cluster, point: &MemoryPoint, request: &RestoreRequest) -> RestoreReport {
    execute_at(&cluster.target(), point, request)
}

/// What a restore comes to, by a plan made for it.
pub fn execute_at(
    target: &KubernetesTarget,
    point: &MemoryPoint,
    request: &RestoreRequest,
) -> RestoreReport {
    let plan = target.plan(point, request).unwrap();
    let (progress, cancel) = (Silent::default(), Cancel::default());
    target
        .execute(&plan, point, request, &progress, &cancel)
        .unwrap()
}
