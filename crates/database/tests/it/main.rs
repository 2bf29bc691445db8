//! The recipes' own command lines against real servers of Debian's packages, each started by its
//! test with its own data folder. The test plays the adapter, its process environment plays the
//! container's.
//!
//! A missing server skips its tests with a line `SKIPPED:`; with `REFLOAT_TEST_ALL=1` it fails them.

#![cfg(test)]

mod login;
mod mongodb;
mod mysql;
mod playground;
mod postgresql;
mod redis;
