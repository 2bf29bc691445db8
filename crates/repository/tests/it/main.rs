//! The repository engine through its public interface, with restic as an independent witness.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

mod archive;
mod check;
mod check_damage;
mod copy;
mod crash;
mod damage_matrix;
mod forget;
mod fuzz;
mod keys;
mod large_directory;
mod leaks;
mod live;
mod lock;
mod lock_races;
mod names;
mod oracle;
mod panics;
mod pauses;
mod protect;
mod prune;
mod prune_crash;
mod prune_safety;
mod pruning;
mod renewal;
mod repair;
mod restore;
mod reuse;
mod second_copies;
mod simulation;
mod storage_faults;
mod support;
mod tree_cache;
mod zeros;
