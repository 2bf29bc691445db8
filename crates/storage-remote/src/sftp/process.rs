//! The `ssh` program: started, watched, ended.
//!
//! Invariant: it never asks anybody anything, and no word of an address can become an option.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::failure::Failure;

/// The program's last lines are kept, for messages.
const LINES_KEPT: usize = 4;
/// A server that vanished is noticed after three silent intervals, in seconds.
const ALIVE_INTERVAL: u32 = 15;

/// How another machine is reached.
pub(super) struct Ssh {
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) user: Option<String>,
    /// Instead of the user's own configuration.
    pub(super) config: Option<PathBuf>,
    pub(super) patience: Duration,
}

/// A running program.
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) input: ChildStdin,
    pub(super) output: ChildStdout,
    pub(super) said: Said,
}

/// What the program said last.
#[derive(Clone, Default)]
pub(super) struct Said(Arc<Mutex<VecDeque<String>>>);

impl Said {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_back(line);
        if lines.len() > LINES_KEPT {
            let _oldest = lines.pop_front();
        }
    }

    /// On one line.
    pub(super) fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        lines.join("; ")
    }
}

impl Ssh {
    pub(super) fn start(&self) -> Result<Running, Failure> {
        let failed = |source| Failure::Program {
            program: "ssh",
            source,
        };
        let mut command = Command::new("ssh");
        if let Some(config) = &self.config {
            command.arg("-F").arg(config);
        }
        let seconds = self.patience.as_secs().max(1);
        command
            .args(["-o", "BatchMode=yes"])
            .args(["-o", &format!("ConnectTimeout={seconds}")])
            .args(["-o", &format!("ServerAliveInterval={ALIVE_INTERVAL}")])
            .args(["-o", "ServerAliveCountMax=3"])
            .args(["-o", "ForwardX11=no", "-o", "ForwardAgent=no"])
            .args([
                "-o",
                "ClearAllForwardings=yes",
                "-o",
                "PermitLocalCommand=no",
            ]);
        if let Some(port) = self.port {
            command.args(["-p", &port.to_string()]);
        }
        if let Some(user) = &self.user {
            command.args(["-l", user]);
        }
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let mut child = command
            .args(["-s", "--", host, "sftp"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let said = Said::default();
        let (Some(input), Some(output), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(failed(std::io::Error::from(std::io::ErrorKind::BrokenPipe)));
        };
        let heard = said.clone();
        let _detached = std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                let line: String = line.chars().filter(|c| !c.is_control()).take(200).collect();
                if !line.trim().is_empty() {
                    heard.push(line);
                }
            }
        });
        Ok(Running {
            child,
            input,
            output,
            said,
        })
    }
}
