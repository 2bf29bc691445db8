//! A snapshot on disk without a name, for reading it anywhere.
//!
//! Invariant: a spool that is handed out has the snapshot's hash proven; nobody else can open its
//! file, and it is gone with the last user.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use crate::bolt::{Bolt, BoltError, SizedFile};
use crate::trailer::{HASH_BYTES, Verified};

/// How much is copied at once, in bytes.
const COPY_BYTES: usize = 1 << 20;

/// Why a snapshot cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The stored bytes cannot be read, or their hash is wrong.
    #[error("cannot read the etcd snapshot")]
    Read(#[source] io::Error),
    /// The folder for temporary files refused.
    #[error("cannot keep the etcd snapshot in {folder}")]
    Keep {
        /// Where.
        folder: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// It is no database.
    #[error("the etcd snapshot")]
    Database(#[from] BoltError),
}

/// Copies a snapshot into a nameless file in `folder`, proves its hash and opens it.
///
/// # Errors
/// The hash is missing or wrong, there is no room, or it is no database.
pub fn open(content: impl Read, folder: &Path) -> Result<Bolt<SizedFile>, SnapshotError> {
    let keep = |source| SnapshotError::Keep {
        folder: folder.display().to_string(),
        source,
    };
    let mut file = nameless(folder).map_err(keep)?;
    let mut content = Verified::new(content);
    let mut buffer = vec![0; COPY_BYTES];
    let mut length = 0_u64;
    loop {
        let count = content.read(&mut buffer).map_err(SnapshotError::Read)?;
        if count == 0 {
            break;
        }
        file.write_all(buffer.get(..count).unwrap_or_default())
            .map_err(keep)?;
        length += count as u64;
    }
    Ok(Bolt::open(SizedFile {
        file,
        length: length - HASH_BYTES as u64,
    })?)
}

/// A nameless file that is filled bit by bit.
#[derive(Debug)]
pub struct Kept {
    /// The file.
    pub file: File,
    /// How much is in it.
    pub length: u64,
}

impl Kept {
    /// An empty one in `folder`.
    ///
    /// # Errors
    /// The folder refuses.
    pub fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            file: nameless(folder)?,
            length: 0,
        })
    }
}

fn nameless(folder: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(OFlags::TMPFILE.bits().cast_signed())
        .open(folder)
}
