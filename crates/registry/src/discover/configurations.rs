//! Which images a manifest leads to, by the digests of their configurations: what engines call an
//! image's id.
//!
//! Invariant: only `GET` requests for manifests, so many at most.

use std::collections::BTreeSet;

use refloat_model::cancel::Cancel;

use crate::digest::Digest;
use crate::error::RegistryError;
use crate::manifest::{Descriptor, INDEX_DEPTH_MAX, Manifest};
use crate::name::{Reference, RepositoryName};
use crate::source::RegistrySource;

/// Most manifests that are read for one image: its platforms.
const MANIFESTS_MAX: usize = 64;

/// What was found below a manifest.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// The digests of configurations, `sha256:…`, and of the manifests that were read, by which
    /// some engines call an image.
    found: BTreeSet<String>,
    /// Whether not everything was read.
    is_cut: bool,
}

impl Ids {
    /// Whether it is sure that no engine calls any of the images by `id`.
    pub(super) fn exclude(&self, id: &str) -> bool {
        !self.is_cut && !self.found.contains(id)
    }
}

/// What engines may call the images below `digest`. A platform that is not there has no id.
pub(super) fn ids(
    source: &RegistrySource,
    repository: &RepositoryName,
    digest: Digest,
    cancel: &Cancel,
) -> Result<Ids, RegistryError> {
    let mut ids = Ids::default();
    let mut asked = BTreeSet::from([digest]);
    let mut queue = vec![(digest, 0)];
    while let Some((digest, depth)) = queue.pop() {
        let reference = Reference::Digest(digest);
        let raw = match source.registry().manifest(repository, &reference, cancel) {
            Ok(raw) => raw,
            Err(error) if error.is_not_found() && depth > 0 => continue,
            Err(error) => return Err(error),
        };
        let manifest = Manifest::parse(&raw.digest, &raw.bytes, &raw.media_type)?;
        let names = manifest.config.into_iter().chain([digest]);
        ids.found.extend(names.map(|digest| digest.to_string()));
        for child in manifest.children {
            if is_attestation(&child) || asked.contains(&child.digest) {
                continue;
            }
            if depth >= INDEX_DEPTH_MAX || asked.len() >= MANIFESTS_MAX {
                ids.is_cut = true;
                continue;
            }
            asked.insert(child.digest);
            queue.push((child.digest, depth + 1));
        }
    }
    Ok(ids)
}

/// Whether this is what an index says of images' attestations: they run nowhere.
fn is_attestation(child: &Descriptor) -> bool {
    let platform = child.platform.as_ref();
    platform.is_some_and(|p| p.os == "unknown" && p.architecture == "unknown")
}
