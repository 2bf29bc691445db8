//! Image layouts as a recovery point holds them: a registry's repositories, and images of engines'
//! own stores.
//!
//! Invariant: a manifest counts only if its bytes have the digest by which it is named, also in
//! our own repository: what is pushed wrongly here would be signed for by nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read as _;
use std::sync::Arc;

use refloat_model::entry::EntryKind;
use refloat_model::item::{Item, ItemKind};
use refloat_model::plan::Step;
use refloat_model::point::ItemRecord;
use refloat_model::tree_path::TreePath;
use refloat_source::{StoredError, StoredPoint};
use serde::Deserialize;

use super::engine_images;
use super::unreadable::Unreadable;
use crate::digest::Digest;
use crate::error::{RegistryError, chain};
use crate::layout::{self, REF_NAME, RepositoryRecord};
use crate::manifest::{Descriptor, INDEX_DEPTH_MAX, MANIFEST_BYTES_MAX, Manifest};
use crate::name::{EngineName, ImageName, Reference, RepositoryName, Tag};

/// The largest index of a layout that is read, in bytes: some 10^6 tags.
pub(super) const INDEX_BYTES_MAX: u64 = 512 << 20;

/// Where a layout came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// A registry: everything is byte for byte what that had.
    Registry,
    /// An engine's image store: the configuration is the image's, and the manifest is as the
    /// engine had it if a registry's digest is known for it.
    Engine,
    /// The same, but the engine had unpacked the layers: the manifest is of our own making.
    UnpackedByEngine,
}

/// One repository of a point.
pub(super) struct StoredLayout {
    pub(super) origin: Origin,
    pub(super) path: TreePath,
    /// The configured name of the source it came from.
    pub(super) source: String,
    pub(super) repository: RepositoryName,
    /// What its index names: untagged first, then tags of referrers, then tags. In this order a
    /// signature is there before what it signs can be found.
    pub(super) roots: Vec<StoredRoot>,
    /// Blobs and manifests with their lengths.
    pub(super) present: HashMap<Digest, u64>,
    /// What was left out on purpose when it was captured.
    pub(super) absent: BTreeSet<Digest>,
}

/// A manifest by which an image is entered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct StoredRoot {
    pub(super) tag: Option<Tag>,
    pub(super) digest: Digest,
    /// The registries under whose names it goes, as [`EngineName::host`] has them.
    pub(super) hosts: Arc<BTreeSet<String>>,
}

/// All layouts of a point.
#[derive(Default)]
pub(super) struct Layouts {
    /// Those of registries first: their copy is byte for byte what had the name.
    pub(super) readable: Vec<StoredLayout>,
    pub(super) unreadable: Vec<Unreadable>,
}

/// Everything that one root leads to.
#[derive(Default)]
pub(super) struct Parts {
    /// Manifests in the order in which a registry takes them: what is referred to comes first.
    pub(super) manifests: Vec<(Digest, Manifest)>,
    /// Configurations and layers with their lengths.
    pub(super) blobs: BTreeMap<Digest, u64>,
    /// What should be there and is not, or is not what it should be.
    pub(super) missing: Vec<String>,
    /// Platforms that were not captured: the index still names them.
    pub(super) sparse: Vec<Digest>,
}

#[derive(Deserialize)]
pub(crate) struct Index {
    pub(crate) manifests: Vec<Descriptor>,
}

impl StoredLayout {
    /// All layouts of a point. One that cannot be read does not keep the others from being there.
    pub(super) fn all(point: &dyn StoredPoint) -> Result<Layouts, StoredError> {
        let mut layouts = Layouts::default();
        let mut of_engines = Vec::new();
        for (source, record) in &point.record().sources {
            let is_registry = record.kind == "registry";
            if !is_registry && record.kind != "docker" {
                continue;
            }
            for record in point.items(source)? {
                if record.item.kind != ItemKind::Image
                    || record.item.skip.is_some()
                    || point.stat(&record.item.path)?.is_none()
                {
                    continue;
                }
                let (read, into) = match is_registry {
                    true => {
                        let read = Self::read(point, source, &record);
                        (read.map(|layout| vec![layout]), &mut layouts.readable)
                    }
                    false => (engine_images::read(point, source, &record), &mut of_engines),
                };
                match read {
                    Ok(read) => into.extend(read),
                    Err(error) => {
                        let unreadable = Unreadable::new(is_registry, &record, &error);
                        layouts.unreadable.push(unreadable);
                    }
                }
            }
        }
        layouts.readable.extend(of_engines);
        Ok(layouts)
    }

