//! Reading manifests on several threads, with what refers to each.
//!
//! Invariant: what is handed on was compared with its digest, and is a manifest.

use std::sync::Arc;
use std::thread::Scope;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Session;
use crate::api::{RawManifest, ReferrersApi};
use crate::digest::Digest;
use crate::error::RegistryError;
use crate::manifest::{Descriptor, Manifest};
use crate::name::Reference;

/// A manifest to be read.
pub(super) struct Task {
    pub(super) reference: Reference,
    pub(super) digest: Digest,
    pub(super) depth: usize,
    /// The image that led here, for messages and limits.
    pub(super) origin: Arc<str>,
}

pub(super) struct Fetched {
    pub(super) task: Task,
    pub(super) result: Result<Contents, RegistryError>,
}

pub(super) struct Contents {
    pub(super) raw: RawManifest,
    pub(super) manifest: Manifest,
    pub(super) referrers: Vec<Descriptor>,
}

impl Session<'_> {
    /// Starts threads that read manifests until the sender of tasks is dropped.
    pub(super) fn start_fetching<'scope, 'env: 'scope>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        at_once: usize,
    ) -> (Sender<Task>, Receiver<Fetched>) {
        let (jobs, queue) = bounded::<Task>(at_once);
        let (answers, fetched) = bounded(at_once);
        for _ in 0..at_once {
            let (queue, answers) = (queue.clone(), answers.clone());
            scope.spawn(move || {
                for task in queue {
                    let result = self.fetch(&task);
                    if answers.send(Fetched { task, result }).is_err() {
                        return;
                    }
                }
            });
        }
        (jobs, fetched)
    }

    fn fetch(&self, task: &Task) -> Result<Contents, RegistryError> {
        let registry = self.source.registry();
        let raw = registry.manifest(self.repository, &task.reference, self.cancel)?;
        let manifest = Manifest::parse(&raw.digest, &raw.bytes, &raw.media_type)?;
        let referrers = match registry.referrers_api() {
            ReferrersApi::Absent => Vec::new(),
            ReferrersApi::Unknown | ReferrersApi::Present => registry
                .referrers(self.repository, &raw.digest, self.cancel)?
                .unwrap_or_default(),
        };
        Ok(Contents {
            raw,
            manifest,
            referrers,
        })
    }
}
