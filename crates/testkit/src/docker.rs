//! Real container engines for tests, each on a "machine" of its own.
//!
//! An [`Engine`] is a `dockerd` or a Podman service with its own folder, network namespace and
//! control groups: ports, addresses and names of two engines do not meet. It lives as long as
//! the value; when the test ends, also by a panic or a kill, `engine.sh` stops it by the pid it
//! recorded and unmounts what is left.
//!
//! Invariant: nothing outside the engine's own folder and namespaces is changed.

mod images;

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long an engine may take to answer; a cold start on two busy cores takes about 5 s.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest folder, so that sockets below it stay under the 108 bytes of `sun_path`.
const FOLDER_BYTES_MAX: usize = 60;

/// The supervisor that every engine runs under; it ends when its standard input does.
const SUPERVISOR: &str = include_str!("docker/engine.sh");

/// What an engine is started with.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// More arguments for `dockerd`: `--bridge=none`, `--host=tcp://127.0.0.1:2375`.
    pub arguments: Vec<String>,
    /// The content of `daemon.json`; none is `{}`.
    pub settings: Option<String>,
    /// Where the engine's folder is made instead of the temporary folder (a small file system).
    pub parent: Option<PathBuf>,
}

/// A running engine. Dropping it stops it and deletes all it held.
#[derive(Debug)]
pub struct Engine {
    supervisor: Child,
    folder: PathBuf,
    // Last: deleted only after the supervisor has unmounted everything below it.
    _temporary: TempDir,
}

impl Engine {
    /// Starts a `dockerd`. None, after saying so, where that is not possible (not root, not
    /// installed).
    ///
    /// # Panics
    /// The engine is installed and does not start, or it is not possible and
    /// `REFLOAT_TEST_ALL=1` forbids to skip.
    #[must_use]
    pub fn start(options: &EngineOptions) -> Option<Self> {
        Self::launch(
            "docker",
            &["dockerd", "docker", "unshare", "nsenter", "ip"],
            options,
        )
    }

    /// Starts a Podman service, which speaks the same API. None as for [`start`](Self::start).
    ///
    /// # Panics
    /// As for [`start`](Self::start).
    #[must_use]
    pub fn start_podman() -> Option<Self> {
        let programs = ["podman", "runc", "docker", "unshare", "nsenter", "ip"];
        Self::launch("podman", &programs, &EngineOptions::default())
    }

    fn launch(kind: &str, programs: &[&str], options: &EngineOptions) -> Option<Self> {
        if let Some(reason) = impossible(programs) {
            crate::skip(&reason);
            return None;
        }
        let temporary = temporary_folder(options.parent.as_deref());
        let folder = temporary.path().to_owned();
        let script = folder.join("engine.sh");
        write_file(&script, SUPERVISOR);
        if let Some(settings) = &options.settings {
            write_file(&folder.join("daemon.json"), settings);
        }
        let supervisor = Command::new("bash")
            .args([script.as_os_str(), folder.as_os_str(), OsStr::new(kind)])
            .args(&options.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start the supervisor: {error}"));
        let mut engine = Self {
            supervisor,
            folder,
            _temporary: temporary,
        };
        engine.await_ready();
        Some(engine)
    }

    fn await_ready(&mut self) {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let ended = self
                .supervisor
                .try_wait()
                .is_ok_and(|status| status.is_some());
            assert!(
                !ended && Instant::now() < deadline,
                "the engine did not start; the end of its log:\n{}",
                self.log_tail()
            );
            if UnixStream::connect(self.socket()).is_ok()
                && self.try_docker(["version"]).status.success()
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The API's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("sock")
    }

    /// The API's address as users write it, `unix:///…`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The engine's own folder; what lies beside its files is deleted with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder that holds images, containers and volumes.
    #[must_use]
    pub fn data_root(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Runs the `docker` client on this engine.
    #[must_use]
    pub fn try_docker<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Output {
        self.client(arguments)
            .output()
            .unwrap_or_else(|error| panic!("cannot run docker: {error}"))
    }

    /// Runs the `docker` client on this engine and gives its output without the last line end.
    ///
    /// # Panics
    /// The client failed.
    pub fn docker<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> String {
        let mut command = self.client(arguments);
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("cannot run docker: {error}"));
        succeeded(&command, output)
    }

    /// Runs the `podman` client on this engine, which must be one, and gives its output without the
    /// last line end.
    ///
    /// # Panics
    /// The client failed.
    pub fn podman<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> String {
        let mut command = Command::new("podman");
        command
            .arg("--url")
            .arg(format!("unix://{}", self.socket().display()))
            .args(arguments);
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("cannot run podman: {error}"));
        succeeded(&command, output)
    }

