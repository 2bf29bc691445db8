//! What the actors of a simulation do.

use std::sync::Arc;

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_repository::check::{CheckOptions, ReadData, check};
use refloat_repository::copy::copy;
use refloat_repository::forget::{ForgetOutcome, forget};
use refloat_repository::lock::{Clock, Lock, LockMode};
use refloat_repository::prune::{PruneLocks, plan};
use refloat_repository::{IndexedRepository, RepositoryError, SnapshotId};
use refloat_testkit::random::Random;
use refloat_testkit::zero_loss::thorough;

use super::world::World;
use crate::crash::commands::{back_up, files};
use crate::support::*;

/// A command.
#[derive(Clone, Debug)]
pub enum Role {
    /// Backs up files of these numbers, which older points have in part, so many times.
    Writer { from: u64, times: u64 },
    /// Drops this part of the points, then prunes.
    Forgetter { keep_one_of: u64 },
    /// Prunes, so many times.
    Pruner { times: u64 },
    /// Reads the structure.
    Checker,
    /// Copies all points of another repository into this one, so many times.
    Importer { times: u64 },
    /// Copies this part of the points into another repository.
    Exporter { one_of: u64 },
}

/// The other repositories that a copier works with.
pub struct Others<'a> {
    /// Holds points that share files with the beginning, and never changes.
    pub from: &'a IndexedRepository,
    /// Empty when a seed begins.
    pub to: &'a IndexedRepository,
}

/// What a command came to.
#[derive(Debug)]
pub enum Outcome {
    Published(SnapshotId),
    Forgot(Vec<SnapshotId>),
    Pruned,
    /// Came into this repository by a copy.
    Imported(Vec<SnapshotId>),
    /// Came into the other repository.
    Exported(Vec<SnapshotId>),
    Refused,
    Died,
}

/// Who plays in a seed: at least one who writes and one who deletes.
pub fn cast(seed: u64, actors_max: usize) -> Vec<Role> {
    let mut random = Random::new(seed);
    let mut roles = vec![
        Role::Writer {
            from: random.below(16),
            times: 1 + random.below(2),
        },
        Role::Forgetter {
            keep_one_of: 2 + random.below(3),
        },
    ];
    while roles.len() < actors_max && random.chance(600) {
        roles.push(match random.below(8) {
            0 | 1 => Role::Writer {
                from: random.below(16),
                times: 1,
            },
            2..4 => Role::Pruner {
                times: 1 + random.below(2),
            },
            4 | 5 => Role::Importer {
                times: 1 + random.below(2),
            },
            6 => Role::Exporter {
                one_of: 1 + random.below(3),
            },
            _ => Role::Checker,
        });
    }
    roles
}

/// Plays a role.
pub fn act(
    role: &Role,
    repository: &IndexedRepository,
    others: &Others<'_>,
    world: &Arc<World>,
    number: usize,
) -> Vec<Outcome> {
    let clock = world.clock(number);
    let mut outcomes = Vec::new();
    match role {
        Role::Writer { from, times } => {
            for turn in 0..*times {
                let files = files(from + turn..from + turn + 6);
                outcomes.push(match back_up(repository, &clock, &files) {
                    Ok(id) => Outcome::Published(id),
                    Err(_) => Outcome::Refused,
                });
            }
        }
        Role::Forgetter { keep_one_of } => {
            if let Ok(forgot) = forget_some(repository, &clock, *keep_one_of, &mut outcomes) {
                outcomes.push(Outcome::Forgot(forgot));
                outcomes.push(prune(repository, &clock));
            } else {
                outcomes.push(Outcome::Refused);
            }
        }
        Role::Pruner { times } => {
            for _ in 0..*times {
                outcomes.push(prune(repository, &clock));
            }
        }
        Role::Checker => {
            let options = CheckOptions {
                read_data: ReadData::None,
            };
            let lock = repository.lock(LockMode::Shared, owner("check"), Arc::clone(&clock));
            if lock.is_ok() {
                let (counters, cancel) = (Counters::default(), Cancel::default());
                // Its findings are no matter here: a lock that is lost protects no reader.
                drop(check(repository, &options, &counters, &cancel));
            }
        }
        Role::Importer { times } => {
            for _ in 0..*times {
                outcomes.push(import(repository, others.from, &clock));
            }
        }
        Role::Exporter { one_of } => {
            outcomes.push(export(repository, others.to, &clock, *one_of));
        }
    }
    if world.is_dead(number) {
        outcomes.push(Outcome::Died);
    }
    outcomes
}

