//! What was seen, as an inventory of items, workloads and findings.
//!
//! Invariant: every object seen is in exactly one item, or counted by exactly one rule.

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::finding::Finding;
use refloat_model::item::{Inventory, Item, ItemKind, Workload};
use refloat_model::outcome::Outcome;
use refloat_model::subject::Subject;
use refloat_model::tree_path::TreePath;
use serde_json::Value;

use super::{Digests, Seen, Sight, application, images, object_rule, placement, references};
use crate::catalogue::Catalogue;
use crate::kind::{Kind, controller, name, namespace};
use crate::layout::{Folder, source_root};
use crate::references::{Reference, subject};
use crate::rules::{Rule, Surroundings};
use crate::stateful_set::sets_of_claim;

/// How many names a report gives of what a rule leaves out.
const NAMES_SHOWN: usize = 10;

const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

impl Sight {
    /// Takes one object in; gives its folder if it is to be saved.
    pub(super) fn see(
        &mut self,
        kind: &Kind,
        object: &Value,
        around: &Surroundings,
        custom: &BTreeSet<String>,
    ) -> Option<Folder> {
        let id = kind.id();
        if id == "pods" {
            self.placements.extend(placement::placements(object));
            let space = namespace(object).unwrap_or_default();
            for (image, digest) in placement::digests(object) {
                let key = (space.to_owned(), image);
                self.digests.entry(key).or_default().insert(digest);
            }
        }
        if id == "nodes"
            && let Some(platform) = images::platform(object)
        {
            let _before = self.platforms.insert(name(object).to_owned(), platform);
        }
        let folder = Folder {
            group: kind.group.clone(),
            version: kind.version.clone(),
            resource: kind.resource.clone(),
            namespace: namespace(object).map(str::to_owned),
        };
        let seen = self.folders.entry(folder.clone()).or_default();
        let name = name(object).to_owned();
        if let Some(rule) = object_rule(kind, object, around) {
            seen.skipped.entry(rule).or_default().push(name);
            return None;
        }
        let mut needs = references(&id, object);
        if custom.contains(&id) {
            needs.insert(Reference::Object {
                kind: DEFINITIONS,
                namespace: None,
                name: id.clone(),
            });
        }
        if let Some(application) = application(object) {
            let all = seen.applications.entry(application.to_owned()).or_default();
            all.references.extend(needs.iter().cloned());
            all.names.push(name.clone());
        } else if id == "persistentvolumeclaims" {
            seen.claims.insert(name.clone(), needs.clone());
        }
        seen.references.extend(needs);
        if id == "pods" && controller(object).is_none() {
            seen.naked_pods.push(name.clone());
        }
        seen.names.push(name);
        Some(folder)
    }

    /// Claims that name no application belong to that of their StatefulSet.
    fn adopt_claims(&mut self) {
        let mut sets: BTreeMap<(String, String), String> = BTreeMap::new();
        for (folder, seen) in &self.folders {
            if (folder.group.as_str(), folder.resource.as_str()) != ("apps", "statefulsets") {
                continue;
            }
            let space = folder.namespace.clone().unwrap_or_default();
            for (application, own) in &seen.applications {
                let names = own.names.iter();
                sets.extend(names.map(|set| ((space.clone(), set.clone()), application.clone())));
            }
        }
        for (folder, seen) in &mut self.folders {
            let space = folder.namespace.clone().unwrap_or_default();
            for (claim, references) in std::mem::take(&mut seen.claims) {
                let of = sets_of_claim(&claim)
                    .find_map(|set| sets.get(&(space.clone(), set.to_owned())));
                if let Some(application) = of {
                    let own = seen.applications.entry(application.clone()).or_default();
                    own.references.extend(references);
                    own.names.push(claim);
                }
            }
        }
    }

    /// Makes the inventory.
    pub(super) fn inventory(
        mut self,
        source: &str,
        catalogue: &Catalogue,
        identity: Option<String>,
    ) -> Inventory {
        self.adopt_claims();
        let naming = Naming {
            source,
            digests: &self.digests,
        };
        let mut items = Vec::new();
        for (folder, seen) in &self.folders {
            items.extend(saved(&naming, folder, seen));
            items.extend(skipped(source, folder, seen));
            self.findings.extend(naked(folder, seen));
        }
        for (kind, rule) in &self.skipped_kinds {
            items.push(left_out(
                kind.id(),
                skipped_path(source, &kind.group, &kind.version, &kind.resource, rule),
                None,
                rule,
                rule.why.to_owned(),
            ));
        }
        if identity.is_none() {
            self.findings.push(Finding::note(
                "kube-system",
                "the cluster's identity cannot be read: a swapped cluster would not be noticed",
            ));
        }
        self.findings.sort();
        self.findings.dedup();
        self.placements
            .sort_by(|a, b| (&a.workload, &a.container).cmp(&(&b.workload, &b.container)));
        let versions = [("kubernetes".to_owned(), catalogue.server_version.clone())];
        Inventory {
            identity: identity.unwrap_or_default(),
            versions: versions.into(),
            workloads: workloads(&naming, &self.folders),
            items,
            placements: self.placements,
            images: images::in_use(source, &self.digests, &self.platforms),
            findings: self.findings,
        }
    }
}

