//! From text to a checked [`Config`].
//!
//! Invariant: whatever is wrong becomes one [`ConfigError`] with a place, never a default.

use serde_saphyr::{Error as YamlError, Location};

use super::error::{ConfigError, ConfigErrorKind};
use super::{
    Config, DockerConfig, EtcdConfig, FilesConfig, HookCommand, KubernetesConfig, PolicyConfig,
    RegistryConfig, SourceConfig, StorageConfig,
};
use crate::point_list::AD_HOC_POLICY;
use crate::suggest::closest;

/// Kinds of sources that the design names and that this version does not have.
const SOURCES_TO_COME: [&str; 5] = ["database", "git", "bucket", "prometheus", "vault"];

/// Keys that the design names and that this version does not have, and what to say of them.
const KEYS_TO_COME: [(&str, &str); 1] = [("cron", "cron schedules are")];

/// Reads the options of a storage alone.
pub(super) fn storage(text: &str) -> Result<StorageConfig, ConfigError> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(translate)
}

/// The variants of `PasswordConfig`.
const PASSWORD_WAYS: [&str; 3] = ["file", "command", "env"];

pub(super) fn parse(text: &str) -> Result<Config, ConfigError> {
    let options = serde_saphyr::options! { with_snippet: false };
    let config: Config = serde_saphyr::from_str_with_options(text, options).map_err(translate)?;
    check(&config)?;
    Ok(config)
}

/// What the types alone cannot say.
fn check(config: &Config) -> Result<(), ConfigError> {
    for (name, source) in &config.sources {
        check_name("source", name)?;
        match source {
            SourceConfig::Files(files) => check_files(name, files)?,
            SourceConfig::Docker(docker) => check_hooks(name, docker)?,
            SourceConfig::Kubernetes(cluster) => check_access(name, cluster)?,
            SourceConfig::Registry(registry) => check_registry(name, registry)?,
            SourceConfig::Etcd(etcd) => check_etcd(name, etcd)?,
        }
    }
    for (name, repository) in &config.repositories {
        check_name("repository", name)?;
        if repository.url.is_none() {
            return Err(unplaced(format!("repository {name:?} has no url")));
        }
    }
    for (name, policy) in &config.policies {
        check_policy_name(name)?;
        if policy.select.is_empty() {
            return Err(unplaced(format!("policy {name:?} selects nothing")));
        }
        if policy.keep.as_ref().is_some_and(super::Keep::is_empty) {
            return Err(unplaced(format!("keep of policy {name:?} keeps nothing")));
        }
        check_namespaces(config, name, policy)?;
        for wanted in &policy.copy_to {
            let known = config.repositories.keys().map(String::as_str);
            if !config.repositories.contains_key(&wanted.value) {
                return Err(ConfigError {
                    suggestion: closest(&wanted.value, known).map(str::to_owned),
                    ..placed(
                        ConfigErrorKind::UnknownRepository(wanted.value.clone()),
                        wanted.referenced,
                    )
                });
            }
        }
        for select in &policy.select {
            let wanted = &select.source.value;
            if !config.sources.contains_key(wanted) {
                return Err(ConfigError {
                    suggestion: closest(wanted, config.sources.keys().map(String::as_str))
                        .map(str::to_owned),
                    ..placed(
                        ConfigErrorKind::UnknownSource(wanted.clone()),
                        select.source.referenced,
                    )
                });
            }
        }
    }
    Ok(())
}

/// Names become tags, path components and words of the command line.
fn check_name(what: &str, name: &str) -> Result<(), ConfigError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = name.chars().all(plain) && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if good && name.len() <= 100 {
        return Ok(());
    }
    Err(unplaced(format!(
        "{what} name {name:?} is not 1 to 100 letters, digits, '-', '_' or '.' after a letter or \
         digit"
    )))
}

/// Runs with sources on the command line have that name, and are told apart by what they cover.
fn check_policy_name(name: &str) -> Result<(), ConfigError> {
    if name == AD_HOC_POLICY {
        return Err(unplaced(format!(
            "{name:?} is the policy of runs whose sources are named on the command line: call this one something else"
        )));
    }
    check_name("policy", name)
}

fn check_files(name: &str, files: &FilesConfig) -> Result<(), ConfigError> {
    if files.paths.is_empty() {
        return Err(unplaced(format!("source {name:?} has no paths")));
    }
    match files.paths.iter().find(|p| !p.is_absolute()) {
        Some(path) => Err(unplaced(format!(
            "path {:?} of source {name:?} is not absolute",
            path.display()
        ))),
        None => Ok(()),
    }
}

fn check_etcd(name: &str, etcd: &EtcdConfig) -> Result<(), ConfigError> {
    if etcd.endpoints.is_empty() {
        return Err(unplaced(format!("source {name:?} has no endpoints")));
    }
    Ok(())
}

fn check_hooks(name: &str, docker: &DockerConfig) -> Result<(), ConfigError> {
    let hooks = docker
        .consistency
        .iter()
        .flat_map(|c| [&c.before, &c.after])
        .flatten();
    let is_empty = |hook: &HookCommand| match hook {
        HookCommand::Shell(text) => text.trim().is_empty(),
        HookCommand::Program(words) => words.is_empty(),
    };
    if hooks.into_iter().any(is_empty) {
        return Err(unplaced(format!("a command of source {name:?} is empty")));
    }
    Ok(())
}

