//! Asking storage for what uploads claimed, before an index says that it is there.
//!
//! Invariant: no index names a pack that storage does not have with its size.

use super::packer::StoredPack;
use crate::error::RepositoryError;
use crate::pack_reading::{listed_packs, pack_file};
use crate::parallel::{for_each, threads};
use crate::repository::Repository;

/// More packs than these are looked for in one listing.
const ASKED_ONE_BY_ONE_MAX: usize = 32;

/// Proves that packs are stored with their sizes.
pub fn require(repository: &Repository, packs: &[StoredPack]) -> Result<(), RepositoryError> {
    let storage = repository.storage();
    let listed = if packs.len() > ASKED_ONE_BY_ONE_MAX {
        Some(listed_packs(storage)?)
    } else {
        None
    };
    for_each(packs, threads(storage), |(pack, size)| {
        let file = pack_file(*pack);
        let found = match &listed {
            Some(listed) => listed.get(pack).copied(),
            None => storage.size(&file)?,
        };
        if found == Some(*size) {
            Ok(())
        } else {
            Err(RepositoryError::NotStored { file })
        }
    })
}
