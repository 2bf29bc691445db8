//! What each database engine needs to be dumped and restored through commands inside its
//! container: command lines, checks of their output, files. Adapters run them.
//!
//! ```text
//! Recipe::recognise(container)
//!   back up   survey → parse_survey → dumps(survey): each DumpStep = Exec + file name + CheckedDump
//!   restore   restore(file names): each DumpRestore = placed_files + steps with stdin + judge;
//!             check_placed(file name, head) for what was placed
//! ```
//!
//! Invariant: pure. No client, no I/O, no clock; no secret ever appears in an argument list.

mod checked;
mod container;
mod crc64;
mod end_check;
#[cfg(test)]
#[path = "end_check/samples.rs"]
mod end_check_samples;
mod engine;
mod exec;
#[cfg(test)]
mod fuzz;
mod mongodb;
mod mysql;
mod postgresql;
mod rdb_head;
mod recipe;
mod recognise;
mod redis;
mod restore;

pub use checked::CheckedDump;
pub use container::Container;
pub use end_check::{Accepted, DumpRejected};
pub use engine::{Engine, VolumeCopy};
pub use exec::Exec;
pub use rdb_head::HEAD_BYTES;
pub use recipe::{DumpStep, Recipe, Survey, SurveyRejected, is_refusal};
pub use restore::{
    DumpRestore, Input, JUDGED_BYTES, PlacedContent, PlacedFile, RestoreStep, StepRejected,
    UnknownDump,
};
