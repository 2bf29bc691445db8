//! The blobs that manifests lead to.
//!
//! Invariant: each is fetched once, with one length, whatever manifests say of it.

use std::sync::Arc;

use refloat_model::entry::TreeSink;
use refloat_source::SourceError;

use super::super::download::{self, Wanted};
use super::super::fetch::Task;
use super::{Session, Walk};
use crate::api::BlobSource;
use crate::digest::Digest;
use crate::error::RegistryError;
use crate::manifest::Descriptor;
use crate::name::Reference;

/// A configuration or layer.
pub(super) struct Blob {
    size: u64,
    needed_by: Arc<str>,
    is_foreign: bool,
    /// Other lengths that are said of it, and by whom.
    disputed: Vec<(u64, Arc<str>)>,
}

impl Walk<'_> {
    pub(super) fn want(&mut self, blob: &Descriptor, task: &Task) {
        let wanted = self.blobs.entry(blob.digest).or_insert_with(|| Blob {
            size: blob.size,
            needed_by: Arc::clone(&task.origin),
            is_foreign: blob.is_foreign(),
            disputed: Vec::new(),
        });
        if wanted.size != blob.size {
            let origin = Arc::clone(&task.origin);
            wanted.disputed.push((blob.size, origin));
        }
    }

    /// Settles what length a blob has where manifests do not agree: the registry's word decides
    /// whose image is spoilt, and the digest whether the word is true.
    fn settle(&mut self, digest: &Digest, blob: &mut Blob) {
        if blob.disputed.is_empty() {
            return;
        }
        let Session {
            source,
            repository,
            cancel,
            ..
        } = *self.session;
        if let Ok(Some(size)) = source.registry().blob_size(repository, digest, cancel) {
            let first = (blob.size, Arc::clone(&blob.needed_by));
            blob.disputed.push(first);
            blob.size = size;
        }
        for (size, origin) in std::mem::take(&mut blob.disputed) {
            if size != blob.size {
                let error = RegistryError::WrongLength {
                    expected: size,
                    found: blob.size,
                };
                self.fail(&origin, &Reference::Digest(*digest), &error);
            }
        }
    }

    pub(super) fn fetch_blobs(&mut self, sink: &mut dyn TreeSink) -> Result<bool, SourceError> {
        let Session {
            source,
            repository,
            cancel,
            ..
        } = *self.session;
        let mut wanted = Vec::new();
        for (digest, mut blob) in std::mem::take(&mut self.blobs) {
            // A manifest may also be listed as a blob; it is here already.
            if self.known.contains_key(&digest) {
                continue;
            }
            let held = || source.registry().blob_size(repository, &digest, cancel);
            if blob.is_foreign && !matches!(held(), Ok(Some(_))) {
                self.absent.insert(format!("{digest} (foreign layer)"));
                let note = format!("the foreign layer {digest} is only at its maker");
                self.notes.push(note);
                continue;
            }
            self.settle(&digest, &mut blob);
            wanted.push(Wanted {
                source: BlobSource {
                    repository: repository.clone(),
                    digest,
                    size: blob.size,
                },
                needed_by: blob.needed_by,
            });
        }
        download::run(source, wanted, sink, cancel)
    }
}
