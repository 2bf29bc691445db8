//! The short part under the exclusive lock: look again, replace indexes, delete packs.
//!
//! Invariant: a pack is deleted only if each of its used blobs has another place, in a pack that
//! was listed just now and that an index names.

use std::collections::{BTreeSet, HashSet};

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_storage::{FileKey, FileKind};

use super::choose::{Choice, Fate};
use super::error::PruneError;
use super::execute::{PruneReport, ids};
use super::survey::{Need, PackListing, Survey};
use super::{PrunePlan, indexes};
use crate::catalogue::Catalogue;
use crate::deletion::delete_all;
use crate::format::pack::BlobKind;
use crate::format::snapshot::SnapshotFile;
use crate::id::{BlobId, IndexId, PackId, SnapshotId};
use crate::lock::Lock;
use crate::pack_reading::pack_file;
use crate::pack_writing::Written;
use crate::parallel::threads;
use crate::repository::Repository;

/// What was seen under the exclusive lock.
pub struct Sweep<'a> {
    repository: &'a Repository,
    survey: Survey,
    choice: Choice,
    /// What writers added since the plan.
    added: Catalogue,
    /// The packs that are there now.
    packs: PackListing,
    /// By pack number: whether a snapshot that came since needs it.
    needed_again: Vec<bool>,
}

impl<'a> Sweep<'a> {
    /// Takes in what happened since the plan, and proves that everything needed is there.
    pub fn prepare(
        repository: &'a Repository,
        survey: Survey,
        choice: Choice,
        written: Written,
        counters: &Counters,
    ) -> Result<Self, PruneError> {
        let storage = repository.storage();
        let snapshots: BTreeSet<SnapshotId> = ids(repository, FileKind::Snapshot, SnapshotId)?;
        let new_snapshots = snapshots.difference(&survey.snapshots);
        let mut roots = Vec::new();
        for snapshot in new_snapshots {
            let file = FileKey::new(FileKind::Snapshot, snapshot.0);
            let read: Result<SnapshotFile, _> = repository.read_json(&file);
            let read = read.map_err(|source| PruneError::UnreadableSnapshot {
                snapshot: *snapshot,
                source: Box::new(source),
            })?;
            roots.extend(read.tree);
        }
        let mut listed = storage.list(FileKind::Index)?;
        let ours: BTreeSet<IndexId> = written.indexes.iter().copied().collect();
        let known = |id: &IndexId| survey.indexes.contains(id) || ours.contains(id);
        let still_there = listed.iter().map(|file| IndexId(*file.key.id()));
        if still_there.filter(known).count() != survey.indexes.len() + ours.len() {
            // Somebody else pruned or repaired.
            return Err(PruneError::StateChanged);
        }
        listed.retain(|file| !known(&IndexId(*file.key.id())));
        let threads = threads(storage);
        // One that is torn was never acknowledged, and stays for the next prune.
        let added = Catalogue::load_files(repository, &listed, threads)?;
        let need = Need {
            repository,
            known: &survey.catalogue,
            used: &survey.used,
            bad: &survey.bad,
            added: Some(&added),
        };
        // Under the exclusive lock there is little to do, so it is not interrupted.
        need.mark(roots, threads, counters, &Cancel::default())?;
        let packs = PackListing::new(&storage.list(FileKind::Pack)?);
        let needed_again = needed_again(&survey, &choice, &added, &written);
        let sweep = Self {
            repository,
            survey,
            choice,
            added,
            packs,
            needed_again,
        };
        sweep.require_packs(&written)?;
        Ok(sweep)
    }

    fn is_dead(&self, pack: usize) -> bool {
        self.choice.is_dead(pack) && !self.needed_again[pack]
    }

    /// Proves that every pack that stays is listed with its size.
    fn require_packs(&self, written: &Written) -> Result<(), PruneError> {
        let catalogue = &self.survey.catalogue;
        let living = (0..catalogue.packs().len()).filter(|pack| !self.is_dead(*pack));
        self.packs.require(catalogue, living)?;
        self.packs
            .require(&self.added, 0..self.added.packs().len())?;
        for pack in &written.packs {
            if self.packs.bytes(&pack.id) != Some(pack.bytes) {
                return Err(PruneError::MissingPacks {
                    count: 1,
                    first: pack.id,
                });
            }
        }
        Ok(())
    }

