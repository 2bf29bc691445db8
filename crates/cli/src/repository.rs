//! Opening the repository that the settings name.
//!
//! Invariant: nothing is written when opening.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use refloat_model::finding::Finding;
use refloat_model::id::RunId;
use refloat_model::secret::Secret;
use refloat_repository::format::key::KeyOrigin;
use refloat_repository::lock::{Lock, LockMode, LockOwner};
use refloat_repository::{IndexedRepository, Repository, RepositoryError, SnapshotList};
use refloat_storage::SharedStorage;

use crate::command_error::CommandError;
use crate::deleter;
use crate::random;
use crate::settings::Settings;
use crate::storage::{Patience, Place};
use crate::table;

/// How often a lock that is not to be had is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The storage of the repository that the settings name.
///
/// # Errors
/// None is named.
pub fn storage(settings: &Settings) -> Result<SharedStorage, CommandError> {
    settings.repository()?.open(&settings.cancel)
}

/// Opens the repository.
///
/// # Errors
/// There is none, or the password does not open it.
pub fn open(settings: &Settings) -> Result<Repository, CommandError> {
    open_storage(storage(settings)?, settings)
}

fn open_storage(storage: SharedStorage, settings: &Settings) -> Result<Repository, CommandError> {
    find_in(storage, settings)?.open()
}

/// Looks for the repository and gets its password.
///
/// # Errors
/// There is none, or no password.
pub fn find(settings: &Settings) -> Result<Closed<'_>, CommandError> {
    find_in(storage(settings)?, settings)
}

fn find_in(storage: SharedStorage, settings: &Settings) -> Result<Closed<'_>, CommandError> {
    let deleter_key = settings.deleter_key.as_deref();
    Closed::find(storage, || settings.password(), deleter_key)
}

/// A repository that is there, and its password: nobody need be asked any more.
pub struct Closed<'s> {
    storage: SharedStorage,
    password: Arc<Secret>,
    deleter_key: Option<&'s Path>,
}

impl<'s> Closed<'s> {
    /// Looks for a repository and gets its password.
    ///
    /// # Errors
    /// There is none, or no password.
    pub fn find(
        storage: SharedStorage,
        password: impl FnOnce() -> Result<Arc<Secret>, CommandError>,
        deleter_key: Option<&'s Path>,
    ) -> Result<Self, CommandError> {
        // Told before the password is asked for: a wrong path is not worth typing one.
        if storage.size(&refloat_storage::FileKey::CONFIG)?.is_none() {
            return Err(RepositoryError::without_config(&storage).into());
        }
        Ok(Self {
            storage,
            password: password()?,
            deleter_key,
        })
    }

    /// Opens it. Most of the time goes into the key.
    ///
    /// # Errors
    /// The password does not open it, or there is no deleter key where one is named.
    pub fn open(&self) -> Result<Repository, CommandError> {
        let opened = Repository::open(Arc::clone(&self.storage), &self.password)?;
        match self.deleter_key {
            None => Ok(opened),
            Some(file) => Ok(opened.with_deleter(deleter::load(file)?)),
        }
    }
}

/// Opens the repository as it is in storage, without the copies of this machine, for whoever
/// judges it.
///
/// # Errors
/// As [`open`].
pub fn open_uncached(settings: &Settings) -> Result<Repository, CommandError> {
    let place = Place {
        cache: None,
        ..settings.repository()?.clone()
    };
    open_storage(place.open(&settings.cancel)?, settings)
}

/// Opens the repository, lists its points and loads its index, for whoever can do without: one that
/// does not answer is not waited for.
///
/// # Errors
/// As [`listed`].
pub fn open_if_it_answers(
    settings: &Settings,
) -> Result<(SnapshotList, IndexedRepository), CommandError> {
    let place = Place {
        patience: Patience::Little,
        ..settings.repository()?.clone()
    };
    let opened = open_storage(place.open(&settings.cancel)?, settings)?;
    listed(opened, settings)
}

