//! Reading one stored recovery point: by path, in order, or into a folder.
//!
//! Invariant: nothing is written to the repository here.

mod lookup;

pub use lookup::{StoredTree, TreePathError};