    /// Like [`docker`](Self::docker), with standard input.
    ///
    /// # Panics
    /// The client failed.
    pub fn docker_with_input<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        input: &[u8],
    ) -> String {
        let mut command = self.client(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run docker: {error}"));
        if let Some(mut stdin) = child.stdin.take() {
            // A client that fails closes its input early: its exit status tells.
            let _broken_pipe = stdin.write_all(input);
        }
        let output = child
            .wait_with_output()
            .unwrap_or_else(|error| panic!("docker is lost: {error}"));
        succeeded(&command, output)
    }

    /// A command that runs in the engine's network namespace, where its published ports are.
    #[must_use]
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.folder.join("netns").display()))
            .arg(program);
        command
    }

    /// The last lines of the engine's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = std::fs::read(self.folder.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(4_000)..]).into_owned()
    }

    fn client<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new("docker");
        command
            .env_remove("DOCKER_CONTEXT")
            .env("DOCKER_CONFIG", self.folder.join("client"))
            .env("DOCKER_HOST", self.address())
            // The old builder needs no plugin and no network.
            .env("DOCKER_BUILDKIT", "0")
            .stdin(Stdio::null())
            .args(arguments);
        command
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        // The supervisor ends by itself, at the latest 20 s after its input did.
        let _status = self.supervisor.wait();
    }
}

/// Why engines cannot be started here, if they cannot.
fn impossible(programs: &[&str]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("a container engine of our own needs root".to_owned());
    }
    let missing = programs.iter().find(|program| !is_installed(program))?;
    Some(format!("{missing} is not installed"))
}

/// Whether a program is found where shells look for it.
pub(crate) fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

fn temporary_folder(parent: Option<&Path>) -> TempDir {
    let usual = parent.map_or_else(std::env::temp_dir, Path::to_owned);
    // A long TMPDIR would make socket paths too long.
    let parent = if usual.as_os_str().len() > FOLDER_BYTES_MAX - 10 {
        "/tmp".into()
    } else {
        usual
    };
    tempfile::Builder::new()
        .prefix("rfl")
        .tempdir_in(&parent)
        .unwrap_or_else(|error| panic!("cannot make a folder in {}: {error}", parent.display()))
}

fn write_file(path: &Path, content: &str) {
    std::fs::write(path, content)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

fn succeeded(command: &Command, output: Output) -> String {
    assert!(
        output.status.success(),
        "{command:?} ended with {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .trim_end_matches('\n')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_engines_publish_the_same_port_and_address_and_leave_nothing_behind() {
        let Some(first) = Engine::start(&EngineOptions::default()) else {
            return;
        };
        let Some(second) = Engine::start(&EngineOptions::default()) else {
            return;
        };
        for (engine, text) in [(&first, "one"), (&second, "two")] {
            engine.import_busybox("bb:1");
            engine.docker(["network", "create", "--subnet", "10.99.5.0/24", "n"]);
            let serve = format!("echo {text} > /tmp/x && exec httpd -f -h /tmp");
            engine.docker([
                "run",
                "-d",
                "--network",
                "n",
                "--ip",
                "10.99.5.7",
                "-p",
                "8088:80",
                "bb:1",
                "sh",
                "-c",
                &serve,
            ]);
        }
        for (engine, text) in [(&first, "one\n"), (&second, "two\n")] {
            engine.await_output("wget", &["-qO-", "http://127.0.0.1:8088/x"], text);
        }
        let folder = first.folder().to_owned();
        drop(first);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(folder.to_str().unwrap()));
        assert!(!folder.exists());
        second.docker(["info"]);
    }

    #[test]
    fn podman_answers_the_docker_client() {
        let Some(engine) = Engine::start_podman() else {
            return;
        };
        engine.import_busybox("localhost/bb:1");
        let printed = engine.docker(["run", "--rm", "localhost/bb:1", "echo", "hello"]);
        assert_eq!(printed, "hello");
    }
}
