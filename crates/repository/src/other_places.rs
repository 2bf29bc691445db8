//! Other places of a blob, for when the one that the index in memory knows does not serve.
//!
//! An index keeps one place of each blob, which is all that nearly every run needs. Where that one is damaged or withheld,
//! the index files are read once more, for all places.
//!
//! Invariant: what is handed out hashes to its id; a failure is told as the known place's.

use std::sync::OnceLock;

use crate::catalogue::Catalogue;
use crate::error::RepositoryError;
use crate::format::pack::BlobKind;
use crate::id::BlobId;
use crate::pack_reading::pack_file_for;
use crate::parallel::threads;
use crate::repository::{IndexedRepository, Repository};

/// All places of all blobs, once somebody asked; nothing if they cannot be read.
///
/// Memory: 52 bytes a place.
#[derive(Default)]
pub struct OtherPlaces(OnceLock<Option<Catalogue>>);

impl std::fmt::Debug for OtherPlaces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OtherPlaces").finish_non_exhaustive()
    }
}

impl OtherPlaces {
    fn load(&self, repository: &Repository) -> Option<&Catalogue> {
        let load = || Catalogue::load(repository, threads(repository.storage())).ok();
        self.0.get_or_init(load).as_ref()
    }
}

impl IndexedRepository {
    /// What another place of a blob holds, where the known one failed.
    ///
    /// # Errors
    /// `failure`, if it is not of that place alone, or no other place serves.
    pub(crate) fn read_elsewhere(
        &self,
        kind: BlobKind,
        id: BlobId,
        failure: RepositoryError,
    ) -> Result<Vec<u8>, RepositoryError> {
        let known = self.index().get(kind, &id);
        let Some(known) = known.filter(|_| failure.is_of_one_thing()) else {
            return Err(failure);
        };
        let Some(catalogue) = self.other_places().load(self) else {
            return Err(failure);
        };
        for number in catalogue.copies(kind, &id) {
            let row = &catalogue.rows()[number];
            let (pack, blob) = (catalogue.pack_of(row), row.blob());
            if (pack, blob.offset) == (known.pack, known.blob.offset) {
                continue;
            }
            if let Ok(plaintext) = self.read_place(&pack_file_for(pack, kind), &blob) {
                return Ok(plaintext);
            }
        }
        Err(failure)
    }
}
