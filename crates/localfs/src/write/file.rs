//! Writing a file in any order, from several threads.
//!
//! Invariant: a handle writes only to an inode that has no name outside the folder.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use refloat_model::entry::Metadata;
use rustix::fd::OwnedFd;
use rustix::fs::{
    Advice, AtFlags, FallocateFlags, FileType, Mode, OFlags, Stat, fadvise, fallocate, fchmod,
    fchown, fstat, ftruncate, openat, unlinkat,
};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};

use super::error::{Context, not_new};
use super::holes::{Piece, are_zeros, pieces};
use super::pinned::Pinned;
use super::{FolderWriter, Restored, WriteError};
use crate::attributes::{Identity, file_type};
use crate::path::RelativePath;

/// Larger new files get their length at once, so that several threads may write them in any order
/// without each growing it.
const GROWING_BYTES_MAX: u64 = 1 << 20;

/// What is read back at once: it should still be in the processor's cache when it is compared.
const READ_BACK_BYTES: usize = 128 << 10;

const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// How a file takes its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Landing {
    /// Complete or not at all. What had the name stays until then, and so needs its space.
    Atomic,
    /// For files so large that a restore which was interrupted must go on where it was: written
    /// under its final name, with mode 0600 until it is finished, keeping what an existing file
    /// holds. After a crash the file is a mixture. Falls back to [`Atomic`](Self::Atomic) where
    /// the existing entry is no regular file, has other hard links, or may not be changed.
    InPlace,
    /// Written under its final name, with mode 0600 until it is finished. In a directory that this
    /// restore made nothing has the name; if something does, it is not touched.
    New,
}

/// A file being restored. Dropping it unfinished leaves nothing behind, unless it is in place.
#[derive(Debug)]
pub struct FileHandle {
    fd: OwnedFd,
    parent: Arc<OwnedFd>,
    path: RelativePath,
    size: u64,
    landing: Landed,
    identity: Identity,
    /// How long the file is at least. A new one grows by being written, which spares a call,
    /// unless it is large or has holes.
    length: AtomicU64,
}

/// Where the bytes go.
#[derive(Debug)]
enum Landed {
    /// An inode without a name.
    Nameless,
    /// An inode with a name of ours, until it is finished.
    Temporary(Vec<u8>),
    /// The final name, newly made.
    New,
    /// The final name of a file that was there.
    Existing,
}

impl FolderWriter {
    /// Opens a file of `size` bytes for writing. Its directory must have been created.
    ///
    /// # Errors
    /// The system refuses, or is out of space. [`Taken`](WriteError::Taken), of what should be new.
    pub fn prepare_file(
        &self,
        path: &RelativePath,
        size: u64,
        landing: Landing,
    ) -> Result<FileHandle, WriteError> {
        let (parent, name) = self.place(path)?;
        let in_place = match landing {
            Landing::Atomic => None,
            Landing::InPlace => self.open_in_place(&parent, name),
            Landing::New => Some(Self::open_new(&parent, path, name)?),
        };
        let (fd, landing) = match in_place {
            Some(opened) => opened,
            None => self.open_apart(&parent, path)?,
        };
        let identity = Identity::of(&fstat(&fd).context("stat", path)?);
        if matches!(landing, Landed::Existing) {
            let noted = self.devices.note_file(&fd, identity.device(), path);
            noted.context("open", path)?;
        }
        let file = FileHandle {
            fd,
            parent,
            path: path.clone(),
            size,
            landing,
            identity,
            length: AtomicU64::new(0),
        };
        if file.holds_old_content() || size > GROWING_BYTES_MAX {
            file.set_length()?;
        }
        Ok(file)
    }

