//! Sources in `refloat.yaml`.
//!
//! Invariant: exactly one kind per source, so that a source's name means one system.

use std::path::{Path, PathBuf};

use refloat_model::glob::Glob;
use schemars::JsonSchema;
use serde::Deserialize;

use super::kubernetes::KubernetesConfig;
use super::registry::{BasicAuth, RegistryConfig};

/// One system of the estate.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SourceConfig {
    /// A Docker or Podman engine.
    Docker(DockerConfig),
    /// Folders of this machine.
    Files(FilesConfig),
    /// A Kubernetes cluster.
    Kubernetes(KubernetesConfig),
    /// An image registry.
    Registry(RegistryConfig),
    /// An etcd cluster.
    Etcd(EtcdConfig),
}

/// An etcd cluster.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EtcdConfig {
    /// `https://host:2379` each; members that are not named are asked too, at the addresses that
    /// they give to clients.
    pub endpoints: Vec<String>,
    /// Certificates; kubeadm has them in /etc/kubernetes/pki/etcd.
    pub tls: Option<TlsConfig>,
    /// A user with the role `root`, for clusters that ask for a password.
    pub auth: Option<BasicAuth>,
    /// The control plane's folder on this host, usually /etc/kubernetes: certificates and keys,
    /// encryption configuration, static pods. Not saved if not given.
    pub control_plane: Option<PathBuf>,
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
    /// How volume data is read.
    #[serde(default)]
    pub volumes: VolumeReading,
    /// Patterns of projects and containers that are left out.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub exclude: Vec<Glob>,
    /// Patterns of host paths of bind mounts that are left out.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub exclude_binds: Vec<Glob>,
    /// What is done so that data is consistent, for containers whose labels (`refloat.*`) say
    /// nothing; the first that fits counts.
    #[serde(default)]
    pub consistency: Vec<ContainerConsistency>,
}

/// How volume data is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeReading {
    /// Directly where the folder is reachable, else through the engine.
    #[default]
    Auto,
    /// Through the engine always.
    Engine,
}

/// What is done so that the data of some containers is consistent.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ContainerConsistency {
    /// A pattern of container names.
    #[schemars(with = "String")]
    pub containers: Glob,
    /// A command to run inside before capture; a failure means that it is not consistent.
    pub before: Option<HookCommand>,
    /// A command to run inside after capture, always.
    pub after: Option<HookCommand>,
    /// Whether the container is held meanwhile.
    #[serde(default)]
    pub hold: HoldMode,
    /// Whether a recognised database is dumped.
    #[serde(default)]
    pub dump: Dumps,
}

/// A command inside a container.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum HookCommand {
    /// For the container's `sh`.
    Shell(String),
    /// Program and arguments.
    Program(Vec<String>),
}

/// How a container is held while it is captured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HoldMode {
    /// It runs on.
    #[default]
    Run,
    /// Its processes are frozen.
    Pause,
    /// It is stopped and started again.
    Stop,
}

/// Whether databases are dumped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dumps {
    /// If one is recognised and not held.
    #[default]
    Auto,
    /// No.
    None,
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

impl TlsConfig {
    /// `ca.pem`, `cert.pem` and `key.pem` in one folder.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            ca: folder.join("ca.pem"),
            cert: folder.join("cert.pem"),
            key: folder.join("key.pem"),
        }
    }
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
    /// It is not looked for, which saves time on hosts with many files.
    Ignore,
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
