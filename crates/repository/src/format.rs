//! The files of restic's repository format, version 1 and 2, as types.
//!
//! Invariant: encoding what was decoded gives the same bytes for trees, and loses no known field
//! of any other file.

pub mod config;
pub mod go;
pub mod index;
pub mod key;
pub mod lock;
pub mod pack;
mod scan;
pub mod snapshot;
pub mod tree;
