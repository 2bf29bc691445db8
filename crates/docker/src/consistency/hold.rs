//! Doing and undoing: commands, pauses and stops of one workload.
//!
//! Invariant: an action is recorded before it is tried, so that whatever half of it happened is
//! undone; an undo that finds nothing to undo does nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use refloat_model::cancel::Cancel;
use refloat_model::finding::Finding;
use refloat_source::Quiesced;

use super::{Consistency, Hold, HookCommand};
use crate::client::{Client, Command, encode};
use crate::error::EngineError;
use crate::mask::Mask;

/// How long a container may take to stop before the engine kills it, in seconds; longer where the
/// container says so. Engines' own 10 s are too short for a database with work to finish.
const STOP_SECONDS_MIN: u64 = 30;
/// What is added to the engine's own grace before we give up on its answer.
const STOP_MARGIN: Duration = Duration::from_secs(60);
/// How much a hook may print before the rest is dropped.
const HOOK_OUTPUT_BYTES_MAX: u64 = 4096;

/// How a container is held.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum HeldBy {
    /// Its own command prepared it.
    Command,
    Pause,
    Stop,
}

/// Containers held at the moment, by id and by what, and how often each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holds(Arc<Mutex<HashMap<(String, HeldBy), usize>>>);

impl Holds {
    /// Whether the container is paused, stopped or prepared by its command.
    pub(crate) fn holds(&self, container: &str) -> bool {
        self.how(container).is_some()
    }

    /// By what the container is held; what the engine can confirm comes first.
    pub(crate) fn how(&self, container: &str) -> Option<HeldBy> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        [HeldBy::Stop, HeldBy::Pause, HeldBy::Command]
            .into_iter()
            .find(|how| held.contains_key(&(container.to_owned(), *how)))
    }

    fn add(&self, container: &str, how: HeldBy) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *held.entry((container.to_owned(), how)).or_default() += 1;
    }

    fn remove(&self, container: &str, how: HeldBy) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (container.to_owned(), how);
        if let Some(count) = held.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                held.remove(&key);
            }
        }
    }
}

/// One running container and what is to be done with it.
#[derive(Clone, Debug)]
pub(crate) struct HoldRequest {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) consistency: Consistency,
    pub(crate) mask: Arc<Mask>,
    /// The container's own `StopTimeout`.
    pub(crate) stop_seconds: Option<u64>,
}

enum Undo {
    Command(HookCommand),
    Unpause,
    Start,
    Forget(HeldBy),
}

/// A workload that is held; see [`Quiesced`].
pub(crate) struct Held {
    client: Arc<Client>,
    holds: Holds,
    command_timeout: Duration,
    undo: Vec<(HoldRequest, Undo)>,
    /// What a person should know, told at the end.
    findings: Vec<Finding>,
}

/// Why a workload could not be held, and what undoing came to.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} container {container}{}", undone(.findings))]
pub(crate) struct HoldError {
    operation: &'static str,
    container: String,
    findings: Vec<Finding>,
    #[source]
    source: Box<HoldCause>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum HoldCause {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("interrupted")]
    Cancelled,
}

impl HoldError {
    pub(crate) const fn is_cancelled(&self) -> bool {
        matches!(*self.source, HoldCause::Cancelled)
    }
}

fn undone(findings: &[Finding]) -> String {
    findings
        .iter()
        .map(|finding| format!("; {}: {}", finding.subject, finding.message))
        .collect()
}

/// Prepares and holds containers in the order given: all commands first, then pauses and stops.
pub(crate) fn hold(
    client: &Arc<Client>,
    holds: &Holds,
    command_timeout: Duration,
    requests: &[HoldRequest],
    cancel: &Cancel,
) -> Result<Held, HoldError> {
    let mut held = Held {
        client: Arc::clone(client),
        holds: holds.clone(),
        command_timeout,
        undo: Vec::new(),
        findings: Vec::new(),
    };
    let mut attempt = || -> Result<(), (&'static str, &HoldRequest, HoldCause)> {
        for request in requests {
            cancel
                .check()
                .map_err(|_| ("prepare", request, HoldCause::Cancelled))?;
            held.prepare(request)
                .map_err(|e| ("run refloat.before in", request, e.into()))?;
        }
        for request in requests {
            cancel
                .check()
                .map_err(|_| ("hold", request, HoldCause::Cancelled))?;
            held.stop_or_pause(request)
                .map_err(|e| ("hold", request, e.into()))?;
        }
        Ok(())
    };
    match attempt() {
        Ok(()) => Ok(held),
        Err((operation, request, source)) => {
            let container = request.name.clone();
            Err(HoldError {
                operation,
                container,
                findings: held.undo_all(),
                source: Box::new(source),
            })
        }
    }
}

impl Held {
    fn prepare(&mut self, request: &HoldRequest) -> Result<(), EngineError> {
        if let Some(after) = &request.consistency.after {
            self.record(request, Undo::Command(after.clone()));
        }
        if let Some(before) = &request.consistency.before {
            self.command(request, before)?;
            self.holds.add(&request.id, HeldBy::Command);
            self.record(request, Undo::Forget(HeldBy::Command));
        }
        Ok(())
    }

