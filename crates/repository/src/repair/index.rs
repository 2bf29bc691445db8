//! Rebuilding the index from what packs say of themselves.
//!
//! A pack whose header cannot be read is dropped from the index; what the old index knew to be in
//! it and what is undamaged is saved into new packs first, so that dropping it loses nothing.
//!
//! Order: saved packs and their index; an index of the packs that are added or corrected; indexes
//! without those and without dropped packs; then the old and the damaged index files go. A crash
//! in between leaves repetitions; repeating goes on.
//!
//! Invariant: afterwards every pack that an index names is there, with the size and, as far as
//! headers were read, with the blobs that its header states.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_storage::{FileKind, Listed};

use super::packs::PACK_BYTES_MIN;
use super::salvage::{SalvagedPack, salvage};
use crate::catalogue::Catalogue;
use crate::check::chain;
use crate::error::RepositoryError;
use crate::format::pack::PackedBlob;
use crate::id::{IndexId, PackId};
use crate::lock::Lock;
use crate::pack_reading::{pack_file, sizes};
use crate::pack_writing::{INDEX_BLOBS_MAX, PackWriter, write_index};
use crate::parallel::{for_each, lock, threads};
use crate::prune::indexes;
use crate::repository::Repository;

/// Which pack headers are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HeaderReading {
    /// Of packs that no index names or that have another size than the index implies.
    #[default]
    Doubtful,
    /// Of all packs.
    All,
}

/// What repairing the index will do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IndexRepairPlan {
    /// Index files that cannot be read; they go.
    pub unreadable: BTreeSet<IndexId>,
    /// Packs that are named and not there; they are dropped.
    pub missing: BTreeSet<PackId>,
    /// Packs that are named and whose header cannot be read, with the reason; they are dropped
    /// after what is undamaged in them was saved.
    pub damaged: BTreeMap<PackId, String>,
    /// Packs whose header lists other blobs than the index; the header counts.
    pub corrected: BTreeSet<PackId>,
    /// Packs that no index names; they are added.
    pub added: BTreeSet<PackId>,
    /// Packs that no index names and whose header cannot be read, with the reason: of interrupted
    /// uploads, mostly. They stay as they are until a prune.
    pub ignored: BTreeMap<PackId, String>,
    /// Packs that several index files repeat.
    pub repeated: BTreeSet<PackId>,
}

/// What repairing the index did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IndexRepairReport {
    /// The dropped packs, with what was saved of them.
    pub salvaged: Vec<SalvagedPack>,
    /// New index files.
    pub indexes_written: u64,
    /// Old index files that are gone.
    pub indexes_deleted: u64,
    /// Old index files that storage keeps.
    pub indexes_kept: BTreeSet<IndexId>,
}

impl IndexRepairPlan {
    /// Whether the index is as it should be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.unreadable.is_empty()
            && self.missing.is_empty()
            && self.damaged.is_empty()
            && self.corrected.is_empty()
            && self.added.is_empty()
            && self.repeated.is_empty()
    }
}

/// A plan with what is needed to execute it.
#[derive(Debug)]
pub struct PreparedIndexRepair {
    plan: IndexRepairPlan,
    catalogue: Catalogue,
    /// What the headers of corrected and added packs list.
    headers: BTreeMap<PackId, Vec<PackedBlob>>,
}

