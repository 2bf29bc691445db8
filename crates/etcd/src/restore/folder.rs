//! One member's data folder.
//!
//! Invariant: all of it is written under another name and synced before it gets its own, so that
//! a power cut leaves no `member` or a whole one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use refloat_model::tree_path::escape;

use super::cluster::{ClusterError, NewCluster};
use super::database::{self, DatabaseError};
use super::log;
use crate::bolt::{Bolt, BoltError, ReadAt, SizedFile};
use crate::mvcc::{HistoryError, KEY_BUCKET, Living};

const MEMBER: &str = "member";
/// Where a member is written before it gets its name.
const UNFINISHED: &str = "member.refloat-unfinished";

/// Why a data folder could not be written.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// No such member.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Not the database.
    #[error("cannot write {path}", path = .path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The database.
    #[error("cannot write the database of {path}", path = .path.display())]
    Database {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: DatabaseError,
    },
    /// What was written does not read back.
    #[error("{path} does not hold what the snapshot holds: the disk is not to be trusted",
        path = .0.display())]
    Differs(PathBuf),
}

/// A member's name as a folder's.
pub fn name(member: &str) -> String {
    escape(member)
}

/// What stands in the way of a new data folder.
pub fn obstacle(folder: &Path) -> Option<String> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
        Err(e) => return Some(format!("{} cannot be read: {e}", folder.display())),
    };
    let mut strangers = entries
        .filter(|e| !matches!(e, Ok(entry) if entry.file_name() == UNFINISHED))
        .map(|e| e.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    match strangers.next()? {
        Ok(name) => Some(format!(
            "{} is not empty, it holds {name}: move it away and keep it until the cluster is well",
            folder.display()
        )),
        Err(e) => Some(format!("{} cannot be read: {e}", folder.display())),
    }
}

/// A data folder to be.
#[derive(Clone, Copy, Debug)]
pub struct MemberFolder<'a> {
    /// The cluster.
    pub cluster: &'a NewCluster,
    /// Whose folder it is.
    pub name: &'a str,
    /// Where.
    pub folder: &'a Path,
    /// How far the revision is raised.
    pub bump: u64,
}

/// Writes a data folder. The answer are the proofs.
///
/// Guarantees: repeating it after a failure begins anew.
pub fn write<R: ReadAt>(
    bolt: &Bolt<R>,
    living: &Living,
    member: MemberFolder<'_>,
) -> Result<Vec<String>, FolderError> {
    let MemberFolder {
        cluster,
        name,
        folder,
        bump,
    } = member;
    let own_id = cluster.member(name)?;
    let unfinished = folder.join(UNFINISHED);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| FolderError::Write { path, source }
    };
    match fs::remove_dir_all(&unfinished) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(&unfinished)(e)),
        _ => {}
    }
    let (snap, wal) = (unfinished.join("snap"), unfinished.join("wal"));
    for directory in [&snap, &wal] {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(directory).map_err(failed(directory))?;
    }
    let path = snap.join("db");
    let file = create(&path).map_err(failed(&path))?;
    let database = |source| FolderError::Database {
        path: folder.to_owned(),
        source,
    };
    let written = database::write(bolt, living, cluster, bump, file).map_err(database)?;
    compare(bolt, living, &path)?;
    let path = snap.join(log::snapshot_name(cluster));
    write_file(&path, &log::snapshot(cluster), None).map_err(failed(&path))?;
    let path = wal.join(log::LOG_NAME);
    let content = log::log(cluster, own_id);
    write_file(&path, &content, Some(log::LOG_BYTES)).map_err(failed(&path))?;
    for directory in [&snap, &wal, &unfinished] {
        sync(directory).map_err(failed(directory))?;
    }
    let member = folder.join(MEMBER);
    fs::rename(&unfinished, &member).map_err(failed(&member))?;
    sync(folder).map_err(failed(folder))?;
    Ok(vec![
        format!("{} keys read back and equal", written.keys),
        format!(
            "revision {} became {}, compacted",
            written.old_revision, written.new_revision
        ),
    ])
}

/// Reads the new database back and compares every living key with the snapshot's.
fn compare<R: ReadAt>(bolt: &Bolt<R>, living: &Living, path: &Path) -> Result<(), FolderError> {
    let differs = || FolderError::Differs(path.to_owned());
    let broken = |error: BoltError| FolderError::Database {
        path: path.to_owned(),
        source: error.into(),
    };
    let file = File::open(path).map_err(|source| FolderError::Write {
        path: path.to_owned(),
        source,
    })?;
    let length = file.metadata().map_or(0, |m| m.len());
    let new = Bolt::open(SizedFile { file, length }).map_err(broken)?;
    let read_back = Living::read(&new).map_err(|e| match e {
        HistoryError::Bolt(e) => broken(e),
        _ => differs(),
    })?;
    let same_keys = read_back.keys == living.keys;
    let same_size = read_back.revisions == living.keys.len() as u64;
    if !same_keys || !same_size {
        return Err(differs());
    }
    let kept: std::collections::HashSet<_> = living.keys.values().collect();
    let old = content_hash(bolt, |key| {
        crate::mvcc::BucketKey::parse(key).is_ok_and(|at| kept.contains(&at.revision))
    });
    let new = content_hash(&new, |_| true);
    (old.map_err(broken)? == new.map_err(broken)?)
        .then_some(())
        .ok_or_else(differs)
}

fn content_hash<R: ReadAt>(
    bolt: &Bolt<R>,
    counts: impl Fn(&[u8]) -> bool,
) -> Result<Vec<u8>, BoltError> {
    let bucket = bolt.bucket(KEY_BUCKET)?;
    let mut cursor = bolt.entries(&bucket)?;
    let mut context = Context::new(&SHA256);
    while let Some((key, value)) = cursor.next_entry()? {
        if counts(key) {
            context.update(&(key.len() as u64).to_le_bytes());
            context.update(key);
            context.update(&(value.len() as u64).to_le_bytes());
            context.update(value);
        }
    }
    Ok(context.finish().as_ref().to_vec())
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Writes and syncs a file, with room for `length` bytes in all.
fn write_file(path: &Path, content: &[u8], length: Option<u64>) -> io::Result<()> {
    let mut file = create(path)?;
    file.write_all(content)?;
    if let Some(length) = length {
        reserve(&file, length)?;
    }
    file.sync_all()
}

/// etcd makes its log's room beforehand, so that a full disk is noticed at the start.
fn reserve(file: &File, length: u64) -> io::Result<()> {
    let flags = rustix::fs::FallocateFlags::empty();
    match rustix::fs::fallocate(file, flags, 0, length) {
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(length),
        other => Ok(other?),
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
