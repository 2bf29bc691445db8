//! How systems that are named on the command line are reached: certificates, credentials.
//!
//! Invariant: no flag takes a password or token itself, only where it comes from.

use std::path::PathBuf;

use refloat_docker::PlainTcp;
use refloat_engine::config::{
    BasicAuth, DockerConfig, KubernetesConfig, PasswordConfig, RegistryAuth, RegistryConfig,
    TlsConfig,
};

use super::kubernetes;
use crate::command_error::CommandError;
use crate::environment;

/// Flags that say how a system on the command line is reached.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Reaching systems named on the command line")]
pub struct AccessArgs {
    /// A folder with ca.pem, cert.pem and key.pem; for docker:tcp://
    #[arg(long, value_name = "FOLDER")]
    docker_certificates: Option<PathBuf>,
    /// Speak to Docker engines on other machines without encryption; everybody on the way can
    /// then read and command them
    #[arg(long)]
    plain_tcp: bool,
    /// The kubeconfig for kubernetes:, instead of those in KUBECONFIG
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Flags for `registry:` addresses.
#[derive(Debug, Default, clap::Args)]
struct RegistryArgs {
    /// The user of the registry; the password comes from one of the next two or from
    /// REFLOAT_REGISTRY_PASSWORD
    #[arg(long, value_name = "NAME")]
    registry_user: Option<String>,
    /// A file whose first line is the registry user's password
    #[arg(
        long,
        value_name = "FILE",
        requires = "registry_user",
        conflicts_with_all = ["registry_token_command", "registry_config"]
    )]
    registry_password_file: Option<PathBuf>,
    /// A command that prints the registry user's password: aws ecr get-login-password
    #[arg(
        long,
        value_name = "COMMAND",
        requires = "registry_user",
        conflicts_with_all = ["registry_password_file", "registry_token_command",
                              "registry_config"]
    )]
    registry_password_command: Option<String>,
    /// A command that prints a token for the registry
    #[arg(long, value_name = "COMMAND", conflicts_with = "registry_user")]
    registry_token_command: Option<String>,
    /// Docker's config.json with credentials and credential helpers; ~/.docker/config.json if
    /// not given
    #[arg(long, value_name = "FILE", conflicts_with_all = ["registry_user", "registry_token_command"])]
    registry_config: Option<PathBuf>,
    /// PEM file of an authority that the registry's certificate is from
    #[arg(long, value_name = "FILE")]
    registry_ca: Option<PathBuf>,
    /// Speak to registries on other machines without encryption; everybody on the way can then
    /// read images and credentials
    #[arg(long)]
    plain_http: bool,
}

impl AccessArgs {
    /// Whether engines on other machines may be spoken to without encryption.
    pub const fn plain_tcp(&self) -> PlainTcp {
        if self.plain_tcp {
            PlainTcp::Anywhere
        } else {
            PlainTcp::Loopback
        }
    }

    /// An engine at an address; the local one if it is empty.
    pub fn docker(&self, address: &str) -> DockerConfig {
        DockerConfig {
            host: (!address.is_empty()).then(|| address.to_owned()),
            tls: self
                .docker_certificates
                .as_deref()
                .map(TlsConfig::in_folder),
            ..DockerConfig::default()
        }
    }

    /// A cluster by `CONTEXT`, `PATH`, `PATH#CONTEXT` or `in-cluster`.
    ///
    /// # Errors
    /// Two kubeconfigs are named.
    pub fn kubernetes(&self, address: &str) -> Result<KubernetesConfig, CommandError> {
        kubernetes::config(address, self.kubeconfig.as_deref())
    }

    /// A registry at an address, whole.
    ///
    /// # Errors
    /// The address is empty.
    pub fn registry(&self, address: &str) -> Result<RegistryConfig, CommandError> {
        if address.is_empty() {
            return Err(CommandError::usage("registry: needs an address")
                .hint("for example registry:https://registry.local:5000"));
        }
        let RegistryArgs {
            registry_user,
            registry_password_file,
            registry_password_command,
            registry_token_command,
            registry_config,
            registry_ca,
            plain_http,
        } = &self.registry;
        let auth = if let Some(user) = registry_user {
            let password = match (registry_password_file, registry_password_command) {
                (Some(file), _) => PasswordConfig::File(file.clone()),
                (None, Some(command)) => PasswordConfig::Command(command.clone()),
                (None, None) => PasswordConfig::Env(environment::REGISTRY_PASSWORD.name.to_owned()),
            };
            Some(RegistryAuth::Basic(BasicAuth {
                user: user.clone(),
                password,
            }))
        } else if let Some(command) = registry_token_command {
            Some(RegistryAuth::Token(PasswordConfig::Command(
                command.clone(),
            )))
        } else {
            registry_config.clone().map(RegistryAuth::DockerConfig)
        };
        Ok(RegistryConfig {
            auth,
            ca: registry_ca.clone(),
            plain_http: *plain_http,
            ..RegistryConfig::at(address)
        })
    }

    /// Refuses flags that would have no effect, since the systems are those of a configuration.
    ///
    /// # Errors
    /// One is given.
    pub fn refuse_unused(&self) -> Result<(), CommandError> {
        let registry = &self.registry;
        let given = [
            ("--docker-certificates", self.docker_certificates.is_some()),
            ("--kubeconfig", self.kubeconfig.is_some()),
            ("--registry-user", registry.registry_user.is_some()),
            (
                "--registry-token-command",
                registry.registry_token_command.is_some(),
            ),
            ("--registry-config", registry.registry_config.is_some()),
            ("--registry-ca", registry.registry_ca.is_some()),
            ("--plain-http", registry.plain_http),
        ];
        match given.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((flag, _)) => Err(CommandError::usage(format!(
                "{flag} is for systems that are named on the command line"
            ))
            .hint("write it into the source in refloat.yaml")),
        }
    }
}
