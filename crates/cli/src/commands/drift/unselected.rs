//! What a cluster has beside what is selected of it: an object of a point that is not selected any
//! more is not gone.
//!
//! Invariant: the cluster is asked only once something seems to be missing.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::slice;

use refloat_docker::PlainTcp;
use refloat_engine::backup::BackupPolicy;
use refloat_engine::config::{KubernetesConfig, SourceConfig};
use refloat_engine::git_export::{Gaps, item_place};
use refloat_model::cancel::Cancel;
use refloat_model::finding::{Finding, Severity};
use refloat_model::tree_path::escape;

use crate::command_error::one_line;
use crate::sources::{Connected, Declared, Purpose};

/// See the module.
pub struct Unselected {
    /// The cluster without any selection.
    wide: Declared,
    plain_tcp: PlainTcp,
    cancel: Cancel,
    seen: OnceCell<Result<Seen, String>>,
}

/// Places of folders, and names of files in them.
struct Seen {
    objects: BTreeSet<(String, String)>,
    /// Kinds that could not be seen.
    gaps: Gaps,
    /// Whether not even its namespaces could be listed: then nothing is known to be gone.
    is_blind: bool,
}

impl Unselected {
    /// None if nothing is left out.
    pub fn of(
        declared: &Declared,
        policy: &BackupPolicy,
        (plain_tcp, cancel): (PlainTcp, Cancel),
    ) -> Option<Self> {
        let SourceConfig::Kubernetes(config) = &declared.config else {
            return None;
        };
        let mut selected = policy.select.iter().filter(|s| s.source == declared.name);
        let is_narrowed = *config != wide(config)
            || declared.namespaces.is_some()
            || selected.any(|selection| !selection.workloads.is_empty());
        is_narrowed.then(|| Self {
            wide: Declared {
                config: SourceConfig::Kubernetes(wide(config)),
                namespaces: None,
                ..declared.clone()
            },
            plain_tcp,
            cancel,
            seen: OnceCell::new(),
        })
    }

    /// Whether the cluster has an object, by the place of its folder and the name of its file.
    ///
    /// # Errors
    /// Why that cannot be told.
    pub fn has(&self, place: &str, name: &str) -> Result<bool, String> {
        let seen = self.seen.get_or_init(|| self.look()).as_ref();
        let seen = seen.map_err(|why| format!("whether it is gone cannot be told: {why}"))?;
        seen.has(place, name)
    }

    fn look(&self) -> Result<Seen, String> {
        let wide = slice::from_ref(&self.wide);
        let connected = Connected::to(wide, self.plain_tcp, Purpose::Look);
        let found = connected.and_then(|mut connected| connected.discover(&[], &self.cancel));
        let discovery = found.map_err(|error| error.line())?;
        if let Some((_, error)) = discovery.unreachable.first() {
            return Err(one_line(error));
        }
        let inventories = || discovery.found.iter().map(|found| &found.inventory);
        let items = inventories().flat_map(|inventory| &inventory.items);
        let items = items.filter(|item| item.skip.is_none());
        let objects = items.flat_map(|item| {
            let place = item_place(item);
            let names = item
                .provides
                .iter()
                .map(|subject| subject.name.rsplit('/').next());
            let names = names.flatten().map(escape).collect::<Vec<_>>();
            let both = names
                .into_iter()
                .map(move |name| Some((place.clone()?, name)));
            both.flatten()
        });
        let findings = inventories().flat_map(|inventory| &inventory.findings);
        Ok(Seen::of(objects.collect(), findings))
    }
}

impl Seen {
    fn of<'a>(
        objects: BTreeSet<(String, String)>,
        findings: impl Iterator<Item = &'a Finding> + Clone,
    ) -> Self {
        let mut errors = findings.clone().filter(|f| f.severity == Severity::Error);
        Self {
            objects,
            gaps: Gaps::of_findings(findings),
            is_blind: errors.any(|finding| finding.subject == "namespaces"),
        }
    }

    fn has(&self, place: &str, name: &str) -> Result<bool, String> {
        let is_there = self.objects.contains(&(place.to_owned(), name.to_owned()));
        if !is_there && (self.is_blind || self.gaps.hides(place)) {
            let why = "it is not selected any more, or gone: not all of the cluster can be seen";
            return Err(why.to_owned());
        }
        Ok(is_there)
    }
}

/// The same cluster, all of it.
pub fn wide(config: &KubernetesConfig) -> KubernetesConfig {
    KubernetesConfig {
        context: config.context.clone(),
        kubeconfig: config.kubeconfig.clone(),
        in_cluster: config.in_cluster,
        versions: config.versions,
        ..KubernetesConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_listed_hides_nothing_else() {
        let web = "apps/v1/deployments/shop";
        let seen = |findings: &[Finding]| {
            let objects = BTreeSet::from([(web.to_owned(), "web.yaml".to_owned())]);
            Seen::of(objects, findings.iter())
        };
        let no_rights = |kind: &str| Finding::error(kind, "these credentials cannot list it");
        // The documented rights withhold some kinds: of all others it is known what is gone.
        let some = seen(&[
            no_rights("leases.coordination.k8s.io"),
            no_rights("secrets"),
        ]);
        assert_eq!(some.has(web, "web.yaml"), Ok(true));
        assert_eq!(some.has(web, "gone.yaml"), Ok(false));
        assert!(some.has("core/v1/secrets/shop", "gone.yaml").is_err());
        let blind = seen(&[no_rights("namespaces")]);
        assert_eq!(blind.has(web, "web.yaml"), Ok(true));
        assert!(blind.has(web, "gone.yaml").is_err());
        let warned = seen(&[Finding::warning("deployments.apps", "odd")]);
        assert_eq!(warned.has(web, "gone.yaml"), Ok(false));
    }
}
