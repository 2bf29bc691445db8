//! Which images a manifest leads to, by the digests of their configurations: what engines call an
//! image's id.
//!
//! Invariant: only `GET` requests for manifests, so many at most.

use std::collections::BTreeSet;

use refloat_model::cancel::Cancel;

use crate::digest::Digest;
use crate::error::RegistryError;
use crate::manifest::{INDEX_DEPTH_MAX, Manifest};
use crate::name::{Reference, RepositoryName};
use crate::source::RegistrySource;

/// Most manifests that are read for one image: its platforms, and their attestations.
const MANIFESTS_MAX: usize = 64;

/// The configurations below `digest`, `sha256:…`. A platform that is not there has none.
pub(super) fn configurations(
    source: &RegistrySource,
    repository: &RepositoryName,
    digest: Digest,
    cancel: &Cancel,
) -> Result<BTreeSet<String>, RegistryError> {
    let mut found = BTreeSet::new();
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
        found.extend(manifest.config.map(|digest| digest.to_string()));
        for child in manifest.children {
            if depth < INDEX_DEPTH_MAX && asked.len() < MANIFESTS_MAX && asked.insert(child.digest)
            {
                queue.push((child.digest, depth + 1));
            }
        }
    }
    Ok(found)
}
