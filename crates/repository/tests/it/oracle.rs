//! The oracle of every test that changes a repository: our check, and every snapshot read back.

use std::collections::BTreeMap;

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_repository::check::{CheckOptions, CheckReport, ReadData, check};
use refloat_repository::{IndexedRepository, Repository, SnapshotId};
use refloat_storage::{FileKind, SharedStorage};
pub use refloat_testkit::swap::Swap;

use crate::support::*;

/// What a snapshot holds, by path.
pub type Content = BTreeMap<String, Vec<u8>>;

pub fn check_with(repository: &Repository, read_data: ReadData) -> CheckReport {
    let options = CheckOptions { read_data };
    check(
        repository,
        &options,
        &Counters::default(),
        &Cancel::default(),
    )
    .unwrap()
}

pub fn check_all(storage: &SharedStorage) -> CheckReport {
    check_with(&open(storage), ReadData::All)
}

/// Asserts that nothing is lost or damaged; what else was found comes back.
pub fn require_clean(storage: &SharedStorage) -> CheckReport {
    let report = check_all(storage);
    assert!(report.is_clean(), "{:#?}", report.findings);
    report
}

/// Asserts that nothing at all was found, not even waste.
pub fn require_spotless(storage: &SharedStorage) {
    let report = check_all(storage);
    assert_eq!(report.findings, []);
    assert_eq!(report.lost, []);
}

/// Every snapshot with its files.
pub fn all_snapshots(storage: &SharedStorage) -> BTreeMap<SnapshotId, Content> {
    all_of(&open(storage).into_indexed().unwrap())
}

/// As [`all_snapshots`], through a repository that was opened before; its index is read again.
pub fn all_of(repository: &IndexedRepository) -> BTreeMap<SnapshotId, Content> {
    let repository = repository.reload().unwrap();
    let list = repository.snapshots().unwrap();
    assert_eq!(list.unreadable.len(), 0);
    let snapshots = list.snapshots.into_iter();
    snapshots
        .map(|(id, snapshot)| (id, read_files(&repository, snapshot.tree.unwrap())))
        .collect()
}

/// The sum of the sizes of all files of a kind.
pub fn stored_bytes(storage: &SharedStorage, kind: FileKind) -> u64 {
    let listed = storage.list(kind).unwrap();
    listed.iter().map(|file| file.size).sum()
}
