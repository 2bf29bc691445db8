//! Sources in `refloat.yaml`.
//!
//! Invariant: exactly one kind per source, so that a source's name means one system.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// One system of the estate.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SourceConfig {
    /// A Docker or Podman engine.
    Docker(DockerConfig),
    /// Folders of this machine.
    Files(FilesConfig),
}

/// A Docker or Podman engine.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DockerConfig {
    /// `unix:///path`, `tcp://host:port` or `ssh://user@host`; the local engine if not given.
    pub host: Option<String>,
    /// Certificates for `tcp://`.
    pub tls: Option<TlsConfig>,
    /// Which images are saved with their content.
    #[serde(default)]
    pub images: Images,
    /// What happens to data written into containers' root filesystems.
    #[serde(default)]
    pub rootfs: RootFilesystems,
}

/// Files for TLS with client authentication, in PEM; relative to this file.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TlsConfig {
    /// Certificates of the authorities that may sign the server's certificate.
    pub ca: PathBuf,
    /// The client's certificate.
    pub cert: PathBuf,
    /// The client's key.
    pub key: PathBuf,
}

/// Which images are saved with their content.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Images {
    /// Those that a container uses.
    #[default]
    InUse,
    /// Every image of the engine.
    All,
    /// None: containers' images are then missing unless waived.
    None,
}

/// What happens to data written into containers' root filesystems.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RootFilesystems {
    /// It is reported as a risk.
    #[default]
    Report,
    /// It is saved.
    Save,
}

/// Folders of this machine.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FilesConfig {
    /// Absolute paths.
    pub paths: Vec<PathBuf>,
    /// Patterns of what is left out: `*.tmp` at any depth, `/srv/cache`, `build/`, `!keep.tmp`.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Whether other file systems mounted below the paths are left out.
    #[serde(default)]
    pub one_file_system: bool,
}
