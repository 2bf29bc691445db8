//! How a registry is reached, and what of it is captured.
//!
//! Invariant: the defaults capture everything and send nothing unencrypted to another machine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use refloat_model::glob::Glob;
use refloat_model::secret::Secret;

use crate::name::{ImageName, RepositoryName};
use crate::platform::Platform;

/// How a registry is reached.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Who asks.
    pub credentials: Arc<Credentials>,
    /// PEM file with authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Where plain HTTP is allowed to.
    pub plain_http: PlainHttp,
    /// URL of an HTTP proxy; it may hold a password.
    pub proxy: Option<Arc<Secret>>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long the registry may be silent, also in the middle of an answer.
    pub silence_max: Duration,
    /// How often failed requests are tried again.
    pub retry: RetryLimits,
    /// How many requests are under way at once.
    pub requests_at_once: usize,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            credentials: Arc::new(Credentials::Anonymous),
            ca_file: None,
            plain_http: PlainHttp::Loopback,
            proxy: None,
            connect_timeout: Duration::from_secs(20),
            silence_max: Duration::from_secs(60),
            retry: RetryLimits::default(),
            // Hides latency; registries begin to limit clients with tens of connections.
            requests_at_once: 6,
        }
    }
}

/// Where plain HTTP is allowed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PlainHttp {
    /// This machine only.
    #[default]
    Loopback,
    /// Anywhere: whoever listens reads images and credentials.
    Anywhere,
}

/// Who asks a registry.
#[derive(Debug)]
pub enum Credentials {
    /// Nobody in particular.
    Anonymous,
    /// A user with a password or an access token as one.
    Password {
        /// User name.
        user: String,
        /// Password.
        password: Secret,
    },
    /// A token that is sent as it is.
    Token(Secret),
    /// Docker's `config.json`, with the credential helpers that it names.
    DockerConfig(PathBuf),
    /// A credential helper: `ecr-login` runs `docker-credential-ecr-login`.
    Helper(String),
    /// A command that prints a password or token: `aws ecr get-login-password`,
    /// `gcloud auth print-access-token`. Run again when what it gave is no longer accepted.
    Command {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<String>,
        /// The user whose password it prints (`AWS`, `oauth2accesstoken`); without, it prints a
        /// token that is sent as it is.
        user: Option<String>,
    },
}

/// Limits of trying again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryLimits {
    /// Attempts in all, the first included; 0 counts as 1.
    pub attempts_max: u32,
    /// Upper bound of the pause before the second attempt; it doubles from then on.
    pub first_pause_max: Duration,
    /// Upper bound of every pause, also of those the registry asks for: who is told to wait
    /// longer fails and says so.
    pub pause_max: Duration,
}

impl Default for RetryLimits {
    /// Six attempts within some minutes: a registry's restart passes, a rate limit of minutes too.
    fn default() -> Self {
        Self {
            attempts_max: 6,
            first_pause_max: Duration::from_secs(1),
            pause_max: Duration::from_mins(2),
        }
    }
}

/// What of a registry is captured.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    /// How it is reached.
    pub connect: ConnectOptions,
    /// Which repositories.
    pub repositories: Repositories,
    /// Repositories to capture, by name; empty means all of the above.
    pub select: Vec<Glob>,
    /// Repositories to leave out, by name.
    pub exclude: Vec<Glob>,
    /// Tags to capture, by `tag`; empty means all. Signatures and other referrers of what is
    /// captured come along, whatever they are called.
    pub select_tags: Vec<Glob>,
    /// Tags to leave out.
    pub exclude_tags: Vec<Glob>,
    /// Platforms of multi-platform images; empty means all.
    pub platforms: Vec<Platform>,
    /// Other hosts by which image references name this registry: `registry.local:5000`.
    pub also_known_as: Vec<String>,
    /// The configuration file of the registry itself, if it is on this machine.
    pub config_file: Option<PathBuf>,
}

/// Where the names of repositories come from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Repositories {
    /// The registry's catalogue.
    #[default]
    Catalogue,
    /// A list, for registries without a catalogue (Docker Hub, GHCR, ECR …).
    Listed(Vec<RepositoryName>),
    /// Only these images.
    Images(Vec<ImageName>),
    /// None but those of images that workloads of other sources are made from.
    InUse,
}
