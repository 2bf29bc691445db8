//! `--source [NAME=]KIND:ADDRESS`, and sources of the configuration.
//!
//! Invariant: an address that is not understood is refused with the forms that are.

use std::path::PathBuf;

use refloat_docker::PlainTcp;
use refloat_engine::config::{DockerConfig, FilesConfig, Namespaces, SourceConfig, TlsConfig};

use super::etcd::EtcdSourceArgs;
use super::kubernetes;
use crate::command_error::{CommandError, ErrorKind};
use crate::settings::LoadedConfig;

/// The name of folders given on the command line: `/files/local/…` in the point.
const FILES_NAME: &str = "local";
/// The name of an engine given on the command line: `/docker/engine/…` in the point.
const ENGINE_NAME: &str = "engine";
/// The name of a cluster given on the command line: `/kubernetes/cluster/…` in the point.
const CLUSTER_NAME: &str = "cluster";
/// The name of an etcd given on the command line: `/etcd/etcd/…` in the point.
const ETCD_NAME: &str = "etcd";
/// Kinds that the design names and that this version does not have.
const KINDS_TO_COME: [&str; 6] = [
    "registry",
    "database",
    "git",
    "bucket",
    "prometheus",
    "vault",
];

/// Sources on the command line.
#[derive(Debug, clap::Args)]
pub struct SourceArgs {
    /// A source instead of those in refloat.yaml: docker:, docker:unix:///run/docker.sock,
    /// kubernetes:CONTEXT, etcd:https://127.0.0.1:2379, files:/srv/data, NAME=files:/srv
    #[arg(long, value_name = "[NAME=]KIND:ADDRESS")]
    pub source: Vec<String>,
    /// Leave out paths that fit this pattern; for files: sources given here
    #[arg(long, value_name = "PATTERN", requires = "source")]
    pub exclude: Vec<String>,
    /// Leave out other file systems mounted below; for files: sources given here
    #[arg(long, requires = "source")]
    pub one_file_system: bool,
    /// A folder with ca.pem, cert.pem and key.pem; for docker:tcp:// sources given here
    #[arg(long, value_name = "FOLDER", requires = "source")]
    pub docker_certificates: Option<PathBuf>,
    /// The kubeconfig of kubernetes: sources given here, instead of those in KUBECONFIG
    #[arg(long, value_name = "FILE", requires = "source")]
    pub kubeconfig: Option<PathBuf>,
    /// Speak to Docker engines on other machines without encryption; everybody on the way can
    /// then read and command them
    #[arg(long)]
    pub plain_tcp: bool,
    /// Options of etcd: sources.
    #[command(flatten)]
    pub etcd: EtcdSourceArgs,
}

impl SourceArgs {
    /// Whether any source is named.
    pub const fn is_given(&self) -> bool {
        !self.source.is_empty()
    }

    /// Whether engines on other machines may be spoken to without encryption.
    pub const fn plain_tcp(&self) -> PlainTcp {
        if self.plain_tcp {
            PlainTcp::Anywhere
        } else {
            PlainTcp::Loopback
        }
    }
}

/// A source with its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Declared {
    /// Its name in recovery points.
    pub name: String,
    /// What it is.
    pub config: SourceConfig,
    /// What relative paths in it are relative to.
    pub base: PathBuf,
    /// The namespaces that a policy selects of it; none selects no less than the source.
    pub namespaces: Option<Namespaces>,
}

/// The sources that are named on the command line, or else those of the configuration.
///
/// # Errors
/// An address is not understood, or there are no sources.
pub fn declared(
    args: &SourceArgs,
    config: Option<&LoadedConfig>,
) -> Result<Vec<Declared>, CommandError> {
    if !args.is_given() {
        let loaded = LoadedConfig::required(config)?;
        let of = |(name, config): (&String, &SourceConfig)| Declared {
            name: name.clone(),
            config: config.clone(),
            base: loaded.base.clone(),
            namespaces: None,
        };
        let declared: Vec<Declared> = loaded.config.sources.iter().map(of).collect();
        if declared.is_empty() {
            return Err(CommandError::new(
                ErrorKind::Config,
                "refloat.yaml declares no sources",
            ));
        }
        return Ok(declared);
    }
    let mut declared: Vec<Declared> = Vec::new();
    for text in &args.source {
        let new = parse(text, args)?;
        match declared.iter_mut().find(|d| d.name == new.name) {
            None => declared.push(new),
            Some(Declared {
                config: SourceConfig::Files(old),
                ..
            }) if matches!(new.config, SourceConfig::Files(_)) => {
                // Several folders are one source.
                if let SourceConfig::Files(new) = new.config {
                    old.paths.extend(new.paths);
                }
            }
            Some(_) => {
                return Err(
                    CommandError::usage(format!("two sources are called {:?}", new.name))
                        .hint("name them: --source NAME=KIND:ADDRESS"),
                );
            }
        }
    }
    Ok(declared)
}