fn saved(naming: &Naming<'_>, folder: &Folder, seen: &Seen) -> Option<Item> {
    if seen.names.is_empty() {
        return None;
    }
    let id = id(folder);
    let space = folder.namespace.as_deref();
    Some(Item {
        workload: folder.namespace.clone(),
        provides: seen
            .names
            .iter()
            .map(|name| subject(naming.source, &id, space, name))
            .collect(),
        requires: naming
            .subjects(space, &seen.references)
            .into_iter()
            .collect(),
        sensitive: id == "secrets",
        ..Item::new(ItemKind::Object, title(folder), folder.path(naming.source))
    })
}

fn skipped(source: &str, folder: &Folder, seen: &Seen) -> Vec<Item> {
    let mut items = Vec::new();
    for (rule, names) in &seen.skipped {
        let mut shown: Vec<&str> = names.iter().take(NAMES_SHOWN).map(String::as_str).collect();
        if names.len() > NAMES_SHOWN {
            shown.push("…");
        }
        let why = format!("{}: {} ({})", rule.why, names.len(), shown.join(", "));
        let path = skipped_path(
            source,
            &folder.group,
            &folder.version,
            &folder.resource,
            rule,
        );
        let path = path.child(folder.namespace.as_deref().unwrap_or("_cluster"));
        items.push(left_out(
            title(folder),
            path,
            folder.namespace.clone(),
            rule,
            why,
        ));
    }
    items
}

/// Where things would be that a rule leaves out; nothing is ever written there.
fn skipped_path(source: &str, group: &str, version: &str, resource: &str, rule: &Rule) -> TreePath {
    let group = if group.is_empty() { "core" } else { group };
    let root = source_root(source).child("skipped").child(rule.word);
    root.child(group).child(version).child(resource)
}

fn left_out(
    title: String,
    path: TreePath,
    workload: Option<String>,
    rule: &Rule,
    why: String,
) -> Item {
    Item {
        workload,
        skip: Some(Outcome::Skipped {
            rule: rule.word.to_owned(),
            why,
        }),
        ..Item::new(ItemKind::Object, title, path)
    }
}

fn naked(folder: &Folder, seen: &Seen) -> impl Iterator<Item = Finding> {
    let space = folder.namespace.clone().unwrap_or_default();
    seen.naked_pods.iter().map(move |name| {
        Finding::warning(
            format!("pods/{space}/{name}"),
            "this pod has no controller: it is saved, but a cluster that loses it will not make it again",
        )
    })
}

/// Namespaces, and the applications in them.
fn workloads(naming: &Naming<'_>, folders: &BTreeMap<Folder, Seen>) -> Vec<Workload> {
    let mut needs: BTreeMap<(String, &str), BTreeSet<Subject>> = BTreeMap::new();
    for (folder, seen) in folders {
        let Some(space) = &folder.namespace else {
            continue;
        };
        if seen.names.is_empty() {
            continue;
        }
        let all = needs.entry((space.clone(), "namespace")).or_default();
        all.extend(naming.subjects(Some(space), &seen.references));
        all.insert(subject(naming.source, "namespaces", None, space));
        let id = id(folder);
        for (application, parts) in &seen.applications {
            let name = format!("{space}/{application}");
            let all = needs.entry((name, "application")).or_default();
            all.extend(naming.subjects(Some(space), &parts.references));
            let own = parts.names.iter();
            all.extend(own.map(|name| subject(naming.source, &id, Some(space), name)));
        }
    }
    needs
        .into_iter()
        .map(|((name, kind), subjects)| Workload {
            name,
            kind: kind.to_owned(),
            requires: subjects.into_iter().collect(),
        })
        .collect()
}

/// How references become names that other sources know too.
struct Naming<'a> {
    source: &'a str,
    digests: &'a Digests,
}

impl Naming<'_> {
    /// References from the namespace `space`. An image is named by the digest that runs there, as
    /// far as pods tell: what a tag means changes.
    fn subjects(&self, space: Option<&str>, references: &BTreeSet<Reference>) -> BTreeSet<Subject> {
        let mut subjects = BTreeSet::new();
        for reference in references {
            let running = match (reference, space) {
                (Reference::Image(image), Some(space)) if !image.contains('@') => {
                    self.digests.get(&(space.to_owned(), image.clone()))
                }
                _ => None,
            };
            let Some(running) = running else {
                subjects.insert(reference.subject(self.source));
                continue;
            };
            if let Reference::Image(image) = reference {
                let own = running.iter().map(|r| r.subject(image, self.source));
                subjects.extend(own);
            }
        }
        subjects
    }
}

fn id(folder: &Folder) -> String {
    if folder.group.is_empty() {
        folder.resource.clone()
    } else {
        format!("{}.{}", folder.resource, folder.group)
    }
}

fn title(folder: &Folder) -> String {
    match &folder.namespace {
        Some(namespace) => format!("{} in {namespace}", id(folder)),
        None => id(folder),
    }
}
