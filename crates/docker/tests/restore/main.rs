//! Real engines lost and rebuilt on empty ones, through the public interface only.
//!
//! Each test starts engines of its own; where that is not possible it says so and is skipped.

#![cfg(test)]

mod bad_input;
mod conflicts;
mod databases;
mod engines;
mod estate;
mod failures;
mod point;
mod rootfs;
mod settings;
mod swarm;
mod users;
mod whole;