fn parse(text: &str, args: &SourceArgs) -> Result<Declared, CommandError> {
    let (name, address) = match text.split_once('=') {
        Some((name, address)) if !name.contains([':', '/']) => (Some(name), address),
        _ => (None, text),
    };
    if name == Some("") {
        return Err(CommandError::usage(format!(
            "the source {text:?} has an empty name"
        )));
    }
    let Some((kind, address)) = address.split_once(':') else {
        return Err(CommandError::usage(format!("{text:?} is no source"))
            .hint("write KIND:ADDRESS, for example docker: or files:/srv"));
    };
    let (config, default_name) = match kind {
        "docker" => {
            let host = (!address.is_empty()).then(|| address.to_owned());
            let tls = args
                .docker_certificates
                .as_deref()
                .map(TlsConfig::in_folder);
            let config = DockerConfig {
                host,
                tls,
                ..DockerConfig::default()
            };
            (SourceConfig::Docker(config), ENGINE_NAME)
        }
        "files" => (SourceConfig::Files(files(address, args)?), FILES_NAME),
        "kubernetes" => {
            let config = kubernetes::config(address, args.kubeconfig.as_deref())?;
            (SourceConfig::Kubernetes(config), CLUSTER_NAME)
        }
        "etcd" => (SourceConfig::Etcd(args.etcd.config(address)?), ETCD_NAME),
        _ if KINDS_TO_COME.contains(&kind) => {
            return Err(CommandError::usage(format!(
                "sources of kind {kind} are not supported yet"
            )));
        }
        _ => {
            return Err(
                CommandError::usage(format!("{kind:?} is no kind of source"))
                    .hint("this version knows docker:, kubernetes:, etcd: and files:"),
            );
        }
    };
    let name = name.unwrap_or(default_name).to_owned();
    Ok(Declared {
        name,
        config,
        base: PathBuf::new(),
        namespaces: None,
    })
}

fn files(address: &str, args: &SourceArgs) -> Result<FilesConfig, CommandError> {
    if address.is_empty() {
        return Err(CommandError::usage("files: needs a path").hint("for example files:/srv"));
    }
    let path = std::path::absolute(address).map_err(|e| CommandError::io("find", address, &e))?;
    Ok(FilesConfig {
        paths: vec![path],
        exclude: args.exclude.clone(),
        one_file_system: args.one_file_system,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sources: &[&str]) -> String {
        let args = SourceArgs {
            source: sources.iter().map(ToString::to_string).collect(),
            exclude: Vec::new(),
            one_file_system: false,
            docker_certificates: None,
            kubeconfig: None,
            plain_tcp: false,
            etcd: EtcdSourceArgs::default(),
        };
        match declared(&args, None) {
            Err(error) => error.render(),
            Ok(declared) => declared
                .iter()
                .map(|d| match &d.config {
                    SourceConfig::Files(files) => {
                        let paths: Vec<_> = files
                            .paths
                            .iter()
                            .map(|p| p.display().to_string())
                            .collect();
                        format!("{} files {}\n", d.name, paths.join(" "))
                    }
                    SourceConfig::Kubernetes(cluster) => {
                        let context = cluster.context.as_deref();
                        format!("{} kubernetes {}\n", d.name, context.unwrap_or("-"))
                    }
                    SourceConfig::Etcd(etcd) => {
                        format!("{} etcd {}\n", d.name, etcd.endpoints.join(" "))
                    }
                    SourceConfig::Docker(docker) => {
                        format!(
                            "{} docker {}\n",
                            d.name,
                            docker.host.as_deref().unwrap_or("-")
                        )
                    }
                })
                .collect(),
        }
    }

    #[test]
    fn addresses_are_read_or_refused_with_the_forms_that_exist() {
        for (sources, expected) in [
            (
                &["files:/srv", "files:/etc=x"] as &[&str],
                "local files /srv /etc=x\n",
            ),
            (
                &["docker:", "files:/srv"],
                "engine docker -\nlocal files /srv\n",
            ),
            (
                &["web=docker:tcp://10.0.0.7:2376"],
                "web docker tcp://10.0.0.7:2376\n",
            ),
            (
                &["docker:", "docker:unix:///b"],
                "error: two sources are called \"engine\"\nhint: name them: --source \
                 NAME=KIND:ADDRESS\n",
            ),
            (&["kubernetes:prod"], "cluster kubernetes prod\n"),
            (
                &["vault:"],
                "error: sources of kind vault are not supported yet\n",
            ),
            (
                &["etcd:https://a:2379,https://b:2379"],
                "etcd etcd https://a:2379 https://b:2379\n",
            ),
            (
                &["etcd:"],
                "error: etcd: needs an endpoint\nhint: for example \
                 etcd:https://127.0.0.1:2379\n",
            ),
            (
                &["/srv"],
                "error: \"/srv\" is no source\nhint: write KIND:ADDRESS, for example docker: or \
                 files:/srv\n",
            ),
            (
                &["files:"],
                "error: files: needs a path\nhint: for example files:/srv\n",
            ),
        ] {
            assert_eq!(check(sources), expected);
        }
    }
}
