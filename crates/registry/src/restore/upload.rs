//! Bringing blobs into a repository of a registry: several at once, each once.
//!
//! Invariant: a blob counts as there only if the registry has it with its length, and what was
//! uploaded was read back and has its digest.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Mutex, PoisonError};

use refloat_model::progress::Counters;

use super::Verification;
use super::execute::Execution;
use super::stored::StoredLayout;
use crate::api::{BlobSource, Pushed};
use crate::digest::Digest;
use crate::error::{RegistryError, advised};
use crate::layout;
use crate::name::RepositoryName;
use crate::parallel;

/// Where blobs of this restore are in the target already.
#[derive(Default)]
pub(super) struct Located(Mutex<HashMap<Digest, RepositoryName>>);

/// How a blob came to be where it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Arrival {
    Present,
    Mounted,
    Uploaded(u64),
}

/// What became of each blob; a failure as text, since several images share it.
pub(super) type Arrivals = BTreeMap<Digest, Result<Arrival, String>>;

impl Execution<'_> {
    pub(super) fn upload(
        &self,
        layout: &StoredLayout,
        to: &RepositoryName,
        blobs: &BTreeMap<Digest, u64>,
        located: &Located,
    ) -> Arrivals {
        let list: Vec<(Digest, u64)> = blobs
            .iter()
            .map(|(digest, size)| (*digest, *size))
            .collect();
        let results = parallel::map(&list, self.at_once, |(digest, size)| {
            let result = self.upload_one(layout, to, (digest, *size), located);
            result.map_err(|error| advised(&error))
        });
        list.into_iter()
            .map(|(digest, _)| digest)
            .zip(results)
            .collect()
    }

    fn upload_one(
        &self,
        layout: &StoredLayout,
        to: &RepositoryName,
        (digest, size): (&Digest, u64),
        located: &Located,
    ) -> Result<Arrival, RegistryError> {
        self.cancel.check()?;
        let there = self.registry.blob_size(to, digest, self.cancel)?;
        if there == Some(size) {
            located.remember(digest, to);
            return Ok(Arrival::Present);
        }
        let from = located.find(digest).filter(|from| from != to);
        let path = layout::blob(&layout.path, digest);
        let open = || self.point.open(&path).map_err(io::Error::other);
        let pushed =
            self.registry
                .push_blob(to, (digest, size), from.as_ref(), &open, self.cancel)?;
        if pushed == Pushed::Mounted {
            located.remember(digest, to);
            return Ok(Arrival::Mounted);
        }
        Counters::add(&self.progress.counters().bytes_done, size);
        if self.verification == Verification::Everything {
            let source = BlobSource {
                repository: to.clone(),
                digest: *digest,
                size,
            };
            let mut content = self.registry.blob(source, self.cancel);
            let read = io::copy(&mut content, &mut io::sink());
            read.map_err(|error| RegistryError::Local(error.into()))?;
        }
        located.remember(digest, to);
        Ok(Arrival::Uploaded(size))
    }
}

impl Located {
    fn find(&self, digest: &Digest) -> Option<RepositoryName> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(digest)
            .cloned()
    }

    fn remember(&self, digest: &Digest, repository: &RepositoryName) {
        let mut located = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        located.entry(*digest).or_insert_with(|| repository.clone());
    }
}