/// What was asked to go counts as gone, whatever came of it: a forget that dies may have dropped
/// part.
fn forget_some(
    repository: &IndexedRepository,
    clock: &Clock,
    keep_one_of: u64,
    outcomes: &mut Vec<Outcome>,
) -> Result<Vec<SnapshotId>, RepositoryError> {
    let lock = repository.lock(LockMode::Exclusive, owner("forget"), Arc::clone(clock))?;
    let listed = repository.snapshots()?.snapshots;
    let doomed = (0..).zip(listed).filter(|(n, _)| n % keep_one_of != 0);
    let doomed: Vec<SnapshotId> = doomed.map(|(_, (id, _))| id).collect();
    outcomes.push(Outcome::Forgot(doomed.clone()));
    let dropped = forget(repository, &lock, &doomed)?;
    let gone = dropped
        .into_iter()
        .filter(|(_, o)| *o == ForgetOutcome::Deleted);
    Ok(gone.map(|(id, _)| id).collect())
}

/// A lock, and what the repository holds under it, as the command takes and reads it.
fn locked(
    repository: &IndexedRepository,
    clock: &Clock,
) -> Result<(Lock, IndexedRepository), RepositoryError> {
    let lock = repository.lock(LockMode::Shared, owner("copy"), Arc::clone(clock))?;
    let reloaded = repository.reload()?;
    Ok((lock, reloaded))
}

/// Copies everything of `from` into the simulated repository.
fn import(repository: &IndexedRepository, from: &IndexedRepository, clock: &Clock) -> Outcome {
    let (counters, cancel) = (Arc::default(), Cancel::default());
    let imported = locked(repository, clock).and_then(|(lock, to)| {
        let ids: Vec<SnapshotId> = from.snapshots()?.snapshots.iter().map(|s| s.0).collect();
        copy(from, &to, &ids, &lock, &counters, &cancel)
    });
    match imported {
        Ok(report) => Outcome::Imported(report.copied.iter().map(|(_, there)| *there).collect()),
        Err(_) => Outcome::Refused,
    }
}

/// Copies some of the simulated repository's points into another, which nobody disturbs.
fn export(
    repository: &IndexedRepository,
    to: &IndexedRepository,
    clock: &Clock,
    one_of: u64,
) -> Outcome {
    let (counters, cancel) = (Arc::default(), Cancel::default());
    let still = Hands::at(clock.now()).clock();
    let exported = locked(repository, clock).and_then(|(_reading, from)| {
        let listed = from.snapshots()?.snapshots;
        let some = (0..).zip(listed).filter(|(n, _)| n % one_of == 0);
        let ids: Vec<SnapshotId> = some.map(|(_, (id, _))| id).collect();
        let lock = to.lock(LockMode::Shared, owner("copy"), still)?;
        copy(&from, &to.reload()?, &ids, &lock, &counters, &cancel)
    });
    match exported {
        Ok(report) => Outcome::Exported(report.copied.iter().map(|(_, there)| *there).collect()),
        Err(_) => Outcome::Refused,
    }
}

fn prune(repository: &IndexedRepository, clock: &Clock) -> Outcome {
    let lock = |mode| repository.lock(mode, owner("prune"), Arc::clone(clock));
    let locks = PruneLocks {
        shared: &|| lock(LockMode::Shared),
        exclusive: &|| lock(LockMode::Exclusive),
    };
    let (counters, cancel) = Default::default();
    let pruned = plan(repository, thorough(), clock.now(), &counters, &cancel)
        .and_then(|prepared| prepared.execute(repository, &locks, &counters, &cancel));
    match pruned {
        Ok(_report) => Outcome::Pruned,
        Err(_refused) => Outcome::Refused,
    }
}
