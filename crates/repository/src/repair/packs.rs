//! Replacing damaged packs by what is undamaged in them.
//!
//! Order: new packs, their index, indexes without the damaged packs, then the damaged packs go. A
//! crash in between leaves blobs that are there twice or packs without index; repeating goes on.
//!
//! Invariant: a pack that is sound is left alone, whoever asked.

use std::collections::{BTreeSet, HashSet};

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_storage::FileKey;

use super::salvage::{SalvagedPack, is_sound, salvage};
use crate::catalogue::Catalogue;
use crate::deletion::delete_all;
use crate::error::RepositoryError;
use crate::failure::chain;
use crate::id::PackId;
use crate::lock::Lock;
use crate::pack_reading::pack_file;
use crate::pack_writing::PackWriter;
use crate::parallel::threads;
use crate::prune::indexes;
use crate::repository::Repository;

/// New packs are uploaded at this size, in bytes.
pub const PACK_BYTES_MIN: usize = 16 << 20;

/// What repairing packs did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PackRepairReport {
    /// The damaged packs with what was saved and lost.
    pub salvaged: Vec<SalvagedPack>,
    /// Packs that are not damaged and were left alone.
    pub sound: Vec<PackId>,
    /// New packs.
    pub packs_written: u64,
    /// Damaged packs that are kept, by storage, or since part of them cannot be read now; no index names them any
    /// more.
    pub kept: BTreeSet<PackId>,
    /// Packs that were left alone, since storage gives no byte of them and does not say that they are gone: why.
    pub withheld: Vec<(PackId, String)>,
}

/// Saves what is undamaged in these packs and removes them. Needs an exclusive lock.
///
/// Guarantees: no undamaged blob is given up; of a pack that storage gives in part only, what it gives is saved,
/// and the pack stays. Crash behaviour: see the module.
///
/// # Errors
/// An index file is damaged (repair the index first), the lock is lost, or storage failed.
pub fn repair_packs(
    repository: &Repository,
    lock: &Lock,
    packs: &[PackId],
    counters: &Counters,
    cancel: &Cancel,
) -> Result<PackRepairReport, RepositoryError> {
    let mut catalogue = Catalogue::load(repository, threads(repository.storage()))?;
    if let Some((_, error)) = catalogue.unreadable.pop() {
        return Err(error);
    }
    let mut report = PackRepairReport::default();
    let mut damaged = Vec::new();
    for pack in packs.iter().copied().collect::<BTreeSet<_>>() {
        cancel.check()?;
        match is_sound(repository, &catalogue, pack, cancel) {
            Ok(true) => report.sound.push(pack),
            Ok(false) => damaged.push(pack),
            Err(error) if error.is_of_one_thing() && !error.is_damage() => {
                report.withheld.push((pack, chain(&error)));
            }
            Err(error) => return Err(error),
        }
    }
    if damaged.is_empty() {
        return Ok(report);
    }
    lock.prove()?;
    let writer = PackWriter::new(repository, PACK_BYTES_MIN);
    report.salvaged = salvage(repository, &catalogue, &damaged, &writer, counters, cancel)?;
    report.packs_written = writer.finish()?.packs.len() as u64;
    let dead: HashSet<PackId> = damaged.iter().copied().collect();
    let dead = |pack: usize| dead.contains(&catalogue.packs()[pack]);
    let files = indexes::to_replace(&catalogue, &dead);
    lock.prove()?;
    let replaced = indexes::replace(repository, &catalogue, &files, &dead, lock)?;
    if !replaced.kept.is_empty() {
        // An index that stays still names them.
        report.kept = damaged.into_iter().collect();
        return Ok(report);
    }
    lock.prove()?;
    // What cannot be read today may be tomorrow, or by other means.
    let (unread, read): (Vec<_>, Vec<_>) = report
        .salvaged
        .iter()
        .partition(|pack| pack.withheld_bytes > 0);
    let files: Vec<FileKey> = read.iter().map(|pack| pack_file(pack.pack)).collect();
    let kept = delete_all(repository, &files)?;
    let kept = kept.into_iter().map(|file| PackId(*file.id()));
    report.kept = kept.chain(unread.iter().map(|pack| pack.pack)).collect();
    Ok(report)
}