    fn open_apart(
        &self,
        parent: &OwnedFd,
        path: &RelativePath,
    ) -> Result<(OwnedFd, Landed), WriteError> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        if self.nameless.load(Ordering::Relaxed) {
            match openat(parent, ".", flags | OFlags::TMPFILE, PRIVATE) {
                Ok(fd) => return Ok((fd, Landed::Nameless)),
                // What file systems and kernels say that have no nameless files.
                Err(Errno::NOTSUP | Errno::ISDIR | Errno::INVAL) => {
                    self.nameless.store(false, Ordering::Relaxed);
                }
                Err(errno) => return Err(WriteError::new("create", path, errno)),
            }
        }
        let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let (name, fd) =
            self.with_temporary_name(path, |name| openat(parent, name, flags, PRIVATE))?;
        Ok((fd, Landed::Temporary(name)))
    }

    fn open_new(
        parent: &OwnedFd,
        path: &RelativePath,
        name: &[u8],
    ) -> Result<(OwnedFd, Landed), WriteError> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let create = flags | OFlags::CREATE | OFlags::EXCL;
        let fd = openat(parent, name, create, PRIVATE).map_err(|e| not_new("create", path, e))?;
        Ok((fd, Landed::New))
    }

    /// None where writing in place is not possible or not safe.
    fn open_in_place(&self, parent: &OwnedFd, name: &[u8]) -> Option<(OwnedFd, Landed)> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let create = flags | OFlags::CREATE | OFlags::EXCL;
        match openat(parent, name, create, PRIVATE) {
            Ok(fd) => return Some((fd, Landed::New)),
            Err(Errno::EXIST) => {}
            Err(_refused) => return None,
        }
        let fd = openat(parent, name, flags | OFlags::NONBLOCK, Mode::empty()).ok()?;
        let stat = fstat(&fd).ok()?;
        if file_type(&stat) != FileType::RegularFile || stat.st_nlink != 1 {
            return None;
        }
        self.claim(&fd, &stat).ok()?;
        Some((fd, Landed::Existing))
    }

    /// Makes a file private to us while it is neither what it was nor what it will be. This also
    /// takes set-id bits away, and with the mask of its ACL the rights of all others.
    fn claim(&self, fd: &OwnedFd, stat: &Stat) -> Result<(), Errno> {
        let me = rustix::process::geteuid();
        if self.is_root_user && stat.st_uid != me.as_raw() {
            fchown(fd, Some(me), None)?;
        }
        fchmod(fd, PRIVATE)
    }

    /// Sets the file's metadata and gives it its name. Set-id bits and ACLs appear together with
    /// the complete content.
    ///
    /// # Errors
    /// The system refuses, a directory that is not empty has the name, or somebody replaced the
    /// file meanwhile.
    pub fn finish_file(
        &self,
        mut file: FileHandle,
        metadata: &Metadata,
    ) -> Result<Restored, WriteError> {
        let restored = Restored {
            identity: file.identity,
        };
        let path = file.path.clone();
        let name = path.name().unwrap_or_default();
        if file.is_shorter_than(file.size) {
            file.set_length()?;
        }
        self.apply(&Pinned::open(&file.fd, &path), &path, metadata)?;
        match &file.landing {
            Landed::Nameless => self.link_to(&file.fd, &file.parent, name, &path)?,
            Landed::Temporary(temporary) => {
                if !Self::is_at(&file.parent, temporary, file.identity) {
                    return Err(WriteError::Replaced(path));
                }
                self.rename(&file.parent, temporary, name, &path)?;
                file.landing = Landed::New;
            }
            Landed::New | Landed::Existing => {
                if !Self::is_at(&file.parent, name, file.identity) {
                    return Err(WriteError::Replaced(path));
                }
            }
        }
        Ok(restored)
    }
}

impl FileHandle {
    /// Whether an existing file is being changed: what it holds can be read and, where it is
    /// right, left alone.
    #[must_use]
    pub fn holds_old_content(&self) -> bool {
        matches!(self.landing, Landed::Existing)
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &RelativePath {
        &self.path
    }

    /// Makes `length` bytes at `offset`, where nothing else was written, zeros, whole blocks of them a hole.
    ///
    /// # Errors
    /// The system refuses or is out of space, or the range lies beyond the length.
    pub fn write_hole(&self, offset: u64, length: u64) -> Result<(), WriteError> {
        self.require_within(offset, length)?;
        self.write_zeros(offset, length).map(|_length| ())
    }

    /// Proves that the file holds zeros there: holes by what the file system says, since we made them; all
    /// else is read.
    ///
    /// # Errors
    /// It cannot be read, or holds something else.
    pub fn verify_hole(&self, offset: u64, length: u64) -> Result<(), WriteError> {
        match are_zeros(&self.fd, offset, length).context("read", &self.path)? {
            true => Ok(()),
            false => Err(self.not_read_back(offset)),
        }
    }

    fn not_read_back(&self, offset: u64) -> WriteError {
        let path = self.path.clone();
        WriteError::NotReadBack { path, offset }
    }

    fn require_within(&self, offset: u64, length: u64) -> Result<(), WriteError> {
        if offset.checked_add(length).is_none_or(|end| end > self.size) {
            let (path, size) = (self.path.clone(), self.size);
            return Err(WriteError::BeyondEnd { path, size });
        }
        Ok(())
    }

    /// Writes `bytes` at `offset`. Whole blocks of zeros become holes. Several threads may write
    /// different parts at once.
    ///
    /// # Errors
    /// The system refuses or is out of space, or the bytes lie beyond the length.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        self.require_within(offset, bytes.len() as u64)?;
        let mut at = offset;
        for piece in pieces(offset, bytes) {
            at += match piece {
                Piece::Data(data) => self.write_data(at, data)?,
                Piece::Zeros(length) => self.write_zeros(at, length as u64)?,
            };
        }
        Ok(())
    }