    /// Replaces indexes, then deletes packs.
    pub fn run(
        &self,
        plan: &PrunePlan,
        lock: &Lock,
        report: &mut PruneReport,
    ) -> Result<(), PruneError> {
        let catalogue = &self.survey.catalogue;
        let dead = |pack: usize| self.is_dead(pack);
        report.packs_needed_again = (0..self.needed_again.len())
            .filter(|pack| self.needed_again[*pack])
            .map(|pack| catalogue.packs()[pack])
            .collect();
        lock.prove()?;
        let files = indexes::to_replace(catalogue, &dead);
        let mut replaced = indexes::replace(self.repository, catalogue, &files, &dead, lock)?;
        replaced.delete(
            self.repository,
            self.survey.torn_indexes.iter().copied(),
            lock,
        )?;
        report.indexes_written += replaced.written;
        report.indexes_deleted += replaced.deleted;
        // What an index that stays still names must stay.
        let mut named: HashSet<usize> = HashSet::new();
        for file in &catalogue.files {
            if replaced.kept.contains(&file.id) {
                named.extend(file.packs.iter().map(|pack| *pack as usize));
            }
        }
        report.indexes_kept = replaced.kept;
        let mut doomed = Vec::new();
        for pack in (0..catalogue.packs().len()).filter(|pack| dead(*pack)) {
            let id = catalogue.packs()[pack];
            if named.contains(&pack) {
                report.packs_kept.insert(id);
            } else {
                doomed.push(id);
            }
        }
        let unindexed = plan.delete_unindexed.iter();
        doomed.extend(unindexed.filter(|pack| !self.is_indexed_now(pack)));
        self.delete(&doomed, lock, report)
    }

    /// Whether an index names a pack that none named when the plan was made.
    fn is_indexed_now(&self, pack: &PackId) -> bool {
        self.added.packs().binary_search(pack).is_ok()
    }

    fn delete(
        &self,
        packs: &[PackId],
        lock: &Lock,
        report: &mut PruneReport,
    ) -> Result<(), PruneError> {
        /// The lock is proven again after so many deletions.
        const BATCH: usize = 1000;
        for batch in packs.chunks(BATCH) {
            lock.prove()?;
            let files: Vec<FileKey> = batch.iter().map(|pack| pack_file(*pack)).collect();
            let kept = delete_all(self.repository, &files)?;
            for pack in batch {
                if kept.contains(&pack_file(*pack)) {
                    report.packs_kept.insert(*pack);
                } else if let Some(bytes) = self.packs.bytes(pack) {
                    report.packs_deleted += 1;
                    report.bytes_deleted += bytes;
                }
            }
        }
        Ok(())
    }
}

/// Which packs that should go hold a used blob that is nowhere else, or are named anew.
fn needed_again(
    survey: &Survey,
    choice: &Choice,
    added: &Catalogue,
    written: &Written,
) -> Vec<bool> {
    let catalogue = &survey.catalogue;
    let copied: HashSet<(BlobKind, BlobId)> = written
        .packs
        .iter()
        .flat_map(|pack| pack.blobs.iter().map(|blob| (blob.kind, blob.id)))
        .collect();
    let mut needed = vec![false; catalogue.packs().len()];
    let dead = (0..needed.len()).filter(|pack| choice.fates[*pack] != Fate::Keep);
    for pack in dead {
        let named_anew = added
            .packs()
            .binary_search(&catalogue.packs()[pack])
            .is_ok();
        needed[pack] = named_anew
            || catalogue.rows_of_pack(pack).iter().any(|number| {
                let row = &catalogue.rows()[*number as usize];
                let (kind, id) = (row.kind(), row.id());
                let mut copies = catalogue.copies(kind, &id);
                survey.used.contains(copies.start)
                    && !copied.contains(&(kind, id))
                    && added.copies(kind, &id).is_empty()
                    && !copies.any(|copy| {
                        let other = catalogue.rows()[copy].pack();
                        let stays = choice.fates[other] == Fate::Keep || needed[other];
                        stays && !survey.bad.contains(copy)
                    })
            });
    }
    needed
}
