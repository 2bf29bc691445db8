//! Image registries in `refloat.yaml`.
//!
//! Invariant: no key holds a password or token itself, only where it comes from.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use refloat_model::glob::Glob;
use schemars::JsonSchema;
use serde::Deserialize;

use super::PasswordConfig;

/// An image registry.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RegistryConfig {
    /// `https://host`, `https://host:5000`, `http://localhost:5000`; without a user.
    pub url: String,
    /// Who asks; what Docker's `config.json` in the home folder says if not given.
    pub auth: Option<RegistryAuth>,
    /// PEM file of an authority to trust beside the system's; relative to this file.
    pub ca: Option<PathBuf>,
    /// Whether plain HTTP to another machine is allowed: whoever listens reads images and
    /// credentials.
    #[serde(default)]
    pub plain_http: bool,
    /// Patterns of repositories; all of the registry's catalogue if not given. A list of plain
    /// names needs no catalogue, which not every registry gives.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub repositories: Vec<Glob>,
    /// Patterns of repositories that are left out.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub exclude: Vec<Glob>,
    /// Patterns of tags; all if not given. Signatures and other referrers come along.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub tags: Vec<Glob>,
    /// Patterns of tags that are left out.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub exclude_tags: Vec<Glob>,
    /// Only these images: `team/app:1.2`, `team/app@sha256:…`; instead of `repositories`.
    #[serde(default)]
    pub images: Vec<String>,
    /// Whether only images are captured that workloads of the policy's other sources are made from.
    /// They come along with whatever else is selected in any case.
    #[serde(default)]
    pub in_use_only: bool,
    /// Other hosts by which images name this registry: `registry.local:5000`.
    #[serde(default)]
    pub also_known_as: Vec<String>,
    /// Only these platforms of images for several: `linux/amd64`; all if not given.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// The registry's own configuration file, if it is on this machine: Debian's
    /// `docker-registry` has it in `/etc/docker/registry/config.yml`.
    pub config_file: Option<PathBuf>,
    /// How many requests are under way at once; 6 if not given.
    pub requests_at_once: Option<NonZeroUsize>,
}

/// Who asks a registry.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RegistryAuth {
    /// Nobody in particular.
    None,
    /// A user with a password.
    Basic(BasicAuth),
    /// A token that is sent as it is; its command runs again when a token is refused.
    Token(PasswordConfig),
    /// Docker's `config.json`, with the credential helpers that it names; relative to this file.
    DockerConfig(PathBuf),
    /// A credential helper: `ecr-login` runs `docker-credential-ecr-login`.
    Helper(String),
}

/// A user with a password or an access token as one.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BasicAuth {
    /// User name: `AWS` and `oauth2accesstoken` for the commands of Amazon and Google.
    pub user: String,
    /// Where the password comes from; a command runs again when its password is refused.
    pub password: PasswordConfig,
}

impl RegistryConfig {
    /// A registry by its address, whole.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ..Self::default()
        }
    }

    /// Whether `repositories` has names only, for which no catalogue is needed.
    #[must_use]
    pub fn lists_names_only(&self) -> bool {
        let is_plain = |glob: &Glob| !glob.pattern().contains(['*', '?', '[', '{', '\\']);
        !self.repositories.is_empty() && self.repositories.iter().all(is_plain)
    }
}
