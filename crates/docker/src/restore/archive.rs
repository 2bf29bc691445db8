//! A stored tree as a tar stream, for targets whose file system is out of reach.
//!
//! What tar can carry is carried: owners, modes, times in nanoseconds, extended attributes, hard
//! links, devices. Sockets cannot be; holes become zeros.
//!
//! Invariant: a stream that is not whole ends in an error, never in an end: an engine takes a tar
//! that stops between two entries for a complete one.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use refloat_model::entry::{Content, Entry, EntryKind, Metadata, SinkError, TreeSink};
use tar::{Builder, EntryType, Header};

/// The longest path and link target a plain header holds, in bytes.
const PLAIN_BYTES_MAX: usize = 100;

/// One header of the tar.
struct Head<'a> {
    path: &'a [u8],
    kind: EntryType,
    size: u64,
    /// Of a link.
    target: &'a [u8],
    /// `st_rdev` of a device.
    device: u64,
    metadata: &'a Metadata,
}

impl<'a> Head<'a> {
    const fn new(path: &'a [u8], kind: EntryType, metadata: &'a Metadata) -> Self {
        Self {
            path,
            kind,
            size: 0,
            target: &[],
            device: 0,
            metadata,
        }
    }
}

/// Writes what is pushed into it as a tar.
pub(super) struct TarSink<W: Write> {
    builder: Builder<W>,
    /// Path of the directory that is open, without a slash at its end.
    directory: Vec<u8>,
    depths: Vec<usize>,
    /// Where the first name of each file with several names went.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Entries written.
    pub(super) entries: u64,
    /// Entries that could not be written, with the reason.
    pub(super) failures: Vec<String>,
}

impl<W: Write> TarSink<W> {
    /// Starts a tar whose entries lie below `root` (`data` or `a/b`, no slash at either end).
    pub(super) fn new(output: W, root: &str) -> Self {
        Self {
            builder: Builder::new(output),
            directory: root.as_bytes().to_vec(),
            depths: Vec::new(),
            links: HashMap::new(),
            entries: 0,
            failures: Vec::new(),
        }
    }

    /// Writes the attributes of the root directory itself.
    pub(super) fn root(&mut self, root: &Entry) -> io::Result<()> {
        let path = [self.directory.as_slice(), b"/"].concat();
        self.append(
            &Head::new(&path, EntryType::Directory, &root.metadata),
            io::empty(),
        )
    }

    /// Ends the tar.
    pub(super) fn finish(mut self) -> io::Result<(u64, Vec<String>)> {
        self.builder.finish()?;
        Ok((self.entries, self.failures))
    }

    fn path(&self, name: &[u8]) -> Vec<u8> {
        match self.directory.is_empty() {
            true => name.to_vec(),
            false => [self.directory.as_slice(), b"/", name].concat(),
        }
    }

    fn display(&self, name: &[u8]) -> String {
        String::from_utf8_lossy(&self.path(name)).into_owned()
    }

    /// Whether the entry is another name of one that was written; then it is written as that.
    fn link(&mut self, path: &[u8], metadata: &Metadata) -> io::Result<bool> {
        if metadata.links < 2 || metadata.inode == 0 {
            return Ok(false);
        }
        let key = (metadata.device_id, metadata.inode);
        let Some(first) = self.links.get(&key).cloned() else {
            self.links.insert(key, path.to_vec());
            return Ok(false);
        };
        let head = Head {
            target: &first,
            ..Head::new(path, EntryType::Link, metadata)
        };
        self.append(&head, io::empty())?;
        Ok(true)
    }

    /// Writes one file; its content must have the length its entry says.
    pub(super) fn content(&mut self, file: &Entry, content: &mut dyn Read) -> io::Result<()> {
        let EntryKind::File { size } = file.kind else {
            return Err(io::Error::other("content of something that is no file"));
        };
        let path = self.path(&file.name);
        let exact = Exact {
            content,
            rest: size,
        };
        let head = Head {
            size,
            ..Head::new(&path, EntryType::Regular, &file.metadata)
        };
        self.append(&head, exact)
    }

    fn append(&mut self, head: &Head<'_>, content: impl Read) -> io::Result<()> {
        self.extensions(head)?;
        let mut header = Header::new_ustar();
        header.set_entry_type(head.kind);
        header.set_size(head.size);
        header.set_mode(head.metadata.mode & 0o7777);
        header.set_uid(u64::from(head.metadata.uid));
        header.set_gid(u64::from(head.metadata.gid));
        header.set_mtime(u64::try_from(head.metadata.modified.seconds).unwrap_or(0));
        fill(&mut header.as_old_mut().name, head.path);
        fill(&mut header.as_old_mut().linkname, head.target);
        if matches!(head.kind, EntryType::Char | EntryType::Block) {
            let (major, minor) = device_numbers(head.device);
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
        }
        header.set_cksum();
        self.entries += 1;
        self.builder.append(&header, content)
    }

    /// What a plain header cannot say.
    fn extensions(&mut self, head: &Head<'_>) -> io::Result<()> {
        let (path, target, metadata) = (head.path, head.target, head.metadata);
        let time = &metadata.modified;
        let mtime = pax_time(time.seconds, time.nanoseconds);
        let mut records = vec![("mtime".to_owned(), mtime.into_bytes())];
        if path.len() > PLAIN_BYTES_MAX {
            records.push(("path".to_owned(), path.to_vec()));
        }
        if target.len() > PLAIN_BYTES_MAX {
            records.push(("linkpath".to_owned(), target.to_vec()));
        }
        for xattr in &metadata.xattrs {
            // The names Linux gives are text; one that is not cannot be said in a tar.
            match std::str::from_utf8(&xattr.name) {
                Ok(name) => records.push((format!("SCHILY.xattr.{name}"), xattr.value.clone())),
                Err(_) => self.failures.push(format!(
                    "{}: an extended attribute's name is not text",
                    String::from_utf8_lossy(path)
                )),
            }
        }
        let records = records
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice()));
        self.builder.append_pax_extensions(records)
    }
}

