//! `--source [NAME=]KIND:ADDRESS`, and sources of the configuration.
//!
//! Invariant: an address that is not understood is refused with the forms that are.

use std::path::PathBuf;

use clap::Id;
use refloat_engine::config::{FilesConfig, Namespaces, SourceConfig};
use refloat_model::glob::Glob;

use super::access::AccessArgs;
use super::etcd::EtcdSourceArgs;
use crate::belonging::{Belonging, ids_of};
use crate::command_error::{CommandError, ErrorKind};
use crate::settings::LoadedConfig;

/// The name of folders given on the command line: `/files/local/…` in the point.
const FILES_NAME: &str = "local";
/// The name of an engine given on the command line: `/docker/engine/…` in the point.
const ENGINE_NAME: &str = "engine";
/// The name of a cluster given on the command line: `/kubernetes/cluster/…` in the point.
const CLUSTER_NAME: &str = "cluster";
/// The name of a registry given on the command line: `/images/registry/…` in the point.
const REGISTRY_NAME: &str = "registry";
/// The name of an etcd given on the command line: `/etcd/etcd/…` in the point.
const ETCD_NAME: &str = "etcd";
/// Kinds that the design names and that this version does not have.
const KINDS_TO_COME: [&str; 5] = ["database", "git", "bucket", "prometheus", "vault"];

/// Sources on the command line.
#[derive(Debug, Default, clap::Args)]
pub struct SourceArgs {
    /// A source instead of those in refloat.yaml: docker:, docker:unix:///run/docker.sock,
    /// kubernetes:CONTEXT, registry:https://registry.local:5000, etcd:https://127.0.0.1:2379,
    /// files:/srv/data, NAME=files:/srv
    #[arg(long, value_name = "[NAME=]KIND:ADDRESS")]
    pub source: Vec<String>,
    /// Leave out paths that fit this pattern; for files: sources given here
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Leave out other file systems mounted below; for files: sources given here
    #[arg(long)]
    pub one_file_system: bool,
    /// Only repositories that fit this pattern; for registry: sources given here. Plain names
    /// need no catalogue
    #[arg(long, value_name = "PATTERN", value_parser = Glob::new)]
    pub registry_repository: Vec<Glob>,
    /// Only this image: team/app:1.2, team/app@sha256:…; for registry: sources given here
    #[arg(long, value_name = "IMAGE", conflicts_with = "registry_repository")]
    pub registry_image: Vec<String>,
    /// Only images that containers of the other sources are made from; for registry: sources
    /// given here
    #[arg(
        long,
        conflicts_with_all = ["registry_repository", "registry_image"]
    )]
    pub registry_in_use_only: bool,
    /// How they are reached.
    #[command(flatten)]
    pub access: AccessArgs,
    /// Options of etcd: sources.
    #[command(flatten)]
    pub etcd: EtcdSourceArgs,
}

/// What is for sources on the command line, but for [`AccessArgs`]: those are refused with the
/// place in the configuration, and one of them counts for its sources too.
pub fn belonging() -> Belonging {
    let access = ids_of::<AccessArgs>();
    let mut belonging = Belonging::all_of::<SourceArgs>("source");
    let is_of_source = |id: &Id| id != "source" && !access.contains(id);
    belonging.options.retain(is_of_source);
    belonging
}

impl SourceArgs {
    /// Whether any source is named.
    pub const fn is_given(&self) -> bool {
        !self.source.is_empty()
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
        args.access.refuse_unused()?;
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
        let new = args.refined(by_address(text, &args.access, &args.etcd)?);
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
    args.refuse_unused(&declared)?;
    Ok(declared)
}

impl SourceArgs {
    /// A source that was named, with what other flags say of its kind.
    fn refined(&self, mut declared: Declared) -> Declared {
        match &mut declared.config {
            SourceConfig::Docker(_) | SourceConfig::Kubernetes(_) | SourceConfig::Etcd(_) => {}
            SourceConfig::Files(files) => {
                files.exclude.clone_from(&self.exclude);
                files.one_file_system = self.one_file_system;
            }
            SourceConfig::Registry(registry) => {
                registry.repositories.clone_from(&self.registry_repository);
                registry.images.clone_from(&self.registry_image);
                registry.in_use_only = self.registry_in_use_only;
            }
        }
        declared
    }

