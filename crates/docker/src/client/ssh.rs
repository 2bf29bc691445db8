//! Reaching an engine through `ssh`, as the docker client does.
//!
//! Each connection to a private socket becomes one `ssh … docker system dial-stdio` whose standard
//! input and output *are* that connection; the first one is kept as ssh's shared master, so that
//! the following ones cost a round trip and no handshake.
//!
//! Invariant: the socket lies in a folder that only this user can enter, and is gone with the
//! bridge.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::address::Address;
use crate::error::EngineError;

/// How much of ssh's complaints is kept for the error.
const STDERR_BYTES_MAX: u64 = 4096;
/// How long an idle shared connection stays, in seconds.
const PERSIST_SECONDS: u32 = 30;

/// How long a broken connection's ssh gets to say why.
const COMPLAINT_PATIENCE: Duration = Duration::from_secs(2);

/// The programs that run, and what the last of them to fail said.
#[derive(Default)]
struct Dials {
    state: Mutex<DialState>,
    changed: Condvar,
}

#[derive(Default)]
struct DialState {
    running: usize,
    complaint: String,
}

impl Dials {
    fn state(&self) -> MutexGuard<'_, DialState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self, complaint: Option<String>) {
        let mut state = self.state();
        state.running -= 1;
        if let Some(complaint) = complaint {
            state.complaint = complaint;
        }
        self.changed.notify_all();
    }
}

/// A private socket behind which a remote engine answers.
pub(super) struct SshBridge {
    folder: tempfile::TempDir,
    dials: Arc<Dials>,
    closing: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl SshBridge {
    /// Opens the socket. Nothing is connected yet.
    pub(super) fn open(program: &Path, address: &Address) -> Result<Self, EngineError> {
        let local = |operation| move |source| EngineError::Local { operation, source };
        let folder = tempfile::Builder::new()
            .prefix("refloat-ssh-")
            .tempdir()
            .map_err(local("make a folder for the ssh socket"))?;
        let listener =
            UnixListener::bind(socket_in(folder.path())).map_err(local("open a socket for ssh"))?;
        let words = command_line(address, folder.path());
        let program = program.to_owned();
        let dials = Arc::new(Dials::default());
        let closing = Arc::new(AtomicBool::new(false));
        let acceptor = {
            let (dials, closing) = (Arc::clone(&dials), Arc::clone(&closing));
            std::thread::Builder::new()
                .name("refloat-ssh".into())
                .spawn(move || {
                    for connection in listener.incoming() {
                        if closing.load(Ordering::SeqCst) {
                            break;
                        }
                        // A failed accept or start shows as a closed connection to the client.
                        if let Ok(connection) = connection {
                            dials.state().running += 1;
                            if let Err(error) = dial(&program, &words, connection, &dials) {
                                dials.ended(Some(format!("cannot start ssh: {error}")));
                            }
                        }
                    }
                })
                .map_err(local("start a thread for ssh"))?
        };
        Ok(Self {
            folder,
            dials,
            closing,
            acceptor: Some(acceptor),
        })
    }

    /// The socket to connect to.
    pub(super) fn socket(&self) -> PathBuf {
        socket_in(self.folder.path())
    }

    /// What ssh last complained of; empty if it did not. A connection breaks a moment before the
    /// program behind it has said why, so that is waited for.
    pub(super) fn complaint(&self) -> String {
        let waited = self.dials.changed.wait_timeout_while(
            self.dials.state(),
            COMPLAINT_PATIENCE,
            |state| state.running > 0 && state.complaint.is_empty(),
        );
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.complaint.trim().to_owned()
    }
}

impl Drop for SshBridge {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        // Wakes the acceptor; if that fails it is not waiting any more.
        drop(UnixStream::connect(self.socket()));
        if let Some(acceptor) = self.acceptor.take() {
            // A panic of the acceptor has nothing left to spoil.
            drop(acceptor.join());
        }
    }
}

fn socket_in(folder: &Path) -> PathBuf {
    folder.join("engine.sock")
}

/// Everything after the program's name. The address was checked when it was parsed; `--` ends
/// ssh's options all the same.
fn command_line(address: &Address, folder: &Path) -> Vec<String> {
    let mut words: Vec<String> = vec![
        "-oBatchMode=yes".into(),
        "-oControlMaster=auto".into(),
        format!("-oControlPath={}/%C", folder.display()),
        format!("-oControlPersist={PERSIST_SECONDS}"),
        "-T".into(),
    ];
    if let Address::Ssh {
        user,
        host,
        port,
        socket,
    } = address
    {
        if let Some(port) = port {
            words.push(format!("-p{port}"));
        }
        if let Some(user) = user {
            words.push(format!("-l{user}"));
        }
        words.extend(["--".into(), host.clone(), "docker".into()]);
        if let Some(socket) = socket {
            words.push(format!("--host=unix://{socket}"));
        }
        words.extend(["system".into(), "dial-stdio".into()]);
    }
    words
}

fn dial(
    program: &Path,
    words: &[String],
    connection: UnixStream,
    dials: &Arc<Dials>,
) -> io::Result<()> {
    let input: OwnedFd = connection.try_clone()?.into();
    let output: OwnedFd = connection.into();
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output))
        .stderr(Stdio::piped())
        .spawn()?;
    let stderr = child.stderr.take();
    let dials = Arc::clone(dials);
    std::thread::Builder::new()
        .name("refloat-ssh-wait".into())
        .spawn(move || {
            let mut text = Vec::new();
            if let Some(stderr) = stderr {
                // What cannot be read of a complaint is no worse than no complaint.
                drop(stderr.take(STDERR_BYTES_MAX).read_to_end(&mut text));
            }
            let failed = child.wait().map_or(true, |status| !status.success());
            dials.ended(failed.then(|| String::from_utf8_lossy(&text).into_owned()));
        })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_ends_options_before_the_host() {
        let words = command_line(
            &"ssh://ops@web:2222/run/x.sock".parse().unwrap(),
            Path::new("/f"),
        );
        assert_eq!(
            words.join(" "),
            "-oBatchMode=yes -oControlMaster=auto -oControlPath=/f/%C -oControlPersist=30 -T \
             -p2222 -lops -- web docker --host=unix:///run/x.sock system dial-stdio"
        );
    }
}