/// Copies as much of `text` as fits.
fn fill(field: &mut [u8; PLAIN_BYTES_MAX], text: &[u8]) {
    for (to, from) in field.iter_mut().zip(text) {
        *to = *from;
    }
}

/// `major` and `minor` as Linux packs them into `st_rdev`.
const fn device_numbers(device: u64) -> (u32, u32) {
    let major = ((device >> 8) & 0xfff) | ((device >> 32) & 0xffff_f000);
    let minor = (device & 0xff) | ((device >> 12) & 0xffff_ff00);
    #[expect(clippy::cast_possible_truncation, reason = "masked to 32 bits")]
    (major as u32, minor as u32)
}

/// Seconds since the epoch with a fraction, as PAX writes them: before it, `-1.5` is half a second
/// before `-1`.
fn pax_time(seconds: i64, nanoseconds: u32) -> String {
    match (seconds, nanoseconds) {
        (s, 0) => s.to_string(),
        (s, n) if s >= 0 => format!("{s}.{n:09}"),
        (s, n) => format!("-{}.{:09}", -(s + 1), 1_000_000_000 - n),
    }
}

/// Fails where the content is shorter than announced, and stops where it is longer: the length
/// stands in the header, which is on its way already.
struct Exact<'a> {
    content: &'a mut dyn Read,
    rest: u64,
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = usize::try_from(self.rest)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if limit == 0 {
            return Ok(0);
        }
        let count = self
            .content
            .read(buffer.get_mut(..limit).unwrap_or_default())?;
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} bytes of a file are missing", self.rest),
            ));
        }
        self.rest -= count as u64;
        Ok(count)
    }
}

fn cannot_go_on(error: io::Error) -> SinkError {
    SinkError(Box::new(error))
}

impl<W: Write> TreeSink for TarSink<W> {
    fn enter(&mut self, directory: Entry) -> Result<(), SinkError> {
        let mut path = self.path(&directory.name);
        self.depths.push(self.directory.len());
        self.directory.clone_from(&path);
        path.push(b'/');
        self.append(
            &Head::new(&path, EntryType::Directory, &directory.metadata),
            io::empty(),
        )
        .map_err(cannot_go_on)
    }

    fn leave(&mut self) -> Result<(), SinkError> {
        self.directory.truncate(self.depths.pop().unwrap_or(0));
        Ok(())
    }

    fn file(&mut self, file: Entry, content: Box<dyn Content>) -> Result<(), SinkError> {
        let path = self.path(&file.name);
        if self.link(&path, &file.metadata).map_err(cannot_go_on)? {
            return Ok(());
        }
        // Content that cannot be opened is left out and named: nothing of it is on its way yet.
        match content.open() {
            Ok(mut reader) => self.content(&file, &mut reader).map_err(cannot_go_on),
            Err(error) => {
                self.links.retain(|_, first| *first != path);
                self.fail(&file.name, error.to_string());
                Ok(())
            }
        }
    }

    fn stream(&mut self, file: Entry, content: &mut dyn Read) -> Result<(), SinkError> {
        self.content(&file, content).map_err(cannot_go_on)
    }

    fn node(&mut self, entry: Entry) -> Result<(), SinkError> {
        let path = self.path(&entry.name);
        let (kind, target) = match &entry.kind {
            EntryKind::Symlink { target } => (EntryType::Symlink, target.as_slice()),
            EntryKind::BlockDevice { .. } => (EntryType::Block, [].as_slice()),
            EntryKind::CharacterDevice { .. } => (EntryType::Char, [].as_slice()),
            EntryKind::Fifo => (EntryType::Fifo, [].as_slice()),
            EntryKind::Socket | EntryKind::File { .. } | EntryKind::Directory => {
                self.fail(
                    &entry.name,
                    "a socket cannot travel in an archive".to_owned(),
                );
                return Ok(());
            }
        };
        if self.link(&path, &entry.metadata).map_err(cannot_go_on)? {
            return Ok(());
        }
        let device = match entry.kind {
            EntryKind::BlockDevice { device } | EntryKind::CharacterDevice { device } => device,
            _ => 0,
        };
        let head = Head {
            target,
            device,
            ..Head::new(&path, kind, &entry.metadata)
        };
        self.append(&head, io::empty()).map_err(cannot_go_on)
    }

    fn reuse(&mut self, _: &[u8]) -> Result<bool, SinkError> {
        Ok(false)
    }

    fn reuse_content(&mut self, _: &Entry, _: &[u8; 32]) -> Result<bool, SinkError> {
        Ok(false)
    }

    fn stream_by_digest(
        &mut self,
        file: Entry,
        _: &[u8; 32],
        content: &mut dyn Read,
    ) -> Result<bool, SinkError> {
        self.stream(file, content).map(|()| false)
    }

    fn fail(&mut self, name: &[u8], reason: String) {
        self.failures
            .push(format!("{}: {reason}", self.display(name)));
    }
}

#[cfg(test)]
mod tests;
