//! The servers: what each is started with, and how it is reached.
//!
//! Invariant: names and passwords here are known to everybody and good for these servers only.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Launch, Server, free_port};

/// Ceph's S3 server.
#[derive(Debug)]
pub struct Radosgw {
    /// The process.
    pub server: Server,
    /// Its port.
    pub port: u16,
}

impl Radosgw {
    /// May do everything with its buckets.
    pub const OWNER: (&str, &str) = ("OWNERKEY", "owner-secret-key");
    /// Another user, who may do what a bucket's policy says.
    pub const WRITER: (&str, &str) = ("WRITERKEY", "writer-secret-key");

    /// Starts one; none, after saying so, where it is not installed.
    #[must_use]
    pub fn start() -> Option<Self> {
        let port = free_port();
        let mut arguments: Vec<OsString> = [free_port(), free_port(), port]
            .map(|port| port.to_string().into())
            .into();
        for (access, secret) in [Self::OWNER, Self::WRITER] {
            arguments.extend([access.into(), secret.into()]);
        }
        let server = Server::launch(&Launch {
            programs: &["radosgw", "ceph-mon", "ceph-osd", "ceph", "python3"],
            script: include_str!("radosgw.sh"),
            arguments,
            environment: Vec::new(),
        })?;
        Some(Self { server, port })
    }

    /// Makes a bucket of the owner's.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn make_bucket(&self, name: &str) {
        let _answer = self.call(Self::OWNER, "PUT", &format!("/{name}"), &[]);
    }

    /// Makes a bucket that keeps versions and can lock objects.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn make_locking_bucket(&self, name: &str) {
        let headers = ["x-amz-bucket-object-lock-enabled:true"];
        let _answer = self.call(Self::OWNER, "PUT", &format!("/{name}"), &headers);
    }

    /// Gives a bucket a policy.
    ///
    /// # Panics
    /// It is refused.
    pub fn set_policy(&self, bucket: &str, policy: &str) {
        let path = format!("/{bucket}?policy");
        let (status, text) = self.send(Self::OWNER, ("PUT", &path), &[], policy.as_bytes());
        assert!(status < 300, "policy: {status} {text}");
    }

    /// A request, signed by another implementation than the one under test.
    ///
    /// # Panics
    /// It is refused.
    pub fn call(&self, keys: (&str, &str), method: &str, path: &str, headers: &[&str]) -> String {
        let (status, text) = self.send(keys, (method, path), headers, b"");
        assert!(status < 300, "{method} {path}: {status} {text}");
        text
    }

    /// As [`call`](Self::call), with a body and the status.
    ///
    /// # Panics
    /// Python cannot be run.
    #[must_use]
    pub fn send(
        &self,
        (access, secret): (&str, &str),
        (method, path): (&str, &str),
        headers: &[&str],
        body: &[u8],
    ) -> (u16, String) {
        let mut client = Command::new("python3")
            .args(["-c", include_str!("s3-request.py"), &self.port.to_string()])
            .args([access, secret, method, path])
            .args(headers)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut input = client.stdin.take().expect("piped");
        input.write_all(body).expect("read");
        drop(input);
        let output = client.wait_with_output().expect("python3 ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text
            .trim_end()
            .rsplit_once('\n')
            .expect("the status is printed");
        (status.parse().expect("a status"), body.to_owned())
    }
}

/// rclone, serving restic's REST protocol or WebDAV from memory.
#[derive(Debug)]
pub struct RcloneServer {
    /// The process.
    pub server: Server,
    /// Its port.
    pub port: u16,
}

impl RcloneServer {
    /// The only user.
    pub const LOGIN: (&str, &str) = ("rest-user", "rest-password");

    /// A REST server.
    #[must_use]
    pub fn rest() -> Option<Self> {
        Self::start("restic", ":memory:repositories", &[])
    }

    /// A REST server that deletes nothing but locks and replaces nothing.
    #[must_use]
    pub fn append_only_rest() -> Option<Self> {
        Self::start("restic", ":memory:repositories", &["--append-only"])
    }

    /// A REST server that speaks only encrypted.
    #[must_use]
    pub fn rest_with_tls(certificate: &Path, key: &Path) -> Option<Self> {
        let (certificate, key) = (certificate.display(), key.display());
        let flags = [format!("--cert={certificate}"), format!("--key={key}")];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        Self::start("restic", ":memory:repositories", &flags)
    }

    /// A WebDAV server.
    #[must_use]
    pub fn webdav() -> Option<Self> {
        Self::start("webdav", ":memory:repositories", &[])
    }

    fn start(protocol: &str, remote: &str, flags: &[&str]) -> Option<Self> {
        let port = free_port();
        let mut arguments: Vec<OsString> =
            vec![protocol.into(), port.to_string().into(), remote.into()];
        arguments.extend(flags.iter().map(OsString::from));
        let (user, password) = Self::LOGIN;
        let server = Server::launch(&Launch {
            programs: &["rclone"],
            script: include_str!("rclone.sh"),
            arguments,
            environment: vec![
                ("RCLONE_USER", user.into()),
                ("RCLONE_PASS", password.into()),
            ],
        })?;
        Some(Self { server, port })
    }
}