    /// Asks the system to begin writing a range to the disk, so that less is left for
    /// [`FolderWriter::sync`] to wait for. What is on disk already may leave the page cache.
    pub fn begin_write_out(&self, offset: u64, length: u64) {
        // A hint: whether it is taken, only the time of the synchronisation shows.
        let _refused = fadvise(&self.fd, offset, NonZeroU64::new(length), Advice::DontNeed);
    }

    fn set_length(&self) -> Result<(), WriteError> {
        ftruncate(&self.fd, self.size).context("set the length of", &self.path)?;
        self.length.store(self.size, Ordering::SeqCst);
        Ok(())
    }

    fn is_shorter_than(&self, length: u64) -> bool {
        self.length.load(Ordering::SeqCst) < length
    }

    fn write_data(&self, offset: u64, data: &[u8]) -> Result<u64, WriteError> {
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            match pwrite(&self.fd, rest, offset + done as u64) {
                Ok(0) => return Err(WriteError::new("write", &self.path, Errno::IO)),
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(WriteError::new("write", &self.path, errno)),
            }
        }
        let length = data.len() as u64;
        self.length.fetch_max(offset + length, Ordering::SeqCst);
        Ok(length)
    }

    /// A new file is a single hole already; in an old one a hole has to be made.
    fn write_zeros(&self, offset: u64, length: u64) -> Result<u64, WriteError> {
        if !self.holds_old_content() {
            if self.is_shorter_than(offset + length) {
                self.set_length()?;
            }
            return Ok(length);
        }
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match retry_on_intr(|| fallocate(&self.fd, mode, offset, length)) {
            Ok(()) => Ok(length),
            Err(Errno::NOTSUP | Errno::NOSYS) => self.write_zero_bytes(offset, length),
            Err(errno) => Err(WriteError::new("write", &self.path, errno)),
        }
    }

    /// For file systems that know no holes.
    fn write_zero_bytes(&self, offset: u64, length: u64) -> Result<u64, WriteError> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let mut done = 0;
        while done < length {
            let left = usize::try_from(length - done).unwrap_or(usize::MAX);
            let piece = ZEROS.get(..left).unwrap_or(&ZEROS);
            done += self.write_data(offset + done, piece)?;
        }
        Ok(length)
    }

    /// Proves that the file holds `bytes` at `offset`, read back piece by piece into `memory`.
    ///
    /// # Errors
    /// It cannot be read, or holds something else.
    pub fn verify(
        &self,
        offset: u64,
        bytes: &[u8],
        memory: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        memory.resize(READ_BACK_BYTES, 0);
        let mut at = offset;
        for piece in bytes.chunks(READ_BACK_BYTES) {
            let read_back = &mut memory[..piece.len()];
            let read = read_fully(&self.fd, at, read_back).context("read", &self.path)?;
            if read < piece.len() || read_back != piece {
                return Err(self.not_read_back(at));
            }
            at += piece.len() as u64;
        }
        Ok(())
    }
}

impl Drop for FileHandle {
    fn drop(&mut self) {
        if let Landed::Temporary(name) = &self.landing
            && FolderWriter::is_at(&self.parent, name, self.identity)
        {
            // A leftover that cannot be removed harms nobody.
            let _leftover = unlinkat(&self.parent, name.as_slice(), AtFlags::empty());
        }
    }
}

/// Reads until the buffer is full or the file ends.
pub(super) fn read_fully(fd: &OwnedFd, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match pread(fd, rest, offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}
