//! Images of engines' own stores, as the adapter for engines puts them into a point: one layout for
//! each image, with `image.json` beside it (ADR 0005).
//!
//! Docker's classic store keeps layers unpacked. Such an image has its configuration, and so the id
//! by which engines know it, but the manifest is of our own making: no registry had its digest.
//!
//! Invariant: an image is named as its engine named it, without the registry's host, which is kept
//! beside the name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use refloat_model::point::ItemRecord;
use refloat_source::{StoredError, StoredPoint};
use serde::Deserialize;

use super::stored::{INDEX_BYTES_MAX, Index, Origin, StoredLayout, StoredRoot, bytes, present};
use crate::digest::Digest;
use crate::error::RegistryError;
use crate::layout;
use crate::name::{EngineName, RepositoryName, Tag};

/// The engine's record of an image, beside its layout.
const RECORD: &str = "image.json";
/// The largest such record that is read, in bytes.
const RECORD_BYTES_MAX: u64 = 16 << 20;
/// Where images go that have no name.
const UNTAGGED: &str = "untagged";
/// What Docker Hub's own images are called without.
pub(super) const HUB_PREFIX: &str = "library/";

#[derive(Deserialize)]
pub(crate) struct ImageRecord {
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    #[serde(default)]
    repo_digests: Vec<String>,
}

/// One layout for each repository in which the engine has a tag of the image.
pub(super) fn read(
    point: &dyn StoredPoint,
    source: &str,
    record: &ItemRecord,
) -> Result<Vec<StoredLayout>, StoredError> {
    let path = &record.item.path;
    let index_path = path.child(layout::INDEX);
    if point.stat(&index_path)?.is_none() {
        // Of an image that did not come whole there is no index; its outcome says so.
        return Ok(Vec::new());
    }
    let index: Index = json(point, &index_path, INDEX_BYTES_MAX)?;
    let Some(root) = index.manifests.first().map(|manifest| manifest.digest) else {
        return Ok(Vec::new());
    };
    let image: ImageRecord = json(point, &path.child(RECORD), RECORD_BYTES_MAX)?;
    let known = image.repo_digests.iter();
    let mut known = known.filter_map(|name| Digest::parse(name.split_once('@')?.1).ok());
    let origin = match known.any(|digest| digest == root) {
        true => Origin::Engine,
        false => Origin::UnpackedByEngine,
    };
    let layouts = repositories(&image.tags).into_iter().map(|(name, tags)| {
        let untagged = tags.is_empty().then_some((None, BTreeSet::new()));
        let tags = tags.into_iter().map(|(tag, hosts)| (Some(tag), hosts));
        let roots = tags.chain(untagged).map(|(tag, hosts)| StoredRoot {
            tag,
            digest: root,
            hosts: Arc::new(hosts),
        });
        Ok(StoredLayout {
            origin,
            path: path.clone(),
            source: source.to_owned(),
            repository: name,
            roots: roots.collect(),
            present: present(point, path)?,
            absent: BTreeSet::new(),
        })
    });
    layouts.collect()
}

/// Tags with the registries under whose names they go.
type Tags = BTreeMap<Tag, BTreeSet<String>>;

/// Tags by repository; one without tags if the image has no name that registries take.
fn repositories(names: &[String]) -> BTreeMap<RepositoryName, Tags> {
    let mut repositories: BTreeMap<RepositoryName, Tags> = BTreeMap::new();
    for name in names {
        let Ok(EngineName {
            host,
            repository,
            tag: Some(tag),
            ..
        }) = name.parse()
        else {
            continue;
        };
        let short = repository.as_str().strip_prefix(HUB_PREFIX);
        let short = short.filter(|_| !name.contains(HUB_PREFIX));
        let repository = short.and_then(|n| n.parse().ok()).unwrap_or(repository);
        let tags = repositories.entry(repository).or_default();
        tags.entry(tag).or_default().insert(host);
    }
    if repositories.is_empty()
        && let Ok(untagged) = UNTAGGED.parse()
    {
        repositories.insert(untagged, Tags::new());
    }
    repositories
}

fn json<T: for<'de> Deserialize<'de>>(
    point: &dyn StoredPoint,
    path: &refloat_model::tree_path::TreePath,
    bytes_max: u64,
) -> Result<T, StoredError> {
    let content = bytes(point, path, bytes_max)?;
    serde_json::from_slice(&content).map_err(|source| StoredError {
        operation: "read",
        path: path.clone(),
        cause: RegistryError::Malformed {
            what: "an image's record",
            source,
        }
        .into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engines_names_become_repositories() {
        let names = |list: &[&str]| {
            let list: Vec<String> = list.iter().map(|text| (*text).to_owned()).collect();
            let found = repositories(&list);
            let text = found.iter().map(|(name, tags)| {
                let tags: Vec<&str> = tags.keys().map(Tag::as_str).collect();
                format!("{name}:{}", tags.join(","))
            });
            text.collect::<Vec<_>>()
        };
        assert_eq!(
            names(&["postgres:15", "postgres:16", "host:5000/team/app:1"]),
            ["postgres:15,16", "team/app:1"]
        );
        assert_eq!(
            names(&["docker.io/library/busybox:1"]),
            ["library/busybox:1"]
        );
        assert_eq!(names(&["localhost/app:dev"]), ["app:dev"]);
        assert_eq!(names(&[]), ["untagged:"]);
        assert_eq!(names(&["Not A Name:1"]), ["untagged:"]);
    }
}
