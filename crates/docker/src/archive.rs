//! A tar stream of the engine as a tree.
//!
//! Names in the stream are decided by whoever wrote the files: absolute names, `..`, and entries
//! that climb through others are refused and reported. Nothing is ever extracted.
//!
//! Invariant: a stream that does not end as tar streams end is an error, never a short tree.

mod entry;
mod metadata;
mod single;

use std::io::{self, Read};

use refloat_model::cancel::Cancel;
use refloat_model::entry::{Entry, SinkError, TreeSink};

pub(crate) use entry::components;
use entry::{Content, next_entry};
pub(crate) use single::single_file;

/// How many refused or lost things are named; the rest is counted.
const NAMED_MAX: usize = 20;
/// What ends a tar stream: two blocks of zeros.
const END_BYTES: u64 = 1024;

/// Why a stream could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// The stream broke or is no tar.
    #[error("cannot read the engine's archive stream")]
    Stream(#[source] io::Error),
    /// The stream ended without an end.
    #[error("the engine's archive stream was cut short")]
    Cut,
    /// The run was cancelled.
    #[error("interrupted")]
    Cancelled,
    /// The sink cannot go on.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// What a stream could not say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Losses {
    /// Hard links, stored as files of their own.
    pub(crate) hard_links: u64,
    /// Entries that were refused, with the reason; the first ones.
    pub(crate) refused: Vec<String>,
    /// How many were refused.
    pub(crate) refused_count: u64,
}

impl Losses {
    fn refuse(&mut self, what: String) {
        self.refused_count += 1;
        if self.refused.len() < NAMED_MAX {
            self.refused.push(what);
        }
    }
}

/// Fetches the content of a file by its path below the root: for hard links.
pub(crate) type Fetch<'a> = dyn Fn(&[Vec<u8>]) -> io::Result<Box<dyn Read + Send>> + 'a;

/// How a stream becomes a tree.
pub(crate) struct TarTree<'a> {
    /// Says which paths are taken; directories above them must be.
    pub(crate) keep: &'a dyn Fn(&[Vec<u8>]) -> bool,
    /// Where hard links get their content.
    pub(crate) fetch: &'a Fetch<'a>,
}

impl TarTree<'_> {
    /// Pushes the stream as one directory, or one file, called `name`.
    ///
    /// A stream of a directory names its root `./` or by nothing; a stream of one file holds just
    /// that file.
    pub(crate) fn push(
        &self,
        stream: impl Read,
        name: &[u8],
        sink: &mut dyn TreeSink,
        cancel: &Cancel,
    ) -> Result<Losses, ArchiveError> {
        let mut stream = Ending::new(stream);
        let mut walk = Walk {
            tree: self,
            name,
            open: None,
            losses: Losses::default(),
        };
        let mut archive = tar::Archive::new(&mut stream);
        let entries = archive.entries().map_err(ArchiveError::Stream)?;
        for tar_entry in entries {
            cancel.check().map_err(|_| ArchiveError::Cancelled)?;
            let mut tar_entry = tar_entry.map_err(ArchiveError::Stream)?;
            walk.entry(&mut tar_entry, sink)?;
        }
        let losses = walk.finish(sink)?;
        io::copy(&mut stream, &mut io::sink()).map_err(ArchiveError::Stream)?;
        if stream.zeros < END_BYTES {
            return Err(ArchiveError::Cut);
        }
        Ok(losses)
    }
}

struct Walk<'a> {
    tree: &'a TarTree<'a>,
    name: &'a [u8],
    /// The directories entered, without the root; none before the root was.
    open: Option<Vec<Vec<u8>>>,
    losses: Losses,
}

