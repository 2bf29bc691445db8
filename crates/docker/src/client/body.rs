//! Bytes that cross the border between async and blocking code, in both directions.
//!
//! Invariant: at most [`CHUNKS_MAX`] chunks wait in between; a side that goes away ends the other.

use std::io::{self, Read};
use std::time::Duration;

use refloat_model::cancel::{Cancel, Cancelled};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::error::EngineError;

/// Chunks that may wait in a queue; the engine sends at most 64 KiB in one.
const CHUNKS_MAX: usize = 16;
/// How much of a local stream goes into one chunk.
const CHUNK_BYTES: usize = 64 * 1024;
/// How often a waiting reader looks whether it was cancelled.
const POLL: Duration = Duration::from_millis(200);

/// What travels to the blocking side: bytes, an empty chunk as the end, or why there is no end.
pub(super) type Chunk = Result<Vec<u8>, EngineError>;

/// The blocking end of a stream that a task of the runtime fills.
pub(crate) struct BodyReader {
    runtime: Handle,
    receiver: mpsc::Receiver<Chunk>,
    chunk: Vec<u8>,
    position: usize,
    cancel: Cancel,
    ended: bool,
}

pub(super) fn channel(runtime: Handle, cancel: &Cancel) -> (mpsc::Sender<Chunk>, BodyReader) {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let reader = BodyReader {
        runtime,
        receiver,
        chunk: Vec::new(),
        position: 0,
        cancel: cancel.clone(),
        ended: false,
    };
    (sender, reader)
}

impl BodyReader {
    /// The next chunk; an empty one at the end.
    fn next(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if self.cancel.is_cancelled() {
                // Not `Interrupted`: readers would take that as "try again".
                return Err(io::Error::other(Cancelled));
            }
            let receiver = &mut self.receiver;
            let waited = self
                .runtime
                .block_on(async { tokio::time::timeout(POLL, receiver.recv()).await });
            match waited {
                Err(_) => {}
                Ok(Some(chunk)) => return Ok(chunk?),
                // Whoever fills the queue says when it is the end; silence is no end.
                Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.chunk.len() && !self.ended {
            (self.chunk, self.position) = (self.next()?, 0);
            self.ended = self.chunk.is_empty();
        }
        let rest = self.chunk.get(self.position..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        self.position += count;
        Ok(count)
    }
}

/// Ends when somebody asks the run to stop.
pub(super) async fn cancelled(cancel: &Cancel) {
    while !cancel.is_cancelled() {
        tokio::time::sleep(POLL).await;
    }
}

/// Reads `source` to its end on the blocking pool, chunk by chunk.
pub(super) fn pump(
    runtime: &Handle,
    mut source: Box<dyn Read + Send>,
) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    runtime.spawn_blocking(move || {
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let sent = match source.read(&mut chunk) {
                Ok(0) => return,
                Ok(count) => {
                    chunk.truncate(count);
                    sender.blocking_send(Ok(chunk)).is_ok()
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => true,
                Err(e) => {
                    // The receiver's end is gone: nobody is left to be told.
                    drop(sender.blocking_send(Err(e)));
                    return;
                }
            };
            if !sent {
                return;
            }
        }
    });
    receiver
}
