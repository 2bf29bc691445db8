//! Making adapters.
//!
//! Invariant: a system that does not answer hides no other.

use std::path::Path;
use std::sync::Arc;

use refloat_docker::{Address, Certificates, ConnectOptions, DockerSource, DockerTarget, PlainTcp};
use refloat_engine::backup::{self, Discovery, Selection};
use refloat_engine::config::{DockerConfig, FilesConfig, SourceConfig};
use refloat_etcd::Plain;
use refloat_files::{FilesError, FilesOptions, FilesSource, Mounts};
use refloat_model::cancel::Cancel;
use refloat_source::{Source, SourceError, Target};

use super::address::Declared;
use super::docker::options;
use super::etcd;
use super::kubernetes;
use super::registry;
use crate::command_error::{CommandError, ErrorKind};
use crate::home;

/// Adapters, and the sources that did not answer.
#[derive(Default)]
pub struct Connected {
    /// Those that answered.
    pub sources: Vec<Arc<dyn Source>>,
    unreachable: Vec<(String, SourceError)>,
}

/// What sources are connected for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Only to say what they hold.
    Look,
    /// To capture what they hold.
    Capture,
}

impl Connected {
    /// Makes the adapters of these sources.
    ///
    /// # Errors
    /// A source's configuration cannot be.
    pub fn to(
        declared: &[Declared],
        plain_tcp: PlainTcp,
        purpose: Purpose,
    ) -> Result<Self, CommandError> {
        let mut this = Self::default();
        for declared in declared {
            match &declared.config {
                SourceConfig::Files(config) => {
                    this.sources.push(Arc::new(files(&declared.name, config)?));
                }
                SourceConfig::Etcd(config) => {
                    let plain = match plain_tcp {
                        PlainTcp::Loopback => Plain::Loopback,
                        PlainTcp::Anywhere => Plain::Anywhere,
                    };
                    match etcd::source(declared, config, plain)? {
                        Ok(source) => this.sources.push(Arc::new(source)),
                        Err(error) => this.unreachable.push((declared.name.clone(), error)),
                    }
                }
                SourceConfig::Docker(config) => match docker(declared, config, plain_tcp)? {
                    Ok(source) => this.sources.push(Arc::new(source)),
                    Err(error) => this.unreachable.push((declared.name.clone(), error)),
                },
                SourceConfig::Kubernetes(config) => {
                    match kubernetes::source(declared, config, purpose)? {
                        Ok(source) => this.sources.push(Arc::new(source)),
                        Err(error) => this.unreachable.push((declared.name.clone(), error)),
                    }
                }
                SourceConfig::Registry(config) => match registry::source(declared, config)? {
                    Ok(source) => this.sources.push(Arc::new(source)),
                    Err(error) => this.unreachable.push((declared.name.clone(), error)),
                },
            }
        }
        Ok(this)
    }

    /// Asks all sources what they hold, and where they store images, whether they hold those that
    /// the selected workloads use; without selections these are all workloads.
    ///
    /// # Errors
    /// None of them answered.
    pub fn discover(
        &mut self,
        select: &[Selection],
        cancel: &Cancel,
    ) -> Result<Discovery, CommandError> {
        let mut discovery = backup::discover(&self.sources, select, cancel);
        discovery.unreachable.append(&mut self.unreachable);
        if discovery.found.is_empty() || cancel.is_cancelled() {
            // With nothing to show, the first error is the answer.
            if let Some((_, error)) = discovery.unreachable.drain(..).next() {
                return Err(error.into());
            }
        }
        Ok(discovery)
    }
}

fn files(name: &str, config: &FilesConfig) -> Result<FilesSource, CommandError> {
    let options = FilesOptions {
        exclude: config.exclude.clone(),
        mounts: if config.one_file_system {
            Mounts::Skip
        } else {
            Mounts::Enter
        },
        ..FilesOptions::default()
    };
    FilesSource::new(name, config.paths.iter().cloned(), options).map_err(|error| match error {
        FilesError::EmptyPattern(_) => CommandError::of(ErrorKind::Usage, &error)
            .hint("leave it away; a variable that it comes from may not be set"),
        _ => CommandError::of(ErrorKind::Usage, &error),
    })
}

/// The engine as something to restore into.
///
/// # Errors
/// The address is wrong, or nobody answers there.
pub fn docker_target(
    declared: &Declared,
    config: &DockerConfig,
    plain_tcp: PlainTcp,
) -> Result<Box<dyn Target>, CommandError> {
    let (address, connect) = engine(declared, config, plain_tcp)?;
    let target = DockerTarget::connect(&declared.name, &address, &connect)?;
    Ok(Box::new(target))
}

/// The outer error is a wrong address, the inner one an engine that does not answer.
fn docker(
    declared: &Declared,
    config: &DockerConfig,
    plain_tcp: PlainTcp,
) -> Result<Result<DockerSource, SourceError>, CommandError> {
    let (address, connect) = engine(declared, config, plain_tcp)?;
    Ok(DockerSource::connect(
        &declared.name,
        &address,
        options(config, connect),
    ))
}

fn engine(
    declared: &Declared,
    config: &DockerConfig,
    plain_tcp: PlainTcp,
) -> Result<(Address, ConnectOptions), CommandError> {
    let address: Address = match &config.host {
        Some(host) => host
            .parse()
            .map_err(|e| CommandError::of(ErrorKind::Usage, &e))?,
        None => Address::default(),
    };
    let resolve = |path: &Path| home::resolve(path, &declared.base);
    let connect = ConnectOptions {
        certificates: config.tls.as_ref().map(|tls| Certificates {
            ca: resolve(&tls.ca),
            certificate: resolve(&tls.cert),
            key: resolve(&tls.key),
        }),
        plain_tcp,
        ..ConnectOptions::default()
    };
    Ok((address, connect))
}
