//! Asking storage for what uploads claimed, before an index says that it is there.
//!
//! Invariant: no index names a pack that storage does not have with its size.

use std::collections::HashMap;

use refloat_storage::FileKind;

use super::packer::StoredPack;
use crate::error::RepositoryError;
use crate::id::PackId;
use crate::pack_reading::pack_file;
use crate::parallel::{for_each, threads};
use crate::repository::Repository;

/// More packs than these are looked for in one listing.
const ASKED_ONE_BY_ONE_MAX: usize = 32;

/// Proves that packs are stored with their sizes.
pub fn require(repository: &Repository, packs: &[StoredPack]) -> Result<(), RepositoryError> {
    let storage = repository.storage();
    let listed: Option<HashMap<PackId, u64>> = if packs.len() > ASKED_ONE_BY_ONE_MAX {
        let listed = storage.list(FileKind::Pack)?.into_iter();
        Some(
            listed
                .map(|file| (PackId(*file.key.id()), file.size))
                .collect(),
        )
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
