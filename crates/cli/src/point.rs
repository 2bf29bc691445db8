//! Opening the recovery point that a person named.
//!
//! Invariant: reading takes no lock: a point that is deleted meanwhile gives errors, never wrong
//! bytes.

use refloat_engine::manifest;
use refloat_engine::point_list::{self, Locator, PointSelector, PointSummary};
use refloat_engine::stored::{StoredTree, gaps};
use refloat_model::finding::Finding;
use refloat_model::point::PointRecord;
use refloat_model::tree_path::TreePath;
use refloat_repository::repair::REPAIRED_TAG;
use refloat_repository::{IndexedRepository, Repository, SnapshotFile, SnapshotId};

use crate::command_error::{CommandError, ErrorKind};
use crate::mask::Reveal;
use crate::repository;
use crate::settings::Settings;

/// A point that is open for reading.
pub struct OpenPoint {
    /// What lists say of it.
    pub summary: PointSummary,
    /// Its tree.
    pub tree: StoredTree,
    /// Its record; none for snapshots of other programs.
    pub record: Option<PointRecord>,
    /// That it is the latest only because others have a time that is still to come.
    pub passed_over: Option<Finding>,
}

/// Opens the repository and one point of it.
///
/// # Errors
/// Either is not there or cannot be read.
pub fn open(settings: &Settings, selector: &PointSelector) -> Result<OpenPoint, CommandError> {
    OpenPoint::find(repository::open(settings)?, selector, settings)
}

/// Parses `POINT[:PATH]`.
///
/// # Errors
/// It is neither.
pub fn locator(text: &str) -> Result<Locator, CommandError> {
    Ok(text.parse()?)
}

/// The point that is meant, and a word about those that are not because of their time.
///
/// # Errors
/// None fits, or more than one.
pub fn select<'p>(
    selector: &PointSelector,
    points: &'p [PointSummary],
    settings: &Settings,
) -> Result<&'p PointSummary, CommandError> {
    let found = selector.find_at(points, jiff::Timestamp::now().into())?;
    settings.output.findings(found.finding().as_slice());
    Ok(found.point)
}

impl OpenPoint {
    /// Opens one point of a repository whose index is not loaded yet.
    ///
    /// # Errors
    /// It is not there or cannot be read.
    pub fn find(
        repository: Repository,
        selector: &PointSelector,
        settings: &Settings,
    ) -> Result<Self, CommandError> {
        let (list, repository) = repository::listed(repository, settings)?;
        let open = Self::open(&repository, &list.snapshots, selector)?;
        settings.output.findings(open.passed_over.as_slice());
        Ok(open)
    }

    /// Opens one point of those that were listed before the index was loaded.
    ///
    /// # Errors
    /// It is not there or cannot be read.
    pub fn open(
        repository: &IndexedRepository,
        snapshots: &[(SnapshotId, SnapshotFile)],
        selector: &PointSelector,
    ) -> Result<Self, CommandError> {
        let points = point_list::summaries(snapshots);
        let found = selector.find_at(&points, jiff::Timestamp::now().into())?;
        let (summary, passed_over) = (found.point.clone(), found.finding());
        let root = snapshots
            .iter()
            .find(|(id, _)| *id == summary.snapshot)
            .and_then(|(_, file)| file.tree)
            .ok_or_else(|| {
                CommandError::new(
                    ErrorKind::Damaged,
                    format!("the snapshot {} has no tree", summary.snapshot.short()),
                )
            })?;
        let tree = StoredTree::new(repository.clone(), root);
        let record = match summary.id {
            Some(_) => Some(manifest::read_record(&tree)?),
            None => None,
        };
        Ok(Self {
            summary,
            tree,
            record,
            passed_over,
        })
    }

    /// Whether a repair took what was lost out of it.
    pub fn is_repaired(&self) -> bool {
        self.summary.tags.iter().any(|tag| tag == REPAIRED_TAG)
    }

    /// What the point lacks of `path`, by its own account: errors for what a restore cannot bring back. And that
    /// another one may be meant.
    pub fn lacks(&self, path: &TreePath) -> Vec<Finding> {
        let mut lacks = match &self.record {
            Some(record) => gaps(&self.tree, record, path),
            None => Vec::new(),
        };
        if let Some(newer) = &self.passed_over {
            // Whoever restores means the newest, and which that is cannot be told.
            lacks.insert(0, Finding::error(&newer.subject, &newer.message));
        }
        if self.is_repaired() && !manifest::is_own(path) {
            let point = format!("point {}", self.summary.short());
            let message =
                "was repaired: what had been lost of it is left out, and is not named in it";
            lacks.insert(0, Finding::error(point, message));
        }
        lacks
    }

    /// Whether what lies at `path` must be masked.
    ///
    /// # Errors
    /// The manifest cannot be read: then nobody can tell, and nothing is shown.
    pub fn is_masked(&self, path: &TreePath, reveal: Reveal) -> Result<bool, CommandError> {
        if reveal == Reveal::Asked {
            return Ok(false);
        }
        for source in self.record.iter().flat_map(|record| record.sources.keys()) {
            let items = manifest::read_items(&self.tree, source).map_err(|e| {
                CommandError::from(e).hint("--reveal shows it without looking at the manifest")
            })?;
            if items
                .iter()
                .any(|r| r.item.sensitive && path.starts_with(&r.item.path))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
