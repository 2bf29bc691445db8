//! Local folders: reading them as trees, and restoring trees beneath them.
//!
//! - [`walk`]: [`walk_contents`] pushes what a folder holds into a
//!   [`TreeSink`](refloat_model::entry::TreeSink), [`walk_entry`] pushes one entry (a file or a
//!   whole directory) under a name of the caller's choice. File content is opened lazily.
//! - [`write`](mod@write): a [`FolderWriter`] restores beneath one existing folder, from several
//!   threads at once. In order of use:
//!   [`existing`](FolderWriter::existing) and [`open_existing`](FolderWriter::open_existing) to
//!   compare with what is there, [`keep_file`](FolderWriter::keep_file) for what is equal,
//!   [`create_directory`](FolderWriter::create_directory),
//!   [`prepare_file`](FolderWriter::prepare_file) → [`FileHandle::write_at`] →
//!   [`finish_file`](FolderWriter::finish_file), [`create_node`](FolderWriter::create_node),
//!   [`hard_link`](FolderWriter::hard_link), at last, deepest first,
//!   [`set_directory_metadata`](FolderWriter::set_directory_metadata), and
//!   [`sync`](FolderWriter::sync). [`remove`](FolderWriter::remove) is for `--delete`.
//!
//! Invariant: below the root that the caller names, nothing is reached by a path string that the
//! kernel resolves through symbolic links: only by directory handle and one name at a time. A
//! hostile process that moves things about can make an entry fail; it cannot make us leave the
//! root.

mod attributes;
mod findings;
mod owners;
mod path;
mod space;
pub mod walk;
pub mod write;

pub use findings::{FINDINGS_MAX, Findings};
pub use owners::Owners;
pub use path::{InvalidName, RelativePath};
pub use space::bytes_free;
pub use walk::{WalkError, WalkOptions, WalkSummary, walk_contents, walk_entry};
pub use write::{FileHandle, FolderWriter, Landing, Privileges, Restored, WriteError, is_zeros};
