//! The content of a file, opened when somebody wants it.
//!
//! Invariant: what is read is the inode that was listed, or nothing: a file that was replaced in
//! the meantime by a link or a device is an error, and one that was replaced by another file is told
//! as that, together with what the file system knows of it, all from one handle.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;

use refloat_model::entry::{Content, Entry, EntryKind, Opened, Reader};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, SeekFrom, Stat, fstat, fstatfs, openat, seek};
use rustix::io::{Errno, pread};

use crate::attributes::{ExtendedAttributes, Identity, InodeHandle, file_type, metadata, size};
use crate::owners::Owners;

/// Opens one name of a directory for reading without following it, and without leaving a trace
/// in its access time where we may: only owners and root may ask for that.
pub(crate) fn open_noatime(
    directory: impl AsFd,
    name: &[u8],
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    match openat(&directory, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(&directory, name, flags, Mode::empty()),
        result => result,
    }
}

/// A regular file that was listed and not yet opened.
///
/// It keeps its directory's handle, so a sink that holds many of them holds as many directories
/// open: its queue is the bound.
pub(crate) struct ListedContent {
    directory: Arc<OwnedFd>,
    name: Box<[u8]>,
    identity: Identity,
    owners: Arc<Owners>,
}

impl ListedContent {
    pub(crate) fn new(
        directory: &Arc<OwnedFd>,
        name: &[u8],
        identity: Identity,
        owners: &Arc<Owners>,
    ) -> Self {
        Self {
            directory: Arc::clone(directory),
            name: Box::from(name),
            identity,
            owners: Arc::clone(owners),
        }
    }

    /// The regular file that has the name now.
    fn file(&self) -> io::Result<(OwnedFd, Stat)> {
        // Should a pipe have taken the file's place, NONBLOCK keeps us from waiting for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fd = match open_noatime(&self.directory, &self.name, flags) {
            Err(Errno::LOOP) => return Err(replaced()),
            result => result?,
        };
        let stat = fstat(&fd)?;
        match file_type(&stat) {
            FileType::RegularFile => Ok((fd, stat)),
            _ => Err(replaced()),
        }
    }

    /// What is told of a file that took the listed one's place.
    fn entry(&self, fd: &OwnedFd, stat: &Stat) -> io::Result<Entry> {
        let inode = InodeHandle::Open(fd.as_fd());
        let (xattrs, failures) = ExtendedAttributes::new().read(inode);
        // Nobody listens any more who could be told what a captured entry lacks.
        if let Some(failure) = failures.first() {
            let message = format!("it was replaced, and now: {}", failure.message());
            return Err(io::Error::new(
                io::Error::from(failure.errno).kind(),
                message,
            ));
        }
        Ok(Entry {
            name: self.name.to_vec(),
            kind: EntryKind::File { size: size(stat) },
            metadata: metadata(stat, &self.owners, xattrs),
        })
    }
}

impl Content for ListedContent {
    fn open(self: Box<Self>) -> io::Result<Box<dyn Reader + Send>> {
        let (fd, stat) = self.file()?;
        if Identity::of(&stat) != self.identity {
            return Err(replaced());
        }
        Ok(Box::new(FileReader::new(fd, &stat)))
    }

    fn open_now(self: Box<Self>) -> io::Result<Opened> {
        let (fd, stat) = match self.file() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Opened::Gone),
            file => file?,
        };
        if Identity::of(&stat) == self.identity {
            return Ok(Opened::Listed(Box::new(FileReader::new(fd, &stat))));
        }
        let entry = Box::new(self.entry(&fd, &stat)?);
        Ok(Opened::Replaced(
            entry,
            Box::new(FileReader::new(fd, &stat)),
        ))
    }
}

fn replaced() -> io::Error {
    io::Error::other("it was replaced by something else after it was listed")
}

/// A regular file that is open already.
pub(crate) struct OpenedContent(OwnedFd);

