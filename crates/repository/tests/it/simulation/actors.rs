//! What the actors of a simulation do.

use std::sync::Arc;

use refloat_model::cancel::Cancel;
use refloat_model::progress::Counters;
use refloat_repository::check::{CheckOptions, ReadData, check};
use refloat_repository::forget::{ForgetOutcome, forget};
use refloat_repository::lock::{Clock, LockMode};
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
}

/// What a command came to.
#[derive(Debug)]
pub enum Outcome {
    Published(SnapshotId),
    Forgot(Vec<SnapshotId>),
    Pruned,
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
        roles.push(match random.below(5) {
            0 | 1 => Role::Writer {
                from: random.below(16),
                times: 1,
            },
            2 | 3 => Role::Pruner {
                times: 1 + random.below(2),
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
