//! From the configuration's words to the registry adapter's.
//!
//! Invariant: every key of the configuration is carried over; a password is read here and goes
//! nowhere else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use refloat_engine::config::{PasswordConfig, RegistryAuth, RegistryConfig};
use refloat_registry::{
    Address, ConnectOptions, Credentials, PlainHttp, RegistryOptions, RegistrySource,
    RegistryTarget, Repositories, TargetOptions,
};
use refloat_source::{SourceError, Target};

use super::address::Declared;
use crate::command_error::{CommandError, ErrorKind};
use crate::home;
use crate::password;
use crate::settings::PasswordSource;

/// Where `docker login` leaves what it was told.
const DOCKER_CONFIG: &str = "~/.docker/config.json";

/// A registry as something to capture. The inner error is a registry that cannot be used.
///
/// # Errors
/// The configuration cannot be.
pub fn source(
    declared: &Declared,
    config: &RegistryConfig,
) -> Result<Result<RegistrySource, SourceError>, CommandError> {
    let options = options(config, &declared.base)?;
    Ok(RegistrySource::connect(
        &declared.name,
        &address(config)?,
        options,
    ))
}

/// A registry as something to restore into.
///
/// # Errors
/// The configuration cannot be, or the address is not allowed.
pub fn target(
    declared: &Declared,
    config: &RegistryConfig,
) -> Result<Box<dyn Target>, CommandError> {
    let options = TargetOptions {
        connect: connect_options(config, &declared.base)?,
        ..TargetOptions::default()
    };
    let target = RegistryTarget::connect(&declared.name, &address(config)?, options)?;
    Ok(Box::new(target))
}

fn address(config: &RegistryConfig) -> Result<Address, CommandError> {
    let address = config.url.parse();
    address.map_err(|e| CommandError::of(ErrorKind::Usage, &e))
}

fn options(config: &RegistryConfig, base: &Path) -> Result<RegistryOptions, CommandError> {
    let RegistryConfig {
        url: _,
        auth: _,
        ca: _,
        plain_http: _,
        requests_at_once: _,
        repositories,
        exclude,
        tags,
        exclude_tags,
        images,
        in_use_only,
        also_known_as,
        platforms,
        config_file,
    } = config;
    let names = if *in_use_only {
        Repositories::InUse
    } else if !images.is_empty() {
        Repositories::Images(parsed(images)?)
    } else if config.lists_names_only() {
        let names: Vec<&str> = repositories.iter().map(|glob| glob.pattern()).collect();
        Repositories::Listed(parsed(&names)?)
    } else {
        Repositories::Catalogue
    };
    Ok(RegistryOptions {
        connect: connect_options(config, base)?,
        repositories: names,
        select: repositories.clone(),
        exclude: exclude.clone(),
        select_tags: tags.clone(),
        exclude_tags: exclude_tags.clone(),
        platforms: parsed(platforms)?,
        also_known_as: also_known_as.clone(),
        config_file: config_file.as_deref().map(|path| home::resolve(path, base)),
    })
}

fn parsed<T>(texts: &[impl AsRef<str>]) -> Result<Vec<T>, CommandError>
where
    T: std::str::FromStr<Err: std::error::Error + 'static>,
{
    let parse = |text: &str| {
        text.parse()
            .map_err(|e| CommandError::of(ErrorKind::Usage, &e))
    };
    texts.iter().map(|text| parse(text.as_ref())).collect()
}

fn connect_options(config: &RegistryConfig, base: &Path) -> Result<ConnectOptions, CommandError> {
    let defaults = ConnectOptions::default();
    Ok(ConnectOptions {
        credentials: Arc::new(credentials(config.auth.as_ref(), base)?),
        ca_file: config.ca.as_deref().map(|path| home::resolve(path, base)),
        plain_http: if config.plain_http {
            PlainHttp::Anywhere
        } else {
            PlainHttp::Loopback
        },
        requests_at_once: config
            .requests_at_once
            .map_or(defaults.requests_at_once, std::num::NonZeroUsize::get),
        ..defaults
    })
}

fn credentials(auth: Option<&RegistryAuth>, base: &Path) -> Result<Credentials, CommandError> {
    Ok(match auth {
        None => {
            let path = home::resolve(Path::new(DOCKER_CONFIG), base);
            match path.is_file() {
                true => Credentials::DockerConfig(path),
                false => Credentials::Anonymous,
            }
        }
        Some(RegistryAuth::None) => Credentials::Anonymous,
        Some(RegistryAuth::DockerConfig(path)) => {
            Credentials::DockerConfig(home::resolve(path, base))
        }
        Some(RegistryAuth::Helper(name)) => Credentials::Helper(name.clone()),
        Some(RegistryAuth::Basic(basic)) => {
            let user = basic.user.clone();
            match &basic.password {
                PasswordConfig::Command(command) => shell(command, Some(user)),
                other => {
                    let password = password::get(&PasswordSource::of(other, base))?;
                    Credentials::Password { user, password }
                }
            }
        }
        Some(RegistryAuth::Token(PasswordConfig::Command(command))) => shell(command, None),
        Some(RegistryAuth::Token(other)) => {
            Credentials::Token(password::get(&PasswordSource::of(other, base))?)
        }
    })
}

/// A command that runs again when what it gave is refused.
fn shell(command: &str, user: Option<String>) -> Credentials {
    Credentials::Command {
        program: PathBuf::from("/bin/sh"),
        arguments: vec!["-c".to_owned(), command.to_owned()],
        user,
    }
}