    /// Refuses options of a kind of which no source is named: more would be saved than was meant.
    fn refuse_unused(&self, declared: &[Declared]) -> Result<(), CommandError> {
        let has = |is: fn(&SourceConfig) -> bool| declared.iter().any(|d| is(&d.config));
        let files = has(|config| matches!(config, SourceConfig::Files(_)));
        let registry = has(|config| matches!(config, SourceConfig::Registry(_)));
        let given = [
            ("--exclude", "files:", files, !self.exclude.is_empty()),
            ("--one-file-system", "files:", files, self.one_file_system),
            (
                "--registry-repository",
                "registry:",
                registry,
                !self.registry_repository.is_empty(),
            ),
            (
                "--registry-image",
                "registry:",
                registry,
                !self.registry_image.is_empty(),
            ),
            (
                "--registry-in-use-only",
                "registry:",
                registry,
                self.registry_in_use_only,
            ),
        ];
        match given.iter().find(|(_, _, has, given)| *given && !has) {
            None => Ok(()),
            Some((option, kind, ..)) => Err(CommandError::usage(format!(
                "{option} has no effect without a {kind} source"
            ))),
        }
    }
}

/// The source or target that `[NAME=]KIND:ADDRESS` means.
///
/// # Errors
/// It is not understood.
pub fn by_address(
    text: &str,
    access: &AccessArgs,
    etcd: &EtcdSourceArgs,
) -> Result<Declared, CommandError> {
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
        "docker" => (SourceConfig::Docker(access.docker(address)), ENGINE_NAME),
        "files" => (SourceConfig::Files(files(address)?), FILES_NAME),
        "kubernetes" => (
            SourceConfig::Kubernetes(access.kubernetes(address)?),
            CLUSTER_NAME,
        ),
        "registry" => (
            SourceConfig::Registry(access.registry(address)?),
            REGISTRY_NAME,
        ),
        "etcd" => (SourceConfig::Etcd(etcd.config(address)?), ETCD_NAME),
        _ if KINDS_TO_COME.contains(&kind) => {
            return Err(CommandError::usage(format!(
                "sources of kind {kind} are not supported yet"
            )));
        }
        _ => {
            return Err(
                CommandError::usage(format!("{kind:?} is no kind of source"))
                    .hint("this version knows docker:, kubernetes:, registry:, etcd: and files:"),
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

fn files(address: &str) -> Result<FilesConfig, CommandError> {
    if address.is_empty() {
        return Err(CommandError::usage("files: needs a path").hint("for example files:/srv"));
    }
    let path = std::path::absolute(address).map_err(|e| CommandError::io("find", address, &e))?;
    Ok(FilesConfig {
        paths: vec![path],
        exclude: Vec::new(),
        one_file_system: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sources: &[&str]) -> String {
        let args = SourceArgs {
            source: sources.iter().map(ToString::to_string).collect(),
            ..SourceArgs::default()
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
                    SourceConfig::Kubernetes(cluster) => {
                        let context = cluster.context.as_deref();
                        format!("{} kubernetes {}\n", d.name, context.unwrap_or("-"))
                    }
                    SourceConfig::Registry(registry) => {
                        format!("{} registry {}\n", d.name, registry.url)
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
            (
                &["hub=registry:https://h:5000"],
                "hub registry https://h:5000\n",
            ),
            (
                &["registry:"],
                "error: registry: needs an address\nhint: for example \
                 registry:https://registry.local:5000\n",
            ),
            (
                &["vault:"],
                "error: sources of kind vault are not supported yet\n",
            ),
            (&["kubernetes:prod"], "cluster kubernetes prod\n"),
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
