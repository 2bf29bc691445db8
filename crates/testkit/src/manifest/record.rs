//! What one node is.
//!
//! Invariant: symbolic links are described, never followed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use refloat_model::time::Timestamp;
use sha2::{Digest as _, Sha256};

/// One node of a tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its type and what it holds.
    pub content: Content,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Its owner.
    pub user: u32,
    /// Its group.
    pub group: u32,
    /// When it was last modified.
    pub modified: Timestamp,
    /// Extended attributes with access lists and capabilities, which Linux keeps there.
    pub attributes: BTreeMap<OsString, Vec<u8>>,
    /// The first path in the order of bytes that is the same file, if there are several here.
    pub linked_with: Option<PathBuf>,
}

/// The type of a node and what it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// A folder.
    Folder,
    /// An ordinary file.
    File {
        /// Its length.
        bytes: u64,
        /// What it takes on disk; less than its length if it is sparse.
        allocated_bytes: u64,
        /// Of its bytes, holes read as zeros. Files above 1 GiB are hashed by their data extents.
        sha256: [u8; 32],
    },
    /// A symbolic link.
    SymbolicLink(PathBuf),
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
    /// A character device by its number.
    CharacterDevice(u64),
    /// A block device by its number.
    BlockDevice(u64),
}

impl Record {
    pub(super) fn of(path: &Path, about: &Metadata) -> Self {
        Self {
            content: Content::of(path, about),
            mode: about.mode() & 0o7777,
            user: about.uid(),
            group: about.gid(),
            modified: Timestamp {
                seconds: about.mtime(),
                nanoseconds: u32::try_from(about.mtime_nsec()).unwrap(),
            },
            attributes: attributes(path),
            linked_with: None,
        }
    }
}

impl Content {
    fn of(path: &Path, about: &Metadata) -> Self {
        let kind = about.file_type();
        if kind.is_dir() {
            Self::Folder
        } else if kind.is_file() {
            Self::File {
                bytes: about.len(),
                allocated_bytes: about.blocks() * 512,
                sha256: hash(path, about.len()),
            }
        } else if kind.is_symlink() {
            Self::SymbolicLink(fs::read_link(path).unwrap())
        } else if kind.is_fifo() {
            Self::Pipe
        } else if kind.is_socket() {
            Self::Socket
        } else if kind.is_char_device() {
            Self::CharacterDevice(about.rdev())
        } else {
            Self::BlockDevice(about.rdev())
        }
    }
}

fn attributes(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    // Neither call follows symbolic links.
    let names = match xattr::list(path) {
        Ok(names) => names,
        Err(error) if error.kind() == ErrorKind::Unsupported => return BTreeMap::new(),
        Err(error) => panic!("{}: {error}", path.display()),
    };
    names
        .map(|name| {
            let value = xattr::get(path, &name).unwrap().unwrap();
            (name, value)
        })
        .collect()
}

/// Files above this are mostly holes: reading a TiB of zeros would take minutes.
const READ_WHOLE_BYTES_MAX: u64 = 1 << 30;
const BLOCK_BYTES: usize = 1 << 20;

fn hash(path: &Path, length: u64) -> [u8; 32] {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut hasher = Sha256::new();
    let mut block = vec![0; BLOCK_BYTES];
    if length > READ_WHOLE_BYTES_MAX {
        hash_extents(&file, length, &mut hasher, &mut block);
        return hasher.finalize().into();
    }
    loop {
        match file.read(&mut block).unwrap() {
            0 => return hasher.finalize().into(),
            count => hasher.update(&block[..count]),
        }
    }
}

/// Hashes the blocks that are not all zeros, with their places: equal for every way to spread the
/// same bytes over extents.
fn hash_extents(file: &File, length: u64, hasher: &mut Sha256, block: &mut [u8]) {
    use std::os::unix::fs::FileExt as _;
    let block_bytes = block.len() as u64;
    let mut next = 0;
    while let Some(data) = next_data(file, next) {
        let start = data / block_bytes * block_bytes;
        let wanted = usize::try_from((length - start).min(block_bytes)).unwrap();
        file.read_exact_at(&mut block[..wanted], start).unwrap();
        if block[..wanted].iter().any(|byte| *byte != 0) {
            hasher.update(start.to_le_bytes());
            hasher.update(&block[..wanted]);
        }
        next = start + block_bytes;
    }
}

fn next_data(file: &File, from: u64) -> Option<u64> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(from)) {
        Ok(position) => Some(position),
        Err(rustix::io::Errno::NXIO) => None,
        Err(errno) => panic!("SEEK_DATA: {errno}"),
    }
}
