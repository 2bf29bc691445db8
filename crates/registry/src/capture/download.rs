//! Blobs on their way from a registry into a sink: several at once, in bounded memory.
//!
//! A sink takes one stream after the other, and a registry answers each request after a while. So
//! threads fetch ahead, each blob into a queue of its own, and the sink reads the queues in order.
//! Memory: [`CHUNK_BYTES`] × [`CHUNKS_AHEAD`] for each request at once.
//!
//! Invariant: a stream ends without an error only after the blob's digest was verified.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use refloat_model::cancel::Cancel;
use refloat_model::entry::{Entry, TreeSink};
use refloat_source::SourceError;

use super::flights::{TICK, Ticket};
use crate::api::{BlobSource, Registry};
use crate::source::RegistrySource;

/// Handed over at once, in bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// How many chunks of a blob wait for the sink.
const CHUNKS_AHEAD: usize = 8;
/// How often a sink is asked for content that landed elsewhere: its chunks may still be on their
/// way to packs. 10 s in all.
const TICKS_MAX: usize = 1000;
/// How often a waiting sink looks whether the run was cancelled.
const CANCEL_TICK: Duration = Duration::from_millis(100);

/// A blob to be fetched.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) source: BlobSource,
    /// An image that needs it, for messages.
    pub(super) needed_by: Arc<str>,
}

/// Part of a blob; an empty one says that the blob is whole and verified.
type Chunk = io::Result<Vec<u8>>;

struct Job {
    source: BlobSource,
    chunks: Sender<Chunk>,
}

/// Brings blobs into the current directory of `sink`; true if all of them came whole. What an
/// earlier point or another repository has is taken over from there.
pub(super) fn run(
    source: &RegistrySource,
    wanted: impl IntoIterator<Item = Wanted>,
    sink: &mut dyn TreeSink,
    cancel: &Cancel,
) -> Result<bool, SourceError> {
    let mut elsewhere = Vec::new();
    let mut whole = fetch_all(source, wanted, &mut elsewhere, sink, cancel)?;
    // Who else fetched them is done, or is waited for, with no ticket in our hands.
    while !elsewhere.is_empty() {
        let mut again = Vec::new();
        for wanted in std::mem::take(&mut elsewhere) {
            if !take_over(source, &wanted, sink, cancel)? {
                again.push(wanted);
            }
        }
        whole &= fetch_all(source, again, &mut elsewhere, sink, cancel)?;
    }
    Ok(whole)
}

/// Takes over a blob that another capture has fetched; false if it did not come there.
fn take_over(
    source: &RegistrySource,
    wanted: &Wanted,
    sink: &mut dyn TreeSink,
    cancel: &Cancel,
) -> Result<bool, SourceError> {
    let digest = &wanted.source.digest;
    let flights = source.flights();
    let waited = flights.wait(digest, cancel);
    if !waited.map_err(|_| SourceError::Cancelled)? {
        return Ok(false);
    }
    let entry = Entry::synthetic_file(digest.hex(), wanted.source.size);
    for _ in 0..TICKS_MAX {
        if sink.reuse_content(&entry, digest.bytes())? {
            return Ok(true);
        }
        cancel.check().map_err(|_| SourceError::Cancelled)?;
        std::thread::sleep(TICK);
    }
    flights.forget(digest);
    Ok(false)
}

