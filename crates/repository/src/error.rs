//! Why a repository call failed.
//!
//! Invariant: corruption, a wrong key, a missing object and unreachable storage are different
//! variants, because people act differently on each.

use refloat_model::cancel::Cancelled;
use refloat_model::entry::SinkError;
use refloat_storage::{FileKey, FileKind, StorageError, StorageErrorKind};

use crate::crypto::CryptoError;
use crate::id::BlobId;

/// The source of an error, whatever its type.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A failed repository call. The text names operation and subject; causes follow as sources.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// There is no repository at this place.
    #[error("there is no repository at {location}")]
    NoRepository {
        /// Where.
        location: String,
    },
    /// There is a repository that nothing opens any more.
    #[error(
        "the config of the repository at {location} is lost: files below {} are still there", .holds.folder()
    )]
    LostConfig {
        /// Where.
        location: String,
        /// What is there all the same.
        holds: FileKind,
    },
    /// `init` found a repository.
    #[error("there is a repository at {location} already")]
    AlreadyInitialized {
        /// Where.
        location: String,
    },
    /// No key opens with this password.
    #[error("wrong password, or no key for it, for the repository at {location}")]
    WrongPassword {
        /// Where.
        location: String,
    },
    /// The repository is of a version this program does not know.
    #[error(
        "the repository at {location} has format version {version}, this program knows 1 and 2"
    )]
    UnsupportedVersion {
        /// Where.
        location: String,
        /// The version it states.
        version: u32,
    },
    /// The repository uses something that this program does not know.
    #[error("the repository at {location} uses {feature}, which this program does not know")]
    UnsupportedFeature {
        /// Where.
        location: String,
        /// What.
        feature: String,
    },
    /// A file's bytes are not what its name or its MAC says.
    #[error("{file} is damaged")]
    DamagedFile {
        /// Which.
        file: FileKey,
        /// How it shows.
        #[source]
        cause: Cause,
    },
    /// A blob's bytes are not what its id says.
    #[error("blob {blob} in {pack} is damaged")]
    DamagedBlob {
        /// Which.
        blob: BlobId,
        /// In which pack.
        pack: FileKey,
        /// How it shows.
        #[source]
        cause: Cause,
    },
    /// No index knows a blob that something refers to.
    #[error("{kind} blob {blob} is missing: no index lists it")]
    MissingBlob {
        /// `data` or `tree`.
        kind: &'static str,
        /// Which.
        blob: BlobId,
    },
    /// A tree blob is no tree.
    #[error("tree {tree} cannot be read")]
    InvalidTree {
        /// Which.
        tree: BlobId,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// A blob did not survive sealing: memory or library fault; nothing was uploaded. (Of a blob that is copied it is
    /// told only after it was found whole where it came from, or could not be read there again.)
    #[error("blob {blob} did not read back equal before upload (faulty memory?)")]
    VerifyFailed {
        /// Which.
        blob: BlobId,
    },
    /// A pack or another file did not survive in memory until its upload; nothing was uploaded.
    #[error("{what} did not read back equal before upload (faulty memory?)")]
    NotReadBack {
        /// What.
        what: &'static str,
    },
    /// Somebody else holds a lock that excludes ours.
    #[error("the repository is locked {mode} by {holder} since {since}")]
    Locked {
        /// `exclusively` or `by a writer`.
        mode: &'static str,
        /// Host, process and user of the lock.
        holder: String,
        /// When it was last refreshed.
        since: String,
    },
    /// More locks than anybody reads.
    #[error(
        "there are {count} lock files, more than are read ({max}): somebody floods the repository"
    )]
    TooManyLocks {
        /// How many.
        count: usize,
        /// How many would be read.
        max: usize,
    },
    /// Storage lets us write no lock.
    #[error(transparent)]
    MayNotLock(StorageError),
    /// Writers would not wait for us.
    #[error(
        "only holders of its deleter key may forget, prune, repair, and remove or replace keys in this \
         repository"
    )]
    NotDeleter,
    /// Writers would take our lock for an old one that was stored again.
    #[error(
        "this machine's clock and the storage's differ by {minutes} minutes, so others would not \
         honour this run's lock"
    )]
    DeleterClock {
        /// By how much.
        minutes: i64,
    },
    /// Our lock is gone or too old: what we would publish may no longer be whole.
    #[error("this run lost its lock on the repository, so it publishes nothing")]
    LostLock,
    /// As [`LostLock`](Self::LostLock), and what was published meanwhile could not be taken back.
    #[error(
        "this run lost its lock on the repository while it wrote {file}, which cannot be taken back \
         and may not be whole"
    )]
    NotWithdrawn {
        /// The snapshot.
        file: FileKey,
        /// Why it stays.
        #[source]
        cause: Cause,
    },
    /// What was uploaded is not there as it should be.
    #[error("{file} is not in the storage as it was uploaded or expected")]
    NotStored {
        /// Which.
        file: FileKey,
    },
    /// Storage said that it extended a file's protection, and did not.
    #[error("the storage did not extend the protection of {file}, although it said so")]
    NotExtended {
        /// Which.
        file: FileKey,
    },
    /// The folder that is restored into cannot be written, or is full.
    #[error(transparent)]
    Target(#[from] refloat_localfs::WriteError),
    /// Sealing failed.
    #[error("cannot encrypt")]
    Crypto(#[from] CryptoError),
    /// Compression failed.
    #[error("cannot compress")]
    Compress(#[source] std::io::Error),
    /// Something cannot be expressed in the format.
    #[error("cannot encode {what}")]
    Encode {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// A directory has so many entries, or so long ones, that its tree could not be read back.
    #[error(
        "its entries take {bytes} bytes, more than the {max} of the largest directory that can be read back"
    )]
    TreeTooLarge {
        /// How many it takes.
        bytes: usize,
        /// What readers take.
        max: usize,
    },
    /// The system starts no further thread.
    #[error("cannot start a thread that {does}")]
    NoThread {
        /// What it would do.
        does: &'static str,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// A thread panicked; what it worked on is not used.
    #[error("a thread of the pipeline panicked, which is a defect of this program")]
    Panicked,
    /// The key is the last one.
    #[error("key {0} is the only one that opens this repository; it stays")]
    OnlyKey(crate::id::KeyId),
    /// The key is the one in use.
    #[error("key {0} is the one this run was opened with; it stays")]
    KeyInUse(crate::id::KeyId),
    /// No such key, snapshot or other file.
    #[error("there is no {what} {id}")]
    NotFound {
        /// `key`, `snapshot` …
        what: &'static str,
        /// What was asked for.
        id: String,
    },
    /// The run was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// Another thread of the same run failed first.
    #[error("the run stopped because another part of it failed")]
    Stopped,
}

impl RepositoryError {
    /// Whether an error says nothing about other files: without the storage or its credentials no
    /// further one can be read or written either.
    #[must_use]
    pub fn is_of_one_thing(&self) -> bool {
        use StorageErrorKind as K;
        match self {
            Self::Storage(error) if matches!(error.kind(), K::Denied | K::Failed) => true,
            Self::NotStored { .. } | Self::NotExtended { .. } => true,
            other => other.is_damage(),
        }
    }

    /// Whether an error tells that something stored is gone or is not what it was.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Storage(error) => error.is_loss(),
            Self::DamagedFile { .. }
            | Self::DamagedBlob { .. }
            | Self::MissingBlob { .. }
            | Self::InvalidTree { .. } => true,
            _ => false,
        }
    }

    /// For what cannot be expressed in the format.
    pub(crate) fn encode(what: &'static str, cause: impl Into<Cause>) -> Self {
        Self::Encode {
            what,
            cause: cause.into(),
        }
    }

    /// For bytes that are not what a file should hold.
    pub(crate) fn damaged(file: FileKey, cause: impl Into<Cause>) -> Self {
        Self::DamagedFile {
            file,
            cause: cause.into(),
        }
    }
}

impl From<RepositoryError> for SinkError {
    fn from(error: RepositoryError) -> Self {
        Self(Box::new(error))
    }
}
