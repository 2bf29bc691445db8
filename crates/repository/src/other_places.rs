//! Other places of a blob, for when the one that the index in memory knows does not serve.
//!
//! An index keeps one place of each blob, which is all that nearly every run needs. Where that one is damaged or withheld,
//! the index files are read once more, for the places beside the known ones.
//!
//! Invariant: what is handed out hashes to its id; a failure is told as the known place's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use refloat_storage::FileKind;

use crate::error::RepositoryError;
use crate::format::pack::{BlobKind, PackedBlob};
use crate::id::BlobId;
use crate::index::Location;
use crate::pack_reading::pack_file_for;
use crate::parallel::lock;
use crate::repository::IndexedRepository;

/// The places of blobs beside those that the index in memory knows.
type Places = HashMap<(BlobKind, BlobId), Vec<Location>>;

/// See the module. Nothing is read before somebody asks.
///
/// Memory: some 100 bytes for each place beside the known ones, of which healthy repositories have few.
#[derive(Default)]
pub struct OtherPlaces(Mutex<Option<Arc<Places>>>);

impl std::fmt::Debug for OtherPlaces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OtherPlaces").finish_non_exhaustive()
    }
}

impl OtherPlaces {
    /// Whoever comes first reads, others wait; what failed is tried again by the next.
    fn of(&self, repository: &IndexedRepository) -> Result<Arc<Places>, RepositoryError> {
        let mut places = lock(&self.0);
        if let Some(places) = &*places {
            return Ok(Arc::clone(places));
        }
        let read = Arc::new(read(repository)?);
        *places = Some(Arc::clone(&read));
        Ok(read)
    }
}

/// Reads one index file after the other, so that no more than one is in memory.
fn read(repository: &IndexedRepository) -> Result<Places, RepositoryError> {
    let mut places = Places::new();
    for listed in repository.storage().list(FileKind::Index)? {
        let file = match repository.read_index(&listed.key) {
            Ok(file) => file,
            // Others may name another place.
            Err(error) if error.is_damage() => continue,
            Err(error) => return Err(error),
        };
        for pack in file.packs {
            for blob in pack.blobs {
                let place = Location {
                    pack: pack.id,
                    blob: PackedBlob::from(blob),
                };
                let key = (place.blob.kind, place.blob.id);
                if repository.index().get(key.0, &key.1) != Some(place) {
                    places.entry(key).or_default().push(place);
                }
            }
        }
    }
    Ok(places)
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
        if !failure.is_of_one_thing() || self.index().get(kind, &id).is_none() {
            return Err(failure);
        }
        let Ok(places) = self.other_places().of(self) else {
            return Err(failure);
        };
        let others = places.get(&(kind, id)).into_iter().flatten();
        let mut read = others
            .map(|place| self.read_place(&pack_file_for(place.pack, kind), &place.blob))
            .filter_map(Result::ok);
        read.next().ok_or(failure)
    }
}
