//! Ways to an engine, and what the user must say to open them.
//!
//! Invariant: nothing is sent to another machine without encryption unless the user asked for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};

use super::ssh::SshBridge;
use crate::address::Address;
use crate::error::EngineError;

/// How an engine is reached.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Certificates for encrypted TCP.
    pub certificates: Option<Certificates>,
    /// Whether plain TCP to another machine is accepted. Everybody on the way can then read and
    /// command the engine.
    pub plain_tcp: PlainTcp,
    /// How long one answer may take.
    pub timeout: Duration,
    /// The ssh program.
    pub ssh_program: PathBuf,
}

impl ConnectOptions {
    /// The address that is really spoken to: with certificates, TCP is encrypted.
    pub(crate) fn address(&self, address: &Address) -> Address {
        match self.certificates {
            Some(_) => address.clone().encrypted(),
            None => address.clone(),
        }
    }
}

/// Client certificates, as `DOCKER_CERT_PATH` has them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificates {
    /// Who signs servers.
    pub ca: PathBuf,
    /// Who we are.
    pub certificate: PathBuf,
    /// Our key.
    pub key: PathBuf,
}

impl Certificates {
    /// `ca.pem`, `cert.pem` and `key.pem` in one folder.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            ca: folder.join("ca.pem"),
            certificate: folder.join("cert.pem"),
            key: folder.join("key.pem"),
        }
    }
}

/// Whether an engine may be spoken to without encryption.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PlainTcp {
    /// On this machine only.
    #[default]
    Loopback,
    /// Anywhere: the user said so.
    Anywhere,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            certificates: None,
            plain_tcp: PlainTcp::default(),
            timeout: Duration::from_secs(60),
            ssh_program: "ssh".into(),
        }
    }
}

/// Prepares a connection; nothing is sent yet.
pub(super) fn open(
    address: &Address,
    options: &ConnectOptions,
    bridge: Option<&SshBridge>,
) -> Result<Docker, EngineError> {
    let seconds = options.timeout.as_secs().max(1);
    let unix = |path: &Path| {
        let path_text = path.to_string_lossy();
        match path.try_exists() {
            Ok(false) => Err(EngineError::SocketMissing(path.to_owned())),
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                Err(EngineError::SocketForbidden(path.to_owned()))
            }
            _ => Ok(Docker::connect_with_unix(
                &path_text,
                seconds,
                API_DEFAULT_VERSION,
            )?),
        }
    };
    match address {
        Address::Unix(path) => unix(path),
        Address::Ssh { .. } => unix(&bridge.map(SshBridge::socket).unwrap_or_default()),
        Address::Tcp { host, port } => {
            if !address.is_loopback() && options.plain_tcp == PlainTcp::Loopback {
                return Err(EngineError::PlainTcp(address.clone()));
            }
            let target = format!("tcp://{host}:{port}");
            Ok(Docker::connect_with_http(
                &target,
                seconds,
                API_DEFAULT_VERSION,
            )?)
        }
        Address::Tls { host, port } => {
            let files = options
                .certificates
                .as_ref()
                .ok_or_else(|| EngineError::CertificatesMissing(address.clone()))?;
            Ok(Docker::connect_with_ssl(
                &format!("tcp://{host}:{port}"),
                &files.key,
                &files.certificate,
                &files.ca,
                seconds,
                API_DEFAULT_VERSION,
            )?)
        }
    }
}

/// The kind of the input/output error at the root of a failed connection.
pub(super) fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<std::io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        next = error.source();
    }
    None
}
