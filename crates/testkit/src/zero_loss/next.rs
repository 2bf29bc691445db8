//! What the next run does: a backup and a prune, as the command line does them.
//!
//! Invariant: no step that a person would have to take; a refusal is an error here.

use std::sync::Arc;
use std::time::Duration;

use refloat_model::cancel::Cancel;
use refloat_model::entry::{Entry, TreeSink as _};
use refloat_model::progress::Counters;
use refloat_repository::archive::{ArchiveOptions, Archiver};
use refloat_repository::forget::forget;
use refloat_repository::format::snapshot::SnapshotFile;
use refloat_repository::lock::{Clock, LockMode, LockOwner, Repetition, Timekeeper, Work};
use refloat_repository::prune::{
    MaxUnused, PruneError, PruneLocks, PruneOptions, PruneReport, plan,
};
use refloat_repository::{IndexedRepository, Repository, RepositoryError, SnapshotId};
use refloat_storage::{FileKey, FileKind};

/// A clock that stands still, by which nobody waits.
struct Still(jiff::Timestamp);

struct Never;
impl Repetition for Never {}

impl Timekeeper for Still {
    fn now(&self) -> jiff::Timestamp {
        self.0
    }
    fn sleep(&self, _duration: Duration) {}
    fn every(&self, _period: Duration, _work: Work) -> std::io::Result<Box<dyn Repetition>> {
        Ok(Box::new(Never))
    }
}

/// Who takes a lock in a test.
#[must_use]
pub fn owner(name: &str) -> LockOwner {
    LockOwner {
        host: format!("refloat-{name}"),
        user: "test".to_owned(),
        process: 1,
    }
}

/// Wants every unused byte gone, in small packs.
#[must_use]
pub fn thorough() -> PruneOptions {
    PruneOptions {
        max_unused: MaxUnused::Bytes(0),
        pack_bytes_min: 16 << 10,
        ..PruneOptions::default()
    }
}

/// Backs one small file up.
///
/// # Errors
/// Anything of it failed.
pub fn next_backup(
    repository: &IndexedRepository,
    now: jiff::Timestamp,
) -> Result<SnapshotId, RepositoryError> {
    let clock: Clock = Arc::new(Still(now));
    let lock = repository.lock(LockMode::Shared, owner("next"), clock)?;
    let options = ArchiveOptions {
        workers: 1,
        ..ArchiveOptions::default()
    };
    let counters = Arc::new(Counters::default());
    let archiver = Archiver::start(repository.reload()?, options, counters, Cancel::default())?;
    let mut builder = archiver.tree(Vec::new());
    let text = format!("the next run, at {now}");
    let entry = Entry::synthetic_file("next", text.len() as u64);
    let content = move || Ok::<_, std::io::Error>(std::io::Cursor::new(text.into_bytes()));
    builder
        .file(entry, Box::new(content))
        .expect("the sink takes a file");
    let tree = builder.finish()?;
    let root = archiver.store_directory(tree.nodes.clone())?;
    let snapshot = serde_json::json!({
        "time": now.to_string(), "tree": root, "paths": ["/next"], "hostname": "h",
    });
    let snapshot: SnapshotFile = serde_json::from_value(snapshot).expect("it is a snapshot");
    archiver.finish()?.publish(&lock, &snapshot)
}

/// Plans a thorough prune and carries it out. A torn snapshot is forgotten first: the one step
/// that wants a person, since nobody can tell it from a point that was saved and damaged later.
///
/// # Errors
/// Anything of it failed.
pub fn next_prune(
    repository: &Repository,
    now: jiff::Timestamp,
    torn: Option<FileKey>,
) -> Result<PruneReport, PruneError> {
    let clock: Clock = Arc::new(Still(now));
    let lock = |mode| repository.lock(mode, owner("prune"), Arc::clone(&clock));
    let locks = PruneLocks {
        shared: &|| lock(LockMode::Shared),
        exclusive: &|| lock(LockMode::Exclusive),
    };
    let (counters, cancel) = (Counters::default(), Cancel::default());
    // A lock of this run tells the storage's time and removes dead locks.
    let standing = lock(LockMode::Shared)?;
    let mut prepared = plan(repository, thorough(), now, &counters, &cancel);
    if let (Err(PruneError::UnreadableSnapshot { snapshot, .. }), Some(torn)) = (&prepared, torn) {
        assert_eq!(torn, FileKey::new(FileKind::Snapshot, snapshot.0));
        let _outcome = forget(repository, &standing, &[*snapshot])?;
        prepared = plan(repository, thorough(), now, &counters, &cancel);
    }
    drop(standing);
    prepared?.execute(repository, &locks, &counters, &cancel)
}
