//! Verifying a repository: what is damaged, what is missing, and which paths are lost by it.
//!
//! Order of reading: snapshots, then indexes, then packs. A backup that runs meanwhile writes in
//! the opposite order, so whatever a snapshot seen here refers to is in the indexes seen after it,
//! and their packs are in the listing made last. Against a prune that runs meanwhile the caller
//! holds a shared lock; a repository that nobody prunes is checked without one.
//!
//! ```text
//! keys, snapshots ─▶ indexes ─▶ packs: listed, with the size their entries imply
//!        ─▶ packs that are suspicious or selected: read as a whole ─▶ trees, each once ─▶ paths
//! ```
//!
//! Invariant: a check writes nothing, and what it finds is data: an error means only that the
//! check could not be carried out.

mod files;
mod finding;
pub(crate) mod lost;
pub(crate) mod packs;
mod report;

use std::collections::BTreeSet;

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_storage::{FileKind, Listed};

use crate::catalogue::Catalogue;
use crate::error::RepositoryError;
use crate::format::pack::BlobKind;
use crate::id::{IndexId, PackId};
use crate::parallel::threads;
use crate::repository::Repository;
use crate::tree_walk::{BitSet, CatalogueTrees, CopyFailure};

pub use finding::{BlobLoss, CheckFinding, PackDamage};
pub use report::{CheckCounts, CheckReport, LostEntry, LostPath};

pub(crate) use files::{Snapshots, load_snapshots};
pub(crate) use finding::chain;

/// How thoroughly to check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CheckOptions {
    /// Which packs are read as a whole; the structure is always checked completely.
    pub read_data: ReadData,
}

/// Which packs are read as a whole. Suspicious ones always are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReadData {
    /// No others.
    #[default]
    None,
    /// All.
    All,
    /// The `number`-th of `of` equal parts, from 1; the parts stay the same as long as packs do.
    Part {
        /// Which part.
        number: u8,
        /// How many parts there are.
        of: u8,
    },
    /// A share, at least one pack; the same ones for the same seed.
    Share {
        /// How many of a thousand packs.
        per_mille: u16,
        /// Chooses.
        seed: u64,
    },
}

/// Checks a repository.
///
/// Memory: 52 bytes a blob and a bit or two, one pack a thread, and the ids of what is lost.
///
/// # Errors
/// Something cannot be listed, storage is out of reach, or the run was cancelled.
pub fn check(
    repository: &Repository,
    options: &CheckOptions,
    counters: &Counters,
    cancel: &Cancel,
) -> Result<CheckReport, RepositoryError> {
    let threads = threads(repository.storage());
    let mut findings = files::check_keys(repository)?;
    let snapshots = load_snapshots(repository, threads)?;
    findings.extend(snapshots.findings());
    let catalogue = Catalogue::load(repository, threads)?;
    findings.extend(index_findings(&catalogue));
    let listed = repository.storage().list(FileKind::Pack)?;
    findings.extend(unindexed(&catalogue, &listed));

    let bad = BitSet::new(catalogue.rows().len());
    let packs = packs::PackCheck {
        repository,
        catalogue: &catalogue,
        bad: &bad,
        threads,
        counters,
        cancel,
    };
    let (pack_findings, bytes_read) = packs.run(&listed, options.read_data)?;
    findings.extend(pack_findings);

    let trees = CatalogueTrees::new(repository, &catalogue, &bad);
    let losses = lost::find(&trees, &snapshots.roots(), threads, counters, cancel)?;
    let located = lost::locate(&trees, &snapshots.roots(), &losses, cancel)?;
    let trees_seen = losses.trees_seen;
    findings.extend(trees.into_failures().map(damaged_copy));
    findings.extend(losses.findings(&located));

    let counts = CheckCounts {
        snapshots: snapshots.readable.len() as u64,
        index_files: catalogue.files.len() as u64,
        packs: catalogue.packs().len() as u64,
        blobs: catalogue.rows().len() as u64,
        trees: trees_seen,
        bytes_listed: listed.iter().map(|file| file.size).sum(),
        bytes_read,
    };
    Ok(CheckReport::new(findings, located, counts))
}

/// A copy of a tree that could not be read, whether or not another one could.
fn damaged_copy((pack, failure): (PackId, CopyFailure)) -> CheckFinding {
    let CopyFailure {
        is_of_its_bytes,
        tree,
        cause,
    } = failure;
    let damage = match is_of_its_bytes {
        true => PackDamage::Blob {
            kind: BlobKind::Tree,
            blob: tree,
            cause,
        },
        false => PackDamage::Unreadable { cause },
    };
    CheckFinding::DamagedPack { pack, damage }
}

fn index_findings(catalogue: &Catalogue) -> Vec<CheckFinding> {
    let unreadable =
        catalogue
            .unreadable
            .iter()
            .map(|(index, error)| CheckFinding::UnreadableIndex {
                index: IndexId(index.0),
                cause: finding::chain(error),
            });
    let repeated = catalogue
        .repeated
        .iter()
        .map(|pack| CheckFinding::DuplicateIndex { pack: *pack });
    unreadable.chain(repeated).collect()
}

fn unindexed(catalogue: &Catalogue, listed: &[Listed]) -> Vec<CheckFinding> {
    let unknown: BTreeSet<(PackId, u64)> = listed
        .iter()
        .map(|file| (PackId(*file.key.id()), file.size))
        .filter(|(pack, _)| catalogue.packs().binary_search(pack).is_err())
        .collect();
    let finding = |(pack, bytes)| CheckFinding::UnindexedPack { pack, bytes };
    unknown.into_iter().map(finding).collect()
}
