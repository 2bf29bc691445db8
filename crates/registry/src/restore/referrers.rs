//! Referrers in registries that do not list them by themselves.
//!
//! Invariant: what the tag of a subject lists already stays listed.

use std::collections::BTreeMap;

use super::execute::Execution;
use super::stored::StoredLayout;
use crate::digest::Digest;
use crate::error::RegistryError;
use crate::manifest::{Descriptor, Manifest, OCI_INDEX, index_text};
use crate::name::{Reference, RepositoryName, Tag};

/// Referrers that were pushed and that the registry does not list, by subject.
pub(super) type Unlisted = BTreeMap<Digest, Vec<Descriptor>>;

/// How an index lists a referrer.
pub(super) fn descriptor(digest: Digest, size: u64, manifest: &Manifest) -> Descriptor {
    Descriptor {
        media_type: manifest.media_type.clone(),
        digest,
        size,
        platform: None,
        artifact_type: manifest.artifact_type.clone(),
        annotations: manifest.annotations.clone(),
    }
}

impl Execution<'_> {
    /// Lists referrers under the tag of their subject, as the specification has it for registries
    /// without the API; where the point has that tag, it says all.
    pub(super) fn list_referrers(
        &self,
        layout: &StoredLayout,
        to: &RepositoryName,
        unlisted: &Unlisted,
    ) -> Result<usize, RegistryError> {
        let mut written = 0;
        for (subject, referrers) in unlisted {
            let tag = Tag::of_referrers(subject);
            if layout
                .roots
                .iter()
                .any(|root| root.tag.as_ref() == Some(&tag))
            {
                continue;
            }
            // A registry that lists them has them already, also from an earlier restore.
            if self.registry.referrers(to, subject, self.cancel)?.is_some() {
                continue;
            }
            let reference = Reference::Tag(tag);
            let mut listed = match self.registry.manifest(to, &reference, self.cancel) {
                Ok(raw) => Manifest::parse(&raw.digest, &raw.bytes, "")?.children,
                Err(error) if error.is_not_found() => Vec::new(),
                Err(error) => return Err(error),
            };
            let before = listed.len();
            for referrer in referrers {
                if listed.iter().all(|known| known.digest != referrer.digest) {
                    listed.push(referrer.clone());
                }
            }
            if listed.len() > before {
                let text = index_text(&listed);
                let content = (OCI_INDEX, text.as_slice());
                let _listed = self
                    .registry
                    .push_manifest(to, &reference, content, self.cancel)?;
                written += 1;
            }
        }
        Ok(written)
    }
}