    /// Whether a step of a plan is about this layout.
    pub(super) fn is_of(&self, step: &Step) -> bool {
        self.path == step.path && step.workload.as_deref() == Some(self.repository.as_str())
    }

    fn read(
        point: &dyn StoredPoint,
        source: &str,
        ItemRecord { item, .. }: &ItemRecord,
    ) -> Result<Self, StoredError> {
        let path = item.path.clone();
        let failed = |operation, path: &TreePath| {
            let path = path.clone();
            move |cause: RegistryError| StoredError {
                operation,
                path,
                cause: cause.into(),
            }
        };
        let repository = item.title.parse::<RepositoryName>();
        let repository =
            repository.map_err(|error| failed("use the name of", &path)(error.into()))?;
        let index_path = path.child(layout::INDEX);
        let index = bytes(point, &index_path, INDEX_BYTES_MAX)?;
        let malformed = |what| move |source| RegistryError::Malformed { what, source };
        let index: Index = serde_json::from_slice(&index)
            .map_err(malformed("the index"))
            .map_err(failed("read", &index_path))?;
        let record_path = path.child(layout::RECORD);
        let record = bytes(point, &record_path, INDEX_BYTES_MAX)?;
        let record: RepositoryRecord = serde_json::from_slice(&record)
            .map_err(malformed("the record"))
            .map_err(failed("read", &record_path))?;
        let hosts = Arc::new(hosts(&record.registry, &repository, item));
        let first_word = |text: &String| {
            text.split(' ')
                .next()
                .and_then(|word| Digest::parse(word).ok())
        };
        let mut roots: Vec<StoredRoot> = Vec::with_capacity(index.manifests.len());
        for Descriptor {
            digest,
            annotations,
            ..
        } in index.manifests
        {
            let tag = annotations
                .as_ref()
                .and_then(|a| a.get(REF_NAME))
                .map(|tag| tag.parse());
            let tag = tag
                .transpose()
                .map_err(|e| failed("read", &index_path)(RegistryError::Name(e)))?;
            let hosts = Arc::clone(&hosts);
            roots.push(StoredRoot { tag, digest, hosts });
        }
        roots.sort_by_key(|root| match &root.tag {
            None => 0,
            Some(tag) if tag.subject().is_some() => 1,
            Some(_) => 2,
        });
        Ok(Self {
            origin: Origin::Registry,
            present: present(point, &path)?,
            absent: record.absent.iter().filter_map(first_word).collect(),
            source: source.to_owned(),
            path,
            repository,
            roots,
        })
    }

    /// A root's name in the point: `team/app:1.2`.
    pub(super) fn name(&self, root: &StoredRoot) -> ImageName {
        ImageName {
            repository: self.repository.clone(),
            reference: root.reference(),
        }
    }

    /// The bytes of a manifest, verified.
    pub(super) fn manifest_bytes(
        &self,
        point: &dyn StoredPoint,
        digest: &Digest,
    ) -> Result<Vec<u8>, StoredError> {
        let path = layout::blob(&self.path, digest);
        let bytes = bytes(point, &path, MANIFEST_BYTES_MAX)?;
        let found = Digest::of(&bytes);
        if found != *digest {
            let cause = RegistryError::WrongDigest {
                expected: *digest,
                found,
            };
            return Err(StoredError {
                operation: "read",
                path,
                cause: cause.into(),
            });
        }
        Ok(bytes)
    }

