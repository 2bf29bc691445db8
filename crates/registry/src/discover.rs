//! What a registry holds: repositories, their tags, and what these stand for.
//!
//! Invariants: only `GET` and `HEAD` requests; every repository that the catalogue or the
//! configuration names is an item, also those that are left out or cannot be read.

mod configurations;
mod in_use;
mod listing;

use std::collections::{BTreeMap, BTreeSet};

use refloat_model::cancel::Cancel;
use refloat_model::finding::Finding;
use refloat_model::glob::Glob;
use refloat_model::item::{Inventory, Item, ItemKind, Workload};
use refloat_model::outcome::Outcome;
use refloat_model::subject::{Subject, SubjectKind};
use refloat_source::SourceError;

use configurations::ids;
pub(crate) use in_use::find as find_images;
pub(crate) use listing::{Listing, Root, Wanted};

use crate::digest::Digest;
use crate::error::{RegistryError, chain};
use crate::layout;
use crate::name::RepositoryName;
use crate::options::{RegistryOptions, Repositories};
use crate::source::{RegistrySource, unavailable};

/// How many digests an item names at most: they are lines of the manifest.
const PROVIDES_MAX: usize = 10_000;

/// The rule of repositories that a pattern leaves out.
const EXCLUDED: &str = "excluded";

/// See the module.
pub(crate) fn discover(source: &RegistrySource, cancel: &Cancel) -> Result<Inventory, SourceError> {
    let registry = source.registry();
    let address = registry.address();
    source.forget();
    let version = registry
        .version(cancel)
        .map_err(|error| unavailable("connect to", address.to_string(), error))?;
    let mut inventory = Inventory {
        identity: address.authority().to_owned(),
        versions: version.map(|v| ("api".to_owned(), v)).into_iter().collect(),
        ..Inventory::default()
    };
    let names = names(source, &mut inventory.findings, cancel)?;
    inventory
        .findings
        .extend(unfitting(source.options(), &names));
    let (selected, left_out): (Vec<_>, Vec<_>) = names
        .into_iter()
        .partition(|name| selects(source.options(), name));
    let at_once = source.options().connect.requests_at_once;
    let wanted: Vec<(RepositoryName, Wanted)> = selected
        .into_iter()
        .map(|name| {
            let wanted = Wanted::of(&source.options().repositories, &name);
            (name, wanted)
        })
        .collect();
    let listed = Listing::read_all(registry, source.options(), &wanted, at_once, cancel);
    for ((name, _), listing) in wanted.into_iter().zip(listed) {
        let item = match listing {
            Err(RegistryError::Cancelled(_)) => return Err(SourceError::Cancelled),
            Err(error) => unreadable(source, &name, &error, &mut inventory.findings),
            Ok(listing) => found(source, &name, listing, &mut inventory.findings),
        };
        inventory.workloads.push(workload(&name));
        inventory.items.push(item);
    }
    for name in left_out {
        let mut item = item(source, &name);
        item.skip = Some(if fits(&source.options().exclude, name.as_str()) {
            excluded()
        } else {
            Outcome::Skipped {
                rule: "not-selected".to_owned(),
                why: "the policy does not select this repository".to_owned(),
            }
        });
        inventory.items.push(item);
    }
    inventory.items.extend(config_item(source));
    Ok(inventory)
}

/// The names of all repositories, sorted.
fn names(
    source: &RegistrySource,
    findings: &mut Vec<Finding>,
    cancel: &Cancel,
) -> Result<Vec<RepositoryName>, SourceError> {
    let names: BTreeSet<RepositoryName> =
        match &source.options().repositories {
            Repositories::InUse => BTreeSet::new(),
            Repositories::Listed(names) => names.iter().cloned().collect(),
            Repositories::Images(images) => images.iter().map(|i| i.repository.clone()).collect(),
            Repositories::Catalogue => {
                let list = source.registry().catalogue(cancel).map_err(|error| {
                let address = source.registry().address().to_string();
                let unlistable = matches!(
                    error,
                    RegistryError::Refused { .. } | RegistryError::Unauthorized(_)
                );
                match unavailable("list the repositories of", address, error) {
                    SourceError::Unavailable { operation, subject, cause, .. } if unlistable => {
                        let hint = "this registry gives no catalogue to these credentials: list \
                                    the repositories in the configuration";
                        let hint = Some(hint.to_owned());
                        SourceError::Unavailable { operation, subject, cause, hint }
                    }
                    other => other,
                }
            })?;
                findings.extend(list.refused.into_iter().map(|name| {
                    Finding::error(source.name(), format!("{name} is no name of a repository"))
                }));
                list.names.into_iter().collect()
            }
        };
    Ok(names.into_iter().collect())
}