/// OpenSSH's SFTP server.
#[derive(Debug)]
pub struct SshServer {
    /// The process.
    pub server: Server,
    /// Its port.
    pub port: u16,
    /// The user who may log in: the one who runs the tests.
    pub user: String,
}

impl SshServer {
    /// Starts one; none, after saying so, where it is not installed.
    ///
    /// # Panics
    /// The user of this process has no name.
    #[must_use]
    pub fn start() -> Option<Self> {
        let port = free_port();
        let output = Command::new("id").arg("-un").output().expect("id runs");
        let user = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let server = Server::launch(&Launch {
            programs: &["sshd", "ssh", "ssh-keygen"],
            script: include_str!("sshd.sh"),
            arguments: vec![port.to_string().into(), (&user).into()],
            environment: Vec::new(),
        })?;
        Some(Self { server, port, user })
    }

    /// A configuration for `ssh -F` that knows the server and has its key.
    #[must_use]
    pub fn client_config(&self) -> PathBuf {
        self.server.folder().join("ssh/config")
    }
}

/// Apache's WebDAV server.
#[derive(Debug)]
pub struct WebDavServer {
    /// The process.
    pub server: Server,
    /// Its port.
    pub port: u16,
}

impl WebDavServer {
    /// The only user.
    pub const LOGIN: (&str, &str) = ("dav-user", "dav-password");

    /// Starts one; none, after saying so, where it is not installed.
    ///
    /// # Panics
    /// The password cannot be hashed.
    #[must_use]
    pub fn start() -> Option<Self> {
        let port = free_port();
        let (user, password) = Self::LOGIN;
        let output = Command::new("openssl")
            .args(["passwd", "-apr1", password])
            .output()
            .expect("openssl runs");
        let hash = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let server = Server::launch(&Launch {
            programs: &["apache2", "openssl"],
            script: include_str!("apache.sh"),
            arguments: vec![port.to_string().into(), user.into(), hash.into()],
            environment: Vec::new(),
        })?;
        Some(Self { server, port })
    }
}

/// Microsoft's emulator of Azure Blob Storage.
#[derive(Debug)]
pub struct Azurite {
    /// The process.
    pub server: Server,
    /// Its port.
    pub port: u16,
}

impl Azurite {
    /// The account that it has, with the key that its documentation prints.
    pub const ACCOUNT: (&str, &str) = (
        "devstoreaccount1",
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    );

    /// Starts one; none, after saying so, where it is not installed.
    #[must_use]
    pub fn start() -> Option<Self> {
        let port = free_port();
        let program = emulator("node_modules/.bin/azurite-blob");
        let server = Server::launch(&Launch {
            programs: &[&program.to_string_lossy(), "node"],
            script: include_str!("emulator.sh"),
            arguments: vec![
                port.to_string().into(),
                program.clone().into(),
                "--inMemoryPersistence".into(),
                "--skipApiVersionCheck".into(),
                "--disableTelemetry".into(),
                "--blobPort".into(),
                port.to_string().into(),
            ],
            environment: Vec::new(),
        })?;
        Some(Self { server, port })
    }

    /// Makes a container, which Refloat leaves to people.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn make_container(&self, name: &str) {
        let script = include_str!("azurite-container.sh");
        let status = Command::new("bash")
            .args(["-c", script, "container", &self.port.to_string(), name])
            .args([Self::ACCOUNT.0, Self::ACCOUNT.1])
            .status()
            .expect("bash runs");
        assert!(status.success());
    }
}

/// An emulator of Google Cloud Storage.
#[derive(Debug)]
pub struct GcsEmulator {
    /// The process.
    pub server: Server,
    /// Its port.
    pub port: u16,
}

impl GcsEmulator {
    /// The bucket that it has.
    pub const BUCKET: &str = "emulated";

    /// Starts one; none, after saying so, where it is not installed.
    #[must_use]
    pub fn start() -> Option<Self> {
        let port = free_port();
        let program = emulator("venv/bin/gcp-storage-emulator");
        let server = Server::launch(&Launch {
            programs: &[&program.to_string_lossy()],
            script: include_str!("emulator.sh"),
            arguments: vec![
                port.to_string().into(),
                program.clone().into(),
                "start".into(),
                "--host=127.0.0.1".into(),
                format!("--port={port}").into(),
                "--in-memory".into(),
                format!("--default-bucket={}", Self::BUCKET).into(),
            ],
            environment: Vec::new(),
        })?;
        Some(Self { server, port })
    }
}

/// Where `scripts/test` installs emulators, outside the sources.
fn emulator(path: &str) -> PathBuf {
    let named = std::env::var_os("REFLOAT_TEST_EMULATORS").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| crate::fetched("emulators"));
    folder.join(path)
}