    /// Only what runs at this moment is held: who stopped or paused the rest, be it a person or
    /// another backup, ends that, too.
    fn stop_or_pause(&mut self, request: &HoldRequest) -> Result<(), EngineError> {
        if request.consistency.hold == Hold::Run {
            return Ok(());
        }
        let state = self.state(request)?;
        if state.paused {
            self.is_anothers(request);
            return Ok(());
        }
        if !state.running {
            return Ok(());
        }
        let how = match request.consistency.hold {
            Hold::Stop => self.stop(request)?,
            _ => self.pause(request)?,
        };
        if let Some(how) = how {
            self.holds.add(&request.id, how);
            self.record(request, Undo::Forget(how));
        }
        Ok(())
    }

    /// None if somebody else was faster.
    fn pause(&mut self, request: &HoldRequest) -> Result<Option<HeldBy>, EngineError> {
        self.record(request, Undo::Unpause);
        let target = format!("/containers/{}/pause", encode(&request.id));
        match self.client.post(&target, None) {
            Ok(_) => Ok(Some(HeldBy::Pause)),
            Err(EngineError::Refused { status, message })
                if status == 409 || message.contains("already paused") =>
            {
                // Refused: nothing of it happened.
                let _unpause = self.undo.pop();
                if self.state(request)?.paused {
                    self.is_anothers(request);
                    return Ok(None);
                }
                Err(EngineError::Refused { status, message })
            }
            Err(error) => Err(error),
        }
    }

    /// None if somebody else was faster.
    fn stop(&mut self, request: &HoldRequest) -> Result<Option<HeldBy>, EngineError> {
        self.record(request, Undo::Start);
        let seconds = STOP_SECONDS_MIN.max(request.stop_seconds.unwrap_or(0));
        let patience = Duration::from_secs(seconds) + STOP_MARGIN;
        let target = format!("/containers/{}/stop?t={seconds}", encode(&request.id));
        match self.client.post_within(&target, None, patience) {
            Ok(_) => Ok(Some(HeldBy::Stop)),
            // It does not run any more.
            Err(EngineError::Refused { status: 304, .. }) => {
                let _start = self.undo.pop();
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn is_anothers(&mut self, request: &HoldRequest) {
        self.findings.push(Finding::warning(
            format!("container {}", request.name),
            "somebody else paused it: it is not held by this run, and left as it is",
        ));
    }

    fn record(&mut self, request: &HoldRequest, undo: Undo) {
        self.undo.push((request.clone(), undo));
    }

    fn command(&self, request: &HoldRequest, command: &HookCommand) -> Result<(), EngineError> {
        let command = Command {
            container: &request.id,
            argv: &command.0,
            environment: &[],
            input: None,
            silence_max: self.command_timeout,
        };
        // Not cancelled half way: a command that freezes something must be waited for.
        let (_, finished) = self
            .client
            .run(command, HOOK_OUTPUT_BYTES_MAX, &Cancel::default())?;
        finished.masked(&request.mask).success()
    }

    fn undo_all(&mut self) -> Vec<Finding> {
        let mut findings = std::mem::take(&mut self.findings);
        while let Some((request, undo)) = self.undo.pop() {
            let (what, result) = match undo {
                Undo::Forget(how) => {
                    self.holds.remove(&request.id, how);
                    continue;
                }
                Undo::Command(command) => ("run refloat.after", self.command(&request, &command)),
                Undo::Unpause => ("unpause", self.unpause(&request)),
                Undo::Start => ("start again", self.start(&request)),
            };
            if let Err(error) = result {
                findings.push(Finding::error(
                    format!("container {}", request.name),
                    format!("cannot {what}: {}", crate::error::chain(&error)),
                ));
            }
        }
        findings
    }

    fn unpause(&self, request: &HoldRequest) -> Result<(), EngineError> {
        let id = encode(&request.id);
        let result = self.client.post(&format!("/containers/{id}/unpause"), None);
        match result {
            // The pause itself had failed: it is not paused. Anything else is told.
            Err(_) if !self.state(request)?.paused => Ok(()),
            other => other.map(drop),
        }
    }

    fn start(&self, request: &HoldRequest) -> Result<(), EngineError> {
        let id = encode(&request.id);
        // Answered with 304 if it still runs.
        self.client
            .post_within(&format!("/containers/{id}/start"), None, STOP_MARGIN)
            .map(drop)
    }

    fn state(&self, request: &HoldRequest) -> Result<State, EngineError> {
        let id = encode(&request.id);
        let inspect = self.client.get(&format!("/containers/{id}/json"))?;
        let state = inspect.get("State");
        let flag = |name: &str| state.and_then(|state| state.get(name)?.as_bool());
        Ok(State {
            running: flag("Running").ok_or(EngineError::Incomplete("state of a container"))?,
            paused: flag("Paused") == Some(true),
        })
    }
}

/// What the engine says of a container at this moment.
struct State {
    running: bool,
    paused: bool,
}

impl Quiesced for Held {
    fn resume(mut self: Box<Self>) -> Vec<Finding> {
        self.undo_all()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Only after a panic is there anything left; nobody is there to be told.
        drop(self.undo_all());
    }
}