    /// Everything that a root leads to, and what of it is missing.
    pub(super) fn parts(&self, point: &dyn StoredPoint, root: &StoredRoot) -> Parts {
        let mut parts = Parts::default();
        let mut seen = BTreeSet::new();
        self.collect(point, &root.digest, 0, &mut seen, &mut parts);
        parts
    }

    fn collect(
        &self,
        point: &dyn StoredPoint,
        digest: &Digest,
        depth: usize,
        seen: &mut BTreeSet<Digest>,
        parts: &mut Parts,
    ) {
        if !seen.insert(*digest) {
            return;
        }
        if !self.present.contains_key(digest) {
            match self.absent.contains(digest) {
                true => parts.sparse.push(*digest),
                false => parts.missing.push(format!("manifest {digest}")),
            }
            return;
        }
        if depth > INDEX_DEPTH_MAX {
            parts
                .missing
                .push(format!("{digest} (nested deeper than {INDEX_DEPTH_MAX})"));
            return;
        }
        let manifest = self
            .manifest_bytes(point, digest)
            .map_err(|error| chain(&error));
        let manifest = manifest
            .and_then(|bytes| Manifest::parse(digest, &bytes, "").map_err(|error| chain(&error)));
        let manifest = match manifest {
            Ok(manifest) => manifest,
            // Damage is told like a hole: one image is not restored, the others are.
            Err(reason) => {
                parts.missing.push(reason);
                return;
            }
        };
        for child in &manifest.children {
            self.collect(point, &child.digest, depth + 1, seen, parts);
        }
        for blob in &manifest.blobs {
            match self.present.get(&blob.digest) {
                Some(size) if *size == blob.size => {
                    parts.blobs.insert(blob.digest, blob.size);
                }
                // Registries take manifests with foreign layers that they do not have.
                _ if self.absent.contains(&blob.digest) => {}
                Some(_) => parts
                    .missing
                    .push(format!("{} has another length", blob.digest)),
                None => parts.missing.push(blob.digest.to_string()),
            }
        }
        parts.manifests.push((*digest, manifest));
    }
}

/// The registry's own name, and those under which what runs calls images of this repository.
fn hosts(registry: &str, repository: &RepositoryName, item: &Item) -> BTreeSet<String> {
    let provided = item.provides.iter();
    let provided = provided.filter_map(|subject| subject.name.parse::<EngineName>().ok());
    let provided = provided.filter(|name| name.repository == *repository);
    let own = EngineName::host(registry);
    provided.map(|name| name.host).chain([own]).collect()
}

impl StoredRoot {
    fn reference(&self) -> Reference {
        match &self.tag {
            Some(tag) => Reference::Tag(tag.clone()),
            None => Reference::Digest(self.digest),
        }
    }
}

/// The blobs and manifests of a layout with their lengths.
pub(super) fn present(
    point: &dyn StoredPoint,
    layout: &TreePath,
) -> Result<HashMap<Digest, u64>, StoredError> {
    let listed = point.list(&layout::blobs(layout))?;
    let blobs = listed.into_iter().filter_map(|entry| match entry.kind {
        EntryKind::File { size } => Some((
            Digest::from_hex(std::str::from_utf8(&entry.name).ok()?)?,
            size,
        )),
        _ => None,
    });
    Ok(blobs.collect())
}

pub(super) fn bytes(
    point: &dyn StoredPoint,
    path: &TreePath,
    bytes_max: u64,
) -> Result<Vec<u8>, StoredError> {
    let failed = |cause| StoredError {
        operation: "read",
        path: path.clone(),
        cause,
    };
    let mut content = Vec::new();
    let read = point
        .open(path)?
        .take(bytes_max + 1)
        .read_to_end(&mut content);
    if read.map_err(|error| failed(error.into()))? as u64 > bytes_max {
        let what = path.to_string();
        let error = RegistryError::TooLarge {
            what,
            limit: bytes_max,
            unit: "bytes",
        };
        return Err(failed(error.into()));
    }
    Ok(content)
}
