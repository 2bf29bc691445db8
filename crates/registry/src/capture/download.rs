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

use crate::api::{BlobSource, Registry};

/// Handed over at once, in bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// How many chunks of a blob wait for the sink.
const CHUNKS_AHEAD: usize = 8;
/// How often a waiting sink looks whether the run was cancelled.
const TICK: Duration = Duration::from_millis(100);

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

/// Brings blobs into the current directory of `sink`; true if all of them came whole.
pub(super) fn run(
    registry: &Registry,
    at_once: usize,
    wanted: impl IntoIterator<Item = Wanted>,
    sink: &mut dyn TreeSink,
    cancel: &Cancel,
) -> Result<bool, SourceError> {
    let at_once = at_once.max(1);
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
                if sink.reuse(next.source.digest.hex().as_bytes())? {
                    continue;
                }
                let (sender, chunks) = bounded(CHUNKS_AHEAD);
                let job = Job {
                    source: next.source.clone(),
                    chunks: sender,
                };
                // Cannot fail: the threads live as long as `jobs`.
                let _unsent = jobs.send(job);
                arriving.push_back(Arriving::new(next, chunks, cancel));
            }
            let Some(mut next) = arriving.pop_front() else {
                return Ok(whole);
            };
            cancel.check().map_err(|_| SourceError::Cancelled)?;
            let source = &next.wanted.source;
            let entry = Entry::synthetic_file(source.digest.hex(), source.size);
            sink.stream(entry, &mut next)?;
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
    const fn new(wanted: Wanted, chunks: Receiver<Chunk>, cancel: &'a Cancel) -> Self {
        Self {
            wanted,
            chunks,
            cancel,
            chunk: Vec::new(),
            at: 0,
            accepted: false,
        }
    }

    fn next_chunk(&self) -> Chunk {
        loop {
            match self.chunks.recv_timeout(TICK) {
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