impl Walk<'_> {
    fn entry(
        &mut self,
        tar_entry: &mut tar::Entry<'_, impl Read>,
        sink: &mut dyn TreeSink,
    ) -> Result<(), ArchiveError> {
        let raw = tar_entry.path_bytes().into_owned();
        let Some(path) = components(&raw) else {
            let shown = String::from_utf8_lossy(&raw).into_owned();
            self.losses.refuse(format!("{shown:?}: name refused"));
            return Ok(());
        };
        let Some((mut entry, content)) = next_entry(tar_entry).map_err(ArchiveError::Stream)?
        else {
            return Ok(());
        };
        if path.is_empty() {
            return self.root(entry, &content, sink);
        }
        if !(self.tree.keep)(&path) {
            return Ok(());
        }
        let (last, parents) = match path.split_last() {
            Some((last, parents)) => (last.clone(), parents),
            None => return Ok(()),
        };
        self.open_root(sink)?;
        self.change_to(parents, sink)?;
        entry.name = last;
        match content {
            Content::Directory => {
                sink.enter(entry)?;
                self.open.get_or_insert_default().push(entry_name(&path));
            }
            Content::File => sink.stream(entry, tar_entry)?,
            Content::None => sink.node(entry)?,
            Content::LinkTo(target) => self.hard_link(entry, &target, sink)?,
        }
        Ok(())
    }

    fn root(
        &mut self,
        mut entry: Entry,
        content: &Content,
        sink: &mut dyn TreeSink,
    ) -> Result<(), ArchiveError> {
        // A second root, or one that is no directory, is somebody's game: its metadata is not ours.
        if self.open.is_none() && matches!(content, Content::Directory) {
            entry.name = self.name.to_vec();
            sink.enter(entry)?;
            self.open = Some(Vec::new());
        }
        Ok(())
    }

    fn open_root(&mut self, sink: &mut dyn TreeSink) -> Result<(), ArchiveError> {
        if self.open.is_none() {
            sink.enter(Entry::synthetic_directory(self.name))?;
            self.open = Some(Vec::new());
        }
        Ok(())
    }

    /// Leaves and enters directories until `parents` is the current one.
    fn change_to(
        &mut self,
        parents: &[Vec<u8>],
        sink: &mut dyn TreeSink,
    ) -> Result<(), ArchiveError> {
        let open = self.open.get_or_insert_default();
        let common = open.iter().zip(parents).take_while(|(a, b)| a == b).count();
        while open.len() > common {
            sink.leave()?;
            open.pop();
        }
        // Directories the stream did not name. If one was left before, the sink knows it and
        // reports the second as failed.
        for name in parents.iter().skip(common) {
            sink.enter(Entry::synthetic_directory(name.clone()))?;
            open.push(name.clone());
        }
        Ok(())
    }

    fn hard_link(
        &mut self,
        entry: Entry,
        target: &[u8],
        sink: &mut dyn TreeSink,
    ) -> Result<(), ArchiveError> {
        let fetched = match components(target) {
            Some(path) if !path.is_empty() => (self.tree.fetch)(&path),
            _ => {
                self.losses.refuse(format!(
                    "{:?}: hard link to {:?} refused",
                    String::from_utf8_lossy(&entry.name),
                    String::from_utf8_lossy(target)
                ));
                return Ok(());
            }
        };
        self.losses.hard_links += 1;
        match fetched {
            Ok(mut content) => sink.stream(entry, &mut content)?,
            Err(error) => sink.fail(
                &entry.name,
                format!("cannot read the file it is a hard link to: {error}"),
            ),
        }
        Ok(())
    }

    fn finish(mut self, sink: &mut dyn TreeSink) -> Result<Losses, ArchiveError> {
        self.open_root(sink)?;
        for _ in 0..=self.open.unwrap_or_default().len() {
            sink.leave()?;
        }
        Ok(self.losses)
    }
}

fn entry_name(path: &[Vec<u8>]) -> Vec<u8> {
    path.last().cloned().unwrap_or_default()
}

/// Pushes a stream that holds one regular file as the file `name`.
pub(crate) fn push_file(
    stream: impl Read,
    name: &[u8],
    sink: &mut dyn TreeSink,
) -> Result<(), ArchiveError> {
    let mut archive = tar::Archive::new(stream);
    for tar_entry in archive.entries().map_err(ArchiveError::Stream)? {
        let mut tar_entry = tar_entry.map_err(ArchiveError::Stream)?;
        if let Some((mut entry, Content::File)) =
            next_entry(&mut tar_entry).map_err(ArchiveError::Stream)?
        {
            entry.name = name.to_vec();
            sink.stream(entry, &mut tar_entry)?;
            return Ok(());
        }
    }
    Err(ArchiveError::Cut)
}

/// Counts the zeros a stream ends with.
struct Ending<R> {
    inner: R,
    zeros: u64,
}

impl<R> Ending<R> {
    const fn new(inner: R) -> Self {
        Self { inner, zeros: 0 }
    }
}

impl<R: Read> Read for Ending<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let read = buffer.get(..count).unwrap_or_default();
        let zeros = read.iter().rev().take_while(|byte| **byte == 0).count();
        if zeros == count {
            self.zeros += count as u64;
        } else {
            self.zeros = zeros as u64;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
