//! Local folders: reading them as trees, and restoring trees beneath them.
//!
//! - [`walk`]: [`walk_contents`] pushes what a folder holds into a
//!   [`TreeSink`](refloat_model::entry::TreeSink), [`walk_entry`] pushes one entry (a file or a
//!   whole directory) under a name of the caller's choice. File content is opened lazily.
//!
//! Invariant: below the root that the caller names, nothing is reached by a path string that the
//! kernel resolves through symbolic links: only by directory handle and one name at a time. A
//! hostile process that moves things about can make an entry fail; it cannot make us leave the
//! root.

mod attributes;
mod owners;
pub mod walk;

pub use owners::Owners;
pub use walk::{WalkError, WalkOptions, WalkSummary, walk_contents, walk_entry};
