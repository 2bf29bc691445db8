//! Debian's `docker-registry`, one for each test.
//!
//! Invariant: the server is ended by the process that was started, and its folder goes with it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server may take to answer.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running registry.
pub struct Server {
    child: Child,
    /// Its configuration, data and log.
    pub folder: TempDir,
    /// On loopback.
    pub port: u16,
    /// `http` or `https`.
    pub scheme: &'static str,
}

/// What a server is set up with.
#[derive(Default)]
pub struct Setup<'a> {
    /// Lines added to the configuration.
    pub extra: &'a str,
    /// Lines of its storage instead of those that allow deletion.
    pub storage: &'a str,
    /// Certificate and key.
    pub tls: Option<(PathBuf, PathBuf)>,
}

impl Server {
    /// Starts a server; none, and a visible skip, where there is no `docker-registry`.
    pub fn start() -> Option<Self> {
        Self::start_with(&Setup::default())
    }

    /// The same with a set-up of its own.
    pub fn start_with(setup: &Setup<'_>) -> Option<Self> {
        if Command::new("docker-registry")
            .arg("--version")
            .output()
            .is_err()
        {
            crate::skip("docker-registry (Debian package) is not installed");
            return None;
        }
        // The server syncs each blob; on a busy disk that would be most of a test's time.
        let memory = Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => tempfile::tempdir_in(memory).unwrap(),
            false => tempfile::tempdir().unwrap(),
        };
        // Another process could take the port in between; then starting fails, by name.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let tls = setup
            .tls
            .as_ref()
            .map_or(String::new(), |(certificate, key)| {
                let (certificate, key) = (certificate.display(), key.display());
                format!("  tls: {{certificate: {certificate}, key: {key}}}\n")
            });
        let storage = match setup.storage {
            "" => "  delete: {enabled: true}\n",
            given => given,
        };
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  \
             filesystem: {{rootdirectory: {}}}\n{storage}http:\n  addr: 127.0.0.1:{port}\n{tls}{}",
            folder.path().join("data").display(),
            setup.extra
        );
        let path = folder.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let scheme = if setup.tls.is_some() { "https" } else { "http" };
        let mut server = Self {
            child,
            folder,
            port,
            scheme,
        };
        let deadline = Instant::now() + START_TIMEOUT;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "docker-registry ended: {}", server.log());
            assert!(Instant::now() < deadline, "docker-registry does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(server)
    }

    /// Its address, as whoever asks has addresses.
    pub fn address<A: FromStr<Err: std::fmt::Debug>>(&self) -> A {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
            .parse()
            .unwrap()
    }

    /// Host and port.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config.yml")
    }

    /// A second server over the same data and with the same address, started by `program`
    /// (`docker-registry`, in the network of an engine), so that both networks have the registry.
    pub fn beside(&self, mut program: Command) -> Neighbour {
        let child = program
            .arg("serve")
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Neighbour(child)
    }

    /// Where the server keeps a blob.
    pub fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let folder = Path::new("data/docker/registry/v2/blobs/sha256")
            .join(&hex[..2])
            .join(hex);
        self.folder.path().join(folder).join("data")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// A second server over the same data; ends when it is dropped.
pub struct Neighbour(Child);

impl Drop for Neighbour {
    fn drop(&mut self) {
        // Already ended is fine too.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended is fine too.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