fn fits(globs: &[Glob], name: &str) -> bool {
    globs.iter().any(|glob| glob.matches(name))
}

/// Patterns of repositories that fit none of the registry's catalogue.
fn unfitting<'a>(
    options: &'a RegistryOptions,
    names: &'a [RepositoryName],
) -> impl Iterator<Item = Finding> + 'a {
    let is_listed = options.repositories == Repositories::Catalogue;
    let fits_none = |glob: &&Glob| !names.iter().any(|name| glob.matches(name.as_str()));
    let patterns = options.select.iter().filter(move |_| is_listed);
    patterns.filter(fits_none).map(|glob| {
        let pattern = glob.pattern();
        let message = format!("the registry lists no repository {pattern}, so none is saved");
        Finding::of_misfit("repositories", glob, message)
    })
}

fn selects(options: &RegistryOptions, name: &RepositoryName) -> bool {
    let name = name.as_str();
    (options.select.is_empty() || fits(&options.select, name)) && !fits(&options.exclude, name)
}

fn excluded() -> Outcome {
    Outcome::Skipped {
        rule: EXCLUDED.to_owned(),
        why: "the policy leaves this repository out".to_owned(),
    }
}

fn workload(name: &RepositoryName) -> Workload {
    Workload {
        name: name.to_string(),
        kind: "repository".to_owned(),
        requires: Vec::new(),
    }
}

fn item(source: &RegistrySource, name: &RepositoryName) -> Item {
    Item {
        workload: Some(name.to_string()),
        ..Item::new(
            ItemKind::Image,
            name.to_string(),
            layout::repository(source.name(), name),
        )
    }
}

/// A repository that could not be looked into: capturing it tries again, and fails by name.
fn unreadable(
    source: &RegistrySource,
    name: &RepositoryName,
    error: &RegistryError,
    findings: &mut Vec<Finding>,
) -> Item {
    let mut item = item(source, name);
    // Catalogues go on naming repositories whose last tag is gone; a list by hand does not.
    let is_listed_by_itself = source.options().repositories == Repositories::Catalogue;
    if error.is_not_found() && is_listed_by_itself {
        item.skip = Some(empty());
    } else {
        let message = format!("its tags cannot be listed: {}", chain(error));
        findings.push(Finding::warning(name.to_string(), message));
    }
    item
}

fn empty() -> Outcome {
    Outcome::Skipped {
        rule: "empty".to_owned(),
        why: "the repository has no tags".to_owned(),
    }
}

fn found(
    source: &RegistrySource,
    name: &RepositoryName,
    listing: Listing,
    findings: &mut Vec<Finding>,
) -> Item {
    let mut item = item(source, name);
    findings.extend(listing.refused.iter().map(|tag| {
        Finding::error(
            name.to_string(),
            format!("{tag} is no tag, and is not captured"),
        )
    }));
    if listing.is_empty() {
        item.skip = Some(empty());
    }
    let digests: BTreeMap<_, _> = listing.roots.iter().map(|root| (root.digest, ())).collect();
    if digests.len() > PROVIDES_MAX {
        let message = format!("only {PROVIDES_MAX} of {} digests are named", digests.len());
        findings.push(Finding::note(name.to_string(), message));
    }
    item.provides = digests
        .keys()
        .take(PROVIDES_MAX)
        .map(|digest| subject(source, name, digest))
        .collect();
    source.remember(name, listing);
    item
}

/// How workloads refer to an image by its digest.
fn subject(source: &RegistrySource, name: &RepositoryName, digest: &Digest) -> Subject {
    let qualified = source.registry().address().qualify(name.as_str());
    Subject::new("", SubjectKind::Image, format!("{qualified}@{digest}"))
}

/// The registry's own configuration, if it is here.
fn config_item(source: &RegistrySource) -> Option<Item> {
    let path = source.options().config_file.as_ref()?;
    Some(Item {
        kind: ItemKind::Host,
        title: format!("configuration of {}", source.name()),
        path: layout::config(source.name()),
        workload: None,
        skip: None,
        provides: Vec::new(),
        requires: Vec::new(),
        bytes_estimate: std::fs::metadata(path).ok().map(|metadata| metadata.len()),
        // Passwords of storage and the secret of upload sessions.
        sensitive: true,
        risks: Vec::new(),
    })
}
