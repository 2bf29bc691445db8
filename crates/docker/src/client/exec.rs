//! Commands inside containers.
//!
//! Invariant: a command's standard output ends only after all of it arrived in frames the engine
//! sent; unframed bytes are an error. Its exit status is asked for, never assumed.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{StartExecOptions, StartExecResults};
use futures_util::{Stream, StreamExt};
use refloat_model::cancel::Cancel;
use refloat_model::secret::Secret;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::body::{self, BodyReader, Chunk};
use super::{Client, encode};
use crate::error::EngineError;
use crate::mask::Mask;

/// How much of a command's complaints is kept: its end, as much as is judged of a dump's.
const COMPLAINT_BYTES_MAX: usize = refloat_database::JUDGED_BYTES;
/// How much of that is told to people.
const STDERR_BYTES_MAX: usize = 4096;
/// How much output is read at once where only its end is kept.
const PIECE_BYTES: usize = 64 * 1024;
/// How often and how long the status is asked for after the output ended: engines close the
/// stream a moment before they record the status.
const STATUS_ATTEMPTS: u32 = 50;
const STATUS_PAUSE: Duration = Duration::from_millis(100);

/// A command to run in a container.
pub(crate) struct Command<'a> {
    /// The container's id or name.
    pub(crate) container: &'a str,
    /// Program and arguments.
    pub(crate) argv: &'a [String],
    /// Variables beside the container's own.
    pub(crate) environment: &'a [(&'a str, &'a Secret)],
    /// Standard input; none is closed at once.
    pub(crate) input: Option<Box<dyn Read + Send>>,
    /// How long nothing may come out.
    pub(crate) silence_max: Duration,
}

/// A command that runs; its standard output is read from it.
pub(crate) struct RunningCommand {
    pub(crate) output: BodyReader,
    pub(crate) end: CommandEnd,
}

/// Knows how a command ended, once its output has.
pub(crate) struct CommandEnd {
    id: String,
    complaint: Arc<Mutex<Vec<u8>>>,
}

/// How a command ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Finished {
    /// Its exit status; none if the engine does not know it.
    pub(crate) code: Option<i64>,
    /// The end of its standard error, for people.
    pub(crate) stderr: String,
    /// A longer end of it, for programs.
    pub(crate) complaint: Vec<u8>,
}

impl Finished {
    /// The same with secrets taken out of what it said.
    pub(crate) fn masked(self, mask: &Mask) -> Self {
        Self {
            stderr: mask.apply(&self.stderr),
            ..self
        }
    }

    /// Whether it ended with 0.
    pub(crate) fn success(self) -> Result<(), EngineError> {
        match self.code {
            Some(0) => Ok(()),
            Some(code) => Err(EngineError::CommandFailed {
                code,
                stderr: self.stderr,
            }),
            None => Err(EngineError::CommandUnknown),
        }
    }
}

impl Client {
    /// Starts a command; its output is framed, so that standard error does not mix in.
    pub(crate) fn exec(
        &self,
        command: Command<'_>,
        cancel: &Cancel,
    ) -> Result<RunningCommand, EngineError> {
        let id = self.create_exec(&command)?;
        let options = StartExecOptions {
            detach: false,
            tty: false,
            output_capacity: Some(64 * 1024),
        };
        let started = self
            .runtime
            .block_on(self.docker.start_exec(&id, Some(options)))?;
        let StartExecResults::Attached { output, mut input } = started else {
            return Err(EngineError::Incomplete("attached command"));
        };
        let fed = command
            .input
            .map(|source| body::pump(self.handle(), source));
        let (sender, reader) = body::channel(self.handle().clone(), cancel);
        let complaint = Arc::new(Mutex::new(Vec::new()));
        self.runtime.spawn(forward(
            output,
            sender,
            Arc::clone(&complaint),
            command.silence_max,
        ));
        self.runtime.spawn(async move {
            if let Some(mut fed) = fed {
                while let Some(Ok(chunk)) = fed.recv().await {
                    // A program that reads no more ends by itself; its status tells.
                    if input.write_all(&chunk).await.is_err() {
                        return;
                    }
                }
            }
            drop(input.shutdown().await);
        });
        Ok(RunningCommand {
            output: reader,
            end: CommandEnd { id, complaint },
        })
    }

    /// Runs a command to its end and keeps its standard output, up to `output_bytes_max`.
    pub(crate) fn run(
        &self,
        command: Command<'_>,
        output_bytes_max: u64,
        cancel: &Cancel,
    ) -> Result<(Vec<u8>, Finished), EngineError> {
        self.run_keeping(command, cancel, |stream| {
            let mut output = Vec::new();
            stream.take(output_bytes_max).read_to_end(&mut output)?;
            std::io::copy(stream, &mut std::io::sink())?;
            Ok(output)
        })
    }

