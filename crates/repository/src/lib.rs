//! The repository engine: restic's format, written and read by pipelines of our own.
//!
//! It knows storage and nothing of Docker, Kubernetes or networks; it is synchronous.
//!
//! Invariant: what a snapshot refers to was in storage, complete and verified, before the
//! snapshot was written; deletion goes the other way round (`docs/format.md`).

pub mod archive;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod blobs;
mod by_id;
mod catalogue;
pub mod check;
pub mod chunker;
mod clock;
pub mod codec;
pub mod copy;
pub mod crypto;
mod ctr;
mod deleter;
mod deletion;
mod error;
pub mod escrow;
mod failure;
mod flips;
pub mod forget;
pub mod format;
pub mod hash;
pub mod id;
pub mod index;
mod keys;
mod lead;
pub mod ledger;
pub mod lock;
mod mac;
mod other_places;
mod pack_reading;
mod pack_runs;
mod pack_writing;
mod parallel;
pub mod protect;
pub mod prune;
mod remains;
pub mod repair;
mod repository;
pub mod restore;
mod tree_blocks;
mod tree_walk;
mod trees_ahead;
mod zeros;

pub use blobs::BlobReader;
pub use deleter::{DeleterKey, InvalidDeleterKey};
pub use error::{Cause, RepositoryError};
pub use failure::{EntryFailure, Failures};
pub use format::pack::BlobKind;
pub use format::snapshot::SnapshotFile;
pub use format::tree::Node;
pub use id::{BlobId, IndexId, KeyId, LockId, PackId, SnapshotId};
pub use keys::KeyRecord;
pub use repository::{
    ChunkerChoice, ChunkerParameters, IndexedRepository, InitOptions, Repository, SnapshotList,
};
pub use trees_ahead::TreesAhead;
