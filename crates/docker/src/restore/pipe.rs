//! A stream that one thread writes while another sends it.
//!
//! Invariant: the reading side sees an end only if the writing side said that all was written.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// What the writer said at its end; none while it writes, or if it was torn down.
type Verdict = Arc<Mutex<Option<Result<(), String>>>>;

/// The end that is sent.
struct Source {
    pipe: io::PipeReader,
    verdict: Verdict,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.pipe.read(buffer)?;
        if count > 0 || buffer.is_empty() {
            return Ok(count);
        }
        let verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        match verdict.as_ref() {
            Some(Ok(())) => Ok(0),
            Some(Err(reason)) => Err(io::Error::other(reason.clone())),
            None => Err(io::Error::other("the stream was broken off")),
        }
    }
}

/// Runs `write` on a thread of its own and `send` with what it writes. If both fail, the writer's
/// error is given: the sender's is its consequence, unless the writer only found nobody reading.
pub(super) fn stream<T: Send, R, E>(
    write: impl FnOnce(&mut dyn Write) -> Result<T, E> + Send,
    send: impl FnOnce(Box<dyn Read + Send>) -> Result<R, E>,
) -> Result<(T, R), E>
where
    E: std::error::Error + From<io::Error> + Send + 'static,
{
    let (reader, writer) = io::pipe()?;
    let verdict = Verdict::default();
    let source = Source {
        pipe: reader,
        verdict: Arc::clone(&verdict),
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let mut output = io::BufWriter::with_capacity(256 * 1024, writer);
            let written = write(&mut output).and_then(|value| {
                output.flush()?;
                Ok(value)
            });
            let said = written.as_ref().map(drop).map_err(describe);
            *verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
            // Dropping a buffer that could not be written would try again.
            drop(output.into_parts());
            written
        });
        let sent = send(Box::new(source));
        let written = match thread.join() {
            Ok(written) => written,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        match (written, sent) {
            (Ok(value), Ok(answer)) => Ok((value, answer)),
            (Err(error), Ok(_)) => Err(error),
            (Err(error), Err(_)) if !is_broken_pipe(&error) => Err(error),
            (_, Err(error)) => Err(error),
        }
    })
}

fn describe(error: &impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::BrokenPipe
        {
            return true;
        }
        next = error.source();
    }
    false
}