/// Lists the points, and loads the index after that: writers publish the index first and the point
/// last, so what is listed is in the index.
///
/// # Errors
/// As [`indexed`], or the points cannot be listed.
pub fn listed(
    repository: Repository,
    settings: &Settings,
) -> Result<(SnapshotList, IndexedRepository), CommandError> {
    let list = repository.snapshots()?;
    Ok((list, indexed(repository, settings)?))
}

/// Opens the repository and loads its index.
///
/// # Errors
/// As [`open`], or the index cannot be read.
pub fn open_indexed(settings: &Settings) -> Result<IndexedRepository, CommandError> {
    indexed(open(settings)?, settings)
}

/// Loads the index, and tells which files of it are damaged.
///
/// # Errors
/// An index file is out of reach.
pub fn indexed(
    repository: Repository,
    settings: &Settings,
) -> Result<IndexedRepository, CommandError> {
    let repository = repository.into_indexed()?;
    let damaged = repository.damaged_indexes().iter();
    let damaged = damaged.map(|index| {
        let message =
            "is damaged: what only it lists counts as missing until `refloat repair index`";
        Finding::warning(format!("index {index}"), message)
    });
    settings.output.findings(&damaged.collect::<Vec<_>>());
    Ok(repository)
}

/// Locks the repository for one run that writes.
///
/// # Errors
/// Somebody else holds a lock that excludes this one, or the place is to keep files from deletion and cannot.
pub fn lock(
    repository: &Repository,
    mode: LockMode,
    run: RunId,
    settings: &Settings,
) -> Result<Lock, CommandError> {
    settings.repository()?.refuse_lock()?;
    Ok(lock_in_time(repository, mode, run, settings)?)
}

/// As [`lock`]: waits as long as the settings say, for a prune keeps others out for seconds and most
/// backups are short.
///
/// # Errors
/// Somebody else still holds a lock that excludes this one, or storage failed.
pub fn lock_in_time(
    repository: &Repository,
    mode: LockMode,
    run: RunId,
    settings: &Settings,
) -> Result<Lock, RepositoryError> {
    let started = Instant::now();
    loop {
        let taken = repository.lock(mode, owner(run), Arc::new(jiff::Timestamp::now));
        let is_locked = matches!(taken, Err(RepositoryError::Locked { .. }));
        let is_over = started.elapsed() >= settings.retry_lock || settings.cancel.is_cancelled();
        if !is_locked || is_over {
            return taken;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// What is to be said of locks that kept nobody out.
pub fn passed_over(lock: &Lock) -> Option<Finding> {
    let count = lock.passed_over() as u64;
    let message = "exclusive and vouched for by no deleter key: somebody forges locks; whoever may \
                   delete clears them with `refloat repair locks`";
    (count > 0).then(|| Finding::warning(table::count(count, "lock"), message))
}

/// A shared lock for a command that only reads, so that nothing is pruned under its hands. A
/// medium that cannot be written, where nobody can prune either, is read without.
///
/// # Errors
/// Somebody is deleting, or storage failed.
pub fn lock_for_reading(
    repository: &Repository,
    settings: &Settings,
) -> Result<Option<Lock>, CommandError> {
    let run = RunId::from_random(random::bytes()?);
    match lock_in_time(repository, LockMode::Shared, run, settings) {
        Ok(lock) => Ok(Some(lock)),
        Err(RepositoryError::MayNotLock(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Who holds the locks of a run.
fn owner(run: RunId) -> LockOwner {
    LockOwner {
        host: format!("refloat-{run}"),
        user: machine_user(),
        process: std::process::id(),
    }
}

/// Who makes a key, for its record.
pub fn key_origin() -> KeyOrigin {
    KeyOrigin {
        created: jiff::Timestamp::now(),
        username: machine_user(),
        hostname: machine_host(),
    }
}

/// This machine's host name.
pub fn machine_host() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The effective user's id as text: enough for records, and right in containers without names.
fn machine_user() -> String {
    match rustix::process::geteuid().as_raw() {
        0 => "root".to_owned(),
        id => id.to_string(),
    }
}
