//! Real storage servers for tests, each with its own folder and ports on this machine.
//!
//! A [`Server`] lives as long as the value; when the test ends, also by a panic or a kill, its
//! supervisor ends it by the pids it recorded.
//!
//! Invariant: nothing outside the server's own folder is changed.

mod kinds;

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

pub use kinds::{Azurite, GcsEmulator, Radosgw, RcloneServer, SshServer, WebDavServer};

const SUPERVISOR: &str = include_str!("servers/supervisor.sh");

/// A running server. Dropping it stops it and deletes all it held.
#[derive(Debug)]
pub struct Server {
    supervisor: Child,
    folder: TempDir,
}

/// What is started.
struct Launch<'a> {
    /// Programs that must be installed.
    programs: &'a [&'a str],
    /// The script that starts them.
    script: &'a str,
    arguments: Vec<OsString>,
    /// Only for the server's process.
    environment: Vec<(&'static str, OsString)>,
}

impl Server {
    /// Starts it; none, after saying so, where it is not installed.
    fn launch(launch: &Launch<'_>) -> Option<Self> {
        let missing = launch
            .programs
            .iter()
            .find(|program| find(program).is_none());
        if let Some(program) = missing {
            crate::skip(&format!(
                "{program} is not installed: no test against a real server"
            ));
            return None;
        }
        let folder = tempfile::Builder::new()
            .prefix("refloat-server-")
            .tempdir()
            .expect("a temporary folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let _sourced = write("supervisor.sh", SUPERVISOR);
        let script = write("server.sh", launch.script);
        let mut supervisor = Command::new("bash")
            .arg(script)
            .arg(folder.path())
            .args(&launch.arguments)
            .env_clear()
            .env("PATH", path_with_sbin())
            .env("HOME", folder.path())
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("bash starts");
        let mut line = String::new();
        let stdout = supervisor.stdout.take().expect("piped");
        let read = BufReader::new(stdout).read_line(&mut line);
        let server = Self { supervisor, folder };
        let is_ready = read.is_ok() && line.trim() == "ready";
        assert!(is_ready, "the server did not start:\n{}", server.log());
        Some(server)
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.folder.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The supervisor ends when its input does.
        drop(self.supervisor.stdin.take());
        let _status = self.supervisor.wait();
    }
}

/// A port of this machine that nobody uses at this moment.
///
/// # Panics
/// There is none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A program in `PATH` or where Debian keeps servers.
fn find(program: &str) -> Option<PathBuf> {
    let named = Path::new(program);
    if named.is_absolute() {
        return named.is_file().then(|| named.to_owned());
    }
    std::env::split_paths(&path_with_sbin())
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

fn path_with_sbin() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}