fn check_access(name: &str, cluster: &KubernetesConfig) -> Result<(), ConfigError> {
    if cluster.in_cluster && (cluster.context.is_some() || cluster.kubeconfig.is_some()) {
        return Err(unplaced(format!(
            "source {name:?} is reached by in-cluster or by kubeconfig and context, not by both"
        )));
    }
    Ok(())
}

fn check_registry(name: &str, registry: &RegistryConfig) -> Result<(), ConfigError> {
    if registry.url.is_empty() {
        return Err(unplaced(format!("source {name:?} has no url")));
    }
    let chosen = !registry.repositories.is_empty()
        || !registry.tags.is_empty()
        || !registry.exclude_tags.is_empty();
    let whole = match (!registry.images.is_empty(), registry.in_use_only) {
        (true, _) => "images",
        (false, true) => "in-use-only",
        (false, false) => return Ok(()),
    };
    if chosen || (registry.in_use_only && !registry.images.is_empty()) {
        return Err(unplaced(format!(
            "{whole} of source {name:?} says all that is captured: no other selection fits beside it"
        )));
    }
    Ok(())
}

/// Namespaces narrow a whole cluster, and once.
fn check_namespaces(config: &Config, name: &str, policy: &PolicyConfig) -> Result<(), ConfigError> {
    for select in policy.select.iter().filter(|s| s.namespaces.is_some()) {
        let source = &select.source.value;
        let cluster = matches!(
            config.sources.get(source),
            Some(SourceConfig::Kubernetes(_)) | None
        );
        let times = policy.select.iter().filter(|s| s.source.value == *source);
        if !cluster || times.count() > 1 {
            let why = if cluster {
                "is selected twice, once with namespaces"
            } else {
                "is no Kubernetes cluster and has no namespaces"
            };
            let message = format!("source {source:?} of policy {name:?} {why}");
            return Err(placed(
                ConfigErrorKind::Invalid(message),
                select.source.referenced,
            ));
        }
    }
    Ok(())
}

fn translate(error: YamlError) -> ConfigError {
    let location = error.location().unwrap_or(Location::UNKNOWN);
    match error.without_snippet() {
        YamlError::SerdeUnknownField {
            field, expected, ..
        } => unknown_key(field, expected, location),
        YamlError::SerdeUnknownVariant {
            variant, expected, ..
        } => unknown_value(variant, expected, location),
        YamlError::SerdeMissingField { field, .. } => {
            placed(ConfigErrorKind::MissingKey(field), location)
        }
        YamlError::DuplicateMappingKey { key, .. } => placed(
            ConfigErrorKind::DuplicateKey(key.clone().unwrap_or_default()),
            location,
        ),
        other => {
            // The library's text ends in the place, which the error says itself.
            let text = other.to_string();
            let text = text.lines().next().unwrap_or_default();
            let message = text
                .split_once(&format!("line {}", location.line()))
                .map_or(text, |(before, after)| {
                    if before.trim().is_empty() {
                        after
                    } else {
                        before
                    }
                });
            let message = message
                .trim()
                .trim_end_matches("at")
                .trim_end_matches([' ', ',', ':', '.'])
                .to_owned();
            placed(ConfigErrorKind::Malformed(message), location)
        }
    }
}

fn unknown_key(key: &str, expected: &[&'static str], location: Location) -> ConfigError {
    if let Some((_, what)) = KEYS_TO_COME.iter().find(|(k, _)| *k == key) {
        return placed(ConfigErrorKind::NotYet((*what).to_owned()), location);
    }
    ConfigError {
        suggestion: closest(key, expected.iter().copied()).map(str::to_owned),
        ..placed(
            ConfigErrorKind::UnknownKey {
                key: key.to_owned(),
                expected: expected.to_vec(),
            },
            location,
        )
    }
}

fn unknown_value(value: &str, expected: &[&'static str], location: Location) -> ConfigError {
    if SOURCES_TO_COME.contains(&value) && expected.contains(&"docker") {
        let what = format!("sources of kind {value} are");
        return placed(ConfigErrorKind::NotYet(what), location);
    }
    if expected == PASSWORD_WAYS {
        // Whoever writes a password here must not find it in a log.
        let text =
            "password must be {file: …}, {command: …} or {env: …}, never the password itself";
        return placed(ConfigErrorKind::Invalid(text.to_owned()), location);
    }
    ConfigError {
        suggestion: closest(value, expected.iter().copied()).map(str::to_owned),
        ..placed(
            ConfigErrorKind::UnknownValue {
                value: value.to_owned(),
                expected: expected.to_vec(),
            },
            location,
        )
    }
}

fn placed(kind: ConfigErrorKind, location: Location) -> ConfigError {
    ConfigError {
        kind,
        line: location.line(),
        column: location.column(),
        suggestion: None,
    }
}

fn unplaced(message: String) -> ConfigError {
    placed(ConfigErrorKind::Invalid(message), Location::UNKNOWN)
}