    /// Runs a command to its end and keeps the end of its standard output.
    pub(crate) fn run_for_its_end(
        &self,
        command: Command<'_>,
        output_bytes_max: usize,
        cancel: &Cancel,
    ) -> Result<(Vec<u8>, Finished), EngineError> {
        self.run_keeping(command, cancel, |stream| {
            let (mut output, mut piece) = (Vec::new(), vec![0; PIECE_BYTES]);
            loop {
                match stream.read(&mut piece)? {
                    0 => return Ok(output),
                    read => keep_tail(&mut output, &piece[..read], output_bytes_max),
                }
            }
        })
    }

    /// Runs a command to its end and keeps what `keep` makes of its standard output, of which it leaves nothing.
    fn run_keeping(
        &self,
        command: Command<'_>,
        cancel: &Cancel,
        keep: impl FnOnce(&mut dyn Read) -> std::io::Result<Vec<u8>>,
    ) -> Result<(Vec<u8>, Finished), EngineError> {
        let RunningCommand { mut output, end } = self.exec(command, cancel)?;
        let kept = keep(&mut output).map_err(|source| EngineError::Local {
            operation: "read a command's output",
            source,
        })?;
        Ok((kept, end.finish(self)?))
    }

    fn create_exec(&self, command: &Command<'_>) -> Result<String, EngineError> {
        let environment: Vec<String> = command
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value.expose())))
            .collect();
        let body = json!({
            "AttachStdin": command.input.is_some(),
            "AttachStdout": true,
            "AttachStderr": true,
            "Tty": false,
            "Cmd": command.argv,
            "Env": environment,
        });
        let target = format!("/containers/{}/exec", encode(command.container));
        let created = self.post(&target, Some(&body))?;
        created
            .get("Id")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or(EngineError::Incomplete("exec id"))
    }
}

impl CommandEnd {
    /// Asks how it ended; to be called after its output was read to the end.
    pub(crate) fn finish(&self, client: &Client) -> Result<Finished, EngineError> {
        let target = format!("/exec/{}/json", encode(&self.id));
        let mut code = None;
        for _ in 0..STATUS_ATTEMPTS {
            let state = client.get(&target)?;
            if state.get("Running").and_then(Value::as_bool) == Some(false) {
                code = state.get("ExitCode").and_then(Value::as_i64);
                break;
            }
            std::thread::sleep(STATUS_PAUSE);
        }
        let complaint = self
            .complaint
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let last = complaint.len().saturating_sub(STDERR_BYTES_MAX);
        Ok(Finished {
            code,
            stderr: String::from_utf8_lossy(&complaint[last..])
                .trim()
                .to_owned(),
            complaint: complaint.clone(),
        })
    }
}

/// Sends standard output on and keeps the end of standard error.
async fn forward(
    mut output: impl Stream<Item = Result<LogOutput, bollard::errors::Error>> + Unpin,
    sender: mpsc::Sender<Chunk>,
    complaint: Arc<Mutex<Vec<u8>>>,
    silence_max: Duration,
) {
    loop {
        let chunk = match tokio::time::timeout(silence_max, output.next()).await {
            Err(_) => Err(EngineError::Timeout(silence_max)),
            Ok(None) => Ok(Vec::new()),
            Ok(Some(Err(error))) => Err(error.into()),
            Ok(Some(Ok(LogOutput::StdErr { message }))) => {
                let mut kept = complaint.lock().unwrap_or_else(PoisonError::into_inner);
                keep_tail(&mut kept, &message, COMPLAINT_BYTES_MAX);
                continue;
            }
            Ok(Some(Ok(LogOutput::StdOut { message }))) if message.is_empty() => continue,
            Ok(Some(Ok(LogOutput::StdOut { message }))) => Ok(Vec::from(message)),
            Ok(Some(Ok(LogOutput::StdIn { .. } | LogOutput::Console { .. }))) => {
                Err(EngineError::Incomplete("frames around a command's output"))
            }
        };
        let last = chunk.as_ref().map_or(true, Vec::is_empty);
        if sender.send(chunk).await.is_err() || last {
            return;
        }
    }
}

fn keep_tail(kept: &mut Vec<u8>, more: &[u8], bytes_max: usize) {
    kept.extend_from_slice(more);
    let excess = kept.len().saturating_sub(bytes_max);
    kept.drain(..excess);
}