/// Brings blobs into `sink`, except those that other captures are fetching, which are left in
/// `elsewhere`.
fn fetch_all(
    source: &RegistrySource,
    wanted: impl IntoIterator<Item = Wanted>,
    elsewhere: &mut Vec<Wanted>,
    sink: &mut dyn TreeSink,
    cancel: &Cancel,
) -> Result<bool, SourceError> {
    let registry = source.registry();
    let at_once = source.options().connect.requests_at_once.max(1);
    std::thread::scope(|scope| {
        let (jobs, queue) = bounded::<Job>(at_once);
        for _ in 0..at_once {
            let queue = queue.clone();
            scope.spawn(move || {
                for job in queue {
                    fetch(registry, &job, cancel);
                }
            });
        }
        drop(queue);
        let mut wanted = wanted.into_iter();
        let mut arriving: VecDeque<Arriving<'_>> = VecDeque::with_capacity(at_once);
        let mut whole = true;
        loop {
            while arriving.len() < at_once
                && let Some(next) = wanted.next()
            {
                let digest = &next.source.digest;
                let entry = Entry::synthetic_file(digest.hex(), next.source.size);
                if sink.reuse(&entry.name)? || sink.reuse_content(&entry, digest.bytes())? {
                    continue;
                }
                let Some(ticket) = source.flights().begin(digest) else {
                    elsewhere.push(next);
                    continue;
                };
                let (sender, chunks) = bounded(CHUNKS_AHEAD);
                let job = Job {
                    source: next.source.clone(),
                    chunks: sender,
                };
                // Cannot fail: the threads live as long as `jobs`.
                let _unsent = jobs.send(job);
                arriving.push_back(Arriving::new(next, chunks, cancel, ticket));
            }
            let Some(mut next) = arriving.pop_front() else {
                return Ok(whole);
            };
            cancel.check().map_err(|_| SourceError::Cancelled)?;
            let BlobSource { digest, size, .. } = next.wanted.source.clone();
            let entry = Entry::synthetic_file(digest.hex(), size);
            let shared = sink.stream_by_digest(entry, digest.bytes(), &mut next)?;
            if shared && next.accepted {
                next.ticket.landed();
            }
            whole &= next.accepted;
        }
    })
}

/// Fetches one blob. Ends early when nobody reads any more.
fn fetch(registry: &Registry, job: &Job, cancel: &Cancel) {
    let mut reader = registry.blob(job.source.clone(), cancel);
    let mut left = job.source.size;
    loop {
        // One byte more than expected, so that the end of a small blob is seen at once.
        let length =
            usize::try_from(left.saturating_add(1)).map_or(CHUNK_BYTES, |l| l.min(CHUNK_BYTES));
        let mut chunk = vec![0; length];
        let mut filled = 0;
        let result = loop {
            match reader.read(chunk.get_mut(filled..).unwrap_or_default()) {
                Ok(0) => break Ok(()),
                Ok(count) => filled += count,
                Err(error) => break Err(error),
            }
            if filled == chunk.len() {
                break Ok(());
            }
        };
        left = left.saturating_sub(filled as u64);
        let is_end = result.is_ok() && filled < chunk.len();
        chunk.truncate(filled);
        let is_sent = match result {
            Err(error) => {
                // Nobody reading any more is no failure of the blob.
                let _unread = job.chunks.send(Err(error));
                return;
            }
            Ok(()) => filled == 0 || job.chunks.send(Ok(chunk)).is_ok(),
        };
        if !is_sent {
            return;
        }
        if is_end {
            let _unread = job.chunks.send(Ok(Vec::new()));
            return;
        }
    }
}

/// A blob as the sink reads it.
struct Arriving<'a> {
    wanted: Wanted,
    chunks: Receiver<Chunk>,
    cancel: &'a Cancel,
    /// Others wait until this is gone.
    ticket: Ticket<'a>,
    chunk: Vec<u8>,
    at: usize,
    accepted: bool,
}

/// Why a blob did not come, and what is incomplete without it. Sinks keep the text only.
#[derive(Debug, thiserror::Error)]
#[error("{cause} (needed by {needed_by})")]
struct Lost {
    needed_by: Arc<str>,
    cause: io::Error,
}

impl<'a> Arriving<'a> {
    const fn new(
        wanted: Wanted,
        chunks: Receiver<Chunk>,
        cancel: &'a Cancel,
        ticket: Ticket<'a>,
    ) -> Self {
        Self {
            wanted,
            chunks,
            cancel,
            ticket,
            chunk: Vec::new(),
            at: 0,
            accepted: false,
        }
    }

    fn next_chunk(&self) -> Chunk {
        loop {
            match self.chunks.recv_timeout(CANCEL_TICK) {
                Ok(chunk) => return chunk,
                Err(RecvTimeoutError::Timeout) => {
                    self.cancel.check().map_err(io::Error::other)?;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
}

impl Read for Arriving<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.chunk.len() && !self.accepted {
            self.at = 0;
            self.chunk = self.next_chunk().map_err(|cause| {
                let needed_by = Arc::clone(&self.wanted.needed_by);
                io::Error::other(Lost { needed_by, cause })
            })?;
            self.accepted = self.chunk.is_empty();
        }
        let mut rest = self.chunk.get(self.at..).unwrap_or_default();
        let count = rest.read(buffer)?;
        self.at += count;
        Ok(count)
    }
}