impl OpenedContent {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl Content for OpenedContent {
    fn open(self: Box<Self>) -> io::Result<Box<dyn Reader + Send>> {
        let stat = fstat(&self.0)?;
        Ok(Box::new(FileReader::new(self.0, &stat)))
    }
}

/// Reads a file from start to end; holes come as zeros without touching the disk, where they can be told.
///
/// The end is where the file ends when the reader gets there, whatever its size was before.
struct FileReader {
    fd: OwnedFd,
    position: u64,
    /// What lies at `position`, up to where.
    extent: Extent,
    /// The length when it was opened. What ends there with a short read has ended.
    length: u64,
    has_ended: bool,
    /// None before there was one.
    are_holes_believed: Option<bool>,
}

enum Extent {
    /// Data up to this offset; `u64::MAX` in files without holes, or with holes that cannot be told.
    Data(u64),
    Hole(u64),
    /// Not looked at yet.
    Unknown,
}

/// `st_blocks` counts in these units.
const BLOCK_BYTES: u64 = 512;

impl FileReader {
    fn new(fd: OwnedFd, stat: &Stat) -> Self {
        let allocated = u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK_BYTES;
        let extent = if allocated < size(stat) {
            Extent::Unknown
        } else {
            Extent::Data(u64::MAX)
        };
        Self {
            fd,
            position: 0,
            extent,
            length: size(stat),
            has_ended: false,
            are_holes_believed: None,
        }
    }

    /// Up to where the position's extent is, and whether it is a hole.
    fn extent(&mut self) -> io::Result<(u64, bool)> {
        loop {
            match self.extent {
                Extent::Data(end) if end > self.position => return Ok((end, false)),
                Extent::Hole(end) if end > self.position => return Ok((end, true)),
                _ => self.extent = self.look()?,
            }
        }
    }

    /// Finds out what lies at the position.
    fn look(&mut self) -> io::Result<Extent> {
        let extent = self.told()?;
        let is_believed = match extent {
            Extent::Hole(_) => *self
                .are_holes_believed
                .get_or_insert_with(|| tells_holes_from_data(&self.fd)),
            _ => true,
        };
        Ok(match is_believed {
            true => extent,
            false => Extent::Data(u64::MAX),
        })
    }

    /// What the file system says of it. One that knows no holes says that all is data.
    fn told(&self) -> io::Result<Extent> {
        match seek(&self.fd, SeekFrom::Data(self.position)) {
            Ok(data) if data > self.position => Ok(Extent::Hole(data)),
            Ok(_) => Ok(match seek(&self.fd, SeekFrom::Hole(self.position)) {
                Ok(hole) if hole > self.position => Extent::Data(hole),
                _ => Extent::Data(u64::MAX),
            }),
            // No data up to the end: a hole, unless this is the end.
            Err(Errno::NXIO) => {
                let end = size(&fstat(&self.fd)?);
                Ok(if end > self.position {
                    Extent::Hole(end)
                } else {
                    Extent::Data(u64::MAX)
                })
            }
            Err(Errno::INVAL | Errno::NOTSUP) => Ok(Extent::Data(u64::MAX)),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Whether what a file system calls a hole is one. OpenZFS before 2.1.14 and 2.2.2 said so of data that was not on
/// disk yet (its issue 15526), so its files are read through; behind an overlay or a network it is not known.
fn tells_holes_from_data(fd: &OwnedFd) -> bool {
    /// `ZFS_SUPER_MAGIC`
    const ZFS: rustix::fs::FsWord = 0x2fc1_2fc1;
    fstatfs(fd).is_ok_and(|system| system.f_type != ZFS)
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.has_ended {
            return Ok(0);
        }
        let (end, is_hole) = self.extent()?;
        let wanted = usize::try_from(end - self.position).unwrap_or(usize::MAX);
        let wanted = wanted.min(buffer.len());
        let (buffer, _) = buffer.split_at_mut(wanted);
        let count = if is_hole {
            buffer.fill(0);
            wanted
        } else {
            pread(&self.fd, &mut *buffer, self.position)?
        };
        self.position += count as u64;
        // Spares most small files the call that finds nothing more.
        self.has_ended = count > 0 && count < wanted && self.position == self.length;
        Ok(count)
    }
}

impl Reader for FileReader {
    fn pass_hole(&mut self, max: u64) -> io::Result<u64> {
        if self.has_ended {
            return Ok(0);
        }
        let (end, is_hole) = self.extent()?;
        let length = match is_hole {
            true => max.min(end - self.position),
            false => 0,
        };
        self.position += length;
        Ok(length)
    }
}
