//! `refloat.yaml`: the one schema of the estate, its policies and the repository.
//!
//! The JSON Schema in `docs/schema/refloat.schema.json` is generated from these types.
//!
//! Invariant: every key that parses is read by something; unknown keys and values are errors
//! with a line, a column and, where one is near, a suggestion.

mod error;
mod kubernetes;
mod parse;
mod policy;
mod registry;
mod source;
mod storage;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

pub use error::{ConfigError, ConfigErrorKind};
pub use kubernetes::{ClusterWide, KubernetesConfig, Namespaces, ServedVersions};
pub use policy::{Keep, PolicyConfig, Select, Until, WaiverConfig};
pub use registry::{BasicAuth, RegistryAuth, RegistryConfig};
pub use source::{
    ContainerConsistency, DockerConfig, Dumps, EtcdConfig, FilesConfig, HoldMode, HookCommand,
    Images, RootFilesystems, SourceConfig, TlsConfig, VolumeReading,
};
pub use storage::{
    AddressingConfig, ByteRate, InvalidRate, ObjectLockConfig, PlainHttpConfig, StorageConfig,
};

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where recovery points are kept.
    pub repository: Option<RepositoryConfig>,
    /// More repositories, by names that policies use for copies.
    #[serde(default)]
    pub repositories: BTreeMap<String, RepositoryConfig>,
    /// The systems of the estate, by the name they have in recovery points.
    #[serde(default)]
    pub sources: BTreeMap<String, SourceConfig>,
    /// What is saved, how often, for how long.
    #[serde(default)]
    pub policies: BTreeMap<String, PolicyConfig>,
}

/// Where recovery points are kept.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RepositoryConfig {
    /// A folder, relative to this file, or s3://…, sftp://…, rest:https://…, webdavs://…,
    /// azblob://…, gcs://….
    pub url: Option<String>,
    /// Where the password comes from; never the password itself.
    pub password: Option<PasswordConfig>,
    /// How its storage is reached.
    #[serde(default)]
    pub options: StorageConfig,
}

/// Where a password comes from.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PasswordConfig {
    /// A file whose first line is the password; relative to this file, `~/` is the home folder.
    File(PathBuf),
    /// A command whose first line of output is the password, run by `sh -c`.
    Command(String),
    /// The name of an environment variable that holds the password.
    Env(String),
}

impl Config {
    /// Reads a configuration and checks that its parts fit together.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        parse::parse(text)
    }

    /// The JSON Schema of the file, pretty-printed.
    #[must_use]
    pub fn json_schema() -> String {
        let schema = schemars::schema_for!(Self);
        // A schema is plain JSON values: printing them cannot fail.
        let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests;
