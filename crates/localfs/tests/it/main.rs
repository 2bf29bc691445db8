//! Integration tests of local folders.
//!
//! `walk`: what is told of a folder. `ahead`: threads of a walk. `round_trip`: walk, restore, compare. `writer`: the calls of
//! a restore one by one. `mounts`: restores into several file systems. `hostile`: the path and link suite (T1) beside a canary. `race`: swaps of
//! directories and links during restore (T2) and walk (T3). `as_user`: the same suites as uid 1000.

#![cfg(test)]

mod ahead;
mod as_user;
mod copier;
mod hook;
mod hostile;
mod manifest;
mod mounts;
mod nasty;
mod queue;
mod race;
mod recorder;
mod round_trip;
mod walk;
mod writer;
