//! Kubernetes clusters: from words on the command line and in the configuration to the adapter's.
//!
//! Invariant: every key of the configuration is carried over; kubeconfigs are found here and
//! nowhere else.

use std::path::{Path, PathBuf};

use refloat_engine::config::{
    ClusterWide, KubernetesConfig, Namespaces as NamespaceConfig, ServedVersions,
};
use refloat_kubernetes::{
    Access, ClusterWide as Wide, Expression, KubernetesSource, KubernetesTarget, Namespaces,
    Options, Versions,
};
use refloat_source::{SourceError, Target};

use super::address::Declared;
use super::connect::Purpose;
use crate::command_error::CommandError;
use crate::environment;
use crate::home;

/// The address of the cluster that this process runs in.
const IN_CLUSTER: &str = "in-cluster";
/// Where kubectl looks without `KUBECONFIG`.
const KUBECONFIG_DEFAULT: &str = "~/.kube/config";

/// Reads `CONTEXT`, `PATH`, `PATH#CONTEXT` or `in-cluster`; nothing is the current context.
pub fn config(address: &str, kubeconfig: Option<&Path>) -> Result<KubernetesConfig, CommandError> {
    let mut config = KubernetesConfig {
        kubeconfig: kubeconfig.map(Path::to_owned),
        ..KubernetesConfig::default()
    };
    let is_path = address.starts_with(['/', '.', '~']);
    match address.split_once('#').filter(|_| is_path) {
        _ if !is_path && address == IN_CLUSTER => config.in_cluster = true,
        _ if is_path && kubeconfig.is_some() => {
            return Err(CommandError::usage(format!(
                "kubernetes:{address} and --kubeconfig both name a kubeconfig"
            )));
        }
        Some((path, context)) => {
            config.kubeconfig = Some(PathBuf::from(path));
            config.context = Some(context.to_owned()).filter(|c| !c.is_empty());
        }
        None if is_path => config.kubeconfig = Some(PathBuf::from(address)),
        None => config.context = Some(address.to_owned()).filter(|c| !c.is_empty()),
    }
    Ok(config)
}

/// The cluster as a source. The outer error is a wrong configuration, the inner one a cluster
/// that cannot be reached.
pub fn source(
    declared: &Declared,
    config: &KubernetesConfig,
    purpose: Purpose,
) -> Result<Result<KubernetesSource, SourceError>, CommandError> {
    let mut options = options(declared, config)?;
    if purpose == Purpose::Look {
        options.kept_bytes_max = 0;
    }
    Ok(KubernetesSource::connect(&declared.name, options))
}

/// The cluster as something to restore into.
///
/// # Errors
/// There is no kubeconfig, or it cannot be used.
pub fn target(
    declared: &Declared,
    config: &KubernetesConfig,
) -> Result<Box<dyn Target>, CommandError> {
    let access = access(declared, config)?;
    Ok(Box::new(KubernetesTarget::connect(
        &declared.name,
        &access,
    )?))
}

fn options(declared: &Declared, config: &KubernetesConfig) -> Result<Options, CommandError> {
    let KubernetesConfig {
        context: _,
        kubeconfig: _,
        in_cluster: _,
        namespaces,
        labels,
        names,
        applications,
        expression,
        kinds,
        exclude_kinds,
        cluster_wide,
        versions,
    } = config;
    let expression = expression.as_deref().map(Expression::parse).transpose();
    let expression = expression
        .map_err(|error| CommandError::usage(format!("source {:?}: {error}", declared.name)))?;
    let narrowed = declared.namespaces.iter();
    let everything = Options::new(access(declared, config)?);
    Ok(Options {
        namespaces: [namespaces].into_iter().chain(narrowed).map(of).collect(),
        labels: labels.clone(),
        kinds: kinds.clone(),
        exclude_kinds: exclude_kinds.clone(),
        names: names.clone(),
        applications: applications.clone(),
        expression,
        cluster_wide: match cluster_wide {
            ClusterWide::All => Wide::All,
            ClusterWide::None => Wide::None,
        },
        versions: match versions {
            ServedVersions::Preferred => Versions::Preferred,
            ServedVersions::All => Versions::All,
        },
        ..everything
    })
}

fn of(config: &NamespaceConfig) -> Namespaces {
    let NamespaceConfig {
        names,
        exclude,
        labels,
    } = config.clone();
    Namespaces {
        names,
        exclude,
        labels,
    }
}

fn access(declared: &Declared, config: &KubernetesConfig) -> Result<Access, CommandError> {
    if config.in_cluster {
        return Ok(Access::InCluster);
    }
    let files = match &config.kubeconfig {
        Some(path) => vec![home::resolve(path, &declared.base)],
        None => kubeconfigs(),
    };
    if files.is_empty() {
        return Err(CommandError::usage(format!(
            "there is no kubeconfig for source {:?}",
            declared.name
        ))
        .hint(
            "set KUBECONFIG, or name a file: --kubeconfig FILE, kubernetes:/path/to/kubeconfig",
        ));
    }
    Ok(Access::Kubeconfig {
        files,
        context: config.context.clone(),
    })
}

/// Those that `KUBECONFIG` names; a list may name files that are not there, as for kubectl.
fn kubeconfigs() -> Vec<PathBuf> {
    let named = environment::path(&environment::KUBECONFIG);
    let listed: Vec<PathBuf> = named
        .iter()
        .flat_map(std::env::split_paths)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if listed.len() == 1 {
        return listed;
    }
    let of_home = listed
        .is_empty()
        .then(|| home::resolve(Path::new(KUBECONFIG_DEFAULT), Path::new("")));
    let all = listed.into_iter().chain(of_home);
    all.filter(|path| path.exists()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_context_a_kubeconfig_or_the_cluster_around() {
        let check = |address: &str| {
            let config = config(address, None).unwrap();
            let path = config.kubeconfig.map(|p| p.display().to_string());
            (path, config.context, config.in_cluster)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(check(""), (None, None, false));
        assert_eq!(check("prod"), (None, some("prod"), false));
        let arn = "arn:aws:eks:eu-west-1:1:cluster/shop#1";
        assert_eq!(check(arn), (None, some(arn), false));
        assert_eq!(check("/etc/k"), (some("/etc/k"), None, false));
        assert_eq!(check("~/k#dev"), (some("~/k"), some("dev"), false));
        assert_eq!(check("in-cluster"), (None, None, true));
        assert!(config("/etc/k", Some(Path::new("other"))).is_err());
    }
}