/// Plans the repair of the index. Nothing is written.
///
/// # Errors
/// Something cannot be listed, or storage is out of reach.
pub fn plan_index_repair(
    repository: &Repository,
    reading: HeaderReading,
    counters: &Counters,
    cancel: &Cancel,
) -> Result<PreparedIndexRepair, RepositoryError> {
    let threads = threads(repository.storage());
    let catalogue = Catalogue::load(repository, threads)?;
    let listed = repository.storage().list(FileKind::Pack)?;
    let mut plan = IndexRepairPlan {
        unreadable: catalogue.unreadable.iter().map(|(id, _)| *id).collect(),
        repeated: catalogue.repeated.clone(),
        ..IndexRepairPlan::default()
    };
    let doubtful = doubtful(repository, &catalogue, &listed, reading, &mut plan)?;
    let findings = Mutex::new((plan, BTreeMap::new()));
    for_each(&doubtful, threads, |(pack, size)| {
        cancel.check()?;
        Counters::add(&counters.entries_done, 1);
        let number = catalogue.packs().binary_search(pack).ok();
        let indexed = number.map(|number| catalogue.blobs_of_pack(number));
        let header = repository
            .read_pack_header(*pack, *size)
            .or_else(|_first| repository.read_pack_header(*pack, *size));
        let (plan, headers) = &mut *lock(&findings);
        match header {
            Ok(header) if indexed.as_ref() == Some(&header) => {}
            Ok(header) => {
                let kind = match indexed {
                    Some(_) => &mut plan.corrected,
                    None => &mut plan.added,
                };
                kind.insert(*pack);
                headers.insert(*pack, header);
            }
            Err(error @ RepositoryError::DamagedFile { .. }) => {
                let cause = std::error::Error::source(&error).map_or_else(String::new, chain);
                let kind = match indexed {
                    Some(_) => &mut plan.damaged,
                    None => &mut plan.ignored,
                };
                kind.insert(*pack, cause);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    })?;
    let (plan, headers) = std::mem::take(&mut *lock(&findings));
    Ok(PreparedIndexRepair {
        plan,
        catalogue,
        headers,
    })
}

/// The packs whose headers are to be read, with their sizes; missing ones are noted.
fn doubtful(
    repository: &Repository,
    catalogue: &Catalogue,
    listed: &[Listed],
    reading: HeaderReading,
    plan: &mut IndexRepairPlan,
) -> Result<Vec<(PackId, u64)>, RepositoryError> {
    let mut sizes = sizes(listed);
    let mut doubtful = Vec::new();
    for (number, pack) in catalogue.packs().iter().enumerate() {
        let size = match sizes.remove(pack) {
            Some(size) => Some(size),
            // A listing may be short; only the file itself can be missing.
            None => repository.storage().size(&pack_file(*pack))?,
        };
        match size {
            None => {
                plan.missing.insert(*pack);
            }
            Some(size) if reading == HeaderReading::All || size != catalogue.pack_size(number) => {
                doubtful.push((*pack, size));
            }
            Some(_) => {}
        }
    }
    doubtful.extend(sizes);
    Ok(doubtful)
}

impl PreparedIndexRepair {
    /// The plan.
    #[must_use]
    pub const fn plan(&self) -> &IndexRepairPlan {
        &self.plan
    }

    /// Executes the plan. Needs an exclusive lock, taken before planning.
    ///
    /// Guarantees and crash behaviour: see the module.
    ///
    /// # Errors
    /// The lock is lost, or storage failed.
    pub fn execute(
        self,
        repository: &Repository,
        lock: &Lock,
        counters: &Counters,
        cancel: &Cancel,
    ) -> Result<IndexRepairReport, RepositoryError> {
        let mut report = IndexRepairReport::default();
        if self.plan.is_empty() {
            return Ok(report);
        }
        lock.prove()?;
        let (plan, catalogue) = (&self.plan, &self.catalogue);
        let damaged: Vec<PackId> = plan.damaged.keys().copied().collect();
        let writer = PackWriter::new(repository, PACK_BYTES_MIN);
        report.salvaged = salvage(repository, catalogue, &damaged, &writer, counters, cancel)?;
        let saved = writer.finish()?;
        report.indexes_written = saved.indexes.len() as u64;
        report.indexes_written += write_headers(repository, self.headers)?;
        let dead = |number: usize| {
            let pack = &catalogue.packs()[number];
            plan.missing.contains(pack)
                || plan.damaged.contains_key(pack)
                || plan.corrected.contains(pack)
        };
        let files = indexes::to_replace(catalogue, &dead);
        lock.prove()?;
        let mut replaced = indexes::replace(repository, catalogue, &files, &dead, lock)?;
        replaced.delete(repository, plan.unreadable.iter().copied(), lock)?;
        report.indexes_written += replaced.written;
        report.indexes_deleted = replaced.deleted;
        report.indexes_kept = replaced.kept;
        Ok(report)
    }
}

/// Writes indexes of these packs; how many files.
fn write_headers(
    repository: &Repository,
    headers: BTreeMap<PackId, Vec<PackedBlob>>,
) -> Result<u64, RepositoryError> {
    let (mut waiting, mut blobs, mut files) = (Vec::new(), 0, 0);
    for (pack, header) in headers {
        blobs += header.len();
        waiting.push((pack, header));
        if blobs >= INDEX_BLOBS_MAX {
            write_index(repository, std::mem::take(&mut waiting))?;
            (blobs, files) = (0, files + 1);
        }
    }
    if !waiting.is_empty() {
        write_index(repository, waiting)?;
        files += 1;
    }
    Ok(files)
}
