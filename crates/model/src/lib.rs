//! The vocabulary of Refloat as types: entries, items, references, outcomes, recovery points.
//!
//! Invariant: nothing here does I/O, reads a clock or draws randomness. The traits in [`entry`]
//! say how trees flow between layers; their implementations live elsewhere.

pub mod cancel;
pub mod closure;
pub mod entry;
pub mod finding;
pub mod glob;
pub mod id;
pub mod item;
pub mod outcome;
pub mod plan;
pub mod point;
pub mod progress;
pub mod secret;
pub mod subject;
pub mod time;
pub mod tree_path;
