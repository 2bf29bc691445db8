//! Bringing blobs into a repository of a registry: several at once, each once.
//!
//! Invariant: a blob counts as there only if the registry has it with its length, and what was
//! uploaded, or mounted from a repository that this restore did not fill, was read back and has its
//! digest.

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
        let from = self.held_elsewhere(layout, to, (digest, size), located);
        let path = layout::blob(&layout.path, digest);
        let open = || self.point.open(&path).map_err(io::Error::other);
        let pushed =
            self.registry
                .push_blob(to, (digest, size), from.as_ref(), &open, self.cancel)?;
        let arrival = if pushed == Pushed::Mounted {
            Arrival::Mounted
        } else {
            Counters::add(&self.progress.counters().bytes_done, size);
            Arrival::Uploaded(size)
        };
        // What is mounted from elsewhere in this restore was read back there.
        let is_unread = arrival != Arrival::Mounted || from.as_ref() == Some(&layout.repository);
        if is_unread && self.verification == Verification::Everything {
            self.read_back(to, (digest, size))?;
        }
        located.remember(digest, to);
        Ok(arrival)
    }

    fn read_back(
        &self,
        to: &RepositoryName,
        (digest, size): (&Digest, u64),
    ) -> Result<(), RegistryError> {
        let source = BlobSource {
            repository: to.clone(),
            digest: *digest,
            size,
        };
        let mut content = self.registry.blob(source, self.cancel);
        let read = io::copy(&mut content, &mut io::sink());
        read.map_err(|error| RegistryError::Local(error.into()))?;
        Ok(())
    }

    /// Another repository of the target that has a blob: one that this restore brought it into, or
    /// the one under whose name it was captured, which is there if an image is renamed within its
    /// registry.
    fn held_elsewhere(
        &self,
        layout: &StoredLayout,
        to: &RepositoryName,
        (digest, size): (&Digest, u64),
        located: &Located,
    ) -> Option<RepositoryName> {
        if let Some(found) = located.find(digest) {
            return Some(found).filter(|found| found != to);
        }
        let home = &layout.repository;
        if home == to {
            return None;
        }
        let there = self.registry.blob_size(home, digest, self.cancel);
        // Where we may not look we may not mount from either; the upload needs nothing of it.
        let is_there = there.is_ok_and(|there| there == Some(size));
        is_there.then(|| home.clone())
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
