//! Reading one stored recovery point: by path, in order, or into a folder.
//!
//! Invariant: nothing is written to the repository here.

mod content;
mod folder;
mod gaps;
mod lookup;
mod point;

pub use content::BlobStream;
pub use gaps::{folder, gaps};
pub use lookup::{StoredTree, TreePathError};
pub use point::RepositoryPoint;
