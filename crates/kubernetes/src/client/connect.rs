//! How an API server is reached: kubeconfigs and service accounts.
//!
//! Invariant: the environment is not read for a kubeconfig; whoever calls names the files.

use std::path::PathBuf;
use std::time::Duration;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};

use crate::error::ApiError;

/// How long setting up a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How a cluster is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// By kubeconfig, with everything it can say: certificates, tokens, credential plugins (as
    /// EKS, AKS and GKE use them), proxies.
    Kubeconfig {
        /// The files, merged as kubectl does: the first to name a thing wins.
        files: Vec<PathBuf>,
        /// The context; none is the current one.
        context: Option<String>,
    },
    /// As the pod that this process runs in.
    InCluster,
}

pub(super) async fn config(access: &Access) -> Result<Config, ApiError> {
    let mut config = match access {
        Access::InCluster => {
            Config::incluster().map_err(|error| ApiError::InCluster(Box::new(error)))?
        }
        Access::Kubeconfig { files, context } => {
            let options = KubeConfigOptions {
                context: context.clone(),
                ..KubeConfigOptions::default()
            };
            // The error quotes the file; that a context is missing is what it can mean here.
            Config::from_custom_kubeconfig(merged(files)?, &options)
                .await
                .map_err(|_| ApiError::Context(context.clone()))?
        }
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // Repetitions are ours, with their bound.
    config.default_retry = false;
    Ok(config)
}

fn merged(files: &[PathBuf]) -> Result<Kubeconfig, ApiError> {
    let mut merged = Kubeconfig::default();
    for path in files {
        let one = Kubeconfig::read_from(path).map_err(|error| match error {
            KubeconfigError::ReadConfig(source, path) => {
                ApiError::KubeconfigUnreadable { path, source }
            }
            _ => ApiError::KubeconfigInvalid(path.clone()),
        })?;
        merged = merged
            .merge(one)
            .map_err(|_| ApiError::KubeconfigInvalid(path.clone()))?;
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;

    #[test]
    fn a_broken_kubeconfig_is_named_and_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let access = Access::Kubeconfig {
            files: vec![path.clone()],
            context: None,
        };
        let error = Client::connect(&access).err().unwrap();
        assert_eq!(error.to_string(), format!("cannot read {}", path.display()));

        std::fs::write(&path, "users: [{name: a, user: {token: hunter2\n").unwrap();
        let error = Client::connect(&access).err().unwrap();
        assert_eq!(
            error.to_string(),
            format!("{} is no kubeconfig", path.display())
        );
        assert!(std::error::Error::source(&error).is_none());
    }
}
