//! What tests of prune share: estates, plans, clocks.

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_repository::lock::{Clock, LockMode};
use refloat_repository::prune::{
    MaxUnused, PreparedPrune, PruneError, PruneLocks, PruneOptions, PruneReport, plan,
};
use refloat_repository::{ChunkerChoice, Repository, SnapshotId};
use refloat_storage::{FileKey, FileKind, SharedStorage};

use crate::support::*;

/// Wants every unused byte gone.
pub fn thorough() -> PruneOptions {
    PruneOptions {
        max_unused: MaxUnused::Bytes(0),
        pack_bytes_min: 1 << 20,
        ..PruneOptions::default()
    }
}

/// Wants nothing rewritten.
pub fn frugal() -> PruneOptions {
    PruneOptions {
        max_repack_bytes: Some(0),
        ..thorough()
    }
}

/// A clock that stands still.
pub fn at(now: jiff::Timestamp) -> Clock {
    Hands::at(now).clock()
}

pub fn plan_at(
    repository: &Repository,
    options: PruneOptions,
    now: jiff::Timestamp,
) -> Result<PreparedPrune, PruneError> {
    let (counters, cancel) = (Counters::default(), Cancel::default());
    plan(repository, options, now, &counters, &cancel)
}

pub fn execute_at(
    prepared: PreparedPrune,
    repository: &Repository,
    now: jiff::Timestamp,
) -> Result<PruneReport, PruneError> {
    let lock = |mode| repository.lock(mode, owner("prune"), at(now));
    let locks = PruneLocks {
        shared: &|| lock(LockMode::Shared),
        exclusive: &|| lock(LockMode::Exclusive),
    };
    prepared.execute(repository, &locks, &Counters::default(), &Cancel::default())
}

pub fn prune_at(
    repository: &Repository,
    options: PruneOptions,
    now: jiff::Timestamp,
) -> Result<PruneReport, PruneError> {
    let prepared = plan_at(repository, options, now)?;
    execute_at(prepared, repository, now)
}

pub fn prune(storage: &SharedStorage, options: PruneOptions) -> PruneReport {
    prune_at(&open(storage), options, jiff::Timestamp::now()).unwrap()
}

pub fn delete_snapshots(storage: &SharedStorage, ids: &[SnapshotId]) {
    for id in ids {
        let file = FileKey::new(FileKind::Snapshot, id.0);
        storage.delete(&file).unwrap();
    }
}

/// Four generations of files, each snapshot with half of the one before; the first and the third
/// are forgotten already. The snapshots that are left.
pub fn generations(storage: &SharedStorage) -> Vec<SnapshotId> {
    drop(init(storage, ChunkerChoice::Gear));
    let mut ids = Vec::new();
    for generation in 0..4_u64 {
        let files = (generation * 4..generation * 4 + 8).map(|number| {
            let size = 100_000 + 20_000 * (number as usize % 5);
            let path = format!("d{}/file-{number}", number % 3);
            (path, (1, noise(size, number)))
        });
        ids.push(backup(storage, &files.collect()).id);
    }
    delete_snapshots(storage, &[ids[0], ids[2]]);
    vec![ids[1], ids[3]]
}

/// The files of the first generation, which is forgotten.
pub fn first_generation() -> Files {
    (0..8_u64)
        .map(|number| {
            let size = 100_000 + 20_000 * (number as usize % 5);
            (
                format!("d{}/file-{number}", number % 3),
                (1, noise(size, number)),
            )
        })
        .collect()
}
